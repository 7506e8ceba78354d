"""Which reader a path gets, and several files as one."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ancestryvi.genotypes
from ancestryvi.exceptions import InputFormatError, SampleError
from ancestryvi.genotypes import open_source, read_genotypes, read_scores


def record(contig, *calls):
    return (contig, "5", "A", "C", "GT", *calls)


def test_content_goes_before_the_name(write_vcf, tmp_path):
    path = write_vcf([record("1", "0/1")], ["ann"], "cohort.vcf.gz")
    renamed = path.rename(tmp_path / "download.txt")
    assert read_genotypes(renamed).dosages.tolist() == [[1]]
    assert read_genotypes(str(renamed)).dosages.tolist() == [[1]]


def test_files_of_several_chromosomes(write_vcf, write_bed):
    first = write_vcf([record("1", "0/0", "0/1", "1/1")], "abc", "chr1.vcf")
    second = write_vcf([record("2", "1/1", "0/0", "./.")] * 2, "cab", "chr2.vcf.gz")
    third = write_bed([[0, 1], [1, 2], [2, -1]], people=[f"f {x} 0 0 0 0" for x in "bca"])
    genotypes = read_genotypes([first, second, third])
    assert genotypes.sample_ids == ["a", "b", "c"]
    assert genotypes.dosages.tolist() == [[0, 0, 0, 2, -1], [1, -1, -1, 0, 1], [2, 2, 2, 1, 2]]
    assert genotypes.variants["contig"].tolist() == ["1", "2", "2", "1", "1"]
    assert genotypes.variants.index.tolist() == [0, 1, 2, 3, 4]
    source = open_source([first, second, third])
    assert source.paths == (first, second, third)
    assert [len(block.columns) for block in source.iter_blocks()] == [1, 2, 2]


def test_different_samples_are_named(write_vcf):
    first = write_vcf([record("1", *["0/0"] * 9)], "abcdefghi", "chr1.vcf")
    second = write_vcf([record("2", "0/0", "0/0")], "xa", "chr2.vcf")
    with pytest.raises(SampleError) as caught:
        read_genotypes([first, second])
    message = str(caught.value)
    for part in ("chr1.vcf (9 samples)", "chr2.vcf (2 samples)", "8 only in the first",
                 "1 only in the second", "['b', 'c', 'd', 'e', 'f']"):  # fmt: skip
        assert part in message


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(InputFormatError, match="does not exist"):
        open_source(tmp_path / "absent.vcf")
    with pytest.raises(InputFormatError, match="is a directory; give the genotype files"):
        open_source(tmp_path)
    with pytest.raises(InputFormatError, match="no genotype files"):
        open_source([])
    os.mkfifo(tmp_path / "pipe.vcf")
    with pytest.raises(InputFormatError, match="is a pipe"):
        open_source(tmp_path / "pipe.vcf")
    strange = tmp_path / "reads.fastq"
    strange.write_text("@read1\nACGT\n")
    with pytest.raises(InputFormatError, match=r"reads\.fastq begins with b'@read1"):
        open_source(strange)


def test_genotypes_are_no_scores_and_the_reverse(write_vcf, tmp_path):
    vcf = write_vcf([record("1", "0/0")], "a")
    table = tmp_path / "pcs.tsv"
    table.write_text("sample\tPC1\na\t1\n")
    with pytest.raises(InputFormatError, match=r"cohort\.vcf .* is a table of PC scores"):
        read_scores(vcf)
    with pytest.raises(InputFormatError, match=r"pcs\.tsv .* is VCF"):
        read_genotypes(table)
    for paths in ([table, table], [vcf, table]):
        with pytest.raises(InputFormatError, match="table of scores and cannot be joined"):
            open_source(paths)


def test_progress_is_silent_without_a_terminal(write_vcf, capfd):
    path = write_vcf([record("1", "0/0")], "a")
    read_genotypes(path, progress=True)
    assert capfd.readouterr() == ("", "")


def test_progress_on_a_terminal_counts_variants(write_vcf, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    path = write_vcf([record("1", "0/0")] * 3, "a")
    read_genotypes(path)
    assert terminal.getvalue() == ""
    read_genotypes(path, progress=True)
    assert "3.00 variants" in terminal.getvalue()


def test_matrix_is_a_transposed_view(write_vcf):
    """Files hold one variant after the other, and so does the memory."""
    genotypes = read_genotypes(write_vcf([record("1", "0/0", "0/1")] * 3, "ab"))
    assert genotypes.dosages.flags.f_contiguous
    assert genotypes.dosages.dtype == np.int8


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux for the peak")
def test_memory_peaks_at_about_one_matrix(tmp_path):
    """A BED file of 100 MB of dosages, read in a process of its own."""
    n_samples, n_variants = 2000, 50_000
    packed = np.random.default_rng(0).integers(0, 256, n_samples * n_variants // 4, dtype=np.uint8)
    path = tmp_path / "wide.bed"
    path.write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    bim = "".join(f"1 rs{i} 0 {i + 1} A G\n" for i in range(n_variants))
    path.with_suffix(".bim").write_text(bim)
    fam = "".join(f"f s{i} 0 0 0 -9\n" for i in range(n_samples))
    path.with_suffix(".fam").write_text(fam)
    program = (
        "import re, sys\n"
        "from ancestryvi.genotypes import open_source, read_genotypes\n"
        "peak = lambda: int(re.search('VmHWM:.*?([0-9]+)', open('/proc/self/status').read())[1])\n"
        "open_source(sys.argv[1])\n"
        "before = peak()\n"
        "read_genotypes(sys.argv[1])\n"
        "print((peak() - before) / 1024)\n"
    )
    root = Path(ancestryvi.genotypes.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, path], cwd=root, capture_output=True, text=True, check=True
    )
    mebibytes = float(done.stdout)
    assert 90 < mebibytes < 150
