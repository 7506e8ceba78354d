"""What leaves the program: directories written whole or not at all, and the model directory.

A model directory holds ``model.json``, ``arrays.safetensors`` and tables as TSV. Reading one
parses data and executes nothing.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ancestryvi.exceptions import ModelFormatError, OutputError
from ancestryvi.staging import hidden_folder

FORMAT = "ancestryvi model"
FORMAT_VERSION = 1

MODEL_FILE = "model.json"
ARRAYS_FILE = "arrays.safetensors"
LABELS_FILE = "labels.tsv"
"""Labels of the fitted samples, which `embed` leaves beside a model and `project` shows."""


@contextmanager
def whole_directory(
    path: str | os.PathLike[str], *, overwrite: bool = False, owned: tuple[str, ...] = ()
) -> Iterator[Path]:
    """A directory that appears complete when the block ends, and not at all if it raises.

    Files are written to a hidden directory beside `path` and moved at the end. An existing
    directory is an error, unless it is empty or `overwrite` is set; then entries named in `owned`
    are replaced or removed, and anything else in it stays.

    Parameters
    ----------
    path : path
        The directory to make; its parents are made as needed.
    overwrite : bool, default=False
    owned : tuple of str
        Names of everything that the block might write.

    Yields
    ------
    staging : Path
        Where to write.

    Raises
    ------
    OutputError
        If the directory exists or cannot be written; raised before anything else happens.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file; name a directory for the output.")
    if path.is_dir() and any(path.iterdir()) and not overwrite:
        raise OutputError(
            f"{path} exists and is not empty; choose another directory, or replace what an earlier "
            "run wrote there (--force, or overwrite=True in Python)."
        )
    if path.is_dir() and not os.access(path, os.W_OK | os.X_OK):
        raise OutputError(
            f"{path} cannot be written ({os.strerror(errno.EACCES)}); choose another directory."
        )
    with hidden_folder(path) as staging:
        yield staging
        staging.chmod(0o777 & ~_umask())
        _publish(staging, path, owned)


def _umask() -> int:
    """The permissions that new directories of this process go without."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _publish(staging: Path, path: Path, owned: tuple[str, ...]) -> None:
    """Move a finished directory into place."""
    if path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    if not path.exists():
        staging.rename(path)
        return
    retired = staging / ".retired"
    retired.mkdir()
    for name in {entry.name for entry in staging.iterdir()} | set(owned):
        if (path / name).exists():
            (path / name).rename(retired / name)
    for entry in staging.iterdir():
        if entry != retired:
            entry.rename(path / entry.name)


@dataclass(frozen=True)
class Artifact:
    """A fitted model as data.

    Parameters
    ----------
    record : dict
        Everything that is JSON: the estimator's name, parameters, scalars, history.
    arrays : dict of ndarray
    tables : dict of DataFrame
        Each becomes a TSV file of its name.
    """

    record: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]]
    tables: Mapping[str, pd.DataFrame]

    def write(self, directory: Path) -> None:
        """Write the files into an existing directory."""
        record = {"format": FORMAT, "format_version": FORMAT_VERSION, **self.record}
        record["tables"] = sorted(self.tables)
        text = json.dumps(record, indent=1, allow_nan=True, default=np.generic.item) + "\n"
        (directory / MODEL_FILE).write_text(text, encoding="utf-8")
        contiguous = {name: np.ascontiguousarray(a) for name, a in self.arrays.items()}
        (directory / ARRAYS_FILE).write_bytes(save(contiguous))
        for name, table in self.tables.items():
            table.to_csv(directory / f"{name}.tsv", sep="\t", index=False)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Artifact:
        """Read a model directory.

        Raises
        ------
        ModelFormatError
            If a file is missing or damaged, or the format is newer than this version reads.
        """
        directory = Path(path)
        if not directory.exists():
            raise ModelFormatError(f"{directory} does not exist; check the name and the folder.")
        if not (directory / MODEL_FILE).is_file():
            inside = directory / "model"
            meant = inside if (inside / MODEL_FILE).is_file() else "the one that `embed` wrote"
            raise ModelFormatError(
                f"{directory} is no model directory: it has no {MODEL_FILE}. Name {meant}."
            )
        try:
            record = json.loads((directory / MODEL_FILE).read_text(encoding="utf-8"))
            version = record["format_version"]
            if record["format"] != FORMAT:
                raise ValueError(f"format is {record['format']!r}")
            if version > FORMAT_VERSION:
                raise ModelFormatError(
                    f"{directory} has model format {version}, and this version of ancestryvi reads "
                    f"up to {FORMAT_VERSION}; install a newer ancestryvi."
                )
            arrays = load_file(str(directory / ARRAYS_FILE))
            tables = {
                name: pd.read_csv(
                    directory / f"{name}.tsv",
                    sep="\t",
                    keep_default_na=False,
                    dtype={"contig": str, "id": str, "ref": str, "alt": str, "detail": str},
                )
                for name in record["tables"]
            }
        except (ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
            if isinstance(error, ModelFormatError):
                raise
            raise ModelFormatError(
                f"The model in {directory} is damaged or incomplete ({error}); copy it again or "
                "fit it again."
            ) from error
        return cls(record, arrays, tables)
