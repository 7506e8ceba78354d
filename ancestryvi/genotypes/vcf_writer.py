"""Writes VCF, as text or BGZF."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ancestryvi import __version__
from ancestryvi.genotypes import bgzf
from ancestryvi.genotypes.source import Block
from ancestryvi.genotypes.writing import Outgoing, check_sample_names, vcf_variants

_FIXED = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
_GT = '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">'
# The text of a call for dosages -1, 0, 1, 2, with the tab before it: four bytes, one 32-bit word.
_CALLS = np.frombuffer(b"\t./.\t0/0\t0/1\t1/1", dtype=np.uint32)


def write_vcf(genotypes: Outgoing, path: Path) -> None:
    """Write a VCF of unphased diploid calls, BGZF if the name ends in .gz or .bgz.

    The header names the contigs, which are known when the records are written; so those go to a
    file beside it first.

    Raises
    ------
    OutputError
        If a name or variant cannot be written; see `vcf_variants`.
    """
    check_sample_names(genotypes.sample_ids, path, "\t\r\n")
    pack = bgzf.compress if path.suffix in (".gz", ".bgz") else iter
    contigs: dict[str, None] = {}
    records = path.with_name(path.name + ".records")
    with records.open("wb") as file:
        file.writelines(pack(_records(genotypes.blocks, path, contigs)))
    lines = ["##fileformat=VCFv4.2", f"##source=ancestryvi-{__version__}"]
    lines += [f"##contig=<ID={contig}>" for contig in contigs]
    lines += [_GT, "\t".join([_FIXED, *genotypes.sample_ids]), ""]
    with path.open("wb") as file, records.open("rb") as body:
        file.writelines(pack(["\n".join(lines).encode()]))
        shutil.copyfileobj(body, file, 1 << 20)
        if pack is not iter:
            file.write(bgzf.END)
    records.unlink()


def _records(blocks: Iterator[Block], path: Path, contigs: dict[str, None]) -> Iterator[bytes]:
    """Yield the lines of each block, and add its contigs."""
    for block in blocks:
        variants = vcf_variants(block, path)
        contigs |= dict.fromkeys(variants["contig"])
        calls = _text_of_calls(block)
        fixed = zip(*(variants[name] for name in variants), strict=True)
        yield b"".join(
            b"%s\t.\t.\t.\tGT%s\n" % ("\t".join(map(str, columns)).encode(), row)
            for columns, row in zip(fixed, calls, strict=True)
        )


def _text_of_calls(block: Block) -> list[memoryview]:
    """Return the text of each record's calls."""
    words = np.take(_CALLS, np.ascontiguousarray(block.values.T) + np.int8(1))
    return [memoryview(row).cast("B") for row in words]
