"""MNIST and CIFAR-10 as rows of pixels, read from the files that their authors publish.

References
----------
LeCun, Cortes and Burges, The MNIST database of handwritten digits. Krizhevsky (2009), Learning
multiple layers of features from tiny images.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import shutil
import tarfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError

Split = Literal["train", "test"]
Images = tuple[NDArray[np.float64], NDArray[np.int64]]

MNIST_MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "http://yann.lecun.com/exdb/mnist/",
)
"""Folders that hold the four files."""

MNIST_SHA256: Final = {
    "train-images-idx3-ubyte.gz": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
    ),
    "train-labels-idx1-ubyte.gz": (
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
    ),
    "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}

CIFAR10_MIRRORS: Final = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
"""Folders that hold the archive."""

CIFAR10_ARCHIVE: Final = "cifar-10-binary.tar.gz"
CIFAR10_SHA256: Final = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
CIFAR10_FOLDER: Final = "cifar-10-batches-bin"
CIFAR10_IMAGES: Final = 10_000
"""Images of each file."""

_MNIST_STEMS = {"train": "train", "test": "t10k"}
_CIFAR10_FILES = {
    "train": [f"data_batch_{i}.bin" for i in range(1, 6)],
    "test": ["test_batch.bin"],
}
_CIFAR10_RECORD = 1 + 3 * 32 * 32  # label, then the red, green and blue planes
_UNSIGNED_BYTES = 8  # the type of an IDX file's values, its third byte
_TIMEOUT = 60.0  # seconds without an answer


def load_mnist(folder: str | PathLike[str], split: Split = "train") -> Images:
    """Read MNIST, or another set in its format, from IDX files, packed by gzip or not.

    Parameters
    ----------
    folder : path
        Where the files are, under their published names, with or without ``.gz``.
    split : {"train", "test"}, default="train"
        The 60,000 images for training or the 10,000 for testing.

    Returns
    -------
    X : ndarray of shape (n_images, 784)
        Pixels by rows, from 0 (background) to 1.
    y : ndarray of shape (n_images,)
        Digits.

    Raises
    ------
    InputFormatError
        If a file is absent, truncated or not what its name says, or the two differ in length.
    """
    _check_split(split)
    stem = Path(folder, _MNIST_STEMS[split])
    pixels = _read_idx(Path(f"{stem}-images-idx3-ubyte"), 3)
    labels = _read_idx(Path(f"{stem}-labels-idx1-ubyte"), 1)
    if len(pixels) != len(labels):
        raise InputFormatError(
            f"{stem}-* hold {len(pixels)} images and {len(labels)} labels; they are of two sets"
        )
    return pixels.reshape(len(pixels), math.prod(pixels.shape[1:])) / 255.0, labels.astype(np.int64)


def load_cifar10(folder: str | PathLike[str], split: Split = "train") -> Images:
    """Read CIFAR-10 from the files of its binary version.

    Parameters
    ----------
    folder : path
        Where the archive was unpacked; it makes a folder ``cifar-10-batches-bin``.
    split : {"train", "test"}, default="train"
        The 50,000 images for training or the 10,000 for testing.

    Returns
    -------
    X : ndarray of shape (n_images, 3072)
        Pixels from 0 to 1: all of red by rows, then green, then blue. 1.2 GB for training.
    y : ndarray of shape (n_images,)
        Classes, 0 to 9.

    Raises
    ------
    InputFormatError
        If a file is absent, truncated or not what its name says.
    """
    _check_split(split)
    paths = [Path(folder, CIFAR10_FOLDER, name) for name in _CIFAR10_FILES[split]]
    records = np.concatenate([_read_records(path) for path in paths])
    return records[:, 1:] / 255.0, records[:, 0].astype(np.int64)


def fetch_mnist(folder: str | PathLike[str], mirrors: Sequence[str] = MNIST_MIRRORS) -> None:
    """Download the four files of MNIST, 12 MB, unless they are there.

    Parameters
    ----------
    folder : path
        Where they go; made if need be.
    mirrors : sequence of str
        Addresses, each with a slash at its end, to try one after the other.

    Raises
    ------
    InputFormatError
        If no mirror gives a file of the right SHA-256; the folder is as before then, but for whole
        files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, digest in MNIST_SHA256.items():
        path = folder / name
        if not path.exists() or _sha256(path) != digest:
            with TemporaryDirectory(dir=folder) as work:
                _download(name, mirrors, digest, Path(work)).replace(path)


