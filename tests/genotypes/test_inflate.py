"""Text in pieces: all of it, in order, whatever the compression and wherever it is cut."""

import gzip
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes.inflate import in_order, iter_lines, iter_text
from ancestryvi.genotypes.text import damage_reported

from .conftest import BGZF_END, to_bgzf


@pytest.fixture
def text():
    rng = np.random.default_rng(0)
    return b"".join(b"%d\n" % number * number for number in rng.integers(40, size=300).tolist())


def read(path):
    with ThreadPoolExecutor(3) as pool, damage_reported(path):
        return list(iter_text(path, pool))


@pytest.mark.parametrize("piece_bytes", [1, 100, 1000, 1 << 22])
@pytest.mark.parametrize("seed", range(3))
def test_the_text_is_that_of_the_file(text, tmp_path, monkeypatch, piece_bytes, seed):
    monkeypatch.setattr("ancestryvi.genotypes.inflate._PIECE_BYTES", piece_bytes)
    block_bytes = int(np.random.default_rng(seed).integers(50, 5000))
    half = to_bgzf(text[:4000], block_bytes), text[4000:]
    files = {
        "plain": text,
        "gzip": gzip.compress(text),
        "members": gzip.compress(text[:4000]) + gzip.compress(text[4000:]),
        "bgzf": to_bgzf(text, block_bytes),
        "bgzf twice": half[0] + to_bgzf(half[1], block_bytes),
        "bgzf then gzip": half[0].removesuffix(BGZF_END) + gzip.compress(half[1]),
        "gzip then padding": gzip.compress(text) + b"\0" * 512,
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        pieces = read(path)
        assert b"".join(pieces) == text, name
        assert max(map(len, pieces)) <= piece_bytes + max(block_bytes, 1)


@pytest.mark.parametrize("pack", [gzip.compress, to_bgzf])
def test_every_byte_cut_off_and_every_changed_one_is_noticed(text, tmp_path, pack):
    text = text[:3000]
    data = pack(text)
    path = tmp_path / "file.gz"
    rng = np.random.default_rng(0)
    for size in rng.integers(2, len(data) - len(BGZF_END), 40).tolist():
        path.write_bytes(data[:size])
        try:
            pieces = read(path)
        except InputFormatError:
            continue
        # Between two blocks, which the reader of a VCF learns from the missing end.
        assert pack is to_bgzf
        assert data[size:].startswith(b"\x1f\x8b\x08\x04")
        assert text.startswith(b"".join(pieces))
    for place in rng.integers(18, len(data) - len(BGZF_END), 100).tolist():
        changed = bytearray(data)
        changed[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
        try:
            pieces = read(path)
        except InputFormatError:
            continue
        assert b"".join(pieces) == text  # a field of a header that says nothing was changed


@pytest.mark.parametrize("seed", range(5))
def test_lines_are_whole_wherever_the_text_is_cut(text, seed):
    rng = np.random.default_rng(seed)
    text = text[: int(rng.integers(1, 600))]
    cuts = np.sort(rng.integers(0, len(text) + 1, 60)).tolist()
    parts = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    pieces = [
        lines.text[lines.start : lines.stop] for piece in iter_lines(parts) for lines in piece
    ]
    assert all(piece.endswith(b"\n") for piece in pieces if piece)
    assert b"".join(pieces) == text + b"\n" * (not text.endswith(b"\n"))


def test_results_keep_the_order_of_their_items_and_items_are_drawn_as_needed(monkeypatch):
    monkeypatch.setattr("ancestryvi.genotypes.inflate.n_threads", lambda: 4)
    drawn = []

    def items():
        for i in range(20):
            drawn.append(i)
            yield i

    def late(i):
        time.sleep(0.001 * (i % 3 == 0))
        return i * i

    with ThreadPoolExecutor(4) as pool:
        for i, result in enumerate(in_order(pool, late, items())):
            assert result == i * i
            assert len(drawn) <= i + 3
