"""The bundled example is what data/README.md says; read here without the package's readers."""

import gzip
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

DATA = Path(__file__).parents[1] / "data"
VCF = DATA / "example.vcf.gz"
TABLE = DATA / "example.samples.tsv"
CALL = re.compile(r"[0-3.]/[0-3.]")


class Vcf(NamedTuple):
    header: list[str]
    columns: list[str]
    records: list[list[str]]

    @property
    def sample_ids(self) -> list[str]:
        return self.columns[9:]


@pytest.fixture(scope="module")
def vcf() -> Vcf:
    lines = gzip.decompress(VCF.read_bytes()).decode("ascii").splitlines()
    header = [line for line in lines if line.startswith("##")]
    columns, *records = (line.split("\t") for line in lines[len(header) :])
    return Vcf(header, columns, records)


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    names, *rows = (line.split("\t") for line in TABLE.read_text().splitlines())
    return [dict(zip(names, row, strict=True)) for row in rows]


@pytest.mark.parametrize("path", [VCF, TABLE], ids=lambda path: path.name)
def test_files_are_small(path: Path) -> None:
    assert 0 < path.stat().st_size < 2_000_000


def test_vcf_is_bgzf_without_a_time() -> None:
    data = VCF.read_bytes()
    starts = [0]
    while starts[-1] < len(data):
        block = data[starts[-1] :]
        assert block[:8] == bytes([31, 139, 8, 4, 0, 0, 0, 0])  # deflate, extra field, time 0
        assert block[10:16] == b"\x06\x00BC\x02\x00"
        starts.append(starts[-1] + int.from_bytes(block[16:18], "little") + 1)
    assert starts[-1] == len(data)
    assert gzip.decompress(data[starts[-2] :]) == b""  # htslib's mark of a whole file


def test_header_declares_what_the_records_use(vcf: Vcf) -> None:
    assert vcf.header[0] == "##fileformat=VCFv4.3"
    assert any(line.startswith("##FORMAT=<ID=GT,") for line in vcf.header)
    contigs = dict(re.findall(r"##contig=<ID=(\w+),length=(\d+)>", "\n".join(vcf.header)))
    assert list(contigs) == [str(number) for number in range(1, 23)]
    assert {record[0] for record in vcf.records} == set(contigs)
    assert all(0 < int(record[1]) <= int(contigs[record[0]]) for record in vcf.records)
    order = [(int(record[0]), int(record[1])) for record in vcf.records]
    assert order == sorted(order)


def test_records_are_well_formed(vcf: Vcf) -> None:
    for record in vcf.records:
        assert len(record) == len(vcf.columns)
        assert record[8] == "GT"
        alleles = [record[3], *(() if record[4] == "." else record[4].split(","))]
        assert all(set(allele) <= set("ACGT") for allele in alleles)
        assert len(set(alleles)) == len(alleles)
        calls = set(record[9:])
        assert all(CALL.fullmatch(call) for call in calls)
        called = {int(code) for call in calls for code in call if code.isdigit()}
        assert max(called) < len(alleles)


def test_sample_table_matches_the_vcf(vcf: Vcf, table: list[dict[str, str]]) -> None:
    assert list(table[0]) == ["sample", "population", "superpopulation"]
    ids = [row["sample"] for row in table]
    assert len(set(ids)) == len(ids)
    assert set(ids) == set(vcf.sample_ids)
    assert ids != vcf.sample_ids  # so that whoever joins by position is found out


def test_populations(table: list[dict[str, str]]) -> None:
    sizes = Counter(row["population"] for row in table)
    assert len(sizes) >= 12
    assert min(sizes.values()) >= 25
    assert max(sizes.values()) >= 2 * min(sizes.values())
    assert 450 <= len(table) <= 550
    regions = {(row["population"], row["superpopulation"]) for row in table}
    assert len(regions) == len(sizes)  # every population in one superpopulation
    assert {region for _, region in regions} == {"Africa", "Europe", "Asia", "Admixed"}


def test_calls_are_missing_but_no_sample_is(vcf: Vcf) -> None:
    missing = [0] * len(vcf.sample_ids)
    half = 0
    for record in vcf.records:
        for column, call in enumerate(record[9:]):
            if "." in call:
                missing[column] += 1
                half += call != "./."
    n_calls = len(vcf.records) * len(vcf.sample_ids)
    assert 0.005 <= sum(missing) / n_calls <= 0.01
    assert 0 < half < 0.1 * sum(missing)
    rates = [n_missing / len(vcf.records) for n_missing in missing]
    assert max(rates) < 0.5
    assert 3 <= sum(rate > 0.05 for rate in rates) <= 10


def test_there_is_something_for_quality_control_to_find(vcf: Vcf) -> None:
    kinds: Counter[str] = Counter()
    for record in vcf.records:
        reference, alternates = record[3], record[4].split(",")
        codes = Counter("".join(record[9:]))
        frequency = min(codes["0"], codes["1"]) / (codes["0"] + codes["1"])
        kinds["multiallelic"] += len(alternates) > 1
        kinds["indel"] += max(map(len, [reference, *alternates])) > 1
        kinds["without an ALT"] += alternates == ["."]
        kinds["monomorphic"] += len(codes.keys() - {"/", "."}) == 1
        if len(reference) == len(record[4]) == 1:
            kinds["rare SNV"] += 0 < frequency < 0.01
            kinds["common SNV"] += frequency >= 0.05
    assert kinds["common SNV"] >= 9_000
    assert kinds["rare SNV"] >= 300
    assert kinds["multiallelic"] >= 30
    assert kinds["indel"] >= 30
    assert kinds["monomorphic"] > kinds["without an ALT"] > 0
    keys = Counter(tuple(record[:5]) for record in vcf.records)
    assert sum(count == 2 for count in keys.values()) >= 20
