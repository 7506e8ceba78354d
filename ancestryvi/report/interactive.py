"""The data behind the interactive parts of the report: what report.js draws."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from ancestryvi.report.content import ReportContent
from ancestryvi.report.palette import MISSING_STYLE, REFERENCE_STYLE, category_styles
from ancestryvi.report.table import (
    Colouring,
    axis_name,
    categories,
    category_names,
    colouring,
    medoids,
    placed,
    reference_names,
)

_MAX_NAMES: Final = 40  # more names than this hide the map; a click still shows them


def payload(
    content: ReportContent, shown: pd.DataFrame, columns: Sequence[Mapping[str, Any]]
) -> str:
    """Everything that the script of the report draws, as JSON safe inside a script element."""
    scree = None
    if content.scree is not None:
        percent = 100 * np.asarray(content.scree, dtype=np.float64)
        scree = {
            "percent": _significant(percent),
            "used": min(content.n_components or len(percent), len(percent)),
        }
    data = {
        "points": _points(shown, content.coordinates),
        "columns": columns,
        "background": _background(content),
        "missing": {"color": MISSING_STYLE.color},
        "max_names": _MAX_NAMES,
        "scree": scree,
        "history": [
            {"title": name, "values": _significant(values)}
            for name, values in content.history.items()
        ],
        "layout": _layout(content.coordinates),
        "config": {
            "responsive": True,
            "displaylogo": False,
            "modeBarButtons": [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
            "toImageButtonOptions": {"filename": "map", "scale": 3},
        },
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # no id can end the element, whatever it holds
    return text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e")


def _layout(coordinates: Sequence[str]) -> dict[str, Any]:
    axis = {"zeroline": False, "gridcolor": "#f0f2f4", "linecolor": "#b9c0c9", "uirevision": "map"}
    return {
        "xaxis": {**axis, "title": {"text": axis_name(coordinates[0])}},
        "yaxis": {**axis, "title": {"text": axis_name(coordinates[1])}, "scaleanchor": "x"},
        "legend": {
            "itemclick": "toggle",
            "itemdoubleclick": "toggleothers",
            "groupclick": "toggleitem",
            "itemsizing": "constant",
            "tracegroupgap": 6,
            "font": {"size": 11},
        },
        "showlegend": True,
        "hovermode": "closest",
        "margin": {"l": 50, "r": 10, "t": 30, "b": 45},
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": "#22272e"},
    }


def _points(table: pd.DataFrame, coordinates: Sequence[str]) -> dict[str, list[Any]]:
    xy = table[list(coordinates)].to_numpy(dtype=np.float64)
    span = float(np.ptp(xy, axis=0).max()) if len(xy) else 0.0
    decimals = 4 - math.floor(math.log10(span)) if span > 0 else 6  # finer than a pixel, zoomed in
    x, y = np.round(xy, decimals).T.tolist()
    return {"id": [str(name) for name in table["sample_id"]], "x": x, "y": y}


def colour_columns(content: ReportContent, shown: pd.DataFrame) -> list[dict[str, Any]]:
    """Columns to colour by and to show under the pointer: labels, cluster, then numbers."""
    labels = list(content.label_columns)
    columns = [
        _column(shown, name, [other for other in labels if other != name], content.coordinates)
        for name in labels
    ]
    columns.append(_categories_column(shown, colouring(shown, []), content.coordinates))
    skipped = {"sample_id", "cluster", *content.coordinates, *labels}
    columns += [
        {"title": str(name), "kind": "values", "values": _significant(shown[name])}
        for name in shown.select_dtypes("number")
        if name not in skipped and shown[name].notna().any()
    ]
    return columns


def _column(
    shown: pd.DataFrame, name: str, others: Sequence[str], coordinates: Sequence[str]
) -> dict[str, Any]:
    """A label column by what it holds: categories to colour by, numbers, or too many names."""
    colour = colouring(shown, [name, *others])
    if colour.column == name:
        return _categories_column(shown, colour, coordinates)
    if pd.api.types.is_numeric_dtype(shown[name]):
        return {"title": name, "kind": "values", "values": _significant(shown[name])}
    names = categories(shown[name])
    return {"title": name, "kind": "text", "names": names, "codes": _codes(shown[name], names)}


def _categories_column(
    shown: pd.DataFrame, colour: Colouring, coordinates: Sequence[str]
) -> dict[str, Any]:
    styles = category_styles(colour.categories, colour.groups)
    places = medoids(shown, colour.column, coordinates)
    return {
        "title": colour.column,
        "kind": "categories",
        "names": colour.categories,
        "codes": _codes(shown[colour.column], colour.categories),
        "colors": [styles[name].color for name in colour.categories],
        "symbols": [styles[name].marker for name in colour.categories],
        "groups": [colour.groups.get(name) for name in colour.categories],
        "medoids": [places[name] for name in colour.categories],
    }


def _background(content: ReportContent) -> dict[str, Any] | None:
    if content.background is None:
        return None
    reference = placed(content.background, content.coordinates)
    known = reference_names(reference)
    names = [] if known is None else known.categories
    column = "cluster" if known is None else known.column
    places = medoids(reference, column, content.coordinates)
    return {
        **_points(reference, content.coordinates),
        "color": REFERENCE_STYLE.color,
        "names": names,
        "codes": _codes(reference[column], names),
        "medoids": [places[name] for name in names],
    }


def _codes(values: pd.Series, names: Sequence[str]) -> list[int]:
    """Index of each value in the names, -1 where it is missing."""
    return pd.Categorical(category_names(values), categories=list(names)).codes.tolist()


def _significant(values: ArrayLike) -> list[float | None]:
    """Numbers to five digits; JSON has no NaN and no infinity."""
    numbers = np.asarray(values, dtype=np.float64)
    return [float(f"{value:.5g}") if math.isfinite(value) else None for value in numbers]
