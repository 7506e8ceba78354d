"""A benchmark for a reader: the table as Markdown, and one page with the figures in it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ancestryvi.evaluate import Run, summary_table
from ancestryvi.report.comparison_figures import cost_figure, maps_figure
from ancestryvi.report.figures import save_figure
from ancestryvi.report.markup import html_table, nested, section, td, th, tr

FILES: Final = (
    "benchmark.md",
    "benchmark.html",
    "maps.png",
    "maps.pdf",
    "nmi-time.png",
    "nmi-time.pdf",
)
"""What `write_comparison` may write."""

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class _Column(NamedTuple):
    score: str
    title: str
    decimals: int


_COLUMNS: Final = (
    _Column("nmi", "NMI", 3),
    _Column("ari", "ARI", 3),
    _Column("ami", "AMI", 3),
    _Column("purity", "Purity", 3),
    _Column("homogeneity", "Homogeneity", 3),
    _Column("completeness", "Completeness", 3),
    _Column("knn_accuracy", "Neighbour accuracy", 3),
    _Column("trustworthiness", "Trustworthiness", 3),
    _Column("log_density", "Log density", 2),
    _Column("n_clusters", "Clusters", 1),
    _Column("n_unplaced", "Unplaced", 1),
    _Column("seconds", "Seconds", 2),
    _Column("peak_mb", "Peak MB", 0),
)

_READING: Final = (
    "Every method got the same features and none saw the labels. Numbers are means over the "
    "seeds ± the half width of the 95 % t-interval; with a single seed there is no interval, and "
    "for a method that does not depend on the seed its width is 0.",
    "NMI, ARI, AMI, purity, homogeneity and completeness compare clusters with labels, over all "
    "labelled samples: those that a method did not place count as one more cluster. Neighbour "
    "accuracy is the share of samples whose nearest neighbours on the map (20, or fewer in a "
    "small cohort) vote for their label; trustworthiness is 1 when neighbours on the map are "
    "neighbours in the features. Both leave out samples without a place.",
    "Log density is what the method itself reports for the features, in nats per sample: a lower "
    "bound (ELBO) or an exact value. Compare it between methods of one kind only.",
    "Seconds are wall time of the fit alone, in a fresh process: starting Python, loading the "
    "library and reading the data are not counted, but what a method loads or compiles while it "
    "fits is. Peak MB is the largest memory of that process, Python and its libraries included. "
    "Both depend on the machine and on what else it was doing.",
    "The rows below the methods put the scores into proportion. A linear discriminant learns "
    "the labels from the same features and is scored on samples that it did not see, which no "
    "clustering is likely to beat; a perfect split into the coarser groups is what a method "
    "scores that finds these and nothing finer.",
    "The labels are one way to divide the samples. A clustering that differs from them can be "
    "right about something else.",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the report of a benchmark is made from.

    Parameters
    ----------
    runs : sequence of Run
        Every run, failed ones too.
    labels : DataFrame of n_samples rows
        In the order of the samples of the maps.
    label_columns : sequence of str
        Its columns to colour by, the one that runs were scored against first.
    titles : mapping of str to str
        Names of the methods for the reader, where they differ.
    summaries : mapping of str to str
        A line on each method.
    references : mapping of str to dict
        Scores to compare with, as `ancestryvi.evaluate.clustering_metrics` returns them, by what
        they are of.
    facts : mapping of str to str
        What was run on what: samples, components, clusters, seeds, machine, versions.
    notes : sequence of str
        Warnings in words.
    provenance : mapping of str to object
        Versions, parameters, inputs with checksums; may be nested.
    """

    runs: Sequence[Run]
    labels: pd.DataFrame
    label_columns: Sequence[str]
    titles: Mapping[str, str] = field(default_factory=dict)
    summaries: Mapping[str, str] = field(default_factory=dict)
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)

    def title_of(self, method: str) -> str:
        """The name of a method for the reader."""
        return self.titles.get(method, method)


