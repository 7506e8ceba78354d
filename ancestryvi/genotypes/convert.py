"""From any format that is read to any that is written, block by block, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError, NoVariantsError, OutputError
from ancestryvi.genotypes.container import Genotypes
from ancestryvi.genotypes.h5ad import write_h5ad
from ancestryvi.genotypes.pgen import write_pgen
from ancestryvi.genotypes.plink import write_bed
from ancestryvi.genotypes.selection import restrict
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    GenotypeSource,
    StrPath,
    is_indexed,
    iter_indexed,
)
from ancestryvi.genotypes.vcf_writer import write_vcf
from ancestryvi.genotypes.vcz import write_vcz
from ancestryvi.genotypes.writing import Outgoing, is_multiallelic, variant_key
from ancestryvi.staging import hidden_folder


@dataclass(frozen=True)
class _Format:
    """How a format is written.

    `files` are the suffixes of its files, in the order in which they appear: the one that is
    opened comes last.
    """

    write: Callable[[Outgoing, Path], None]
    files: tuple[str, ...]
    holds_multiallelic: bool = False


_VCF = _Format(write_vcf, ("",))
_VCZ = _Format(write_vcz, ("",))
_FORMATS = {
    ".vcf": _VCF,
    ".vcf.gz": _VCF,
    ".vcf.bgz": _VCF,
    ".bed": _Format(write_bed, (".fam", ".bim", ".bed")),
    ".pgen": _Format(write_pgen, (".psam", ".pvar", ".pgen")),
    ".vcz": _VCZ,
    ".zarr": _VCZ,
    ".h5ad": _Format(write_h5ad, ("",), holds_multiallelic=True),
}
SUFFIXES = tuple(_FORMATS)
"""How the names of files that can be written end."""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes
    ----------
    n_samples, n_variants : int
    n_multiallelic : int
        Variants left out because they have several ALT alleles.
    """

    n_samples: int
    n_variants: int
    n_multiallelic: int


def write_genotypes(
    source: GenotypeSource | Genotypes,
    path: StrPath,
    *,
    overwrite: bool = False,
    skip_multiallelic: bool = False,
    progress: Callable[[Iterator[Block]], Iterator[Block]] = iter,
) -> Written:
    """Write a source in the format that the name asks for; memory stays that of a few blocks.

    Calls are written as the dosages that were read: unphased and diploid, haploid ones as
    homozygous, half calls as missing. Dosages do not say which ALT allele of several a call has, so
    variants with several are an error or left out, except in .h5ad.

    Parameters
    ----------
    source : GenotypeSource or Genotypes
        What `open_source` returned, or genotypes in memory.
    path : path
        Where to write: .vcf, .vcf.gz or .vcf.bgz (BGZF), .bed, .pgen, .vcz or .zarr (VCF-Zarr),
        .h5ad. It appears when complete, the files of a set with the named one last.
    overwrite : bool, default=False
        Replace what is there.
    skip_multiallelic : bool, default=False
        Leave variants with several ALT alleles out.
    progress : callable, optional
        Passes blocks on and shows how far they are.

    Returns
    -------
    written : Written

    Raises
    ------
    OutputError
        If the suffix is not one of those, a file exists, cannot be written, or its format cannot
        hold a variant or a name; nothing is left behind then.
    NoVariantsError
        If there is no variant to write.
    InputFormatError
        If the source holds PC scores, or is found damaged while it is read.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from ancestryvi.genotypes import Genotypes, read_genotypes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "cohort.bed")
    ...     written = write_genotypes(Genotypes.from_dosages([[0, 2], [1, -1]]), path)
    ...     again = read_genotypes(path)
    >>> written.n_variants, again.dosages.tolist()
    (2, [[0, 2], [1, -1]])
    """
    path = Path(path)
    suffix = suffix_of(path)
    format_ = _FORMATS[suffix]
    if isinstance(source, Genotypes):
        source = _InMemory(source)
    if source.content == "scores":
        raise InputFormatError(f"{source.paths[0]} is a table of scores; give genotypes")
    names = [path.name.removesuffix(suffix) + (end or suffix) for end in format_.files]
    _check_targets([path.with_name(name) for name in names], source.paths, overwrite)
    multiallelic = _Multiallelic(path, skip_multiallelic)
    if not format_.holds_multiallelic:
        source = restrict(source, keep=multiallelic)
    counted = _Counted()
    outgoing = Outgoing(
        source.sample_ids,
        counted(progress(source.iter_blocks()), path),
        len(source.variants) if is_indexed(source) else None,
    )
    with hidden_folder(path) as folder:
        format_.write(outgoing, folder / path.name)
        for name in names:
            _publish(folder / name, path.with_name(name), folder)
    return Written(len(source.sample_ids), counted.n_variants, multiallelic.n_skipped)