def fetch_cifar10(folder: str | PathLike[str], mirrors: Sequence[str] = CIFAR10_MIRRORS) -> None:
    """Download the binary version of CIFAR-10, 170 MB, and unpack it, unless it is there.

    Parameters
    ----------
    folder : path
        Where its folder ``cifar-10-batches-bin`` goes; made if need be.
    mirrors : sequence of str
        Addresses, each with a slash at its end, to try one after the other.

    Raises
    ------
    InputFormatError
        If no mirror gives an archive of the right SHA-256; the folder is as before then.
    """
    target = Path(folder, CIFAR10_FOLDER)
    target.mkdir(parents=True, exist_ok=True)
    names = _CIFAR10_FILES["train"] + _CIFAR10_FILES["test"]
    whole = CIFAR10_IMAGES * _CIFAR10_RECORD
    if all((target / name).exists() and (target / name).stat().st_size == whole for name in names):
        return
    with TemporaryDirectory(dir=folder) as work:
        archive = _download(CIFAR10_ARCHIVE, mirrors, CIFAR10_SHA256, Path(work))
        with tarfile.open(archive) as members:
            for name in names:
                source = members.extractfile(f"{CIFAR10_FOLDER}/{name}")
                assert source is not None  # the digest says that it is a file
                with source, Path(work, name).open("wb") as file:
                    shutil.copyfileobj(source, file)
                Path(work, name).replace(target / name)


def _check_split(split: str) -> None:
    if split not in _MNIST_STEMS:
        raise ValueError(f"split is {split!r}; choose 'train' or 'test'.")


def _read_idx(path: Path, n_dims: int) -> NDArray[np.uint8]:
    """Bytes of an IDX file of so many dimensions."""
    packed = path.with_name(f"{path.name}.gz")
    if path.exists():
        data = path.read_bytes()
    elif packed.exists():
        path = packed
        data = _unpacked(path)
    else:
        raise InputFormatError(f"{path} is not there, nor {packed.name}; fetch_mnist gets them")
    start = bytes((0, 0, _UNSIGNED_BYTES, n_dims))
    if data[:4] != start:
        raise InputFormatError(
            f"{path} begins with {data[:4]!r}, and an IDX file of bytes in {n_dims} dimensions "
            f"with {start!r}; download it again"
        )
    header = 4 + 4 * n_dims
    if len(data) < header:
        raise InputFormatError(f"{path} ends within its header; download it again")
    shape = np.frombuffer(data, ">u4", n_dims, 4).tolist()
    expected = header + math.prod(shape)
    _check_size(path, len(data), expected, f"its header announces {' x '.join(map(str, shape))}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _unpacked(path: Path) -> bytes:
    """What a gzip file holds."""
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputFormatError(
            f"{path} is truncated or no gzip file ({error}); download it again"
        ) from error


def _read_records(path: Path) -> NDArray[np.uint8]:
    """The records of a file of CIFAR-10."""
    if not path.exists():
        raise InputFormatError(f"{path} is not there; fetch_cifar10 gets it")
    expected = CIFAR10_IMAGES * _CIFAR10_RECORD
    _check_size(path, path.stat().st_size, expected, f"{CIFAR10_IMAGES} images")
    records = np.fromfile(path, np.uint8).reshape(-1, _CIFAR10_RECORD)
    wrong = np.flatnonzero(records[:, 0] > 9)
    if len(wrong):
        raise InputFormatError(
            f"{path} is not of CIFAR-10: image {wrong[0] + 1} has class {records[wrong[0], 0]}, "
            "where 9 is the last; download it again"
        )
    return records


def _check_size(path: Path, found: int, expected: int, why: str) -> None:
    if found != expected:
        state = "truncated" if found < expected else "too long"
        raise InputFormatError(
            f"{path} is {state}: {why}, {expected} bytes in all, found {found}; download it again"
        )


def _download(name: str, mirrors: Sequence[str], sha256: str, folder: Path) -> Path:
    """A file with this digest, from the first mirror that gives it, in a folder."""
    path = folder / name
    reasons = []
    for mirror in mirrors:
        try:
            with urlopen(mirror + name, timeout=_TIMEOUT) as answer, path.open("wb") as file:
                shutil.copyfileobj(answer, file)
        except (OSError, HTTPException) as error:
            reasons.append(f"{mirror}: {error}")
            continue
        found = _sha256(path)
        if found == sha256:
            return path
        size = path.stat().st_size
        reasons.append(f"{mirror}: {size} bytes of SHA-256 {found}, not {sha256}")
    raise InputFormatError(
        f"{name} could not be downloaded ({'; '.join(reasons)}); get it by hand into the folder, "
        "and unpack it there if it is a .tar.gz"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