def comparison_table(comparison: Comparison) -> pd.DataFrame:
    """The table as a reader sees it: text, best NMI first, then the references.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    table : DataFrame of str
        Scores that no row has are left out.

    Examples
    --------
    >>> runs = [Run(method="m", seed=i, scores={"nmi": 0.8 + i / 10}) for i in (0, 1)]
    >>> content = Comparison(runs=runs, labels=pd.DataFrame(), label_columns=[])
    >>> comparison_table(content).to_dict("records")
    [{'Method': 'm', 'NMI': '0.850 ± 0.635', 'Runs': '2'}]
    """
    rows = []
    for record in summary_table(comparison.runs).to_dict("records"):
        row = {"Method": comparison.title_of(record["method"])}
        for column in _COLUMNS:
            mean, half = (record[f"{column.score}_{part}"] for part in ("mean", "half_width"))
            row[column.title] = _cell(mean, half, column.decimals)
        n_all = record["n_runs"] + record["n_failed"]
        row["Runs"] = f"{record['n_runs']} of {n_all}" if record["n_failed"] else f"{n_all}"
        rows.append(row)
    for name, scores in comparison.references.items():
        row = {"Method": name}
        for column in _COLUMNS:
            row[column.title] = _cell(scores.get(column.score, np.nan), np.nan, column.decimals)
        rows.append(row | {"Runs": ""})
    table = pd.DataFrame(rows)
    return table.loc[:, [not (table[name] == "–").all() for name in table]]


def comparison_markdown(comparison: Comparison) -> str:
    """The benchmark as Markdown: facts, table, failures, how to read it.

    Examples
    --------
    >>> runs = [Run(method="m", seed=0, scores={"nmi": 0.8})]
    >>> text = comparison_markdown(Comparison(runs=runs, labels=pd.DataFrame(), label_columns=[]))
    >>> print(*text.splitlines()[2:5], sep="\\n")
    | Method | NMI | Runs |
    |---|---|---|
    | m | 0.800 | 1 |
    """
    table = comparison_table(comparison)
    lines = ["# Benchmark", ""]
    lines += [f"- {name}: {value}" for name, value in comparison.facts.items()]
    lines += [f"- Note: {note}" for note in comparison.notes]
    lines += [""] * (len(lines) > 2)
    lines.append(_pipes(table.columns))
    lines.append("|" + "---|" * table.shape[1])
    lines += [_pipes(row) for row in table.itertuples(index=False)]
    failures = _failures(comparison)
    if failures:
        lines += ["", "## What failed", ""]
        lines += [f"- {title}: {why}" for title, why in failures]
    if _any_succeeded(comparison):
        lines += ["", "![Maps](maps.png)", "", "![NMI and seconds](nmi-time.png)"]
    lines += ["", "## How to read it"]
    for paragraph in _READING:
        lines += ["", paragraph]
    return "\n".join(lines) + "\n"


def write_comparison(directory: str | Path, comparison: Comparison) -> None:
    """Write `FILES`: the table, the figures, and a page that needs no network.

    Where no run succeeded there are no figures.

    Parameters
    ----------
    directory : str or Path
        An existing directory; files in it are replaced.
    comparison : Comparison

    Examples
    --------
    >>> write_comparison("results", comparison)  # doctest: +SKIP
    """
    directory = Path(directory)
    figures: dict[str, Figure] = {}
    if _any_succeeded(comparison):
        runs, titles = comparison.runs, comparison.titles
        lines = {name: scores["nmi"] for name, scores in comparison.references.items()}
        figures["maps"] = maps_figure(runs, comparison.labels, comparison.label_columns, titles)
        figures["nmi-time"] = cost_figure(runs, titles, lines)
    for name, figure in figures.items():
        save_figure(figure, directory / f"{name}.png")
        save_figure(figure, directory / f"{name}.pdf")
    images = {name: (directory / f"{name}.png").read_bytes() for name in figures}
    text = comparison_markdown(comparison)
    (directory / "benchmark.md").write_text(text, encoding="utf-8")
    (directory / "benchmark.html").write_text(_page(comparison, images), encoding="utf-8")


def _any_succeeded(comparison: Comparison) -> bool:
    return any(run.error is None for run in comparison.runs)


def _failures(comparison: Comparison) -> list[tuple[str, str]]:
    """Title of each method with a run that failed, and why."""
    table = summary_table(comparison.runs)
    table = table[table["n_failed"] > 0]
    return [
        (comparison.title_of(method), why)
        for method, why in zip(table["method"], table["why"], strict=True)
    ]


