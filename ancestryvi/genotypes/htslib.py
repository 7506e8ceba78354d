"""BCF, and regions of indexed or remote VCF, through cyvcf2, which the extra ``bcf`` installs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi.exceptions import AncestryVIError, InputFormatError
from ancestryvi.genotypes.bgzf import check_end
from ancestryvi.genotypes.dosage import MISSING, UnreadableCallError, decode_alleles
from ancestryvi.genotypes.selection import Region
from ancestryvi.genotypes.source import (
    Block,
    Content,
    block_columns,
    call_error,
    check_sample_ids,
)

if TYPE_CHECKING:
    from cyvcf2 import VCF, Variant


def is_available() -> bool:
    """Tell whether cyvcf2 is installed."""
    return find_spec("cyvcf2") is not None


def is_remote(path: str) -> bool:
    """Tell a URL from the name of a file."""
    return "://" in path


def has_index(path: Path) -> bool:
    """Tell whether a tabix or CSI index lies beside the file."""
    return any(path.with_name(path.name + suffix).is_file() for suffix in (".tbi", ".csi"))


class HtslibSource:
    """The calls of a BCF file, or of regions of an indexed BCF or VCF, as dosages.

    Calls are decoded as `ancestryvi.genotypes.dosage` says, with the result of `VcfSource`. Every
    record is kept, multiallelic ones in one column with ALT ``"A,T"``. Contig names are opaque.

    Parameters
    ----------
    path : str
        BCF, or VCF in BGZF; a URL that htslib opens (http, https, ftp, s3, gs).
    regions : sequence of Region, optional
        Look up these by the index beside the file; without any, all is read. What begins before a
        region and reaches into it is left out.

    Raises
    ------
    InputFormatError
        If cyvcf2 is not installed, the file or its index cannot be read, or has no samples. While
        reading: a damaged file, a call of more than two alleles, a file without records or GT.
    SampleError
        If a sample id occurs twice.
    """

    content: Content = "dosages"

    def __init__(self, path: str, regions: Sequence[Region] = ()) -> None:
        self._path = path
        self._regions = tuple(regions)
        self.is_part = bool(regions)  # what else the file has is not known
        self.paths: tuple[Path, ...] = (Path(path),)
        if not is_available():
            raise InputFormatError(
                f"{path} is read through cyvcf2, which is not installed: pip install "
                '"ancestryvi[bcf]", or convert it: bcftools view -Oz -o cohort.vcf.gz '
                f"{Path(path).name}"
            )
        if is_remote(path) and not regions:
            raise InputFormatError(
                f"{path} is remote: say which part to read with --region (region=), or download it"
            )
        if not is_remote(path):
            check_end(self.paths[0])
        with self._damage_reported():
            vcf = self._open()
            self.sample_ids = check_sample_ids(vcf.samples, self.paths[0])
            self.contigs: list[str] = list(vcf.seqnames)
            vcf.close()

    def iter_blocks(self) -> Iterator[Block]:
        """Yield dosages of (n_samples, some variants), in file order."""
        any_record = any_call = False
        step = block_columns(len(self.sample_ids))
        rows: list[tuple[str, int, str, str, str]] = []
        dosages = np.empty((step, len(self.sample_ids)), np.int8)
        with self._damage_reported():
            for variant in self._records():
                alt = ",".join(variant.ALT) or "."
                rows.append((variant.CHROM, variant.POS, variant.ID or ".", variant.REF, alt))
                has_call = "GT" in variant.FORMAT
                dosages[len(rows) - 1] = self._decode(variant, rows[-1]) if has_call else MISSING
                any_record, any_call = True, any_call or has_call
                if len(rows) == step:
                    yield _block(dosages, rows)
                    rows, dosages = [], np.empty_like(dosages)
        if rows:
            yield _block(dosages[: len(rows)].copy(), rows)
        if self._regions:
            return  # that a region is empty is for the filter to say
        if not any_record:
            raise InputFormatError(f"{self._path} has a header but no records; is it complete?")
        if not any_call:
            raise InputFormatError(
                f"{self._path}: no record has GT in its FORMAT column; ancestryvi needs called "
                "genotypes, so call or convert likelihoods or dosages to GT first"
            )

    def _open(self) -> VCF:
        from cyvcf2 import VCF

        return VCF(self._path, threads=2)

    def _records(self) -> Iterator[Variant]:
        """Yield all records, or those of the regions, each once and in the order of the file."""
        vcf = self._open()
        if not self._regions:
            yield from vcf
            return
        for contig in self.contigs:
            for start, stop in merge(self._regions, contig):
                # In braces a name may have colons.
                interval = f"{{{contig}}}:{start}-{'' if stop is None else stop}"
                for variant in vcf(interval):
                    if start <= variant.POS:
                        yield variant

    def _decode(self, variant: Variant, row: tuple[Any, ...]) -> NDArray[np.int8]:
        """Decode the calls of a record; cyvcf2's own types of calls take a half call for whole."""
        try:
            return decode_alleles(variant.genotype.array()[:, :-1])  # the last column is phase
        except UnreadableCallError as error:
            contig, position, _, ref, alt = row
            sample = self.sample_ids[error.index[0]]
            raise call_error(self.paths[0], (contig, position, ref, alt), sample, error) from error

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        """Turn what cyvcf2 raises, bare exceptions for the most part, into ours."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of regions without a record
                yield
        except (AncestryVIError, GeneratorExit):
            raise
        except Exception as error:
            raise InputFormatError(
                f"{self._path} cannot be read ({error}); it, or the index beside it, is missing or "
                "damaged"
            ) from error


def merge(regions: Sequence[Region], contig: str) -> list[tuple[int, int | None]]:
    """Return the intervals of one contig that regions cover, in order and without overlap.

    Examples
    --------
    >>> regions = [Region.parse(text) for text in ("1:50-60", "1:5-9", "2", "1:8-20", "1:70-")]
    >>> merge(regions, "1"), merge(regions, "2")
    ([(5, 20), (50, 60), (70, None)], [(1, None)])
    """
    intervals = sorted(
        (1, np.inf) if region.text == contig else (region.start, region.stop or np.inf)
        for region in regions
        if contig in (region.contig, region.text)
    )
    merged: list[tuple[int, float]] = []
    for start, stop in intervals:
        if merged and start <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return [(start, None if stop == np.inf else int(stop)) for start, stop in merged]


def _block(dosages: NDArray[np.int8], rows: list[tuple[str, int, str, str, str]]) -> Block:
    columns = pd.DataFrame(rows, columns=["contig", "position", "id", "ref", "alt"])
    return Block(dosages.T, columns)
