"""The pictures of a benchmark: the map of every method, and what each costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

from ancestryvi.evaluate import Run, median_run, summary_table
from ancestryvi.report.figures import (
    INK,
    LEGEND_ROWS,
    MAX_VECTOR,
    NAME_GAP,
    REFERENCE_INK,
    add_legend,
    scatter,
    spread_apart,
)
from ancestryvi.report.palette import MISSING_STYLE, Style, category_styles
from ancestryvi.report.table import category_names, colouring

_PANEL: Final = 2.15  # inches
_LEGEND_LINE: Final = 0.125  # inches
_POINT: Final = "#2563af"
_POINT_BOX: Final = 14.0  # pixels
_BAR_ROOM: Final = 0.1  # NMI: bars that reach farther beyond all points are cut off
_DASHES: Final = ("--", ":", "-.")


def maps_figure(
    runs: Sequence[Run],
    labels: pd.DataFrame,
    label_columns: Sequence[str],
    titles: Mapping[str, str] | None = None,
) -> Figure:
    """Draw one map per method, all in the same colours, with one legend (DDVI, figure 4).

    Each method shows its run of median NMI, which stands above it beside its name; the best is
    first. Axes have no unit, so they have no ticks; both have the same scale.

    Parameters
    ----------
    runs : sequence of Run
        Methods without a run that succeeded are left out.
    labels : DataFrame of n_samples rows
        In the order of the samples of the maps.
    label_columns : sequence of str
        Its columns to colour by, in order of preference; the next that nests the first groups it.
    titles : mapping of str to str, optional
        Names of the methods for the reader.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Examples
    --------
    >>> run = Run(method="m", seed=0, scores={"nmi": 0.5}, embedding=np.eye(2))
    >>> labels = pd.DataFrame({"population": ["GBR", "YRI"]})
    >>> maps_figure([run], labels, ["population"]).axes[0].get_title(loc="left")
    'm  0.500'
    """
    shown = _median_runs(runs)
    table = labels.assign(cluster=None)  # what samples are coloured by where no label is usable
    colour = colouring(table, label_columns)
    styles = category_styles(colour.categories, colour.groups)
    names = category_names(table[colour.column]).to_numpy()
    extras = {"no label": MISSING_STYLE} if pd.isna(names).any() else {}

    n_columns = max(1, math.ceil(math.sqrt(1.3 * len(shown))))
    n_rows = max(1, math.ceil(len(shown) / n_columns))
    n_entries = len(colour.categories) + len(set(colour.groups.values())) + 1
    legend_columns = math.ceil(n_entries / LEGEND_ROWS)
    height = max(n_rows * (_PANEL + 0.2), _LEGEND_LINE * min(n_entries, LEGEND_ROWS) + 0.4)
    figure = Figure(figsize=(n_columns * _PANEL + 0.9 * legend_columns, height))
    figure.set_layout_engine("constrained")
    for i, run in enumerate(shown):
        axes = figure.add_subplot(n_rows, n_columns, i + 1)
        _draw_map(axes, run, names, styles)
        title = f"{(titles or {}).get(run.method, run.method)}  {run.scores['nmi']:.3f}"
        axes.set_title(title, fontsize=7.5, color=INK, loc="left")
    add_legend(figure, colour, styles, extras)
    return figure


def cost_figure(
    runs: Sequence[Run],
    titles: Mapping[str, str] | None = None,
    lines: Mapping[str, float] | None = None,
) -> Figure:
    """Draw the NMI of every method against the seconds of its fit.

    Parameters
    ----------
    runs : sequence of Run
        Bars are the 95 % t-intervals of the NMI over seeds.
    titles : mapping of str to str, optional
        Names of the methods for the reader.
    lines : mapping of str to float, optional
        NMI to draw across for comparison, by what it is.

    Returns
    -------
    figure : matplotlib.figure.Figure

    Examples
    --------
    >>> run = Run(method="m", seed=0, scores={"nmi": 0.5, "seconds": 2.0})
    >>> [text.get_text() for text in cost_figure([run]).axes[0].texts]
    ['m']
    """
    table = summary_table(runs)
    table = table[table["n_runs"] > 0]
    figure = Figure(figsize=(7.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    x = table["seconds_mean"].clip(lower=1e-3)
    y, bar = table["nmi_mean"], table["nmi_half_width"].fillna(0.0)
    low, high = (y - bar).clip(lower=0.0), (y + bar).clip(upper=1.0)
    axes.errorbar(
        x,
        y,
        yerr=np.abs([y - low, high - y]),
        fmt="o",
        color=_POINT,
        ecolor="#9db9dc",
        elinewidth=1.0,
        markersize=4.5,
        markeredgewidth=0,
    )
    for (name, value), dashes in zip((lines or {}).items(), _DASHES, strict=False):
        axes.axhline(
            value,
            color=REFERENCE_INK,
            linewidth=0.8,
            linestyle=dashes,
            label=f"{name} {value:.3f}",
        )
    axes.set_xscale("log")
    axes.set_xlim(x.min() / 2, x.max() * 2)
    heights = [*y, *(lines or {}).values()]
    axes.set_ylim(
        max(min(heights) - _BAR_ROOM, min(low.min(), *heights) - 0.03),
        min(max(heights) + _BAR_ROOM, max(high.max(), *heights) + 0.03),
    )
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds of the fit", fontsize=8, color=INK)
    axes.set_ylabel("NMI with the labels", fontsize=8, color=INK)
    axes.tick_params(which="both", labelsize=7, labelcolor="#777777", color="#aaaaaa", width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color="#aaaaaa", linewidth=0.6)
    if lines:
        figure.legend(loc="outside lower center", ncols=2, fontsize=7, frameon=False)
    points = np.column_stack([x, y])
    _name_points(figure, axes, [(titles or {}).get(m, m) for m in table["method"]], points)
    return figure


def _median_runs(runs: Sequence[Run]) -> list[Run]:
    """One run per method, the best method by its mean NMI first."""
    found = []
    for method in summary_table(runs)["method"]:
        run = median_run(run for run in runs if run.method == method)
        if run is not None:
            found.append(run)
    return found


def _draw_map(
    axes: Axes, run: Run, names: NDArray[np.object_], styles: Mapping[str, Style]
) -> None:
    assert run.embedding is not None
    is_placed = np.isfinite(run.embedding).all(axis=1)
    xy, names = run.embedding[is_placed], names[is_placed]
    area = float(np.clip(130 / np.sqrt(max(len(xy), 1)), 1, 14))  # points squared
    scatter(axes, xy[pd.isna(names)], MISSING_STYLE, area / 2, "no label")
    for name, style in styles.items():
        scatter(axes, xy[names == name], style, area, name)
    for points in axes.collections:
        points.set_rasterized(len(xy) > MAX_VECTOR)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_box_aspect(1)
    axes.margins(0.05)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(color="#cccccc", linewidth=0.6)


def _name_points(
    figure: Figure, axes: Axes, names: Sequence[str], points: NDArray[np.float64]
) -> None:
    """Write a name beside each point; a line leads back from one that had to move away."""
    halo = [withStroke(linewidth=1.6, foreground="white", alpha=0.8)]
    texts = [
        axes.text(x, y, name, fontsize=7, color=INK, ha="center", va="center", path_effects=halo)
        for name, (x, y) in zip(names, points, strict=True)
    ]
    figure.draw_without_rendering()  # the layout decides how large a name is beside the points
    figure.set_layout_engine("none")  # and must not move them afterwards
    sizes = np.array([(box.width, box.height) for box in (t.get_window_extent() for t in texts)])
    start = axes.transData.transform(points)
    room = axes.get_window_extent()
    lowest = np.array([room.x0, room.y0]) + sizes / 2
    highest = np.array([room.x1, room.y1]) - sizes / 2
    end = start + np.column_stack([np.zeros(len(sizes)), sizes[:, 1] / 2 + 8])
    boxes = np.vstack([sizes + NAME_GAP, np.full_like(sizes, _POINT_BOX)])
    for _ in range(30):  # names give way to each other and to points, and stay in the picture
        end = spread_apart(np.vstack([end, start]), boxes)[: len(end)]
        end = np.clip(end, lowest, np.maximum(lowest, highest))
    for _ in range(100):  # where there is no room for all that, names at least keep apart
        end = spread_apart(np.clip(end, lowest, np.maximum(lowest, highest)), sizes + NAME_GAP)
        if ((end >= lowest) & (end <= highest)).all():
            break
    to_data = axes.transData.inverted()
    for text, a, b, (_, height) in zip(texts, start, end, sizes, strict=True):
        text.set_position(tuple(to_data.transform(b)))
        if np.abs(b - a).max() > 1.5 * height + 6:
            line = to_data.transform([a, b])
            axes.plot(line[:, 0], line[:, 1], color=REFERENCE_INK, linewidth=0.5, zorder=1)
