import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from ancestryvi.evaluate import Run
from ancestryvi.report import (
    Comparison,
    category_styles,
    colouring,
    comparison_markdown,
    cost_figure,
    maps_figure,
    write_comparison,
)
from ancestryvi.report.comparison import FILES, comparison_table

NASTY = "<script>alert(1)</script> & \"x\" | 'y'"
LABELS = ["population", "region"]
CEILING = {"linear discriminant": {"nmi": 0.9, "ari": 0.8}, "perfect split": {"nmi": 0.6}}


def made(method, *nmi, n=120, seconds=1.0, **more):
    """Runs of a method with these NMIs; the map of seed i lies around i."""
    return [
        Run(
            method=method,
            seed=i,
            scores={"nmi": value, "ari": value / 2, "seconds": seconds, "n_clusters": 3.0},
            embedding=np.random.default_rng(i).normal(i, 0.1, size=(n, 2)),
            labels=np.zeros(n, dtype=np.int64),
            **more,
        )
        for i, value in enumerate(nmi)
    ]


@pytest.fixture
def labels(table):
    return table[LABELS]


@pytest.fixture
def comparison(labels):
    runs = [
        *made("plain", 0.5, 0.52),
        *made("best", 0.80, 0.86, 0.81),
        Run(method="best", seed=3, error="over the time limit of 9 s"),
        Run(method="broken", seed=0, error="ValueError: no"),
    ]
    return Comparison(
        runs=runs,
        labels=labels,
        label_columns=LABELS,
        titles={"best": "The best"},
        summaries={"plain": "As simple as can be"},
        references=CEILING,
        facts={"samples": "120"},
        provenance={"command": "ancestryvi benchmark x.vcf"},
    )


def with_nasty_names(comparison):
    runs = [
        *made(NASTY, 0.7, estimator=NASTY, parameters={"p": NASTY}),
        Run(method="e", seed=0, error=NASTY),
    ]
    return Comparison(
        runs=runs,
        labels=comparison.labels,
        label_columns=LABELS,
        titles={"e": NASTY + "e"},
        summaries={NASTY: NASTY},
        references={NASTY: {"nmi": 0.1}},
        facts={NASTY: NASTY},
        notes=[NASTY],
        provenance={"command": NASTY, NASTY: {NASTY: [NASTY]}},
    )


# ---- the table ---------------------------------------------------------------------------------


def test_the_best_is_first_and_the_references_last(comparison):
    table = comparison_table(comparison)
    assert list(table["Method"]) == ["The best", "plain", "broken", *CEILING]
    assert table["NMI"].iloc[0] == "0.823 ± 0.080"  # 4.30265 * 0.032146 / sqrt(3)
    assert table["NMI"].iloc[1] == "0.510 ± 0.127"  # 12.7062 * 0.014142 / sqrt(2)
    assert list(table["NMI"].iloc[2:]) == ["–", "0.900", "0.600"]
    assert list(table["Runs"]) == ["3 of 4", "2", "0 of 1", "", ""]


def test_scores_that_nobody_has_are_no_column(comparison):
    assert "Log density" not in comparison_table(comparison)
    assert "ARI" in comparison_table(comparison)


def test_markdown_has_the_table_and_what_failed(comparison):
    lines = comparison_markdown(comparison).splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("| Method"))
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[head + 2 : head + 7]]
    assert rows == comparison_table(comparison).to_numpy().tolist()
    assert "- samples: 120" in lines[:head]
    assert "- The best: over the time limit of 9 s (seed 3)" in lines
    assert "- broken: ValueError: no (seed 0)" in lines


def test_a_bar_in_a_name_does_not_end_a_cell(comparison):
    text = comparison_markdown(with_nasty_names(comparison))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    bars = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert len(bars) == 1


# ---- the maps ----------------------------------------------------------------------------------


def test_one_map_per_method_that_worked_of_its_median_run(comparison):
    figure = maps_figure(comparison.runs, comparison.labels, LABELS, comparison.titles)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["The best  0.810", "plain  0.500"]
    points = np.vstack([c.get_offsets() for c in figure.axes[0].collections])
    assert len(points) == 120
    assert points.mean() == pytest.approx(2, abs=0.1)  # the map of seed 2


