"""Small genotype files, written by hand so that no reader of the package is its own oracle."""

import gzip
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")

Record = Sequence[str]


def to_bgzf(data: bytes, block_bytes: int = 300) -> bytes:
    """Compress as bgzip does: gzip members that carry their own length, then an empty one."""
    blocks = []
    for start in range(0, len(data), block_bytes):
        piece = data[start : start + block_bytes]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(piece) + deflate.flush()
        size = len(body) + 25  # header 18, trailer 8, minus 1
        header = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0" + struct.pack("<H", size)
        blocks.append(header + body + struct.pack("<II", zlib.crc32(piece), len(piece)))
    return b"".join(blocks) + BGZF_END


def vcf_text(records: Sequence[Record], samples: Sequence[str]) -> str:
    """Write records given as (contig, position, ref, alt, format, call, call, ...)."""
    lines = [
        "##fileformat=VCFv4.2",
        '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">',
        "\t".join(["#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT", *samples]),
    ]
    for contig, position, ref, alt, *rest in records:
        lines.append("\t".join([contig, position, ".", ref, alt, ".", "PASS", ".", *rest]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def write_vcf(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a VCF, as text, gzip or BGZF by its suffix."""

    def write(
        records: Sequence[Record], samples: Sequence[str] = "abcde", name: str = "cohort.vcf"
    ) -> Path:
        data = vcf_text(records, samples).encode()
        pack = {".gz": gzip.compress, ".bgz": to_bgzf}.get(Path(name).suffix, bytes)
        path = tmp_path / name
        path.write_bytes(pack(data))
        return path

    return write


@pytest.fixture
def five_calls() -> tuple[list[str], list[int]]:
    """The record that readers decode differently, and what it must decode to."""
    return ["0/0", "0/.", "1/.", "./.", "1"], [0, -1, -1, -1, 2]


@pytest.fixture
def write_bed(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a PLINK 1 file set call by call."""

    def write(
        dosages: Sequence[Sequence[int]],
        variants: Sequence[str] | None = None,
        people: Sequence[str] | None = None,
        stem: str = "cohort",
    ) -> Path:
        """Dosages are (samples, variants) copies of A1."""
        code = {2: 0b00, -1: 0b01, 1: 0b10, 0: 0b11}
        packed = bytearray(b"\x6c\x1b\x01")
        for column in zip(*dosages, strict=True):
            for start in range(0, len(column), 4):
                four = column[start : start + 4]
                packed.append(sum(code[call] << (2 * i) for i, call in enumerate(four)))
        if variants is None:
            variants = [f"1\trs{i}\t0\t{100 + i}\tG\tA" for i in range(len(dosages[0]))]
        if people is None:
            people = [f"f{i} s{i} 0 0 0 -9" for i in range(len(dosages))]
        path = tmp_path / f"{stem}.bed"
        path.write_bytes(packed)
        path.with_suffix(".bim").write_text("".join(line + "\n" for line in variants))
        path.with_suffix(".fam").write_text("".join(line + "\n" for line in people))
        return path

    return write


MESSY = [(text, dosage) for text, dosage in (
    ("0/0", 0), ("0|0", 0), ("0/1", 1), ("1|0", 1), ("1/1", 2), ("./.", -1), (".|.", -1),
    ("0/.", -1), ("./1", -1), (".", -1), ("0", 0), ("1", 2),
)]  # fmt: skip
MESSY_MANY = [("0/2", 1), ("1|2", 2), ("2/2", 2), ("3", 2), ("2|.", -1), ("3/0", 1)]


@pytest.fixture
def messy() -> Callable[..., tuple[list[Record], np.ndarray]]:
    """Return a function that makes records and their dosages of (samples, variants).

    Half calls, haploid calls, several ALT alleles, none, symbolic ones, contigs of any name,
    records of equal position.
    """

    def make(
        n_samples: int, n_records: int, seed: int = 0, biallelic: bool = False
    ) -> tuple[list[Record], np.ndarray]:
        rng = np.random.default_rng(seed)
        records, rows = [], []
        for i in range(n_records):
            n_alt = 1 if biallelic else int(rng.choice([0, 1, 1, 1, 3]))
            pool = {0: [c for c in MESSY if "1" not in c[0]], 1: MESSY, 3: MESSY + MESSY_MANY}
            picks = rng.integers(len(pool[n_alt]), size=n_samples)
            calls = [pool[n_alt][pick] for pick in picks]
            ref = str(rng.choice(["A", "ACGT", "N"]))
            alts = [str(a) for a in rng.permutation(["C", "CT", "<DEL>", "*"])[:n_alt]]
            contig = ["LT635612.1", "chrUn_3", "Sca100", "X"][i * 4 // n_records]
            alt = ",".join(alts) or "."
            records.append((contig, str(1 + 3 * (i // 2)), ref, alt, "GT", *(c for c, _ in calls)))
            rows.append([dosage for _, dosage in calls])
        return records, np.array(rows, dtype=np.int8).T

    return make


@pytest.fixture(scope="session")
def tool() -> Callable[..., str]:
    """Return a function that runs another program and returns what it prints, or skips."""

    def run(*command: str | Path) -> str:
        name = str(command[0])
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
