"""A hidden folder beside an output, so that what appears there is whole."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ancestryvi.exceptions import OutputError


@contextmanager
def hidden_folder(path: Path) -> Iterator[Path]:
    """A folder to write `path` in, gone when the block ends.

    Parents of `path` are made as needed; those that were made and stay empty go as well.

    Raises
    ------
    OutputError
        If it cannot be made; raised before anything else happens.
    """
    parent = path.absolute().parent
    made = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    try:
        try:
            parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=parent))
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror or error}); choose another directory."
            ) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