def test_every_map_has_the_colours_of_the_one_legend(comparison):
    figure = maps_figure(comparison.runs, comparison.labels, LABELS)
    colour = colouring(comparison.labels, LABELS)
    styles = category_styles(colour.categories, colour.groups)
    for axes in figure.axes:
        assert axes.get_legend() is None
        drawn = {c.get_label(): c for c in axes.collections}
        assert set(drawn) == {*colour.categories, "no label"}
        for name, style in styles.items():
            rgb = np.round(255 * drawn[name].get_facecolor()[0, :3]).astype(int)
            assert "#" + "".join(f"{value:02x}" for value in rgb) == style.color
            members = (comparison.labels["population"] == name).sum()
            assert len(drawn[name].get_offsets()) == members
    (legend,) = figure.legends
    rows = [text.get_text() for text in legend.get_texts()]
    assert rows == ["AFR", "LWK", "YRI", "EAS", "JPT", "EUR", "FIN", "GBR", "TSI", "no label"]


def test_samples_without_a_place_are_left_out(comparison):
    (run,) = made("m", 0.5)
    run.embedding[:7] = np.nan
    figure = maps_figure([run], comparison.labels, LABELS)
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 113


def test_labels_too_many_to_colour_by_leave_grey_maps():
    labels = pd.DataFrame({"family": [f"f{i}" for i in range(120)]})
    figure = maps_figure(made("m", 0.5), labels, ["family"])
    assert [c.get_label() for c in figure.axes[0].collections] == ["no label"]


# ---- NMI against seconds -----------------------------------------------------------------------


def test_points_are_at_seconds_and_nmi(comparison):
    runs = [*made("slow", 0.5, seconds=100.0), *made("quick", 0.7, 0.9, seconds=0.5)]
    axes = cost_figure(runs, {"slow": "Slow"}, {"ceiling": 0.95}).axes[0]
    assert axes.get_xscale() == "log"
    points = axes.lines[0].get_xydata()
    np.testing.assert_allclose(points, [[0.5, 0.8], [100, 0.5]])
    assert [text.get_text() for text in axes.texts] == ["quick", "Slow"]
    (bars,) = axes.collections
    np.testing.assert_allclose(bars.get_segments()[1][:, 1], [0.5, 0.5])  # one seed: no bar
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], [0, 1])  # 0.8 ± 1.27, within [0, 1]
    assert axes.lines[1].get_ydata()[0] == 0.95


def test_no_name_covers_another_and_all_are_in_the_picture():
    rng = np.random.default_rng(4)
    runs = [
        run
        for i in range(25)
        for run in made(f"some-method-{i}", 0.8 + rng.normal() / 100, seconds=2 + rng.random() / 5)
    ]
    figure = cost_figure(runs)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 25
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    room = figure.bbox
    assert all(b.x0 >= 0 and b.x1 <= room.x1 and b.y0 >= 0 and b.y1 <= room.y1 for b in boxes)


# ---- the page ----------------------------------------------------------------------------------


@pytest.fixture
def page(comparison, tmp_path):
    write_comparison(tmp_path, comparison)
    return (tmp_path / "benchmark.html").read_text(encoding="utf-8")


def test_all_files_are_written(page, tmp_path):
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert (tmp_path / "maps.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_asks_for_nothing_from_elsewhere(page):
    assert not re.search(r"https?://", page)
    assert "<script" not in page
    assert "<link" not in page
    assert "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"]{0,22})', page)
    assert sources == ["data:image/png;base64,"] * 2
    assert "default-src 'none'" in page


def test_the_page_has_table_failures_and_methods(page, comparison):
    headings = re.findall("<h2>(.*?)</h2>", page)
    assert headings == [
        "Scores", "What failed", "Maps", "NMI and seconds", "How to read it", "Methods",
        "Provenance",
    ]  # fmt: skip
    for cell in comparison_table(comparison).to_numpy().ravel():
        assert f">{cell}</t" in page
    assert "over the time limit of 9 s (seed 3)" in page
    assert "As simple as can be" in page
    assert "ancestryvi benchmark x.vcf" in page


def test_names_are_text_and_never_markup(comparison, tmp_path):
    write_comparison(tmp_path, with_nasty_names(comparison))
    page = (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; ") >= 12


def test_without_a_run_that_worked_there_are_no_pictures(labels, tmp_path):
    runs = [Run(method="m", seed=0, error="broken")]
    write_comparison(tmp_path, Comparison(runs=runs, labels=labels, label_columns=LABELS))
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.md", "benchmark.html"}
    assert "broken (seed 0)" in (tmp_path / "benchmark.html").read_text(encoding="utf-8")
    assert "![" not in (tmp_path / "benchmark.md").read_text(encoding="utf-8")
