"""The VCF reader against a line-by-line parser, scikit-allel and plink2, and on damaged files."""

import gzip
import io
import re
import shutil
import subprocess
import warnings

import allel
import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import open_source, read_genotypes

from .conftest import to_bgzf, vcf_text

FORMS = ["cohort.vcf", "cohort.vcf.gz", "cohort.vcf.bgz"]
RECORD = ("chr1", "7", "A", "G", "GT", "0/0", "0/1", "1/1", "./.", "0/0")


def naive_dosage(call):
    """Decode one call with string operations."""
    alleles = re.split(r"[/|]", call or ".")
    if "." in alleles:
        return -1
    if len(alleles) == 1:
        return 0 if alleles == ["0"] else 2
    return sum(allele != "0" for allele in alleles)


def naive_reading(text):
    """Read a VCF line by line: sample ids, variant table, dosages of (variants, samples)."""
    variants, rows = [], []
    for line in text.decode().splitlines():
        columns = line.split("\t")
        if line.startswith("#CHROM"):
            samples = columns[9:]
        elif not line.startswith("#"):
            contig, position, id_, ref, alt, *_, fields = columns[:9]
            variants.append([contig, int(position), id_, ref, alt])
            names = fields.split(":")
            cells = [dict(zip(names, cell.split(":"), strict=False)) for cell in columns[9:]]
            rows.append([naive_dosage(cell.get("GT")) for cell in cells])
    return samples, variants, rows


