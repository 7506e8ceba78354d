"""Files to genotypes: finds the format, joins several files, reads all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes.container import Genotypes, sample_frame
from ancestryvi.genotypes.h5ad import H5adSource
from ancestryvi.genotypes.plink import BedSource
from ancestryvi.genotypes.scores import ScoresSource
from ancestryvi.genotypes.source import Block, Content, GenotypeSource, StrPath
from ancestryvi.genotypes.text import first_bytes
from ancestryvi.genotypes.vcf import VcfSource

_MAGIC = {
    b"##fileformat=VCF": "vcf",
    b"#CHROM": "vcf",
    b"\x89HDF\r\n\x1a\n": "h5ad",
    b"BCF": "bcf",
    b"\x6c\x1b\x00": "bed",
    b"\x6c\x1b\x01": "bed",
    b"\x6c\x1b": "pgen",
}
_SUFFIXES = {
    ".vcf": "vcf",
    ".h5ad": "h5ad",
    ".bcf": "bcf",
    ".bed": "bed",
    ".pgen": "pgen",
    ".eigenvec": "scores",
    ".tsv": "scores",
    ".csv": "scores",
    ".txt": "scores",
}
_CONVERSIONS = {
    "bcf": "bcftools view -Oz -o {stem}.vcf.gz {name}",
    "pgen": "plink2 --pfile {stem} --make-bed --out {stem}",
    "vcf-zarr": "vcztools view {name} | bgzip > {stem}.vcf.gz",
}
_DOSAGE_SOURCES: dict[str, Callable[[Path], GenotypeSource]] = {
    "vcf": VcfSource,
    "bed": BedSource,
    "h5ad": H5adSource,
}


def open_source(
    paths: StrPath | Sequence[StrPath], content: Literal["auto", "dosages", "scores"] = "auto"
) -> GenotypeSource:
    """Open genotype files, or a table of PC scores, without reading their columns yet.

    Parameters
    ----------
    paths : path or sequence of paths
        VCF (text, gzip, BGZF), PLINK 1 (the .bed, the .bim or their common prefix), AnnData
        (.h5ad), or a table of PC scores (.tsv, .csv, .txt, .eigenvec). The content decides, then
        the suffix. Several files, one per chromosome say, follow one another and must have the
        same samples; rows follow the order of the first.
    content : {"auto", "dosages", "scores"}, default="auto"
        What the files must hold; ``"scores"`` takes a table whatever its suffix.

    Returns
    -------
    source : GenotypeSource

    Raises
    ------
    InputFormatError
        If a path is missing or a directory, or its format is not read; the message says how to
        convert it.
    SampleError
        If a sample id occurs twice in a file, or the files have different samples.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cohort.eigenvec")
    ...     _ = path.write_text("#IID PC1 PC2\\nann 0.5 -1\\nbo 2 0\\n")
    ...     source = open_source(path)
    >>> source.content, source.sample_ids
    ('scores', ['ann', 'bo'])
    """
    listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not listed:
        raise InputFormatError("no genotype files were given")
    sources = [_open_one(Path(path), content) for path in listed]
    if len(sources) == 1:
        return sources[0]
    for source in sources:
        if source.content == "scores":
            raise InputFormatError(
                f"{source.paths[0]} is a table of scores and cannot be joined with other files; "
                "give it alone"
            )
    return JoinedSource(sources)


def read_genotypes(paths: StrPath | Sequence[StrPath], progress: bool = False) -> Genotypes:
    """Read genotype files whole.

    Parameters
    ----------
    paths : path or sequence of paths
        As in `open_source`.
    progress : bool, default=False
        Show a progress bar if standard error is a terminal.

    Returns
    -------
    genotypes : Genotypes
        All variants of all files, in their order; nothing is filtered.

    Raises
    ------
    InputFormatError
        If a file is missing, damaged, in a format that is not read, or holds no dosages.
    SampleError
        If a sample id occurs twice in a file, or the files have different samples.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> record = ["chr1", "101", ".", "A", "G", ".", ".", ".", "GT", "0/1", "1"]
    >>> header = "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT ann bo".split()
    >>> lines = ["##fileformat=VCFv4.3", "\\t".join(header), "\\t".join(record), ""]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cohort.vcf")
    ...     _ = path.write_text("\\n".join(lines))
    ...     genotypes = read_genotypes(path)
    >>> genotypes.dosages.tolist(), genotypes.variant_keys().tolist()
    ([[1], [2]], ['chr1:101:A:G'])
    """
    source = open_source(paths, content="dosages")
    blocks = source.iter_blocks()
    # One variant after the other, as files hold them. A large array grows where it is or is moved
    # as pages of memory, not copied, so the peak is about one matrix.
    by_variant = np.empty((0, len(source.sample_ids)), dtype=np.int8)
    tables = []
    for block in _with_progress(blocks) if progress else blocks:
        start = len(by_variant)
        by_variant.resize((start + len(block.columns), by_variant.shape[1]), refcheck=False)
        by_variant[start:] = block.values.T
        tables.append(block.columns)
    variants = pd.concat(tables, ignore_index=True)
    return Genotypes(by_variant.T, sample_frame(source.sample_ids), variants)


def read_scores(path: StrPath) -> pd.DataFrame:
    """Read a table of PC scores.

    Parameters
    ----------
    path : str or path
        TSV, CSV, or .eigenvec of PLINK 1.9 or 2, gzip or not.

    Returns
    -------
    scores : DataFrame of shape (n_samples, n_scores), float64
        Indexed by sample id; the columns are the PCs.

    Raises
    ------
    InputFormatError
        If the file is missing or no such table.
    SampleError
        If a sample id occurs twice.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pcs.tsv")
    ...     _ = path.write_text("sample\\tPC1\\tPC2\\nann\\t0.5\\t-1\\n")
    ...     scores = read_scores(path)
    >>> scores.columns.tolist(), scores.loc["ann"].tolist()
    (['PC1', 'PC2'], [0.5, -1.0])
    """
    source = open_source(path, content="scores")
    (block,) = source.iter_blocks()
    index = sample_frame(source.sample_ids).index
    return pd.DataFrame(block.values, index=index, columns=block.columns["name"].tolist())


class JoinedSource:
    """Several sources of the same samples, one after the other, such as one per chromosome.

    Parameters
    ----------
    sources : sequence of GenotypeSource
        The first gives the order of the samples; the rows of the others are aligned by id.

    Raises
    ------
    SampleError
        If the samples differ; the message names both files, the counts and some ids.
    """

    content: Content = "dosages"

    def __init__(self, sources: Sequence[GenotypeSource]) -> None:
        self._sources = tuple(sources)
        self.paths = tuple(path for source in sources for path in source.paths)
        self.sample_ids = sources[0].sample_ids
        for source in sources[1:]:
            _check_same_samples(sources[0], source)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield the blocks of the first source, then those of the second, and so on."""
        for source in self._sources:
            if source.sample_ids == self.sample_ids:
                yield from source.iter_blocks()
                continue
            rows = pd.Index(source.sample_ids).get_indexer(pd.Index(self.sample_ids))
            for block in source.iter_blocks():
                yield Block(np.take(block.values.T, rows, axis=1).T, block.columns)


