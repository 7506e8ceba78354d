"""The map as a picture for a paper, with matplotlib's objects only: no pyplot, no global state."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from ancestryvi.report.palette import MISSING_STYLE, REFERENCE_STYLE, Style, category_styles
from ancestryvi.report.table import (
    COORDINATES,
    Colouring,
    axis_name,
    category_names,
    colouring,
    medoids,
    placed,
    reference_names,
    trailing_labels,
)

MAX_LEGEND: Final = 40
"""With more categories than this the names on the map have to do: a legend would bury it."""

_MARKERS: Final = {  # matplotlib's sign, and what makes it look as large as the others
    "circle": ("o", 1.0),
    "square": ("s", 0.85),
    "triangle-up": ("^", 1.1),
    "diamond": ("D", 0.75),
    "triangle-down": ("v", 1.1),
    "cross": ("P", 1.1),
}
REFERENCE_INK: Final = "#8a8a8a"
INK: Final = "#333333"
_NAME_POINTS: Final = 6.3
NAME_GAP: Final = (7.0, 3.0)  # pixels between names: closer, two read as one
LEGEND_ROWS: Final = 36  # as many lines as fit beside the map
MAX_VECTOR: Final = 20_000  # beyond, the points of a PDF are stored as an image


def embedding_figure(
    table: pd.DataFrame,
    label_columns: Sequence[str] | None = None,
    *,
    coordinates: tuple[str, str] = COORDINATES,
    title: str | None = None,
    background: pd.DataFrame | None = None,
) -> Figure:
    """Draw the map, coloured by population where there are labels and by cluster where not.

    Populations of one superpopulation share a hue. Each name stands at the medoid of its samples,
    moved aside, with a line back to its place, where it would cover another. Samples without a
    label lie underneath in grey; samples that were not placed are left out.

    Parameters
    ----------
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table: ``sample_id``, the coordinates, ``cluster``, ``probability``, perhaps
        ``spread`` and ``entropy``, then the label columns. Coordinates are NaN for samples that
        were not placed.
    label_columns : sequence of str, optional
        Columns to colour by, in order of preference; the first usable one is taken, and the next
        that nests it groups it. By default, all that follow ``probability`` and are labels.
    coordinates : tuple of (str, str), default=("ddvi1", "ddvi2")
        Columns of the horizontal and the vertical coordinate.
    title : str, optional
        Written above the map.
    background : DataFrame, optional
        Embedding table of a reference map, drawn in light grey beneath projected samples, with
        the names of its populations in grey.

    Returns
    -------
    figure : matplotlib.figure.Figure
        Save it with `save_figure`.

    Raises
    ------
    InputFormatError
        If a table lacks one of the coordinates.

    Examples
    --------
    >>> table = pd.DataFrame({"sample_id": ["s1", "s2"], "ddvi1": [0, 1], "ddvi2": [0, 2]})
    >>> table = table.assign(cluster=[0, 1], probability=[0.9, 0.8], population=["GBR", "YRI"])
    >>> [text.get_text() for text in embedding_figure(table).axes[0].texts]
    ['GBR', 'YRI']
    """
    shown = placed(table, coordinates)
    colour = colouring(shown, trailing_labels(table) if label_columns is None else label_columns)
    styles = category_styles(colour.categories, colour.groups)
    names = category_names(shown[colour.column])
    xy = shown[list(coordinates)].to_numpy(dtype=np.float64)
    area = float(np.clip(330 / np.sqrt(max(len(shown), 1)), 2, 24))  # points squared

    figure = Figure(figsize=(7.2, 5.4), layout="constrained")
    axes = figure.add_subplot()
    extras: dict[str, Style] = {}
    anchors = medoids(shown, colour.column, coordinates)
    if background is not None:
        reference = placed(background, coordinates)
        points = reference[list(coordinates)].to_numpy(dtype=np.float64)
        scatter(axes, points, REFERENCE_STYLE, max(area / 2, 4), "reference map", zorder=0.5)
        extras["reference map"] = REFERENCE_STYLE
        known = reference_names(reference)
        if known is not None:
            anchors = medoids(reference, known.column, coordinates) | anchors
    if names.isna().any():
        scatter(axes, xy[names.isna()], MISSING_STYLE, area / 2, "no label")
        extras["no label"] = MISSING_STYLE
    spans = {}
    for name in colour.categories:
        members = xy[names == name]
        scatter(axes, members, styles[name], area, name)
        spans[name] = float(np.ptp(members[:, 1]))
    _decorate(axes, coordinates, title)
    if len(colour.categories) <= MAX_LEGEND:
        add_legend(figure, colour, styles, extras)
    _write_names(figure, axes, anchors, spans, styles)
    return figure


def save_figure(figure: Figure, path: str | Path) -> None:
    """Save a picture so that the same picture gives the same bytes: no date, no random names.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        Picture.
    path : str or Path
        The suffix (``.png`` at 200 dpi, ``.pdf``) is the format. Text in a PDF stays text.

    Examples
    --------
    >>> save_figure(Figure(), "map.pdf")  # doctest: +SKIP
    """
    path = Path(path)
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # TrueType: journals refuse Type 3
        figure.savefig(path, dpi=200, metadata=metadata)


def scatter(
    axes: Axes,
    xy: NDArray[np.float64],
    style: Style,
    area: float,
    label: str,
    *,
    zorder: float = 1.0,
) -> None:
    marker, scale = _MARKERS[style.marker]
    axes.scatter(
        xy[:, 0],
        xy[:, 1],
        s=area * scale,
        c=style.color,
        marker=marker,
        alpha=0.85,
        linewidths=0,
        zorder=zorder,
        label=label,
        rasterized=len(xy) > MAX_VECTOR,
    )


def _decorate(axes: Axes, coordinates: Sequence[str], title: str | None) -> None:
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.06)
    axes.set_xlabel(axis_name(coordinates[0]), fontsize=8, color=INK)
    axes.set_ylabel(axis_name(coordinates[1]), fontsize=8, color=INK)
    axes.tick_params(labelsize=6.5, labelcolor="#777777", color="#aaaaaa", length=2.5, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set(color="#aaaaaa", linewidth=0.6)
    if title:
        axes.set_title(title, fontsize=9, color=INK, loc="left")


def add_legend(
    figure: Figure, colour: Colouring, styles: Mapping[str, Style], extras: Mapping[str, Style]
) -> None:
    """Legend right of the map; the categories of each group stand under its name."""
    rows: list[tuple[str, Style | None]] = []
    heading = None
    for name in colour.categories:
        if heading != (
            heading := colour.groups.get(name, "other" if colour.groups else colour.column)
        ):
            rows.append((heading, None))
        rows.append((name, styles[name]))
    rows += extras.items()
    legend = figure.legend(
        [_key(style) for _, style in rows],
        [name for name, _ in rows],
        loc="outside right center",
        ncols=-(-len(rows) // LEGEND_ROWS),
        fontsize=6.5,
        labelcolor=INK,
        frameon=False,
        handlelength=1.0,
        handletextpad=0.4,
        labelspacing=0.3,
        columnspacing=1.0,
    )
    for text, (_, style) in zip(legend.get_texts(), rows, strict=True):
        text.set_fontweight("normal" if style else "bold")


def _key(style: Style | None) -> Line2D:
    """Marker in the legend; None for a heading, which has no marker."""
    if style is None:
        return Line2D([], [], linestyle="")
    marker, scale = _MARKERS[style.marker]
    return Line2D(
        [], [], linestyle="", marker=marker, markersize=4.2 * scale**0.5, color=style.color, mew=0
    )


def _write_names(
    figure: Figure,
    axes: Axes,
    anchors: Mapping[str, tuple[float, float]],
    spans: Mapping[str, float],
    styles: Mapping[str, Style],
) -> None:
    """Write each name at its anchor, or beside it with a line where names would overlap.

    A group whose span from bottom to top is smaller than its name would vanish under it: there
    the name stands above.
    """
    halo = [withStroke(linewidth=1.6, foreground="white", alpha=0.8)]
    texts = [
        axes.text(
            x,
            y,
            name,
            fontsize=_NAME_POINTS,
            fontweight="bold",
            color=_darkened(styles[name].color) if name in styles else REFERENCE_INK,
            ha="center",
            va="center",
            path_effects=halo,
            zorder=5 if name in styles else 0.8,  # names of a reference lie under new samples
        )
        for name, (x, y) in anchors.items()
    ]
    if not texts:
        return
    figure.draw_without_rendering()  # the layout decides how large a name is beside the map
    sizes = np.array([(box.width, box.height) for box in (t.get_window_extent() for t in texts)])
    start = axes.transData.transform(list(anchors.values()))
    pixels = axes.transData.transform((0, 1))[1] - axes.transData.transform((0, 0))[1]
    span = pixels * np.array([spans.get(name, np.inf) for name in anchors])
    above = np.where(span < sizes[:, 1], (span + sizes[:, 1]) / 2 + 4, 0.0)
    end = spread_apart(start + np.column_stack([np.zeros(len(above)), above]), sizes + NAME_GAP)
    to_data = axes.transData.inverted()
    for text, a, b, height in zip(texts, start, end, sizes[:, 1] + above, strict=True):
        x, y = to_data.transform(b)
        text.set_position((x, y))
        if np.abs(b - a).max() > height:
            line = to_data.transform([a, b])
            axes.plot(line[:, 0], line[:, 1], color=REFERENCE_INK, linewidth=0.5, zorder=4)


def spread_apart(centres: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move boxes of the given sizes apart, as little as needed, until none overlaps another."""
    centres = centres.copy()
    n = len(centres)
    order = np.sign(np.arange(n)[:, None] - np.arange(n)[None, :])  # parts boxes that coincide
    for _ in range(300):
        delta = centres[:, None] - centres[None, :]
        overlap = (sizes[:, None] + sizes[None, :]) / 2 - np.abs(delta)
        touching = (overlap > 0).all(axis=2) & (order != 0)
        if not touching.any():
            break
        axis = overlap.argmin(axis=2)  # the shorter way out
        depth = np.take_along_axis(overlap, axis[..., None], axis=2)[..., 0]
        direction = np.sign(np.take_along_axis(delta, axis[..., None], axis=2)[..., 0])
        direction = np.where(direction == 0, order, direction)
        push = np.where(touching, direction * (depth / 2 + 0.5), 0.0) * 0.6
        for k in (0, 1):
            centres[:, k] += np.where(axis == k, push, 0.0).sum(axis=1)
    return centres


def _darkened(color: str) -> tuple[float, float, float]:
    """Colour of a name: dark enough to read on white, and still that of its points."""
    r, g, b = to_rgb(color)
    return 0.55 * r, 0.55 * g, 0.55 * b
