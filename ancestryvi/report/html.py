"""The report: one HTML file that needs no network, with an interactive map."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from plotly.offline import get_plotlyjs

from ancestryvi.evaluate import assignment_entropy, reference_line
from ancestryvi.report.content import ReportContent
from ancestryvi.report.interactive import colour_columns, payload
from ancestryvi.report.markup import class_of, html_table, nested, section, td, th, tr
from ancestryvi.report.table import (
    Colouring,
    categories,
    category_names,
    colouring,
    placed,
    reference_names,
)

_NOTED_IDS: Final = 10
_LISTED_SAMPLES: Final = 20
_UNCERTAIN: Final = 0.1  # nats: two clusters at 0.98 and 0.02

# Nothing but what is in the file: the browser itself refuses every request. plotly compiles what
# it draws with WebGL, hence 'unsafe-eval'.
_POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:"
)
_RESPONSIBILITIES: Final = (
    "A cluster is a component of a mixture, and its probability says how sure the model is that "
    "the sample belongs to this cluster and to no other (the posterior responsibility of the "
    "component). It is not an admixture proportion: 0.5 means undecided, not half of the ancestry, "
    "and a sample of mixed ancestry can belong to a cluster of its like with probability 1."
)
_VOTES: Final = (
    "This method puts each sample in one cluster and has no probabilities of its own. The "
    "probability of a cluster is the vote of the 15 nearest samples that were clustered, weighted "
    "by inverse distance, and so 1 for these samples themselves. It says nothing of how sure the "
    "clustering is, nor of admixture."
)
_METRICS: Final = {
    "purity": ("Purity", "share of samples that carry the commonest label of their cluster"),
    "homogeneity": ("Homogeneity", "1 when each cluster holds one label only"),
    "completeness": ("Completeness", "1 when each label lies in one cluster only"),
    "nmi": ("NMI", "harmonic mean of the two: the information that clusters and labels share"),
    "ari": ("ARI", "pairs of samples put together alike; 0 is chance"),
    "ami": ("AMI", "shared information; 0 is chance"),
    "n_labelled": ("Samples scored", "those with a label and a cluster"),
    "trustworthiness": (
        "Trustworthiness",
        "1 when neighbours on the map are neighbours in the PCs",
    ),
    "trustworthiness_neighbors": ("Neighbours ranked", "per sample, for the trustworthiness"),
    "knn_accuracy": (
        "Neighbour accuracy",
        "share of samples whose neighbours vote for their label; if projected, those on the "
        "reference map",
    ),
    "knn_neighbors": ("Neighbours voting", "per sample, for the neighbour accuracy"),
}


def write_report(path: str | Path, content: ReportContent) -> None:
    """Write one HTML file with everything in it; it opens without a network.

    Parameters
    ----------
    path : str or Path
        File to write; replaced if it exists.
    content : ReportContent
        What to show.

    Raises
    ------
    InputFormatError
        If a table lacks one of the coordinates.

    Examples
    --------
    >>> table = pd.DataFrame({"sample_id": ["s1", "s2"], "ddvi1": [0, 1], "ddvi2": [0, 2]})
    >>> table = table.assign(cluster=[0, 1], probability=[0.9, 0.8], population=["GBR", "YRI"])
    >>> content = ReportContent(title="Two samples", table=table, label_columns=["population"])
    >>> write_report("report.html", content)  # doctest: +SKIP
    """
    shown = placed(content.table, content.coordinates)
    colour = colouring(shown, content.label_columns)
    columns = colour_columns(content, shown)
    sections = [
        _headline(content, shown, colour),
        _map_section(columns, colour.column),
        _counts_section(shown, colour),
        _reference_section(content),
        _metrics_section(content, shown, colour),
        _uncertain_section(content, colour),
        _qc_section(content.qc),
        _scree_section(content),
        _history_section(content.history),
        _reading_section(content),
        _provenance_section(content.provenance),
    ]
    assets = files("ancestryvi.report")
    parts = [
        "<!doctype html>",
        '<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(content.title)}</title>",
        f"<style>\n{assets.joinpath('report.css').read_text('utf-8')}</style>",
        "</head>\n<body>\n<main>",
        *filter(None, sections),
        "</main>",
        f"<script>{get_plotlyjs()}</script>",
        f'<script type="application/json" id="data">{payload(content, shown, columns)}</script>',
        f"<script>\n{assets.joinpath('report.js').read_text('utf-8')}</script>",
        "</body>\n</html>\n",
    ]
    Path(path).write_text("\n".join(parts), encoding="utf-8")


# ---- sections --------------------------------------------------------------------------------


def _headline(content: ReportContent, shown: pd.DataFrame, colour: Colouring) -> str:
    reference = content.background
    facts: dict[str, int | None] = {
        "samples" if reference is None else "projected samples": len(content.table),
        "reference samples": None if reference is None else len(reference),
        "variants": content.n_variants,
        "principal components": content.n_components,
        "clusters": len(categories(shown["cluster"]))
        if content.probabilities is None
        else content.probabilities.shape[1],
    }
    if colour.column != "cluster":
        facts[f"labels ({colour.column})"] = len(colour.categories)
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{value:,}</dd></div>"
        for name, value in facts.items()
        if value is not None
    )
    notes = [*content.notes, *_unplaced_note(content.table, shown)]
    parts = [f"<h1>{escape(content.title)}</h1>"]
    if content.command:
        parts.append(f'<pre class="command">{escape(content.command)}</pre>')
    parts.append(f'<dl class="facts">{cells}</dl>')
    if notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in notes)
        parts.append(f'<ul class="notes">{items}</ul>')
    return "<header>\n" + "\n".join(parts) + "\n</header>"


def _unplaced_note(table: pd.DataFrame, shown: pd.DataFrame) -> list[str]:
    """No sample leaves the map without a word."""
    on_map = set(shown["sample_id"])
    ids = [str(name) for name in table["sample_id"] if name not in on_map]
    if not ids:
        return []
    more = ", …" if len(ids) > _NOTED_IDS else ""
    return [
        f"{len(ids):,} of {len(table):,} samples could not be placed on the map: "
        f"{', '.join(ids[:_NOTED_IDS])}{more}"
    ]


def _map_section(columns: Sequence[Mapping[str, Any]], chosen: str) -> str:
    options = "".join(
        f'<option value="{i}"{" selected" * (column["title"] == chosen)}>'
        f"{escape(column['title'])}</option>"
        for i, column in enumerate(columns)
        if column["kind"] != "text"
    )
    return section(
        "Map",
        '<div class="tools">',
        f'<label>Colour by <select id="colour">{options}</select></label>',
        '<label><input type="checkbox" id="names"> Names on the map</label>',
        '<label>Find <input type="search" id="find" placeholder="sample id"></label>',
        '<span id="found" role="status"></span>\n</div>\n<div id="map"></div>',
        "<p><small>Click a name in the legend to hide or show it, double-click to see it alone. "
        "Drag to zoom, double-click the map to zoom out.</small></p>",
    )


def _reference_section(content: ReportContent) -> str:
    """Which labels the clusters of a reference map hold."""
    if content.background is None:
        return ""
    reference = placed(content.background, content.coordinates)
    known = reference_names(reference)
    return "" if known is None else _counts_section(reference, known, " among reference samples")


def _counts_section(shown: pd.DataFrame, colour: Colouring, where: str = "") -> str:
    """Samples of each label in each cluster; a cluster stands below the label it holds most of."""
    if colour.column == "cluster":
        return ""
    labels, clusters = category_names(shown[colour.column]), category_names(shown["cluster"])
    counts = pd.crosstab(labels, clusters).reindex(
        index=colour.categories, columns=categories(shown["cluster"]), fill_value=0
    )
    order = np.argsort(counts.to_numpy().argmax(axis=0), kind="stable")
    counts = counts.iloc[:, order]
    is_grouped = bool(colour.groups)
    rows, previous = [], None
    for name, numbers in zip(colour.categories, counts.to_numpy().tolist(), strict=True):
        group = colour.groups.get(name, "")
        starts = group != previous
        previous = group
        total = sum(numbers)
        cells = [th(group if starts else "")] * is_grouped + [th(name)]
        cells += [_count(n, total) for n in numbers] + [th(f"{total:,}")]
        rows.append(tr(cells, "first" if starts else ""))
    head = [*["<th></th>"] * (1 + is_grouped), *map(th, counts.columns), "<th>all</th>"]
    return section(
        f"Clusters by {colour.column}{where}",
        f"<p><small>Samples of each {escape(colour.column)} (row) in each cluster (column); "
        "the darker, the larger the share of the row.</small></p>",
        html_table(head, rows, "counts"),
    )


def _metrics_section(content: ReportContent, shown: pd.DataFrame, colour: Colouring) -> str:
    if not content.metrics:
        return ""
    scored = content.label_columns[0] if content.label_columns else "cluster"
    reference: dict[str, float] = {}
    note = ""
    if colour.group is not None and colour.column == scored:
        reference = reference_line(
            category_names(shown[colour.column]), category_names(shown[colour.group])
        )
        note = (
            "<p>To put the scores into proportion: a perfect split into the "
            f"{len(set(colour.groups.values()))} categories of {escape(colour.group)} would score "
            f"purity {reference['purity']:.3f}, completeness {reference['completeness']:.3f} and "
            f"NMI {reference['nmi']:.3f}.</p>"
        )
    head = ["<th></th>", th("this map", "n")]
    if reference:
        head.append(th(f"perfect split into {colour.group}", "n"))
    rows = []
    for key, value in content.metrics.items():
        name, meaning = _METRICS.get(key, (key, ""))
        cells = [th(name), td(_number(value), "n")]
        if reference:
            cells.append(td(_number(reference[key]) if key in reference else "", "n"))
        rows.append(tr([*cells, td(meaning, "soft")]))
    against = f" against {scored}" if content.label_columns else ""
    return section(f"Scores{against}", note, html_table([*head, "<th></th>"], rows))


def _uncertain_section(content: ReportContent, colour: Colouring) -> str:
    """The samples whose cluster is least certain, and between which clusters they lie."""
    if content.probabilities is None:
        return ""
    probabilities = content.probabilities.to_numpy(dtype=np.float64)
    entropy = assignment_entropy(probabilities)
    order = np.argsort(-entropy, kind="stable")  # NaN, for those without a place, come last
    n_uncertain = int((entropy > _UNCERTAIN).sum())
    if n_uncertain == 0:
        return ""
    clusters = [str(name) for name in content.probabilities]
    traits = {"sample": "sample_id", colour.column: colour.column}
    traits.pop("cluster", None)
    texts = {title: category_names(content.table[name]) for title, name in traits.items()}
    has_spread = "spread" in content.table
    rows = []
    for i in order[: min(n_uncertain, _LISTED_SAMPLES)]:
        cells = [td(text.iloc[i] or "") for text in texts.values()]
        cells.append(td(_number(entropy[i]), "n"))
        if has_spread:
            cells.append(td(_number(content.table["spread"].iloc[i]), "n"))
        for k in np.argsort(-probabilities[i], kind="stable")[:2]:
            cells += [td(clusters[k]), td(_number(probabilities[i, k]), "n")]
        rows.append(tr(cells))
    head = [*map(th, texts), th("entropy", "n")]
    head += [th("spread", "n")] * has_spread
    for title in ("cluster", "next cluster"):
        head += [th(title), th("probability", "n")]
    n_placed = int(np.isfinite(entropy).sum())
    return section(
        "Most uncertain samples",
        f"<p><small>{n_uncertain:,} of {n_placed:,} samples have an entropy above {_UNCERTAIN}"
        + (f"; the {_LISTED_SAMPLES} highest:" if n_uncertain > _LISTED_SAMPLES else ":")
        + "</small></p>",
        html_table(head, rows),
    )


def _qc_section(qc: pd.DataFrame | None) -> str:
    if qc is None or qc.empty:
        return ""
    numeric = set(qc.select_dtypes("number"))
    rows = [
        tr(
            td(f"{value:,.0f}", "n")
            if name in numeric and pd.notna(value)
            else td("" if pd.isna(value) else str(value), "text")
            for name, value in record.items()
        )
        for record in qc.to_dict("records")
    ]
    head = [th(str(name), "n" if name in numeric else "") for name in qc]
    return section("What was kept and what was dropped", html_table(head, rows))


def _scree_section(content: ReportContent) -> str:
    if content.scree is None:
        return ""
    percent = 100 * np.asarray(content.scree, dtype=np.float64)
    used = percent[: content.n_components]
    return section(
        "Variance of the principal components",
        f"<p><small>The {len(used):,} that the model was given (blue) explain {used.sum():.1f} % "
        "of the variance of the genotypes.</small></p>",
        '<div id="scree"></div>',
    )


def _history_section(history: Mapping[str, Sequence[float]]) -> str:
    if not history:
        return ""
    plots = "".join(f'<div id="history{i}"></div>' for i in range(len(history)))
    return section("Training", f'<div class="plots">{plots}</div>')


def _reading_section(content: ReportContent) -> str:
    paragraphs = [
        "Each point is a sample, and samples whose genotypes are alike lie together. The axes have "
        "no unit and their direction no meaning. What is near is reliable; distances between far "
        "groups are roughly to scale at best (by t-SNE and UMAP not even that), and neither the "
        "size of a group nor the gap around it measures diversity or time. Groups with many "
        "samples take more room.",
        _VOTES if content.voted else _RESPONSIBILITIES,
        "Clusters depend on the samples and variants that went in and on the number asked for. "
        "They describe this data set; they are not races, and need not be populations.",
    ]
    paragraphs += _uncertainty_paragraph(content)
    if content.background is not None:
        paragraphs.append(
            "The samples were projected: the reference map, in grey, did not change. A sample of "
            "an ancestry that the reference lacks is still placed somewhere, often between groups "
            "or on the nearest one."
        )
    return section("How to read the map", *(f"<p>{text}</p>" for text in paragraphs))


def _uncertainty_paragraph(content: ReportContent) -> list[str]:
    """How to read spread and entropy, where the map can be coloured by them."""
    sentences = []
    if "spread" in content.table and content.table["spread"].notna().any():
        sentences.append(
            "Spread is how far from its place on the map a sample could be, in the units of the "
            "axes: the root mean square distance of draws from its posterior from their mean, and "
            "of places that it may have if many calls are missing."
        )
    if "entropy" in content.table and not content.voted:
        guess = "log K is a guess among all K clusters"
        if content.probabilities is not None:
            k = content.probabilities.shape[1]
            guess = f"log {k} = {math.log(k):.2f} is a guess among all {k} clusters"
        sentences.append(
            "Entropy is how undecided its cluster is, in nats: 0 is certain, 0.69 is a toss-up "
            f"between two clusters, and {guess}. Where it is high, use the probabilities, not the "
            "cluster."
        )
    if sentences:
        sentences.append(
            "Low values mean that the model is sure, not that it is right: a sample of an ancestry "
            "that the model never saw can have them too. Choose them under “Colour by” to see "
            "where the map is uncertain."
        )
    return [" ".join(sentences)] if sentences else []


def _provenance_section(provenance: Mapping[str, object]) -> str:
    if not provenance:
        return ""
    return section(
        "Provenance",
        *(
            f"<details><summary>{escape(str(name))}</summary>{nested(value)}</details>"
            for name, value in provenance.items()
        ),
    )


def _count(n: int, total: int) -> str:
    """Cell shaded by the share of the row, empty where there is no sample."""
    if n == 0:
        return "<td></td>"
    share = n / total
    return f'<td{class_of("dark" if share > 0.55 else "")} style="--share:{share:.2f}">{n}</td>'


def _number(value: float) -> str:
    """Whole numbers whole, others with three decimals, – for NaN."""
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    return f"{value:.3f}" if math.isfinite(value) else "–"