def _cell(mean: float, half_width: float, decimals: int) -> str:
    """Mean ± half width, – for NaN; whole numbers whole where they may be."""
    if np.isnan(mean):
        return "–"
    if decimals == 1 and float(mean).is_integer() and not half_width > 0:
        decimals = 0
    text = f"{mean:,.{decimals}f}"
    return text if np.isnan(half_width) else f"{text} ± {half_width:,.{decimals}f}"


def _pipes(cells: Any) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


# ---- the page ----------------------------------------------------------------------------------


def _page(comparison: Comparison, images: Mapping[str, bytes]) -> str:
    style = files("ancestryvi.report").joinpath("report.css").read_text("utf-8")
    parts = [
        "<!doctype html>",
        '<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>Benchmark</title>",
        f"<style>\n{style}img {{ max-width: 100%; height: auto; }}\n</style>",
        "</head>\n<body>\n<main>",
        _head(comparison),
        _scores_section(comparison),
        _failures_section(comparison),
        _image_section("Maps", images.get("maps"), _maps_note(comparison)),
        _image_section(
            "NMI and seconds",
            images.get("nmi-time"),
            "Higher is better and left is faster; bars are 95 % intervals over the seeds.",
        ),
        section("How to read it", *(f"<p>{escape(text)}</p>" for text in _READING)),
        _methods_section(comparison),
        section("Provenance", nested(comparison.provenance)) if comparison.provenance else "",
        "</main>\n</body>\n</html>\n",
    ]
    return "\n".join(filter(None, parts))


def _head(comparison: Comparison) -> str:
    parts = ["<h1>Benchmark</h1>"]
    command = comparison.provenance.get("command")
    if command:
        parts.append(f'<pre class="command">{escape(str(command))}</pre>')
    rows = [tr([th(name), td(value)]) for name, value in comparison.facts.items()]
    if rows:
        parts.append(f"<table>{''.join(rows)}</table>")
    if comparison.notes:
        items = "".join(f"<li>{escape(note)}</li>" for note in comparison.notes)
        parts.append(f'<ul class="notes">{items}</ul>')
    return "<header>\n" + "\n".join(parts) + "\n</header>"


def _scores_section(comparison: Comparison) -> str:
    table = comparison_table(comparison)
    n_methods = len(table) - len(comparison.references)
    rows = [
        tr(
            [th(cells[0]), *(td(cell, "n") for cell in cells[1:])],
            "soft" * (i >= n_methods),
        )
        for i, cells in enumerate(table.itertuples(index=False, name=None))
    ]
    first, *others = table.columns
    return section("Scores", html_table([th(first), *(th(name, "n") for name in others)], rows))


def _failures_section(comparison: Comparison) -> str:
    rows = [tr([th(title), td(why, "text")]) for title, why in _failures(comparison)]
    return section("What failed", html_table([th("Method"), th("Why")], rows)) if rows else ""


def _maps_note(comparison: Comparison) -> str:
    if not comparison.label_columns:
        return ""
    return (
        f"The run of median NMI of each method, with that NMI; coloured by "
        f"{comparison.label_columns[0]}. Axes have no unit and their direction no meaning."
    )


def _image_section(title: str, png: bytes | None, note: str) -> str:
    if png is None:
        return ""
    source = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
    return section(
        title,
        f"<p><small>{escape(note)}</small></p>",
        f'<img alt="{escape(title)}" src="{source}">',
    )


def _methods_section(comparison: Comparison) -> str:
    """Every method in a line, with the parameters that it ran with."""
    rows = {}
    for run in comparison.runs:
        parameters = ", ".join(f"{name}={value}" for name, value in run.parameters.items())
        rows[run.method] = tr(
            [
                th(comparison.title_of(run.method)),
                td(run.method),
                td(comparison.summaries.get(run.method, "")),
                td(f"{run.estimator}({parameters})", "text soft"),
            ]
        )
    head = [
        th("Title"),
        th("Name"),
        th("What it is"),
        th("Estimator and parameters"),
    ]
    return section("Methods", html_table(head, rows.values()))
