"""PLINK 2 binary files: .pgen with its .pvar and .psam, read and written through Pgenlib."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.dosage import MISSING
from ancestryvi.genotypes.plink import BedSource, write_bed
from ancestryvi.genotypes.source import (
    Block,
    Columns,
    Content,
    PerThread,
    as_indices,
    check_sample_ids,
    iter_indexed,
    plink_sample_ids,
)
from ancestryvi.genotypes.text import damage_reported, open_binary
from ancestryvi.genotypes.writing import Outgoing, check_sample_names, vcf_variants

if TYPE_CHECKING:
    from pgenlib import PgenReader


class PgenSource:
    """The hard calls of a PLINK 2 file set as dosages.

    Phase and dosages of imputation are left aside; plink2 made hard calls of the latter when it
    wrote the file. Every record is kept, multiallelic ones in one column with ALT ``"A,T"``.

    Parameters
    ----------
    path : Path
        The .pgen file; .psam and .pvar (or .pvar.zst, or .bim) lie beside it.

    Raises
    ------
    InputFormatError
        If one of the three files is missing, damaged, or their sizes disagree.
    SampleError
        If a sample id occurs twice (FID and IID both).
    """

    content: Content = "dosages"

    def __init__(self, path: Path) -> None:
        self.paths: tuple[Path, ...] = (path,)
        psam = _beside(path, ".psam", ".fam")
        self.sample_ids = check_sample_ids(_read_sample_ids(psam), psam)
        pvar = _beside(path, ".pvar", ".pvar.zst", ".bim")
        self.variants, allele_offsets = _read_variants(pvar)
        n_samples, n_variants = len(self.sample_ids), len(self.variants)
        self._reader = PerThread(partial(_open, path, n_samples, n_variants, allele_offsets))
        self._reader.get()

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        return iter_indexed(self)

    def read_dosages(self, columns: Columns) -> NDArray[np.int8]:
        """Return the dosages of some variants, (n_samples, n_columns)."""
        indices = as_indices(columns, len(self.variants)).astype(np.uint32)
        ref_copies = np.empty((len(indices), len(self.sample_ids)), np.int8)
        if len(indices):
            try:
                self._reader.get().read_list(indices, ref_copies, allele_idx=0)
            except RuntimeError as error:
                raise _damaged(self.paths[0], error) from error
        # REF is the one allele that is not ALT, however many ALT alleles there are.
        dosages = np.subtract(2, ref_copies, out=ref_copies)
        dosages[dosages > 2] = MISSING  # Pgenlib writes -9
        return dosages.T


def _open(
    path: Path, n_samples: int, n_variants: int, allele_offsets: NDArray[np.uintp]
) -> PgenReader:
    """Open the .pgen, which compares its counts with those of the other two files."""
    from pgenlib import PgenReader

    try:
        return PgenReader(str(path).encode(), n_samples, n_variants, None, allele_offsets)
    except RuntimeError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: RuntimeError) -> InputFormatError:
    """The three files do not fit, or the largest is damaged."""
    return InputFormatError(
        f"{path} is damaged, or .pvar or .psam beside it belong to another file "
        f"({_said(error)}); copy all three files again"
    )


def _said(error: RuntimeError) -> str:
    """Put what Pgenlib raises, bytes as often as not, into words."""
    reason = error.args[0] if error.args else ""
    text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return text.strip().rstrip(".")


def _beside(path: Path, *suffixes: str) -> Path:
    """Return the first file of the set that exists."""
    candidates = [path.with_name(path.name.removesuffix(".pgen") + suffix) for suffix in suffixes]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise InputFormatError(f"{candidates[0]} is missing; {path.name} needs it beside it")


def _read_sample_ids(path: Path) -> list[str]:
    """Name the samples of a .psam: after lines ## a header names the columns, #IID or #FID first.

    Without a header the columns are those of a .fam.
    """
    with damage_reported(path), open_binary(path) as file:
        text = file.read().decode("utf-8-sig")
    rows = [line.split() for line in text.splitlines() if line.strip() and line[:2] != "##"]
    if not rows:
        raise InputFormatError(f"{path} holds no samples; copy or write it again")
    header = ["FID", "IID"]
    if rows[0][0].startswith("#"):
        header = [name.lstrip("#") for name in rows.pop(0)]
    if "IID" not in header:
        raise InputFormatError(f"{path} has no column IID; its columns are {header[:6]}")
    iid = header.index("IID")
    fid = header.index("FID") if "FID" in header else None
    for number, row in enumerate(rows, 1):
        if len(row) < len(header):
            raise InputFormatError(
                f"{path}: sample {number} has {len(row)} columns, but the header has "
                f"{len(header)}; write the file again"
            )
    individuals = [row[iid] for row in rows]
    return individuals if fid is None else plink_sample_ids([row[fid] for row in rows], individuals)


def _read_variants(path: Path) -> tuple[pd.DataFrame, NDArray[np.uintp]]:
    """Return the variant table, and where the alleles of each variant begin among all."""
    from pgenlib import PvarReader

    try:
        pvar = PvarReader(str(path).encode())
        n_variants = pvar.get_variant_ct()
        contigs, positions, ids, refs, alts = [], np.empty(n_variants, np.int64), [], [], []
        for i in range(n_variants):
            contigs.append(pvar.get_variant_chrom(i).decode())
            positions[i] = pvar.get_variant_pos(i)
            ids.append(pvar.get_variant_id(i).decode())
            refs.append(pvar.get_allele_code(i, 0).decode())
            n_alleles = pvar.get_allele_ct(i)
            alts.append(b",".join(pvar.get_allele_code(i, a) for a in range(1, n_alleles)).decode())
    except RuntimeError as error:
        raise InputFormatError(
            f"{path} is no table of variants ({_said(error)}); copy or write it again"
        ) from error
    columns = {"contig": contigs, "position": positions, "id": ids, "ref": refs, "alt": alts}
    return pd.DataFrame(columns), pvar.get_allele_idx_offsets()


def write_pgen(genotypes: Outgoing, path: Path) -> None:
    """Write a file set of unphased diploid calls; sexes are unknown.

    A .pgen begins with its number of variants. Where only a full pass tells it, the calls go to a
    .bed file first.

    Raises
    ------
    OutputError
        If a name or variant cannot be written; see `vcf_variants`.
    """
    from pgenlib import PgenWriter

    check_sample_names(genotypes.sample_ids, path, " \t\r\n")
    if genotypes.n_variants is None:
        staged = path.with_name(path.name + ".bed")
        write_bed(genotypes, staged)
        bed = BedSource(staged)
        write_pgen(Outgoing(bed.sample_ids, bed.iter_blocks(), len(bed.variants)), path)
        for suffix in (".bed", ".bim", ".fam"):
            staged.with_suffix(suffix).unlink()
        return
    psam = "#IID\tSEX\n" + "".join(f"{sample}\tNA\n" for sample in genotypes.sample_ids)
    path.with_suffix(".psam").write_text(psam, encoding="utf-8")
    writer = PgenWriter(
        str(path).encode(), len(genotypes.sample_ids), genotypes.n_variants, nonref_flags=False
    )
    with path.with_suffix(".pvar").open("w", encoding="utf-8") as pvar:
        pvar.write("#CHROM\tPOS\tID\tREF\tALT\n")
        for block in genotypes.blocks:
            variants = vcf_variants(block, path)
            writer.append_biallelic_batch(np.ascontiguousarray(block.values.T))
            pvar.writelines(
                "\t".join(map(str, row)) + "\n"
                for row in zip(*(variants[name] for name in variants), strict=True)
            )
    writer.close()