class _InMemory:
    """Genotypes as a source."""

    content: Content = "dosages"
    paths: tuple[Path, ...] = ()

    def __init__(self, genotypes: Genotypes) -> None:
        self._genotypes = genotypes
        self.sample_ids = genotypes.sample_ids
        self.variants = genotypes.variants

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return some columns."""
        return self._genotypes.read_dosages(columns)

    def iter_blocks(self) -> Iterator[Block]:
        """Yield all columns."""
        return iter_indexed(self)


class _Multiallelic:
    """Marks the variants with one ALT allele; others are an error, or are counted."""

    def __init__(self, path: Path, skip: bool) -> None:
        self._path = path
        self._skip = skip
        self.n_skipped = 0

    def __call__(self, variants: pd.DataFrame) -> NDArray[np.bool_]:
        several = is_multiallelic(variants)
        if several.any() and not self._skip:
            raise OutputError(
                f"{self._path} cannot hold variant {variant_key(variants, int(several.argmax()))}: "
                "dosages do not say which of its ALT alleles a call has. Leave such variants out "
                "with --skip-multiallelic (skip_multiallelic=True), split them with `bcftools "
                "norm -m-`, or write .h5ad"
            )
        self.n_skipped += int(several.sum())
        return ~several


class _Counted:
    """Counts the variants of blocks on their way; none at all is an error."""

    n_variants = 0

    def __call__(self, blocks: Iterator[Block], path: Path) -> Iterator[Block]:
        for block in blocks:
            self.n_variants += len(block.columns)
            yield block
        if not self.n_variants:
            raise NoVariantsError(f"no variant is left to write to {path}")


def suffix_of(path: Path) -> str:
    """Return the suffix that says the format.

    Raises
    ------
    OutputError
        If it is none of `SUFFIXES`.
    """
    for suffix in sorted(_FORMATS, key=len, reverse=True):
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    if path.suffix == ".bcf":
        raise OutputError(
            f"{path}: BCF is not written here; write .vcf.gz, then `bcftools view -Ob -o "
            f"{path.name} {path.stem}.vcf.gz`"
        )
    raise OutputError(f"{path} should end in one of {', '.join(SUFFIXES)}, which says the format")


def _check_targets(targets: list[Path], inputs: Sequence[Path], overwrite: bool) -> None:
    """Refuse to write over what is read, or over anything unless told to."""
    for target in targets:
        for path in inputs:
            if path.exists() and target.exists() and path.samefile(target):
                raise OutputError(f"{target} is what is read; give the output another name")
        if target.exists() and not overwrite:
            raise OutputError(
                f"{target} exists; choose another name, or replace it with --force (overwrite=True)"
            )


def _publish(written: Path, target: Path, folder: Path) -> None:
    """Move a finished file, or the directory that a Zarr store is, into place."""
    if target.is_dir() or (written.is_dir() and target.exists()):
        target.rename(folder / f"{target.name}.retired")
    written.replace(target)
