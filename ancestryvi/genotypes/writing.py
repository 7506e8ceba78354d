"""What writers of genotype files share: what a format can hold, and blocks of even length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import OutputError
from ancestryvi.genotypes.source import Block


@dataclass(frozen=True)
class Outgoing:
    """Genotypes on their way to a file.

    Attributes
    ----------
    sample_ids : list of str
    blocks : iterator of Block
        To be taken once.
    n_variants : int or None
        How many variants will come, where it is known.
    """

    sample_ids: list[str]
    blocks: Iterator[Block]
    n_variants: int | None = None


_UNKNOWN = ("", ".", "0")  # PLINK writes 0 for an allele that it does not know


def check_sample_names(sample_ids: Sequence[str], path: Path, forbidden: str) -> None:
    """Refuse sample ids with characters that separate columns in a format.

    Raises
    ------
    OutputError
        If there is one; the message shows it.
    """
    for sample in sample_ids:
        if any(mark in sample for mark in forbidden):
            raise OutputError(
                f"{path} cannot hold sample {sample!r}: blanks separate columns there; rename it"
            )


def check_variant_names(variants: pd.DataFrame, path: Path) -> None:
    """Refuse names and alleles that are empty or have blanks, which separate columns.

    Raises
    ------
    OutputError
        If there is one; the message shows the variant.
    """
    for name in ("contig", "id", "ref", "alt"):
        wrong = ~variants[name].astype(str).str.fullmatch(r"\S+").to_numpy(bool)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise OutputError(
                f"{path} cannot hold {name} {variants[name].iloc[row]!r} of variant "
                f"{variant_key(variants, row)}: it is empty or has blanks; rename it first"
            )


def vcf_variants(block: Block, path: Path) -> pd.DataFrame:
    """Bring the variants of a block into the form of VCF, which PGEN and VCF-Zarr share.

    An unknown REF becomes N, which stands for any base, an unknown ALT or id a dot.

    Raises
    ------
    OutputError
        If a variant without ALT has calls of it, or a position is negative.
    """
    variants = block.columns[["contig", "position", "id", "ref", "alt"]].copy()
    variants["ref"] = variants["ref"].where(~variants["ref"].isin(_UNKNOWN), "N")
    variants["alt"] = variants["alt"].where(~variants["alt"].isin(_UNKNOWN), ".")
    variants["id"] = variants["id"].where(variants["id"] != "", ".")
    check_variant_names(variants, path)
    without = (variants["alt"] == ".").to_numpy()
    if without.any():
        called = np.flatnonzero(without)[(block.values.T[without] > 0).any(axis=1)]
        if len(called):
            raise OutputError(
                f"{path} cannot hold variant {variant_key(variants, int(called[0]))}: it has calls "
                "of an ALT allele, and nothing says which; give the alleles first, or write .bed "
                "or .h5ad"
            )
    negative = (variants["position"] < 0).to_numpy()
    if negative.any():
        raise OutputError(
            f"{path} cannot hold variant {variant_key(variants, int(np.argmax(negative)))}: its "
            "position is negative, which PLINK 1 takes for excluded; drop it first"
        )
    return variants


def variant_key(variants: pd.DataFrame, row: int) -> str:
    """Name a variant in a message."""
    return ":".join(str(variants[name].iloc[row]) for name in ("contig", "position", "ref", "alt"))


def is_multiallelic(variants: pd.DataFrame) -> NDArray[np.bool_]:
    """Mark variants with several ALT alleles."""
    return variants["alt"].astype(str).str.contains(",", regex=False).to_numpy(bool)


def even_blocks(blocks: Iterator[Block], length: int) -> Iterator[Block]:
    """Cut blocks anew, so that each but the last has `length` columns."""
    rest: list[Block] = []
    n_rest = 0
    for block in blocks:
        rest.append(block)
        n_rest += len(block.columns)
        if n_rest < length:
            continue
        whole = _concatenate(rest)
        n_even = n_rest - n_rest % length
        for start in range(0, n_even, length):
            yield _cut(whole, start, start + length)
        rest, n_rest = [_cut(whole, n_even, n_rest)], n_rest - n_even
    if n_rest:
        yield _concatenate(rest)


def _concatenate(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    values = np.concatenate([block.values.T for block in blocks]).T
    return Block(values, pd.concat([block.columns for block in blocks], ignore_index=True))


def _cut(block: Block, start: int, stop: int) -> Block:
    return Block(block.values[:, start:stop], block.columns[start:stop].reset_index(drop=True))
