"""Tables of PC scores computed elsewhere: TSV, CSV, and PLINK's .eigenvec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.samples import find_id_column
from ancestryvi.genotypes.source import Block, Content, check_sample_ids, plink_sample_ids
from ancestryvi.genotypes.text import read_strings

_PC_NAME = re.compile(r"PC_?\d+", re.IGNORECASE)


class ScoresSource:
    """PC scores of samples, from a table with one row per sample.

    With a header, the sample column is found by name and the scores are the columns ``PC1``,
    ``PC2``, ...; if no column is named so, all others. Without one the table must be an
    ``.eigenvec`` file of PLINK 1.9: FID, IID, then the scores.

    Parameters
    ----------
    path : Path
        The table; tabs, commas, semicolons or blanks between the cells, gzip or not.

    Raises
    ------
    InputFormatError
        If there is no sample column, no column of scores, or a score is no finite number.
    SampleError
        If a sample id occurs twice.
    """

    content: Content = "scores"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        table = read_strings(path)
        header = [str(name) for name in table.iloc[0]]
        id_column = find_id_column(header)
        if id_column is None:
            if Path(path.name.removesuffix(".gz")).suffix != ".eigenvec":
                raise InputFormatError(
                    f"{path} has no sample column: its header is {header[:6]}; name the column of "
                    "sample ids 'sample', or give the PLINK file its suffix .eigenvec"
                )
            header = ["FID", "IID", *(f"PC{i}" for i in range(1, table.shape[1] - 1))]
            id_column = "IID"
        else:
            table = table.iloc[1:]
        table.columns = pd.Index(header)
        ids = [id_column, *(name for name in header if name.upper() in ("FID", "#FID"))]
        others = [name for name in header if name not in ids and name]
        names = [name for name in others if _PC_NAME.fullmatch(name)] or others
        if not names or len(set(names)) < len(names):
            raise InputFormatError(
                f"{path} has no usable columns of scores: its header is {header[:6]}; name them "
                "PC1, PC2, ..."
            )
        sample_ids = table[id_column].tolist()
        if len(ids) > 1:
            sample_ids = plink_sample_ids(table[ids[1]].tolist(), sample_ids)
        self.sample_ids = check_sample_ids(sample_ids, path)
        numbers = table[names].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
        if not np.isfinite(numbers).all():
            row, column = (int(index) for index in np.argwhere(~np.isfinite(numbers))[0])
            raise InputFormatError(
                f"{path}, sample {self.sample_ids[row]!r}, column {names[column]!r}: "
                f"{table[names[column]].iloc[row]!r} is no finite number. "
                "The file was read as a table of PC scores; if it holds labels, give it as --labels"
            )
        self._block = Block(numbers, pd.DataFrame({"name": names}))

    def iter_blocks(self) -> Iterator[Block]:
        """Yield all scores in one block of shape (n_samples, n_scores), float64."""
        yield self._block
