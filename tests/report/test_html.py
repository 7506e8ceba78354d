import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from ancestryvi.evaluate import assignment_entropy, clustering_metrics, map_metrics
from ancestryvi.report import ReportContent, category_styles, colouring, write_report
from ancestryvi.report.palette import MISSING_STYLE

LABELS = ["population", "region"]
NASTY = [
    "</script><script>alert(1)</script>",
    "a&b",
    'say "hi"',
    "<b>x</b>",
    "]]>",
    "é\u2028z",
    "&lt;",
]


class Page(HTMLParser):
    """Elements, text and tables of a report, as a browser would take them apart."""

    VOID = frozenset({"meta", "input", "link", "img", "br"})

    def __init__(self, path):
        super().__init__()
        self.elements, self.headings, self.tables, self.text = [], [], [], []
        self.data, self._open = None, []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append((tag, dict(attributes)))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, text):
        tag, attributes = self._open[-1] if self._open else (None, {})
        if tag == "script":
            if attributes.get("id") == "data":
                self.data = json.loads(text)
        elif tag != "style":
            self.text.append(text)
            if tag in ("td", "th"):
                self.tables[-1][-1][-1] += text
            elif tag == "h2":
                self.headings[-1] += text

    def count(self, tag):
        return sum(name == tag for name, _ in self.elements)

    @property
    def words(self):
        return " ".join("".join(self.text).split())

    def column(self, title):
        return next(c for c in self.data["columns"] if c["title"] == title)

    def table_under(self, first_row):
        return next(t for t in self.tables if t and t[0] == first_row)


@pytest.fixture
def uncertain(table):
    """The table with spread and entropy, and the probabilities behind it."""
    p = np.random.default_rng(2).dirichlet(np.full(6, 0.05), size=len(table))
    p[table["ddvi1"].isna()] = np.nan
    table.insert(5, "spread", np.linspace(0.1, 0.7, len(table)))
    table.insert(6, "entropy", assignment_entropy(p))
    return {"table": table, "probabilities": pd.DataFrame(p, columns=list("012345"))}


@pytest.fixture
def page(tmp_path):
    def write(**content):
        content.setdefault("title", "Cohort")
        write_report(tmp_path / "report.html", ReportContent(**content))
        return Page(tmp_path / "report.html")

    return write


# ---- the map -------------------------------------------------------------------------------


def test_each_placed_sample_is_embedded_with_its_coordinates_and_labels(page, table):
    page = page(table=table, label_columns=LABELS)
    points = page.data["points"]
    shown = table[table["ddvi1"].notna()].set_index("sample_id")
    assert points["id"] == list(shown.index)
    for i, sample in enumerate(points["id"]):
        row = shown.loc[sample]
        assert points["x"][i] == pytest.approx(row["ddvi1"], abs=1e-3)
        assert points["y"][i] == pytest.approx(row["ddvi2"], abs=1e-3)
        for title in ("population", "region", "cluster"):
            column = page.column(title)
            code = column["codes"][i]
            name = column["names"][code] if code >= 0 else None
            expected = row[title]
            assert name == (f"{expected:.0f}" if title == "cluster" else expected)
        assert page.column("probability")["values"][i] == pytest.approx(row["probability"], 1e-4)


def test_colours_are_those_of_the_pictures(page, table):
    page = page(table=table, label_columns=LABELS)
    colour = colouring(table, LABELS)
    styles = category_styles(colour.categories, colour.groups)
    column = page.column("population")
    assert column["names"] == list(styles)
    assert column["colors"] == [style.color for style in styles.values()]
    assert column["symbols"] == [style.marker for style in styles.values()]
    assert column["groups"] == [colour.groups[name] for name in styles]
    assert page.data["missing"]["color"] == MISSING_STYLE.color


