"""Small genotype files, written by hand so that no reader of the package is its own oracle."""

import gzip
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

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