def reading_of_scikit_allel(text):
    """Sample ids, variant table and dosages, calls taken as text: as numbers, 1/. is like 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        callset = allel.read_vcf(
            io.BytesIO(text),
            fields=["samples", "CHROM", "POS", "ID", "REF", "ALT", "numalt", "calldata/GT"],
            types={"calldata/GT": "S8"},
            numbers={"calldata/GT": 1},
            alt_number=20,
            chunk_length=64,
        )
    alleles = zip(callset["variants/ALT"].tolist(), callset["variants/numalt"], strict=True)
    columns = [callset[f"variants/{name}"].tolist() for name in ("CHROM", "POS", "ID", "REF")]
    columns.append([",".join(alt[: max(1, n)]) or "." for alt, n in alleles])
    rows = [[naive_dosage(call.decode()) for call in row] for row in callset["calldata/GT"]]
    return callset["samples"].tolist(), [list(row) for row in zip(*columns, strict=True)], rows


def random_records(rng, n_records, n_samples):
    """Records with every shape of FORMAT, call and allele; some are all alike, as most are."""

    def call(shapes, marks, n_alt):
        shape = rng.choice(shapes)
        one, two = (str(allele) for allele in rng.integers(0, n_alt + 1, 2))
        mark = rng.choice(marks)
        if shape == "half":
            return rng.choice([one + mark + ".", "." + mark + one])
        return {"diploid": one + mark + two, "haploid": one, "missing": "." + mark + "."}[shape]

    records = []
    for i in range(n_records):
        n_alt = int(rng.choice([0, 1, 1, 1, 2, 3, 12]))
        alt = [rng.choice(["C", "CT", "*", "<DEL>", "T"]) for _ in range(n_alt)]
        some = ["GT", "GT", "GT:DP", "DP:GT:GQ", "AD:PL:GT", "GT:AD:PL", "DP"]
        fields = rng.choice(some) if i else "GT"  # a file wholly without GT is refused
        n_shapes = int(rng.integers(1, 5))
        shapes = ["diploid"] * 5 + ["missing", "half", "haploid"][: n_shapes - 1]
        marks = [["/"], ["|"], ["/", "|"]][rng.integers(3)]
        cut = rng.random() < 0.5
        cells = []
        for _ in range(n_samples):
            values = {"GT": call(shapes, marks, n_alt), "DP": "31", "GQ": ".", "AD": "3,4"}
            values["PL"] = "0,1,255"
            cell = [values[name] for name in fields.split(":")]
            keep = int(rng.integers(1, len(cell) + 1)) if cut else None  # the last may be left out
            cells.append("." if cut and rng.random() < 0.05 else ":".join(cell[:keep]))
        contig = ["LT635612.1", "chr37", "Sca100", "X"][i * 4 // n_records]
        ref = rng.choice(["A", "ACGT", "N"])
        records.append((contig, str(1 + 3 * i), ref, ",".join(alt) or ".", fields, *cells))
    return records


def random_text(rng, n_samples):
    """A whole file, with any line ends, ids, and fixed columns of any length."""
    records = random_records(rng, int(rng.integers(1, 60)), n_samples)
    lines = vcf_text(records, [f"sample {i}" for i in range(n_samples)]).splitlines()
    for i, line in enumerate(lines):
        if not line.startswith("#"):
            columns = line.split("\t")
            columns[2] = rng.choice([".", "rs12", "a;b"])
            columns[7] = rng.choice([".", "AF=0.1", ";".join(["DB"] * int(rng.integers(1, 400)))])
            lines[i] = "\t".join(columns)
    end = rng.choice(["\n", "\r\n"])
    return (end.join(lines) + rng.choice([end, ""])).encode()


@pytest.mark.parametrize("name", FORMS)
def test_five_calls(write_vcf, five_calls, name):
    calls, dosages = five_calls
    path = write_vcf([("chrX", "9", "A", "C", "GT", *calls)], name=name)
    genotypes = read_genotypes(path)
    assert genotypes.dosages.ravel().tolist() == dosages
    assert genotypes.sample_ids == list("abcde")
    assert genotypes.variants.values.tolist() == [["chrX", 9, ".", "A", "C"]]


@pytest.mark.parametrize("seed", range(40))
def test_random_files_agree_with_a_loop_and_with_scikit_allel(tmp_path, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    text = random_text(rng, n_samples := int(rng.integers(1, 12)))
    # Small pieces, so that the text is cut everywhere.
    monkeypatch.setattr("ancestryvi.genotypes.inflate._PIECE_BYTES", int(10 ** rng.uniform(0, 5)))
    monkeypatch.setattr("ancestryvi.genotypes.calls._BATCH_BYTES", int(10 ** rng.uniform(0, 3)))
    block_bytes = int(10 ** rng.uniform(1, 4))
    pack = [bytes, gzip.compress, lambda data: to_bgzf(data, block_bytes)][seed % 3]
    path = tmp_path / "cohort.vcf"
    path.write_bytes(pack(text))
    samples, variants, rows = naive_reading(text)
    oracle = reading_of_scikit_allel(text)
    genotypes = read_genotypes(path)
    assert genotypes.sample_ids == samples == oracle[0]
    assert genotypes.variants.values.tolist() == variants == oracle[1]
    assert genotypes.dosages.T.tolist() == rows == oracle[2]
    assert genotypes.dosages.shape == (n_samples, len(variants))


def test_a_source_can_be_read_twice(write_vcf):
    source = open_source(write_vcf([RECORD]))
    first, second = ([block.values.tolist() for block in source.iter_blocks()] for _ in range(2))
    assert first == second == [[[0], [1], [2], [-1], [0]]]


def test_line_ends_of_windows_and_no_last_line_end(write_vcf):
    path = write_vcf([RECORD, RECORD])
    text = path.read_bytes()
    for changed in (text.replace(b"\n", b"\r\n"), text[:-1], text.replace(b"\n", b"\r\n")[:-2]):
        path.write_bytes(changed)
        genotypes = read_genotypes(path)
        assert genotypes.dosages.T.tolist() == [[0, 1, 2, -1, 0]] * 2
        assert genotypes.sample_ids == list("abcde")


def test_gt_needs_no_declaration_and_headers_no_sense(write_vcf, capfd):
    path = write_vcf([RECORD])
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = "##INFO=<ID=broken\n##FILTER=<nonsense>\n##contact=caf\xe9\n"
    path.write_bytes("".join(lines).encode("latin-1"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_genotypes(path).dosages.ravel().tolist() == [0, 1, 2, -1, 0]
    assert capfd.readouterr() == ("", "")


def test_very_many_alleles(write_vcf):
    alt = ["A" * (i + 2) for i in range(300)]
    path = write_vcf([("1", "5", "A", ",".join(alt), "GT", "0/300", "299/300", "0/0", "300", ".")])
    genotypes = read_genotypes(path)
    assert genotypes.dosages.ravel().tolist() == [1, 2, 0, 2, -1]
    assert genotypes.variants["alt"][0] == ",".join(alt[:255])


def test_agreement_with_scikit_allel_on_22_files(shared_data):
    """Its own n_alt, call by call, where no call is half or haploid."""
    paths = [shared_data / "1000g-12pop" / f"chr{i}.vcf.gz" for i in range(1, 23)]
    genotypes = read_genotypes(paths)
    start = 0
    for path in paths:
        fields = ["samples", "POS", "REF", "CHROM", "GT"]
        callset = allel.read_vcf(str(path), fields=fields, chunk_length=1024)
        calls = callset["calldata/GT"]
        assert not ((calls < 0).any(axis=2) & (calls >= 0).any(axis=2)).any()
        stop = start + len(calls)
        expected = allel.GenotypeArray(calls).to_n_alt(fill=-1)
        np.testing.assert_array_equal(genotypes.dosages[:, start:stop], expected.T)
        table = genotypes.variants.iloc[start:stop]
        assert table["position"].tolist() == callset["variants/POS"].tolist()
        assert table["ref"].tolist() == callset["variants/REF"].tolist()
        assert table["contig"].tolist() == callset["variants/CHROM"].tolist()
        assert genotypes.sample_ids == callset["samples"].tolist()
        start = stop
    assert genotypes.dosages.shape == (1126, start)


@pytest.mark.skipif(not shutil.which("plink2"), reason="plink2 is not installed")
def test_agreement_with_plink2_on_22_files(shared_data, tmp_path):
    """Its copies of ALT, call by call."""
    for path in (shared_data / "1000g-12pop" / f"chr{i}.vcf.gz" for i in range(1, 23)):
        genotypes = read_genotypes(path)
        command = ["plink2", "--vcf", str(path), "--out", str(tmp_path / "p"), "--threads", "1"]
        subprocess.run([*command, "--export", "A-transpose"], check=True, capture_output=True)
        table = pd.read_csv(tmp_path / "p.traw", sep="\t", dtype={"CHR": str})
        assert table["POS"].tolist() == genotypes.variants["position"].tolist()
        names = ["0_" + sample for sample in genotypes.sample_ids]
        assert table.columns[6:].tolist() == names
        counted = table[names].to_numpy()
        is_ref = table["COUNTED"].to_numpy() == genotypes.variants["ref"].to_numpy()
        counted[is_ref] = 2 - counted[is_ref]
        np.testing.assert_array_equal(genotypes.dosages.T, np.nan_to_num(counted, nan=-1))


# Damaged and unusable files


def refused(path, message, error=InputFormatError):
    with pytest.raises(error, match=message) as caught:
        read_genotypes(path)
    assert path.name in str(caught.value)


def test_polyploid_call(write_vcf):
    path = write_vcf([RECORD, ("chr2", "8", "C", "T", "GT:DP", "0/0", "0/1", "0/0/1", ".", "1")])
    refused(path, r"variant chr2:8:C:T, sample 'c': call '0/0/1' has more than two alleles")


def test_call_that_is_none(write_vcf):
    path = write_vcf([("chr2", "8", "C", "T", "GT", "0/0", "0/1", "A/B", ".", "1")])
    refused(path, r"chr2:8:C:T, sample 'c': call 'A/B' is no genotype")


def test_short_and_long_lines(write_vcf, monkeypatch):
    for piece_bytes in (50, 1 << 18):
        monkeypatch.setattr("ancestryvi.genotypes.inflate._PIECE_BYTES", piece_bytes)
        refused(write_vcf([RECORD, RECORD[:-1], RECORD]), "line 5: 13 columns, .* header has 14")
        refused(write_vcf([RECORD, (*RECORD, "0/0")]), "line 5: 15 columns, .* header has 14")
        # One line too long and one too short by as much.
        refused(write_vcf([(*RECORD, "0/0"), RECORD[:-1]]), "line 4: 15 columns")


def test_text_cut_in_the_last_line(write_vcf):
    path = write_vcf([RECORD, RECORD])
    text = path.read_bytes()
    for cut in (6, 10, 30):
        path.write_bytes(text[:-cut])
        refused(path, "line 5: .* truncated")
    path.write_bytes(text[:-2])  # inside the last call, which becomes "0/"
    refused(path, "call '0/' is no genotype")


@pytest.mark.parametrize("name", FORMS[1:])
def test_compressed_file_cut_anywhere(write_vcf, name):
    rng = np.random.default_rng(0)
    path = write_vcf(random_records(rng, 30, 5), name=name)
    data = path.read_bytes()
    for size in rng.integers(20, len(data), 25):
        path.write_bytes(data[:size])
        refused(path, "truncated")


def test_bgzf_cut_between_blocks(write_vcf):
    """Each block is complete and each line too; only the end marker tells."""
    path = write_vcf([RECORD], name="cohort.vcf.bgz")
    data = path.read_bytes()
    path.write_bytes(data[:-28])
    refused(path, "BGZF end-of-file block is missing")


def test_damaged_compressed_bytes(write_vcf):
    path = write_vcf([RECORD] * 50, name="cohort.vcf.gz")
    data = bytearray(path.read_bytes())
    data[-40:-20] = b"\0" * 20
    path.write_bytes(data)
    refused(path, "truncated or damaged")


def test_headers_without_use(write_vcf, tmp_path):
    empty = tmp_path / "empty.vcf"
    empty.write_bytes(b"")
    refused(empty, r"is empty \(0 bytes\)")
    empty_gz = tmp_path / "empty.vcf.gz"
    empty_gz.write_bytes(gzip.compress(b""))
    refused(empty_gz, "is empty")
    story = tmp_path / "story.vcf"
    story.write_text("It was a dark and stormy night.\n")
    refused(story, "no VCF: it begins with b'It was a dark")
    sites = write_vcf([RECORD[:5]], samples=[], name="sites.vcf")
    refused(sites, "line 3: 9 tab-separated columns leave no samples")
    cut = tmp_path / "cut.vcf"
    cut.write_text("##fileformat=VCFv4.2\n##contig=<ID=1>\n")
    refused(cut, "line 3: the header ends without a line #CHROM")
    refused(write_vcf([], name="none.vcf"), "header but no records")


def test_no_gt_at_all(write_vcf):
    cells = ["3", "4", ".", "2", "1"]
    refused(write_vcf([("1", "5", "A", "C", "DP", *cells)] * 3), "no record has GT")
    # A record without GT among others has only missing calls.
    mixed = read_genotypes(write_vcf([("1", "5", "A", "C", "DP", *cells), RECORD]))
    assert mixed.dosages.T.tolist() == [[-1] * 5, [0, 1, 2, -1, 0]]


@pytest.mark.parametrize("position", ["five", "", "-3", "1_000", "1" * 19])
def test_position_that_is_no_number(write_vcf, monkeypatch, position):
    monkeypatch.setattr("ancestryvi.genotypes.inflate._PIECE_BYTES", 40)
    path = write_vcf([RECORD, ("1", position, *RECORD[2:]), RECORD])
    refused(path, f"line 5: the line is damaged: POS '{position}' is no number")


def test_sample_ids_repeated_or_blank(write_vcf):
    refused(write_vcf([RECORD], samples="abcab"), "sample id 'a' occurs twice", SampleError)
    refused(write_vcf([RECORD], samples=["a", "b", "c", "d", ""]), "blank id", SampleError)
