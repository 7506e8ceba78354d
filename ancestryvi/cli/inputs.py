"""Reading what a verb is given: genotypes or PC scores, and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from ancestryvi.cli.common import Notes, say
from ancestryvi.exceptions import InputFormatError, LabelError
from ancestryvi.genotypes import GenotypeSource, join_labels, open_source, read_sample_table
from ancestryvi.genotypes.memory import size
from ancestryvi.genotypes.reading import read_whole, score_table
from ancestryvi.genotypes.selection import SelectedSource
from ancestryvi.genotypes.source import IndexedDosages, is_indexed

SELECTION = ("region", "samples", "variants")
"""Options that say what to read; see `filter_options`."""

OWN_COLUMNS = r"sample_id|{0}\d+|({0}_)?(cluster|probability|spread|entropy)|call_rate"
"""Names of columns of the output with a map of this name, which no label column can have."""


@dataclass(frozen=True)
class Cohort:
    """The samples of a run.

    Attributes
    ----------
    data : Genotypes, another IndexedDosages (a file that is read by blocks) or DataFrame
        What an estimator is given.
    sample_ids : list of str
    labels : DataFrame of n_samples rows
        No columns when there are no labels.
    label_column : str or None
        The column to colour and score by.
    not_selected : list of rows of ``qc.tsv``
        What was in the files and not asked for.
    """

    data: IndexedDosages | pd.DataFrame
    sample_ids: list[str]
    labels: pd.DataFrame
    label_column: str | None
    not_selected: list[tuple[str, str, int, int, int, str]] = field(default_factory=list)

    @property
    def label_columns(self) -> list[str]:
        """All label columns, the one to colour by first."""
        if self.label_column is None:
            return []
        others = [name for name in self.labels.columns if name != self.label_column]
        return [self.label_column, *others]


def read_cohort(
    paths: tuple[str, ...],
    content: str,
    labels: str | None,
    label_id: str | None,
    label_column: str | None,
    notes: Notes,
    selection: Mapping[str, Any],
    map_name: str = "ddvi",
) -> Cohort:
    """Read the samples and their labels; the labels are checked before the long work starts.

    `selection` has the options of a verb; region, samples and variants say what to read.
    """
    kind: Any = {"auto": "auto", "genotypes": "dosages", "pcs": "scores"}[content]
    kept: Any = {name: selection[name] or None for name in SELECTION}
    source = open_source(list(paths), kind, **kept)
    table = pd.DataFrame(index=pd.Index(source.sample_ids, name="sample_id"))
    if labels is not None:
        joined = join_labels(source.sample_ids, read_sample_table(labels, label_id), labels)
        table = joined.table
        for name in filter(re.compile(OWN_COLUMNS.format(map_name)).fullmatch, table.columns):
            raise LabelError(
                f"{labels} has a column {name!r}, and so will the output; rename it in the table."
            )
        if joined.n_matched < len(table):
            notes.add(
                f"{joined.n_matched} of {len(table)} samples have a row in {labels}; the others "
                "have no label."
            )
    label_column = _choose_label(table, label_column, labels)
    if label_column is not None and not groups_samples(table, label_column):
        notes.add(
            f"Column {label_column!r} of {labels} has {table[label_column].nunique():,} different "
            f"values for {table[label_column].notna().sum():,} samples, so scores against it say "
            "nothing; choose another with --label-column."
        )
    data: Any
    if source.content == "scores":
        if len(paths) > 1:
            raise InputFormatError(
                f"{len(paths)} tables of PC scores were given; components of separate analyses "
                "cannot be joined. Give one table."
            )
        data = score_table(source)
        say(f"Read {data.shape[0]:,} samples x {data.shape[1]} PC scores.")
    else:
        files = f"{len(paths)} file{'s' if len(paths) > 1 else ''}"
        if is_indexed(source):
            data = source
            n_samples, n_variants = len(data.sample_ids), len(data.variants)
            calls = size(n_samples * n_variants)
            say(
                f"Found {n_samples:,} samples x {n_variants:,} variants in {files}: {calls} of "
                "calls, read by blocks."
            )
        elif selection.get("dask"):
            raise InputFormatError(
                f"{paths[0]} is read from front to back, and workers of a Dask cluster read parts "
                f"of a file; convert it first: ancestryvi convert {' '.join(paths)} cohort.pgen"
            )
        else:
            data = read_whole(source, progress=True)
            share = data.n_missing / max(1, data.dosages.size)
            say(
                f"Read {data.n_samples:,} samples x {data.n_variants:,} variants from {files}; "
                f"{share:.2%} of calls are missing."
            )
    rows = [] if source.content == "scores" else _not_selected(source, len(data.variants), kept)
    return Cohort(data, list(source.sample_ids), table, label_column, rows)


def _not_selected(
    source: GenotypeSource, n_variants: int, kept: Mapping[str, Any]
) -> list[tuple[str, str, int, int, int, str]]:
    """What region, samples and variants left out, as rows of ``qc.tsv``."""
    if not isinstance(source, SelectedSource):
        return []
    why: dict[str, list[str]] = {"samples": [], "variants": []}
    if kept["region"]:
        why["variants"].append(f"outside {', '.join(kept['region'])}")
    for name, reasons in why.items():
        if kept[name]:
            reasons.append(f"not in {kept[name]}")
    rows = []
    for scope, there, here in (
        ("samples", source.n_samples_there, len(source.sample_ids)),
        ("variants", source.n_variants_there, n_variants),
    ):
        if why[scope]:
            detail = " or ".join(why[scope])
            if there is None:
                there, detail = here, f"{detail}: not counted, since the index spared reading them"
            rows.append((scope, "not asked for", there, there - here, here, detail))
    return rows


def input_files(
    paths: tuple[str, ...], labels: str | None, selection: Mapping[str, Any]
) -> tuple[str, ...]:
    """Every file that a run reads."""
    others = (labels, selection["samples"], selection["variants"])
    return (*paths, *(path for path in others if path is not None))


def _choose_label(table: pd.DataFrame, asked: str | None, path: str | None) -> str | None:
    """The label column to score by, and to colour by: by name, or the first that groups samples."""
    columns = list(table.columns)
    if asked is not None:
        if asked not in columns:
            raise LabelError(f"{path} has no column {asked!r}; its columns are {columns}.")
        return asked
    by_name = {str(name).lower(): name for name in columns}
    for name in ("population", "pop"):
        if name in by_name:
            return str(by_name[name])
    return next(filter(partial(groups_samples, table), columns), columns[0] if columns else None)


def groups_samples(table: pd.DataFrame, column: str) -> bool:
    """Whether categories of a column hold two samples or more in the mean: labels, not values."""
    return 2 * table[column].nunique() <= table[column].notna().sum()


def leading_scores(data: pd.DataFrame, n_pcs: int | None) -> pd.DataFrame:
    """The first `n_pcs` columns of a table of scores; all of them for None.

    Raises
    ------
    InputFormatError
        If there are fewer columns.
    """
    if n_pcs is not None and n_pcs > data.shape[1]:
        raise InputFormatError(
            f"The table has {data.shape[1]} PC scores, and {n_pcs} were asked for; lower --n-pcs."
        )
    return data if n_pcs is None else data.iloc[:, :n_pcs]
