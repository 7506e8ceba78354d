"""What is there, what is needed, and that a request too large ends before it begins."""

import pytest

from ancestryvi.exceptions import AncestryVIError, MemoryNeedError
from ancestryvi.genotypes import memory, read_genotypes
from ancestryvi.genotypes.memory import available_bytes


def test_a_container_leaves_less(tmp_path, monkeypatch):
    whole = available_bytes()
    assert whole > 1_000_000
    limit, used, stat = (tmp_path / name for name in ("max", "current", "stat"))
    monkeypatch.setattr(memory, "_CGROUPS", [tuple(map(str, (limit, used, stat)))])
    assert available_bytes() == pytest.approx(whole, rel=0.2)  # no such files
    limit.write_text("1000000\n")
    used.write_text("700000\n")
    stat.write_text("anon 5\ninactive_file 200000\n")
    assert available_bytes() == 1_000_000 - 700_000 + 200_000
    used.write_text("1900000\n")
    assert available_bytes() == 0
    limit.write_text("max\n")
    assert available_bytes() > 1_000_000


def test_without_proc(monkeypatch):
    monkeypatch.setattr(memory, "_MEMINFO", "/nowhere")
    monkeypatch.setattr(memory, "_CGROUPS", [])
    assert available_bytes() > 1_000_000  # all memory of the machine
    monkeypatch.setattr(memory.os, "sysconf", lambda name: int("none"))
    assert available_bytes() is None


def test_indexed_formats_are_refused_before_reading(write_bed, monkeypatch):
    path = write_bed([[0, 1, 2]] * 5)
    monkeypatch.setattr(memory, "available_bytes", lambda: 15)
    assert read_genotypes(path).n_variants == 3
    monkeypatch.setattr(memory, "available_bytes", lambda: 14)
    monkeypatch.setattr("ancestryvi.genotypes.plink.BedSource.read_dosages", None)
    message = (
        r"cohort\.bed: 5 samples x 3 variants need less than 1 MB, one byte a call, "
        r"and less than 1 MB are available\. About 1 variants would leave room to work with: "
        r"name them with --variants"
    )
    with pytest.raises(MemoryNeedError, match=message) as caught:
        read_genotypes(path)
    assert isinstance(caught.value, AncestryVIError)
    assert isinstance(caught.value, MemoryError)


def test_what_is_selected_counts(write_bed, monkeypatch):
    path = write_bed([[0, 1, 2]] * 5)
    monkeypatch.setattr(memory, "available_bytes", lambda: 4)
    assert read_genotypes(path, samples=["s0", "s1"], variants=["rs0", "rs1"]).n_variants == 2
    with pytest.raises(MemoryNeedError, match="2 samples x 3 variants"):
        read_genotypes(path, samples=["s0", "s1"])


def test_text_is_refused_when_it_shows(write_vcf, monkeypatch):
    monkeypatch.setattr("ancestryvi.genotypes.source.BLOCK_CALLS", 10)
    path = write_vcf([("1", str(i), "A", "C", "GT", *["0/1"] * 5) for i in range(1, 10)])
    monkeypatch.setattr(memory, "available_bytes", lambda: 45)
    assert read_genotypes(path).n_variants == 9
    monkeypatch.setattr(memory, "available_bytes", lambda: 44)
    with pytest.raises(MemoryNeedError, match="the first 9 variants of 5 samples fill"):
        read_genotypes(path)


def test_nobody_tells(write_bed, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: None)
    assert read_genotypes(write_bed([[0, 1, 2]] * 5)).n_variants == 3
