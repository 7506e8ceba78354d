"""What pictures and report read from an embedding table: categories, groups, medoids.

The table has one row per sample: ``sample_id``, the coordinates, ``cluster``, ``probability``,
``spread`` and ``entropy``, which may be absent, and then the label columns. Coordinates are NaN for
samples that could not be placed.
"""

import re
from collections.abc import Hashable, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from ancestryvi.exceptions import InputFormatError

COORDINATES: Final = ("ddvi1", "ddvi2")
UNCERTAINTY: Final = ("spread", "entropy")
MAX_CATEGORIES: Final = 80
"""A column with more distinct values than this (a family id, say) is not one to colour by."""


def placed(table: pd.DataFrame, coordinates: Sequence[str] = COORDINATES) -> pd.DataFrame:
    """Samples of a table that have finite coordinates.

    Parameters
    ----------
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table.
    coordinates : sequence of str
        Columns of the two coordinates.

    Returns
    -------
    placed : DataFrame of shape (n_placed, n_columns)

    Raises
    ------
    InputFormatError
        If the table lacks one of the coordinates.

    Examples
    --------
    >>> table = pd.DataFrame({"ddvi1": [0.5, np.nan], "ddvi2": [1.0, 2.0]}, index=["s1", "s2"])
    >>> list(placed(table).index)
    ['s1']
    """
    absent = [column for column in coordinates if column not in table]
    if absent:
        raise InputFormatError(
            f"the embedding table has no column {', '.join(map(repr, absent))} but "
            f"{', '.join(map(repr, table.columns))}; name the columns of the coordinates."
        )
    xy = table[list(coordinates)].to_numpy(dtype=np.float64)
    return table[np.isfinite(xy).all(axis=1)]


def category_names(values: pd.Series) -> pd.Series:
    """Values as text, None where one is missing or blank, whole numbers without a decimal point.

    Parameters
    ----------
    values : Series of length n_samples
        A column of labels or clusters, of any type.

    Returns
    -------
    names : Series of length n_samples, object

    Examples
    --------
    >>> list(category_names(pd.Series([3.0, float("nan")])))
    ['3', None]
    """
    names = [_name(value) for value in values]
    return pd.Series(names, index=values.index, name=values.name, dtype=object)


def categories(values: pd.Series) -> list[str]:
    """Distinct names of a column in natural order: cluster 2 before cluster 10.

    Examples
    --------
    >>> categories(pd.Series(["c10", "c2", None, "c2"]))
    ['c2', 'c10']
    """
    return sorted(set(category_names(values).dropna()), key=_natural)


class Colouring(NamedTuple):
    """What the samples of a table are coloured by.

    ``column`` holds the ``categories`` (in the order of the legend: by group, then by name), and
    ``groups`` gives the group of each, from the column ``group``; it is empty without one.
    """

    column: str
    group: str | None
    categories: list[str]
    groups: dict[str, str]


def colouring(table: pd.DataFrame, columns: Sequence[str]) -> Colouring:
    """Colour by the first usable label column, grouped by the next that nests it.

    Parameters
    ----------
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table.
    columns : sequence of str
        Its label columns, in order of preference. Usable is one of 1 to `MAX_CATEGORIES`
        categories; where there is none, samples are coloured by cluster.

    Returns
    -------
    colouring : Colouring

    Examples
    --------
    >>> table = pd.DataFrame({"pop": ["GBR", "YRI", "TSI"], "region": ["EUR", "AFR", "EUR"]})
    >>> colouring(table, ["pop", "region"]).categories
    ['YRI', 'GBR', 'TSI']
    """
    usable = (c for c in columns if 1 <= len(categories(table[c])) <= MAX_CATEGORIES)
    column = next(usable, "cluster")
    group = nested_group(table, [column, *(c for c in columns if c != column)])
    groups: dict[str, str] = {}
    if group is not None:
        pairs = _pairs(table, column, group)
        groups = dict(zip(pairs[column], pairs[group], strict=True))
    ordered = sorted(
        categories(table[column]), key=lambda name: (name not in groups, groups.get(name, ""))
    )
    return Colouring(column, group, ordered, groups)


