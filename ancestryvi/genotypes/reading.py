"""Files to genotypes: finds the format, joins several files, reads all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from ancestryvi.exceptions import InputFormatError, NoVariantsError
from ancestryvi.genotypes.bgzf import is_bgzf
from ancestryvi.genotypes.container import Genotypes, sample_frame
from ancestryvi.genotypes.h5ad import H5adSource
from ancestryvi.genotypes.htslib import HtslibSource, has_index, is_available, is_remote
from ancestryvi.genotypes.joined import join_sources
from ancestryvi.genotypes.memory import check_fits, guard
from ancestryvi.genotypes.pgen import PgenSource
from ancestryvi.genotypes.plink import BedSource
from ancestryvi.genotypes.scores import ScoresSource
from ancestryvi.genotypes.selection import Region, parse_regions, select
from ancestryvi.genotypes.source import Block, GenotypeSource, StrPath, is_indexed
from ancestryvi.genotypes.text import first_bytes, is_gzip
from ancestryvi.genotypes.vcf import VcfSource
from ancestryvi.genotypes.vcz import VczSource, is_store

_MAGIC = {
    b"##fileformat=VCF": "vcf",
    b"#CHROM": "vcf",
    b"\x89HDF\r\n\x1a\n": "h5ad",
    b"BCF": "bcf",
    b"\x6c\x1b\x00": "bed",
    b"\x6c\x1b\x01": "bed",
    b"\x6c\x1b": "pgen",
    b"PK\x03\x04": "vcz",
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
_FORMAT_NAMES = {
    "vcf": "VCF",
    "bcf": "BCF",
    "bed": "PLINK 1 (.bed)",
    "pgen": "PLINK 2 (.pgen)",
    "vcz": "VCF-Zarr",
    "h5ad": "AnnData (.h5ad)",
    "scores": "table",
}
_PLINK_SETS = {".bim": ".bed", ".fam": ".bed", ".pvar": ".pgen", ".psam": ".pgen"}
_DOSAGE_SOURCES: dict[str, Callable[[Path], GenotypeSource]] = {
    "vcf": VcfSource,
    "bed": BedSource,
    "pgen": PgenSource,
    "vcz": VczSource,
    "h5ad": H5adSource,
}


def open_source(
    paths: StrPath | Sequence[StrPath],
    content: Literal["auto", "dosages", "scores"] = "auto",
    *,
    region: str | Sequence[str] | None = None,
    samples: StrPath | Sequence[str] | None = None,
    variants: StrPath | Sequence[str] | None = None,
) -> GenotypeSource:
    """Open genotype files, or a table of PC scores, without reading their columns yet.

    Parameters
    ----------
    paths : path or sequence of paths
        VCF (text, gzip, BGZF), BCF, PLINK 1 and 2 (.bed or .pgen, a file beside it or their common
        prefix), VCF-Zarr (.vcz, a directory or a zip file), AnnData (.h5ad), or a table of PC
        scores (.tsv, .csv, .txt, .eigenvec). The content decides, then the suffix. Several files,
        one per chromosome say, follow one another and must have the same samples; rows follow the
        order of the first. With `region` also URLs of indexed VCF or BCF.
    content : {"auto", "dosages", "scores"}, default="auto"
        What the files must hold; ``"scores"`` takes a table whatever its suffix.
    region : str or sequence of str, optional
        Keep variants whose position lies in ``"CHR"``, ``"CHR:POS"`` or ``"CHR:FROM-TO"``, 1-based
        and inclusive, or in one of several. Names of contigs are compared as they are: ``chr1`` is
        not ``1``.
    samples : path or sequence of str, optional
        Keep these samples: a list, or a file with one id a line or the FID and IID of ``plink
        --keep``. Their order stays that of the genotypes.
    variants : path or sequence of str, optional
        Keep these variants, a list or a file with one a line: an id, ``contig:position`` or
        ``contig:position:ref:alt``. Those that are not met are counted in a warning.

    Returns
    -------
    source : GenotypeSource

    Raises
    ------
    InputFormatError
        If a path is missing or a directory, or its format is not read; the message says how to
        convert it.
    SampleError
        If a sample id occurs twice in a file, the files have different samples, or one of
        `samples` is not there.
    NoVariantsError
        If the contig of a region does not exist, the message lists those that do, or no variant
        is left. Formats without random access raise it while they are read.

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
    regions = parse_regions(region)
    sources = [_open_one(path, content, regions) for path in listed]
    filtered = region is not None or samples is not None or variants is not None
    for source in sources:
        if source.content == "scores" and (filtered or len(sources) > 1):
            raise InputFormatError(
                f"{source.paths[0]} is a table of scores and cannot be joined with other files or "
                "filtered; give it alone"
            )
    joined = sources[0] if len(sources) == 1 else join_sources(sources)
    return select(joined, region, samples, variants)