def test_every_column_can_be_chosen_and_the_first_label_is(page, table):
    table["call_rate"] = 0.99
    table["family"] = table["sample_id"]
    page = page(table=table, label_columns=[*LABELS, "family"])
    options = [attributes for tag, attributes in page.elements if tag == "option"]
    titles = [page.data["columns"][int(option["value"])]["title"] for option in options]
    assert titles == ["population", "region", "cluster", "probability", "call_rate"]
    assert [title for title, o in zip(titles, options, strict=True) if "selected" in o] == (
        ["population"]
    )
    assert page.column("family")["kind"] == "text"  # shown under the pointer, not a colour


def test_numeric_labels_of_many_values_are_a_scale(page, table):
    table["age"] = np.arange(120) / 2
    column = page(table=table, label_columns=["age", "population"]).column("age")
    assert column["kind"] == "values"
    assert column["values"][-1] == 59.5


def test_a_click_on_the_legend_toggles_one_population(page, table):
    legend = page(table=table, label_columns=LABELS).data["layout"]["legend"]
    assert legend["itemclick"] == "toggle"
    assert legend["groupclick"] == "toggleitem"


def test_the_map_has_one_scale_for_both_axes(page, table):
    layout = page(table=table).data["layout"]
    assert layout["yaxis"]["scaleanchor"] == "x"
    assert layout["xaxis"]["title"]["text"] == "DDVI 1"


def test_a_reference_map_is_embedded_beneath_projected_samples(page, table):
    reference, projected = table[table["region"] != "EAS"], table[table["region"] == "EAS"]
    page = page(table=projected.drop(columns=LABELS), background=reference)
    background = page.data["background"]
    placed = reference[reference["ddvi1"].notna()]
    assert background["id"] == list(placed["sample_id"])
    names = [background["names"][c] if c >= 0 else None for c in background["codes"]]
    assert names == list(placed["population"])
    assert "projected samples" in page.words
    assert "the reference map, in grey" in page.words


def test_samples_that_were_not_placed_are_named(page, table):
    page = page(table=table)
    assert "2 of 120 samples could not be placed on the map: S003, S070" in page.words


