"""One file over HTTP: resumed where it was cut, checked, and in place only when it is whole."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import BinaryIO, Final
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from ancestryvi import __version__
from ancestryvi.exceptions import ChecksumError, DownloadError

PART: Final = ".part"
"""What the name of a file ends in until it is whole."""

NETWORK: Final = (OSError, HTTPException)
"""What is raised when a connection does not come about or ends."""

_TIMEOUT = 60.0  # seconds without an answer
_BLOCK = 1 << 20
_PARTIAL, _NOT_SATISFIABLE = 206, 416


def download(url: str, path: Path, md5: str, *, progress: bool = False) -> None:
    """Fetch a file unless it is there.

    What has come lies beside `path` under a name that ends in ``.part``, and stays there when the
    connection ends: the next call asks for the rest. A server that sends no parts of files starts
    over. A connection that ends early is tried again as long as each try brings something.

    Parameters
    ----------
    url : str
    path : Path
        Where the file goes; its folder is made if need be.
    md5 : str
        The checksum that its publisher announces, in hexadecimal.
    progress : bool, default=False
        Show a progress bar if standard error is a terminal.

    Raises
    ------
    DownloadError
        If the server cannot be reached or does not have the file, the connection ends for good, or
        the disk is full.
    ChecksumError
        If what came has another checksum, or another file is at `path`.
    """
    if path.exists():
        found = _md5(path)
        if found != md5:
            raise ChecksumError(
                f"{path} is there and is not the published file: its MD5 is {found}, not {md5}. "
                "Move it away, or choose another folder."
            )
        return
    part = path.with_name(path.name + PART)
    while not _fetch_rest(url, part, progress):
        pass
    found = _md5(part)
    if found != md5:
        part.unlink()
        raise ChecksumError(
            f"What came from {url} has MD5 {found}, and {md5} is published: it was damaged on the "
            "way or has been replaced. It was removed; run the same command again."
        )
    part.replace(path)


@contextmanager
def opened(url: str, start: int = 0) -> Iterator[HTTPResponse]:
    """Open an address, from this byte on if the server can.

    Raises
    ------
    DownloadError
        If there is no answer, or one that says no.
    """
    headers = {"User-Agent": f"ancestryvi/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        answer = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        if start and error.code == _NOT_SATISFIABLE:
            raise
        raise DownloadError(
            f"{url}: the server answers {error.code} {error.reason}. If that stays so, the file "
            "has moved; get it by hand into the same folder."
        ) from error
    except NETWORK as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise DownloadError(
            f"{url} cannot be reached ({reason}). Check the network; behind a proxy, set "
            "https_proxy."
        ) from error
    with answer:
        yield answer


def _fetch_rest(url: str, part: Path, progress: bool) -> bool:
    """Fetch what is missing of a file; tell whether it is whole, as far as the server says."""
    before = part.stat().st_size if part.exists() else 0
    try:
        with opened(url, before) as answer:
            start = before if answer.status == _PARTIAL else 0
            total = _total(answer, start, url)
            _make_room(part, None if total is None else total - start)
            bar = tqdm(
                desc=part.name.removesuffix(PART),
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                disable=None if progress else True,
            )
            with bar, part.open("ab" if start else "wb", buffering=0) as file:
                cause = _copy(answer, file, bar)
                n_bytes = file.tell()
    except HTTPError:  # nothing lies beyond what has come; the checksum decides
        return True
    if n_bytes == total or (total is None and cause is None):
        return True
    if n_bytes <= before:
        raise DownloadError(
            f"{url}: the connection ended after {n_bytes:,} bytes"
            + (f" of {total:,}" if total is not None else "")
            + (f" ({cause})" if cause is not None else "")
            + ". Run the same command again to go on from there."
        )
    return False


def _copy(answer: HTTPResponse, file: BinaryIO, bar: tqdm[None]) -> Exception | None:
    """Write what comes; return what ended the connection, None if it ended by itself."""
    while True:
        try:
            block = answer.read(_BLOCK)
        except NETWORK as error:
            return error
        if not block:
            return None
        rest = memoryview(block)
        while rest:
            try:
                rest = rest[file.write(rest) :]
            except OSError as error:
                raise unwritable(Path(file.name), error) from error
        bar.update(len(block))


def _total(answer: HTTPResponse, start: int, url: str) -> int | None:
    """How many bytes the whole file has; None if the server does not say."""
    if answer.status == _PARTIAL:
        said = answer.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", said)
        if match is None or int(match[1]) != start:
            raise DownloadError(
                f"{url}: asked for all from byte {start} on, the server sends {said!r}. Delete the "
                f"file that ends in {PART} to start over."
            )
        return None if match[2] == "*" else int(match[2])
    length = answer.headers.get("Content-Length")
    return None if length is None else int(length)


def _make_room(part: Path, needed: int | None) -> None:
    """Make the folder, and say beforehand that a file will not fit."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(part.parent).free
    except OSError as error:
        raise unwritable(part, error) from error
    if needed is not None and needed > free:
        raise DownloadError(
            f"{part.parent} has {free / 1e6:,.0f} MB free, and {needed / 1e6:,.0f} MB are still to "
            "come; make room or choose another folder."
        )


def unwritable(path: Path, error: OSError) -> DownloadError:
    """Say that a file cannot be written."""
    return DownloadError(
        f"{path} cannot be written ({error.strerror or error}). What has come stays; with that "
        "put right, run the same command again."
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
