"""Genotypes of the 1000 Genomes Project with their populations, from where it publishes them.

References
----------
The 1000 Genomes Project Consortium (2015), A global reference for human genetic variation, Nature
526, 68-74.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Final, NamedTuple

from tqdm import tqdm

from ancestryvi.datasets.download import NETWORK, download, opened, unwritable
from ancestryvi.exceptions import ChecksumError, DownloadError

CHECKSUMS: Final = "MD5SUMS"
"""The file beside the data with the checksums that were looked up, as `md5sum --check` reads it."""


@dataclass(frozen=True)
class PublishedSet:
    """Genotypes and the table of their samples, as a publisher has them.

    Attributes
    ----------
    url : str
        Where a file is, with ``{name}`` for its name.
    genotypes, labels : str
        Names of the two files; the populations are in column ``pop``.
    checksum_list : str or None
        Address of a list of everything that the publisher has, one tab-separated line each: path,
        ``file``, bytes, date, MD5. None where `md5` has the checksums.
    listed_under : str
        The folder of the two in that list, with a slash at its end.
    md5 : mapping of str
        The checksum of each file, where the publisher does not replace files.
    """

    url: str
    genotypes: str
    labels: str
    checksum_list: str | None = None
    listed_under: str = ""
    md5: Mapping[str, str] = field(default_factory=dict)


_ARRAY_FOLDER = "ftp/release/20130502/supporting/hd_genotype_chip/"

SETS: Final = {
    # Both files stand in the project's list of all its files, current.tree, whose checksums are
    # those of the day; it has tens of megabytes and is read up to the second of them.
    "affy6": PublishedSet(
        url=f"https://ftp.1000genomes.ebi.ac.uk/vol1/{_ARRAY_FOLDER}{{name}}",
        genotypes="ALL.wgs.nhgri_coriell_affy_6.20140825.genotypes_has_ped.vcf.gz",
        labels="affy_samples.20141118.panel",
        checksum_list="https://ftp.1000genomes.ebi.ac.uk/vol1/ftp/current.tree",
        listed_under=_ARRAY_FOLDER,
    ),
    # A record of Zenodo does not change; these are the checksums that it shows beside its files,
    # https://doi.org/10.5281/zenodo.3359882.
    "chr22": PublishedSet(
        url="https://zenodo.org/records/3359882/files/{name}?download=1",
        genotypes="ALL.chr22.phase3_shapeit2_mvncall_integrated_v5a.20130502.genotypes.vcf.gz",
        labels="integrated_call_samples_v3.20130502.ALL.panel",
        md5={
            "ALL.chr22.phase3_shapeit2_mvncall_integrated_v5a.20130502.genotypes.vcf.gz": (
                "ad7d6e0c05edafd7faed7601f7f3eaba"
            ),
            "integrated_call_samples_v3.20130502.ALL.panel": "7ee5675553088230530a7fe88c22f201",
        },
    ),
}
"""What can be fetched, by name."""


class Fetched(NamedTuple):
    """Where genotypes and the table of their samples are."""

    genotypes: Path
    labels: Path


def fetch_1000g(
    folder: str | PathLike[str],
    which: str = "affy6",
    *,
    progress: bool = False,
    sets: Mapping[str, PublishedSet] = SETS,
) -> Fetched:
    """Download genotypes of 1000 Genomes and their populations, unless they are there.

    A file has its name when it is whole and has the published MD5. What was cut goes on where it
    was when this is called again.

    Parameters
    ----------
    folder : path
        Where the files go; made if need be.
    which : {"affy6", "chr22"}, default="affy6"
        ``"affy6"`` is the Affymetrix 6.0 array, 3,450 samples at about 900,000 SNPs of all
        chromosomes, relatives among them, from the project's own server. ``"chr22"`` is chromosome
        22 of the whole genomes of phase 3, 2,504 samples at 1.1 million variants, from Zenodo. Both
        are in coordinates of GRCh37.
    progress : bool, default=False
        Show progress bars if standard error is a terminal.
    sets : mapping of PublishedSet, optional
        What there is to choose from.

    Returns
    -------
    fetched : Fetched
        The paths ``genotypes`` and ``labels``.

    Raises
    ------
    DownloadError
        If a file cannot be fetched or written, is not listed, or has another checksum.

    Examples
    --------
    >>> fetch_1000g("1000g", "chr22")  # doctest: +SKIP
    Fetched(genotypes=PosixPath('1000g/ALL.chr22.phase3...vcf.gz'), labels=PosixPath('...panel'))
    """
    if which not in sets:
        raise ValueError(f"which is {which!r}; choose one of {', '.join(sets)}.")
    chosen, folder = sets[which], Path(folder)
    names = (chosen.labels, chosen.genotypes)
    noted = folder / CHECKSUMS
    expected = chosen.md5
    if chosen.checksum_list is not None:
        expected = _read_sums(noted)
        if not expected.keys() >= {*names}:
            expected = expected | _look_up(
                chosen.checksum_list, chosen.listed_under, names, progress
            )
            _write_sums(noted, expected)
    for name in names:
        try:
            address = chosen.url.format(name=name)
            download(address, folder / name, expected[name], progress=progress)
        except ChecksumError:
            noted.unlink(missing_ok=True)  # so that the next try asks for them anew
            raise
    return Fetched(folder / chosen.genotypes, folder / chosen.labels)


def _look_up(url: str, under: str, names: Sequence[str], progress: bool) -> dict[str, str]:
    """Read a list of checksums as far as it takes to find these files."""
    wanted = {f"{under}{name}": name for name in names}
    found: dict[str, str] = {}
    bar = tqdm(desc="checksums", unit="B", unit_scale=True, disable=None if progress else True)
    with bar, opened(url) as answer:
        try:
            for line in answer:
                bar.update(len(line))
                path, _, rest = line.decode(errors="replace").rstrip("\r\n").partition("\t")
                if path in wanted:
                    found[wanted[path]] = rest.rpartition("\t")[2].lower()
                if len(found) == len(names):
                    break
        except NETWORK as error:
            raise DownloadError(f"{url}: the connection ended ({error}); try again.") from error
    for name in names:
        if re.fullmatch("[0-9a-f]{32}", found.get(name, "")) is None:
            raise DownloadError(
                f"{url} has no checksum of {under}{name}: it was cut short, or the file has moved. "
                "Try again later."
            )
    return found


def _read_sums(path: Path) -> dict[str, str]:
    """Checksums by name; none if there is no such file."""
    if not path.is_file():
        return {}
    pairs = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines())
    return {name: md5 for md5, name in pairs}


def _write_sums(path: Path, sums: Mapping[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = (f"{md5}  {name}\n" for name, md5 in sums.items())
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from error
