"""Sample tables (populations and other labels), always joined by sample id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ancestryvi.exceptions import InputFormatError, LabelError
from ancestryvi.genotypes.source import StrPath
from ancestryvi.genotypes.text import read_strings

ID_COLUMNS = (
    "sample_id",
    "sample",
    "sampleid",
    "sample name",
    "sample_name",
    "iid",
    "#iid",
    "individual_id",
    "individual id",
    "individual",
    "id",
    "s",
)
"""Names of the column of sample ids, in order of preference, in any case."""

_MISSING_TEXT = frozenset({"", ".", "NA", "N/A", "NaN", "nan", "null", "None"})


@dataclass(frozen=True)
class JoinedLabels:
    """Labels in the order of the samples.

    Parameters
    ----------
    table : DataFrame of n_samples rows
        Indexed by sample id; None where a sample has no label.
    n_matched : int
        Samples that the sample table knows.
    """

    table: pd.DataFrame
    n_matched: int


def find_id_column(columns: Sequence[str]) -> str | None:
    """Return the column of sample ids by its name, or None."""
    by_name = {name.lower(): name for name in reversed(columns)}
    return next((by_name[name] for name in ID_COLUMNS if name in by_name), None)


def read_sample_table(path: StrPath, id_column: str | None = None) -> pd.DataFrame:
    """Read a table of samples: a header, one row per sample, tabs or commas between the cells.

    Parameters
    ----------
    path : str or path
        The table, gzip or not.
    id_column : str, optional
        The column of sample ids; found by name when left out (``sample``, ``IID``, ``id``, ...).

    Returns
    -------
    table : DataFrame
        Indexed by sample id; every cell a string, or None if blank, ``.``, or ``NA``.

    Raises
    ------
    InputFormatError
        If the file is missing, damaged, or no table.
    LabelError
        If the sample column is not found, a row has no id, or an id has two different rows.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "samples.csv")
    ...     _ = path.write_text("IID,population\\nann,GBR\\nbo,NA\\n")
    ...     table = read_sample_table(path)
    >>> table["population"].tolist(), table.index.tolist()
    (['GBR', None], ['ann', 'bo'])
    """
    path = Path(path)
    if not path.is_file():
        raise InputFormatError(f"{path} is no file; give the table of samples")
    table = read_strings(path)
    header = [str(name) for name in table.iloc[0]]
    found = id_column if id_column in header else None
    if id_column is None:
        found = find_id_column(header)
    if found is None:
        wanted = "column of sample ids" if id_column is None else f"column {id_column!r}"
        raise LabelError(
            f"{path} has no {wanted}: its header is {header[:10]}; the first line must name the "
            "columns, and the one of sample ids is 'sample', 'IID' or the one named by --label-id"
        )
    repeated = [name for name in header if name and header.count(name) > 1]
    if repeated:
        raise LabelError(f"{path}: column {repeated[0]!r} occurs twice in the header; rename one")
    table = table.iloc[1:].set_axis(pd.Index(header), axis="columns")
    table = table.loc[:, [name for name in header if name]]  # tabs at line ends make nameless ones
    if (table[found] == "").any():
        line = int((table[found] == "").to_numpy().argmax()) + 2
        raise LabelError(
            f"{path}, row {line}: no sample id in column {found!r}; fill it or drop it"
        )
    table = table.drop_duplicates()
    twice = table[found].duplicated(keep=False)
    if twice.any():
        sample = table.loc[twice, found].iloc[0]
        rows = table.loc[table[found] == sample].drop(columns=found).head(2).to_numpy().tolist()
        raise LabelError(
            f"{path}: sample {sample!r} has two different rows, {rows[0]} and {rows[1]}; keep one"
        )
    table = table.set_index(found).astype(object)
    return table.mask(table.isin(_MISSING_TEXT), None).rename_axis("sample_id")


def join_labels(sample_ids: Sequence[str], table: pd.DataFrame, path: StrPath) -> JoinedLabels:
    """Put the rows of a sample table in the order of the samples.

    Parameters
    ----------
    sample_ids : sequence of n_samples str
        The samples of the genotypes.
    table : DataFrame
        What `read_sample_table` returned.
    path : str or path
        Where the table came from, for the message of the error.

    Returns
    -------
    labels : JoinedLabels
        All samples, None where the table does not know one; and how many it knows.

    Raises
    ------
    LabelError
        If the table knows none of the samples.

    Examples
    --------
    >>> table = pd.DataFrame({"population": ["GBR", "YRI"]}, index=["ann", "bo"])
    >>> labels = join_labels(["bo", "cy"], table, "samples.tsv")
    >>> labels.table["population"].tolist(), labels.n_matched
    (['YRI', None], 1)
    """
    ids = pd.Index(list(sample_ids), dtype=object, name="sample_id")
    n_matched = int(ids.isin(table.index).sum())
    if n_matched == 0:
        raise LabelError(
            f"{path} knows none of the {len(ids)} samples: the genotypes have ids like "
            f"{ids[:3].tolist()}, the table like {table.index[:3].tolist()} in its column of "
            "sample ids; name the right column (--label-id) or make the ids alike"
        )
    joined = table.reindex(ids)
    return JoinedLabels(joined.astype(object).where(joined.notna(), None), n_matched)