def _check_same_samples(first: GenotypeSource, other: GenotypeSource) -> None:
    """Refuse two sources whose sets of samples differ."""
    only_first = sorted(set(first.sample_ids) - set(other.sample_ids))
    only_other = sorted(set(other.sample_ids) - set(first.sample_ids))
    if only_first or only_other:
        raise SampleError(
            f"{first.paths[0]} ({len(first.sample_ids)} samples) and {other.paths[0]} "
            f"({len(other.sample_ids)} samples) have different samples: {len(only_first)} only in "
            f"the first, {len(only_other)} only in the second, such as "
            f"{(only_first + only_other)[:5]}; keep the common ones in both files"
        )


def _open_one(path: Path, content: str) -> GenotypeSource:
    """Open one file as what its first bytes, and then its name, say."""
    path = _resolve(path)
    if not path.stat().st_size:
        raise InputFormatError(f"{path} is empty (0 bytes); copy or write the file again")
    start = first_bytes(path)
    format_ = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if format_ is None:
        suffix = Path(path.name.removesuffix(".gz").removesuffix(".bgz")).suffix.lower()
        format_ = _SUFFIXES.get(suffix, "scores" if content == "scores" else None)
    if format_ in _CONVERSIONS:
        raise _not_read_yet(path, format_)
    if format_ in _DOSAGE_SOURCES and content != "scores":
        return _DOSAGE_SOURCES[format_](path)
    if format_ == "scores" and content != "dosages":
        return ScoresSource(path)
    wanted = (
        "a table of PC scores (.tsv, .csv, .txt, .eigenvec)"
        if content == "scores"
        else "VCF (text, gzip or BGZF), PLINK .bed or AnnData .h5ad"
    )
    raise InputFormatError(f"{path} begins with {start[:20]!r}; what is read here is {wanted}")


def _not_read_yet(path: Path, format_: str) -> InputFormatError:
    """Say how to convert a format of the field that has no reader here."""
    command = _CONVERSIONS[format_].format(stem=path.stem, name=path.name)
    return InputFormatError(f"{path} is {format_.upper()}, not read yet; convert it: {command}")


def _resolve(path: Path) -> Path:
    """Return the file that a path means: a prefix or a .bim or .fam mean their .bed."""
    if path.suffix in (".bim", ".fam"):
        path = path.with_suffix(".bed")
    beside = path.with_name(path.name + ".bed")
    if not path.exists() and beside.is_file():
        return beside
    if path.is_dir():
        if any((path / name).exists() for name in (".zgroup", "zarr.json")):
            raise _not_read_yet(path, "vcf-zarr")
        raise InputFormatError(f"{path} is a directory; give the genotype files in it")
    if not path.exists():
        raise InputFormatError(f"{path} does not exist; check the name and the folder")
    if not os.access(path, os.R_OK):
        raise InputFormatError(f"{path} cannot be read: permission denied")
    return path


def _with_progress(blocks: Iterator[Block]) -> Iterator[Block]:
    """Pass blocks on and count their variants on a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" variants", unit_scale=True, desc="reading", disable=None) as bar:
        for block in blocks:
            yield block
            bar.update(len(block.columns))