# ---- one safe file -------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(page, table):
    page = page(table=table, label_columns=LABELS, provenance={"url": "https://example.org"})
    for _, attributes in page.elements:
        assert not {"src", "href", "srcset", "data", "action"} & attributes.keys()
    assert page.count("link") == page.count("iframe") == page.count("img") == 0
    assert page.count("script") == 3  # plotly, the data, what draws them
    assert page.source.count(get_plotlyjs()) == 1
    style = re.search("<style>(.*?)</style>", page.source, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "connect-src" not in policy


def test_ids_and_labels_of_any_kind_stay_text(page, table):
    table = table[table["ddvi1"].notna()].head(len(NASTY)).copy()
    table["sample_id"] = NASTY
    table["population"] = NASTY
    page = page(
        title=NASTY[0],
        table=table,
        label_columns=["population"],
        command="ancestryvi embed " + NASTY[0],
        notes=[NASTY[0]],
        qc=pd.DataFrame({"scope": [NASTY[0]], "dropped": [1]}),
        history={NASTY[0]: [1.0]},
        provenance={NASTY[0]: {NASTY[3]: [NASTY[1]]}},
        metrics={NASTY[3]: 0.5},
    )
    assert page.count("script") == 3
    assert page.count("b") == 0
    assert page.data["points"]["id"] == NASTY
    column = page.column("population")
    assert [column["names"][code] for code in column["codes"]] == NASTY
    assert page.data["history"][0]["title"] == NASTY[0]
    assert page.words.count("alert(1)") >= 5
    source = re.search(r'id="data">(.*?)</script>', page.source, re.DOTALL)[1]
    assert not set("<>&") & set(source)


def test_numbers_that_json_lacks_become_null(page, table):
    table.loc[0, "probability"] = np.nan
    table["entropy"] = np.inf
    page = page(table=table, history={"loss": [np.inf, np.nan, 1.5]}, scree=[0.5, np.nan])
    assert page.column("probability")["values"][0] is None
    assert set(page.column("entropy")["values"]) == {None}
    assert page.data["history"] == [{"title": "loss", "values": [None, None, 1.5]}]


def test_ten_thousand_samples_stay_small(page):
    n = 10_000
    rng = np.random.default_rng(0)
    page = page(
        table=pd.DataFrame(
            {
                "sample_id": [f"sample_{i:07d}" for i in range(n)],
                "ddvi1": rng.normal(size=n) * 7,
                "ddvi2": rng.normal(size=n) * 7,
                "cluster": rng.integers(0, 20, n),
                "probability": rng.random(n),
                "population": rng.choice([f"P{i}" for i in range(26)], n),
                "call_rate": rng.random(n),
            }
        ),
        label_columns=["population"],
    )
    assert len(page.data["points"]["id"]) == n
    assert len(page.source) < len(get_plotlyjs()) + 80 * n


@pytest.mark.parametrize("rows", [[], [0], [0, 60], [3]])
def test_few_samples(page, table, rows):
    page = page(table=table.iloc[rows], label_columns=LABELS)
    placed = [i for i in rows if i != 3]
    assert page.data["points"]["id"] == [f"S{i:03d}" for i in placed]


# ---- sections ------------------------------------------------------------------------------


def test_sections_without_content_are_left_out(page, table):
    assert page(table=table).headings == ["Map", "How to read the map"]


def test_all_sections(page, table):
    full = page(
        table=table,
        label_columns=LABELS,
        n_variants=17491,
        n_components=2,
        scree=[0.5, 0.2, 0.1],
        history={"loss": [3.0, 2.0], "reconstruction": [1.0]},
        qc=pd.DataFrame({"scope": ["variants"], "step": ["MAF"], "before": [9]}),
        metrics={"purity": 1.0},
        provenance={"versions": {"numpy": "2"}},
    )
    assert full.headings == [
        "Map",
        "Clusters by population",
        "Scores against population",
        "What was kept and what was dropped",
        "Variance of the principal components",
        "Training",
        "How to read the map",
        "Provenance",
    ]
    assert full.data["scree"] == {"percent": [50.0, 20.0, 10.0], "used": 2}
    assert "explain 70.0 %" in full.words
    ids = {attributes.get("id") for _, attributes in full.elements}
    assert {"map", "scree", "history0", "history1"} <= ids
    assert "history2" not in ids


def test_headline_facts(page, table):
    words = page(table=table, label_columns=LABELS, n_variants=17491, n_components=20).words
    facts = ["samples120", "variants17,491", "principal components20", "clusters6"]
    for fact in [*facts, "labels (population)6"]:
        assert fact in words


def test_counts_of_clusters_by_population(page, table):
    table.loc[0, "cluster"] = 4.0
    page = page(table=table, label_columns=LABELS)
    counts = next(t for t in page.tables if t[0][-1] == "all")
    clusters = counts[0][2:-1]
    shown = table[table["ddvi1"].notna() & table["population"].notna()]
    for row in counts[1:]:
        rows = shown[shown["population"] == row[1]]
        assert row[-1] == str(len(rows))
        for cluster, cell in zip(clusters, row[2:-1], strict=True):
            n = int((rows["cluster"] == int(cluster)).sum())
            assert cell == (str(n) if n else "")
    assert [row[0] for row in counts[1:]] == ["AFR", "", "EAS", "EUR", "", ""]
    # clusters stand in the order of the populations they hold: 0 GBR, 1 TSI, 2 FIN, 3 YRI, ...
    assert clusters == ["4", "3", "5", "2", "0", "1"]


def test_scores_stand_beside_those_of_a_perfect_split_into_groups(page, table):
    scores = clustering_metrics(table["population"], table["cluster"])
    page = page(table=table, label_columns=LABELS, metrics={**scores, "knn_accuracy": np.nan})
    shown = table[table["ddvi1"].notna()]
    line = clustering_metrics(shown["population"], shown["region"])
    scored = page.table_under(["", "this map", "perfect split into region", ""])
    rows = {row[0]: row[1:3] for row in scored[1:]}
    assert rows["Purity"] == ["1.000", f"{line['purity']:.3f}"]
    assert rows["NMI"] == ["1.000", f"{line['nmi']:.3f}"]
    assert rows["Samples scored"] == ["114", "114"]
    assert rows["Neighbour accuracy"] == ["–", ""]
    assert (
        f"a perfect split into the 3 categories of region would score purity {line['purity']:.3f}"
        in (page.words)
    )


def test_scores_without_a_group_stand_alone(page, table):
    page = page(table=table, label_columns=["population"], metrics={"nmi": 0.75})
    assert page.table_under(["", "this map", ""])[1][:2] == ["NMI", "0.750"]
    assert "perfect split" not in page.words


def test_every_score_has_a_name(page, table):
    scores = clustering_metrics(table["population"], table["cluster"])
    scores |= map_metrics(table[["ddvi1", "ddvi2"]], table[["ddvi1", "ddvi2"]], table["population"])
    page = page(table=table, label_columns=["population"], metrics=scores)
    names = [row[0] for row in page.table_under(["", "this map", ""])[1:]]
    assert len(names) == len(set(names)) == len(scores)
    assert not {"", *scores} & set(names)


# ---- uncertainty ---------------------------------------------------------------------------


def naive_entropy(row):
    return -sum(p * math.log(p) for p in row if p > 0)


def test_the_most_uncertain_samples_are_listed_with_their_two_clusters(page, uncertain):
    page = page(**uncertain, label_columns=LABELS)
    table, p = uncertain["table"], uncertain["probabilities"].to_numpy()
    placed = [i for i in range(120) if np.isfinite(p[i, 0])]
    entropy = {i: naive_entropy(p[i]) for i in placed}
    head = [
        *["sample", "population", "entropy", "spread"],
        *["cluster", "probability", "next cluster", "probability"],
    ]
    rows = page.table_under(head)[1:]
    worst = sorted(placed, key=lambda i: -entropy[i])[:20]
    assert [row[0] for row in rows] == [table["sample_id"][i] for i in worst]
    for i, row in zip(worst, rows, strict=True):
        first, second = sorted(range(6), key=lambda k: -p[i, k])[:2]
        assert row[1:4] == [
            table["population"][i] or "", f"{entropy[i]:.3f}", f"{table['spread'][i]:.3f}"
        ]  # fmt: skip
        assert row[4:] == [
            str(first), f"{p[i, first]:.3f}", str(second), f"{p[i, second]:.3f}"
        ]  # fmt: skip
    n = sum(value > 0.1 for value in entropy.values())
    assert 20 < n < 118
    assert f"{n} of 118 samples have an entropy above 0.1; the 20 highest:" in page.words


def test_fewer_uncertain_samples_than_the_list_has_room_for(page, table):
    p = np.zeros((120, 2))
    p[:, 0] = 1
    p[7], p[9] = (0.6, 0.4), (0.3, 0.7)
    page = page(table=table, probabilities=pd.DataFrame(p, columns=["YRI", "GBR"]))
    assert page.table_under(
        ["sample", "entropy", "cluster", "probability", "next cluster", "probability"]
    )[1:] == [
        ["S007", "0.673", "YRI", "0.600", "GBR", "0.400"],
        ["S009", "0.611", "GBR", "0.700", "YRI", "0.300"],
    ]
    assert "2 of 120 samples have an entropy above 0.1:" in page.words


def test_certain_samples_are_not_listed(page, table):
    p = np.tile([0.99, 0.01], (120, 1))  # 0.056 nats
    page = page(table=table, probabilities=pd.DataFrame(p, columns=["0", "1"]))
    assert "Most uncertain samples" not in page.headings


def test_spread_and_entropy_stand_under_the_pointer_and_can_be_chosen(page, uncertain):
    page = page(**uncertain, label_columns=LABELS)
    shown = uncertain["table"][uncertain["table"]["ddvi1"].notna()]
    options = [attributes for tag, attributes in page.elements if tag == "option"]
    titles = [page.data["columns"][int(option["value"])]["title"] for option in options]
    assert titles == ["population", "region", "cluster", "probability", "spread", "entropy"]
    for name in ("spread", "entropy"):
        assert page.column(name)["kind"] == "values"
        assert page.column(name)["values"] == pytest.approx(list(shown[name]), rel=1e-4)


def test_the_reader_is_told_what_spread_and_entropy_are_where_they_are_given(page, uncertain):
    words = page(**uncertain).words
    assert "Spread is how far from its place on the map a sample could be" in words
    assert "log 6 = 1.79 is a guess among all 6 clusters" in words
    words = page(table=uncertain["table"].drop(columns="spread")).words
    assert "log K is a guess among all K clusters" in words
    assert "Spread is" not in words
    assert "Entropy" not in page(table=uncertain["table"].drop(columns=["spread", "entropy"])).words


def test_clusters_of_a_model_fitted_with_labels_go_by_their_names(page, table):
    classes = ["Tuscany", "Kyoto", "Ibadan", "Lahore", "Lima", "Oslo"]
    table["cluster"] = table["cluster"].map(dict(enumerate(classes)))
    page = page(table=table, label_columns=LABELS)
    assert page.column("cluster")["names"] == sorted(classes)
    counts = next(t for t in page.tables if t[0][-1] == "all")
    assert sorted(counts[0][2:-1]) == sorted(classes)


def test_a_reference_map_of_named_clusters_is_embedded_with_the_names(page, table):
    reference = table[table["ddvi1"].notna()].drop(columns=LABELS)
    projected = reference.head(3)
    assert page(table=projected, background=reference).data["background"]["names"] == []
    named = reference.assign(cluster=reference["cluster"].map("class {:.0f}".format))
    background = page(table=projected, background=named).data["background"]
    assert background["names"] == [f"class {k}" for k in range(6)]
    assert [background["names"][code] for code in background["codes"]] == list(named["cluster"])


# ---- quality control, provenance -----------------------------------------------------------


def test_every_count_of_the_quality_control_is_shown(page, table):
    qc = pd.DataFrame(
        {
            "scope": ["variants", "samples"],
            "step": ["minor allele frequency", "call rate"],
            "before": [24640, 120],
            "dropped": [17012, 0],
            "kept": [7628, 120],
            "detail": ["below 0.01", None],
        }
    )
    assert page(table=table, qc=qc).table_under(list(qc)) == [
        list(qc),
        ["variants", "minor allele frequency", "24,640", "17,012", "7,628", "below 0.01"],
        ["samples", "call rate", "120", "0", "120", ""],
    ]


def test_provenance_is_nested_and_folded(page, table):
    provenance = {
        "parameters": {"seed": 0, "n_clusters": 20},
        "inputs": [{"path": "a.vcf.gz", "sha256": "0f" * 32}, {"path": "b.vcf.gz"}],
    }
    page = page(table=table, provenance=provenance)
    assert page.count("details") == 2
    assert not any("open" in attributes for tag, attributes in page.elements if tag == "details")
    for word in ("seed", "n_clusters", "a.vcf.gz", "0f" * 32, "b.vcf.gz"):
        assert word in page.words


def test_the_reader_is_told_what_a_probability_is_not(page, table):
    words = page(table=table).words
    assert "It is not an admixture proportion" in words
    assert "roughly to scale at best" in words


def test_votes_are_not_passed_off_as_probabilities(page, table):
    sure = table.assign(spread=np.nan, entropy=0.0)
    words = page(table=sure, voted=True).words
    assert "no probabilities of its own" in words
    assert "responsibility" not in words
    assert "Spread is" not in words
    assert "Entropy is" not in words
