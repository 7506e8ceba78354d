"""The calls of records against one call at a time, on lines of every shape and on nonsense."""

import itertools

import numpy as np
import pytest

from ancestryvi.genotypes.calls import UnreadableCellError, WrongColumnsError, decode_cells
from ancestryvi.genotypes.dosage import UnreadableCallError, call_dosage

ALLELES = ["0", "1", "0", "1", ".", "2", "9", "10", "101"]
DIPLOID = [a + s + b for a, s, b in itertools.product(ALLELES, "/|", ALLELES)]
CALLS = [b.encode() for b in [*DIPLOID, *ALLELES, ""]]
WIDE = [call for call in CALLS if len(call) == 3]
PLAIN = [b"0/0", b"0/1", b"1/0", b"1/1"]
REST = [b"", b":", b":12:0,31", b":./.:|"]


def naive(record, n_samples):
    """Decode a record cell by cell, or say which error it is."""
    cells = record.split(b"\t")[1:]
    if len(cells) != n_samples:
        return WrongColumnsError
    try:
        return [call_dosage(cell.split(b":")[0][:8]) for cell in cells]
    except UnreadableCallError:
        return UnreadableCellError


def line(cells):
    return b"".join(b"\t" + cell for cell in cells)


@pytest.mark.parametrize("n_samples", [1, 2, 3, 40])
@pytest.mark.parametrize("batch_bytes", [1, 100, 1 << 19])
def test_records_agree_with_one_call_at_a_time(monkeypatch, n_samples, batch_bytes):
    monkeypatch.setattr("ancestryvi.genotypes.calls._BATCH_BYTES", batch_bytes)
    rng = np.random.default_rng(n_samples)
    records = []
    for pool in [PLAIN, PLAIN, [call.replace(b"/", b"|") for call in PLAIN], WIDE, CALLS] * 20:
        cells = [pool[i] for i in rng.integers(len(pool), size=n_samples)]
        if rng.random() < 0.3:
            cells = [cell + REST[rng.integers(len(REST))] for cell in cells]
        records.append(line(cells))
    rng.shuffle(records)
    dosages = decode_cells([memoryview(record) for record in records], n_samples)
    assert dosages.dtype == np.int8
    assert dosages.tolist() == [naive(record, n_samples) for record in records]


def test_records_as_long_as_if_all_calls_were_of_three_characters():
    """Short and long calls that make up for one another are not cut at the wrong places."""
    short = [b"", b"0", b"1", b"10", b"101"]
    pairs = [
        (one, two)
        for one, two in itertools.product([*CALLS, b"0:1", b"1:10/1"], repeat=2)
        if len(one) + len(two) == 6
    ]
    assert (b"0", b"10/10") in pairs
    assert (b"101", b"101") in pairs
    assert any(one in short for one, _ in pairs)
    records = [line(pair) for pair in pairs]
    assert decode_cells(records, 2).tolist() == [naive(record, 2) for record in records]


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_end_as_one_call_at_a_time_does(seed):
    rng = np.random.default_rng(seed)
    letters = np.frombuffer(b"\t\t\t:/|.0019A", dtype="S1")
    seen = set()
    for _ in range(1500):
        n_samples = int(rng.integers(1, 4))
        size = 4 * n_samples if rng.random() < 0.5 else int(rng.integers(0, 16))
        record = b"\t" + b"".join(rng.choice(letters, size=max(0, size - 1)).tolist())
        if rng.random() < 0.5:  # more of them with as many cells as there should be
            cells = record.split(b"\t")
            record = line([*cells, *[b"0/1"] * n_samples][1 : n_samples + 1])
        expected = naive(record, n_samples)
        seen.add(expected if isinstance(expected, type) else list)
        good = line([b"0|1"] * n_samples)
        if isinstance(expected, list):
            found = decode_cells([good, record], n_samples).tolist()
            assert found == [[1] * n_samples, expected], record
            continue
        with pytest.raises(expected) as caught:
            decode_cells([good, record], n_samples)
        assert caught.value.row == 1, record
        if expected is UnreadableCellError:
            cell = record.split(b"\t")[1 + caught.value.column]
            with pytest.raises(UnreadableCallError, match="call"):
                call_dosage(cell.split(b":")[0][:8])
    assert seen == {list, WrongColumnsError, UnreadableCellError}


def test_the_first_record_with_wrong_columns_is_named():
    records = [line([b"0/1", b"0"]), line([b"0/1"]), line([b"0", b"1", b"0"])]
    with pytest.raises(WrongColumnsError) as caught:
        decode_cells(records, 2)
    assert caught.value.row == 1