def read_genotypes(
    paths: StrPath | Sequence[StrPath],
    progress: bool = False,
    *,
    region: str | Sequence[str] | None = None,
    samples: StrPath | Sequence[str] | None = None,
    variants: StrPath | Sequence[str] | None = None,
) -> Genotypes:
    """Read genotype files whole.

    Parameters
    ----------
    paths : path or sequence of paths
        As in `open_source`.
    progress : bool, default=False
        Show a progress bar if standard error is a terminal.
    region, samples, variants : optional
        What to keep, as in `open_source`; everything by default.

    Returns
    -------
    genotypes : Genotypes
        The variants of all files, in their order.

    Raises
    ------
    InputFormatError
        If a file is missing, damaged, in a format that is not read, or holds no dosages.
    SampleError
        If a sample id occurs twice in a file, the files have different samples, or one of
        `samples` is not there.
    NoVariantsError
        If there are no variants, or none of those asked for.
    MemoryNeedError
        If the matrix does not fit into memory: said before reading by formats with random access
        (BED, PGEN, VCF-Zarr, .h5ad), as soon as it shows by the others.

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
    source = open_source(
        paths, content="dosages", region=region, samples=samples, variants=variants
    )
    return read_whole(source, progress)


def read_whole(source: GenotypeSource, progress: bool = False) -> Genotypes:
    """Read all that an open source of dosages holds; see `read_genotypes`."""
    where = ", ".join(map(str, source.paths))
    n_samples = len(source.sample_ids)
    blocks = source.iter_blocks()
    if is_indexed(source):
        check_fits(n_samples, len(source.variants), where)
    else:
        blocks = guard(blocks, n_samples, where)
    # One variant after the other, as files hold them. A large array grows where it is or is moved
    # as pages of memory, not copied, so the peak is about one matrix.
    by_variant = np.empty((0, n_samples), dtype=np.int8)
    tables = []
    for block in with_progress(blocks) if progress else blocks:
        start = len(by_variant)
        by_variant.resize((start + len(block.columns), n_samples), refcheck=False)
        by_variant[start:] = block.values.T
        tables.append(block.columns)
    if not tables:
        raise NoVariantsError(f"{where} holds no variants")
    columns = pd.concat(tables, ignore_index=True)
    return Genotypes(by_variant.T, sample_frame(source.sample_ids), columns)


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
    return score_table(open_source(path, content="scores"))


def score_table(source: GenotypeSource) -> pd.DataFrame:
    """Read an open table of scores; see `read_scores`."""
    (block,) = source.iter_blocks()
    index = sample_frame(source.sample_ids).index
    return pd.DataFrame(block.values, index=index, columns=block.columns["name"].tolist())


def format_of(path: StrPath) -> str:
    """Name the format of a file that `open_source` takes, and how it is packed.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cohort.vcf")
    ...     _ = path.write_text("##fileformat=VCFv4.3\\n")
    ...     format_of(path)
    'VCF, text'
    """
    if is_remote(str(path)):
        return "VCF or BCF at a URL"
    path = _resolve(Path(path))
    name = _FORMAT_NAMES.get(_format(path)[0] or "scores", "")
    if path.is_file() and is_gzip(path):
        return f"{name}, {'BGZF' if is_bgzf(path) else 'gzip'}"
    return f"{name}, text" if name == "VCF" else name


def _open_one(given: StrPath, content: str, regions: Sequence[Region]) -> GenotypeSource:
    """Open one file as what its first bytes, and then its name, say."""
    if is_remote(str(given)):
        return HtslibSource(str(given), regions)
    path = _resolve(Path(given))
    format_, start = _format(path)
    if format_ is None and content == "scores":
        format_ = "scores"
    if format_ in ("vcf", "bcf") and content != "scores":
        # An index spares reading the whole file for a region; a filter is put on all the same.
        looked_up = regions if regions and has_index(path) and is_available() else ()
        if format_ == "bcf" or looked_up:
            return HtslibSource(str(path), looked_up)
    if format_ in _DOSAGE_SOURCES and content != "scores":
        return _DOSAGE_SOURCES[format_](path)
    if format_ == "scores" and content != "dosages":
        return ScoresSource(path)
    wanted = (
        "a table of PC scores (.tsv, .csv, .txt, .eigenvec)"
        if content == "scores"
        else "VCF (text, gzip or BGZF), BCF, PLINK .bed or .pgen, VCF-Zarr or AnnData .h5ad"
    )
    raise InputFormatError(f"{path} begins with {start[:20]!r}; what is read here is {wanted}")


def _format(path: Path) -> tuple[str | None, bytes]:
    """Tell the format by the content, then by the suffix; return the first bytes as well."""
    if path.is_dir():
        return "vcz", b""
    if not path.stat().st_size:
        raise InputFormatError(f"{path} is empty (0 bytes); copy or write the file again")
    start = first_bytes(path)
    for magic, name in _MAGIC.items():
        if start.startswith(magic):
            return name, start
    suffix = Path(path.name.removesuffix(".gz").removesuffix(".bgz")).suffix.lower()
    return _SUFFIXES.get(suffix), start


def _resolve(path: Path) -> Path:
    """Return the file that a path means: a PLINK prefix, .bim or .pvar mean their .bed or .pgen."""
    if path.suffix in _PLINK_SETS:
        path = path.with_suffix(_PLINK_SETS[path.suffix])
    if path.name.endswith(".pvar.zst"):
        path = path.with_name(path.name.removesuffix(".pvar.zst") + ".pgen")
    sets = [path.with_name(path.name + suffix) for suffix in (".bed", ".pgen")]
    found = [beside for beside in sets if beside.is_file()] if not path.exists() else []
    if len(found) > 1:
        raise InputFormatError(f"{path} means {found[0]} or {found[1]}; name the one to read")
    if found:
        return found[0]
    if path.is_dir() and not is_store(path):
        raise InputFormatError(f"{path} is a directory; give the genotype files in it")
    if not path.exists():
        raise InputFormatError(f"{path} does not exist; check the name and the folder")
    if path.is_fifo():
        raise InputFormatError(
            f"{path} is a pipe, and genotypes are read more than once; write them to a file first"
        )
    if not os.access(path, os.R_OK):
        raise InputFormatError(f"{path} cannot be read: permission denied")
    return path


def with_progress(blocks: Iterator[Block]) -> Iterator[Block]:
    """Pass blocks on and count their variants on a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" variants", unit_scale=True, desc="reading", disable=None) as bar:
        for block in blocks:
            yield block
            bar.update(len(block.columns))