def trailing_labels(table: pd.DataFrame) -> list[str]:
    """Columns after ``probability`` that are not `UNCERTAINTY`: the labels of ``embedding.tsv``.

    Examples
    --------
    >>> trailing_labels(pd.DataFrame(columns=["sample_id", "probability", "entropy", "population"]))
    ['population']
    """
    columns = list(table.columns)
    if "probability" not in columns:
        return []
    trailing = columns[columns.index("probability") + 1 :]
    return [name for name in trailing if name not in UNCERTAINTY]


def reference_names(reference: pd.DataFrame) -> Colouring | None:
    """What the places of a reference map are named by; None where there are only numbers.

    The labels where there are some, and else the clusters if they have names, as those of a model
    fitted with labels do. The number of a cluster says nothing to who sees it on its own.

    Parameters
    ----------
    reference : DataFrame of shape (n_samples, n_columns)
        Embedding table of the reference map.

    Returns
    -------
    names : Colouring or None

    Examples
    --------
    >>> reference_names(pd.DataFrame({"cluster": [0, 1]})) is None
    True
    >>> reference_names(pd.DataFrame({"cluster": ["GBR", "YRI"]})).categories
    ['GBR', 'YRI']
    """
    known = colouring(reference, trailing_labels(reference))
    is_number = pd.api.types.is_numeric_dtype(reference[known.column])
    return None if known.column == "cluster" and is_number else known


def nested_group(table: pd.DataFrame, columns: Sequence[str]) -> str | None:
    """Column whose categories hold whole categories of the first: each population in one region.

    Parameters
    ----------
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table.
    columns : sequence of str
        The fine column, then those that may group it.

    Returns
    -------
    column : str or None
        The first of the others with at least two categories, fewer than the fine column has, of
        which no fine category meets two; None if there is none.

    Examples
    --------
    >>> table = pd.DataFrame({"pop": ["GBR", "TSI", "YRI"], "region": ["EUR", "EUR", "AFR"]})
    >>> nested_group(table, ["pop", "region"])
    'region'
    """
    if not columns:
        return None
    fine, *others = columns
    n_fine = len(categories(table[fine]))
    for column in others:
        pairs = _pairs(table, fine, column)
        if 2 <= pairs[column].nunique() < n_fine and pairs[fine].is_unique:
            return column
    return None


def medoids(
    table: pd.DataFrame, column: str, coordinates: Sequence[str] = COORDINATES
) -> dict[str, tuple[float, float]]:
    """Where to write the name of each category: at the sample nearest the median of its samples.

    A sample and not the mean, so that the name of a curved or split group lies on the group.

    Parameters
    ----------
    table : DataFrame of shape (n_samples, n_columns)
        Embedding table.
    column : str
        Column of the categories.
    coordinates : sequence of str
        Columns of the two coordinates.

    Returns
    -------
    medoids : dict of str to (float, float)
        In natural order of the categories; those without a placed sample are absent.

    Examples
    --------
    >>> table = pd.DataFrame({"ddvi1": [0, 1, 9], "ddvi2": [0, 0, 0], "pop": ["GBR"] * 3})
    >>> medoids(table, "pop")
    {'GBR': (1.0, 0.0)}
    """
    table = placed(table, coordinates)
    names = category_names(table[column])
    xy = table[list(coordinates)].to_numpy(dtype=np.float64)
    found = {}
    for name in categories(names):
        members = xy[(names == name).to_numpy()]
        distances = np.linalg.norm(members - np.median(members, axis=0), axis=1)
        x, y = members[distances.argmin()]
        found[name] = (float(x), float(y))
    return found


def axis_name(column: str) -> str:
    """Title of a coordinate: DDVI 1 for the column ``ddvi1``.

    Examples
    --------
    >>> axis_name("ddvi1"), axis_name("h_aevb2"), axis_name("PC2"), axis_name("longitude")
    ('DDVI 1', 'H-AEVB 2', 'PC 2', 'longitude')
    """
    found = re.fullmatch(r"([A-Za-z_]+?)_?(\d+)", column)
    return f"{found[1].upper().replace('_', '-')} {found[2]}" if found else column


def _name(value: object) -> str | None:
    if pd.isna(value):  # type: ignore[call-overload]
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip() or None


def _natural(name: str) -> list[Hashable]:
    """Sort key that compares runs of digits as numbers."""
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]


def _pairs(table: pd.DataFrame, fine: str, group: str) -> pd.DataFrame:
    """Distinct pairs of fine category and group among the samples that have both."""
    names = pd.DataFrame({column: category_names(table[column]) for column in (fine, group)})
    return names.dropna().drop_duplicates()
