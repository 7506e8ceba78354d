"""Matching of variants, against a loop over pairs and on genotypes whose truth is known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import InputFormatError
from ancestryvi.genotypes import Genotypes, match_variants
from ancestryvi.genotypes.alleles import STATUSES
from ancestryvi.genotypes.container import sample_frame

PARTNER = {"A": "T", "T": "A", "C": "G", "G": "C"}


def table(*rows):
    """Build a variant table of rows such as "1:5:A:G"."""
    frame = pd.DataFrame(
        [row.split(":") for row in rows], columns=["contig", "position", "ref", "alt"]
    )
    return frame.assign(position=frame["position"].astype(int), id=".")


def naive_status(reference, other):
    """Compare one reference variant with one other, alleles given as pairs."""

    def agree(pair):
        known = [(a, b) for a, b in zip(reference, pair, strict=True) if "." not in (a, b)]
        return bool(known) and all(a == b for a, b in known)

    swapped = other[::-1]
    turned = None
    if all(allele in (".", *PARTNER) for allele in other):
        turned = tuple(PARTNER.get(allele, ".") for allele in other)
    palindromic = any(
        pair[0] != "." and PARTNER.get(pair[0]) == pair[1] for pair in (reference, other)
    )
    if agree(other):
        return "same"
    ways = {
        "flipped": agree(swapped),
        "strand": turned is not None and agree(turned),
        "strand_flipped": turned is not None and agree(turned[::-1]),
    }
    if palindromic and any(ways.values()):
        return "ambiguous"
    return next((way for way, holds in ways.items() if holds), "absent")


def naive_match(reference, other):
    """Return (status, index) per reference variant by looking at all pairs."""
    results = []
    for r in reference.itertuples():
        best = (len(STATUSES) - 1, False, -1)
        for column, o in enumerate(other.itertuples()):
            same_contig = r.contig.removeprefix("chr") == o.contig.removeprefix("chr")
            if not same_contig or r.position != o.position or r.position == 0:
                continue
            status = naive_status((r.ref, r.alt), (o.ref, o.alt))
            guessed = "." in (r.ref, r.alt, o.ref, o.alt)
            if status != "absent":
                best = min(best, (STATUSES.index(status), guessed, column))
        status = STATUSES[best[0]]
        results.append((status, -1 if status in ("ambiguous", "absent") else best[2]))
    return results


@pytest.mark.parametrize("seed", range(5))
def test_random_tables_agree_with_a_loop(seed):
    rng = np.random.default_rng(seed)
    alleles = ["A", "C", "G", "T", ".", "AT", "A,T"]
    weights = [0.21, 0.21, 0.21, 0.21, 0.08, 0.04, 0.04]

    def random_table(n, prefix):
        return pd.DataFrame(
            {
                "contig": [prefix + str(c) for c in rng.integers(1, 3, n)],
                "position": rng.integers(0, 60, n),
                "ref": rng.choice(alleles, n, p=weights),
                "alt": rng.choice(alleles, n, p=weights),
            }
        )

    reference, other = random_table(150, "chr"), random_table(400, "")
    match = match_variants(reference, other)
    assert list(zip(match.status, match.index, strict=True)) == naive_match(reference, other)
    np.testing.assert_array_equal(match.flip, [s.endswith("flipped") for s in match.status])
    assert set(match.status) == set(STATUSES)  # the tables have every case


@pytest.mark.parametrize(
    ("reference", "other", "status"),
    [
        ("1:5:A:G", "1:5:A:G", "same"),
        ("1:5:A:G", "chr1:5:A:G", "same"),
        ("chr1:5:A:G", "1:5:a:g", "same"),
        ("1:5:A:G", "1:5:G:A", "flipped"),
        ("1:5:A:G", "1:5:T:C", "strand"),
        ("1:5:A:G", "1:5:C:T", "strand_flipped"),
        ("1:5:A:T", "1:5:A:T", "same"),
        ("1:5:A:T", "1:5:T:A", "ambiguous"),
        ("1:5:C:G", "1:5:G:C", "ambiguous"),
        ("1:5:A:G", "1:5:A:C", "absent"),
        ("1:5:A:G", "1:6:A:G", "absent"),
        ("1:5:A:G", "11:5:A:G", "absent"),
        ("1:0:A:G", "1:0:A:G", "absent"),
        ("1:5:AT:A", "1:5:A:AT", "flipped"),
        ("1:5:AT:A", "1:5:TA:T", "absent"),  # no strand of an indel can be told
        ("1:5:A:C,G", "1:5:A:C,G", "same"),
        ("1:5:A:C", "1:5:A:C,G", "absent"),
        ("1:5:A:G", "1:5:A:.", "same"),
        ("1:5:A:G", "1:5:G:0", "flipped"),
        ("1:5:A:G", "1:5:C:0", "strand_flipped"),
        ("1:5:A:G", "1:5:T:0", "strand"),
        ("1:5:A:.", "1:5:A:G", "same"),
        ("1:5:A:T", "1:5:T:0", "ambiguous"),
        ("1:5:A:G", "1:5:.:.", "absent"),
        ("LT635612.1:5:A:G", "LT635612.1:5:A:G", "same"),
    ],
)
def test_cases(reference, other, status):
    match = match_variants(table(reference), table(other))
    assert match.status.tolist() == [status]
    assert match.index.tolist() == [-1 if status in ("ambiguous", "absent") else 0]


def test_the_best_record_of_a_position_is_taken():
    other = table("1:5:T:C", "1:5:G:A", "1:5:A:.", "1:5:A:G", "1:5:A:G", "1:5:A:T")
    assert match_variants(table("1:5:A:G"), other).index.tolist() == [3]
    assert match_variants(table("1:5:A:T"), other).index.tolist() == [5]
    assert match_variants(table("1:5:C:T"), other).status.tolist() == ["flipped"]


def test_counts_add_up():
    reference = table("1:1:A:G", "1:2:A:T", "1:3:A:T", "1:4:C:T", "1:9:C:T")
    other = table("1:1:G:A", "1:2:A:T", "1:3:T:A", "1:4:G:A")
    match = match_variants(reference, other)
    assert match.counts() == {
        "same": 1, "flipped": 1, "strand": 1, "strand_flipped": 0, "ambiguous": 1, "absent": 1,
        "same_palindromic": 1,
    }  # fmt: skip
    assert match.n_matched == 3


def test_dosages_come_back_after_any_recoding():
    """Swap, complement, shuffle and drop variants of a data set, then align it with itself."""
    rng = np.random.default_rng(3)
    n_samples, n_variants = 8, 120
    pairs = [p for p in itertools.permutations("ACGT", 2) if PARTNER[p[0]] != p[1]]
    chosen = [pairs[i] for i in rng.integers(0, len(pairs), n_variants)]
    rows = [f"chr1:{10 + i}:{ref}:{alt}" for i, (ref, alt) in enumerate(chosen)]
    samples = sample_frame([f"s{i}" for i in range(n_samples)])
    dosages = rng.integers(-1, 3, (n_samples, n_variants)).astype(np.int8)
    reference = Genotypes(dosages, samples, table(*rows))

    recoded, columns = [], []
    kept = rng.permutation(n_variants)[:100]
    for variant in kept:
        ref, alt = chosen[variant]
        column = dosages[:, variant].copy()
        if rng.random() < 0.5:
            ref, alt = alt, ref
            column = np.array([-1 if d == -1 else 2 - d for d in column], dtype=np.int8)
        if rng.random() < 0.5:
            ref, alt = PARTNER[ref], PARTNER[alt]
        recoded.append(f"1:{10 + variant}:{ref}:{alt}")
        columns.append(column)
    other = Genotypes(np.stack(columns, axis=1), samples, table(*recoded))

    match = match_variants(reference.variants, other.variants)
    assert match.n_matched == 100
    expected = dosages.copy()
    expected[:, np.setdiff1d(np.arange(n_variants), kept)] = -1
    np.testing.assert_array_equal(match.aligned_dosages(other), expected)
    blocks = [match.aligned_dosages(other, slice(i, i + 50)) for i in range(0, n_variants, 50)]
    np.testing.assert_array_equal(np.hstack(blocks), expected)


def test_variants_without_coordinates_match_by_order():
    reference = Genotypes.from_dosages([[0, 1, 2]])
    match = match_variants(reference.variants, Genotypes.from_dosages([[2, -1, 0]]).variants)
    assert match.index.tolist() == [0, 1, 2]
    assert match.counts()["same"] == 3
    with pytest.raises(InputFormatError, match="3 and 2 variants"):
        match_variants(reference.variants, Genotypes.from_dosages([[0, 1]]).variants)
    # A data set with coordinates has nothing in common with one without.
    other = match_variants(reference.variants, table("1:5:A:G", "1:6:A:G", "1:7:A:G"))
    assert other.status.tolist() == ["absent"] * 3


def test_no_variant_in_common_or_at_all():
    match = match_variants(table("1:5:A:G"), table("2:5:A:G"))
    assert match.aligned_dosages(Genotypes.from_dosages([[1], [2]])).tolist() == [[-1], [-1]]
    empty = match_variants(table("1:5:A:G").iloc[:0], table("2:5:A:G"))
    assert len(empty.index) == 0
    assert empty.n_matched == 0


def test_many_variants_at_unknown_positions_cost_nothing():
    """Thousands of unplaced records share position 0; pairing them all would not fit memory."""
    n = 30_000
    frame = pd.DataFrame(
        {"contig": "0", "position": np.zeros(n, dtype=int), "ref": "A", "alt": "G"}
    )
    assert match_variants(frame, frame).counts()["absent"] == n
