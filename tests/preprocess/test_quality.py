import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import NoVariantsError, SampleError
from ancestryvi.genotypes import Genotypes
from ancestryvi.preprocess import passes, quality_control
from ancestryvi.preprocess.passes import variant_blocks
from ancestryvi.preprocess.quality import QC_COLUMNS, count_calls, hwe_p

LENIENT = {
    "min_maf": 0.0,
    "min_mac": 0,
    "min_variant_call_rate": 0.0,
    "min_sample_call_rate": 0.0,
    "snvs_only": False,
    "autosomes_only": False,
}
"""All filters off that can be switched off, to watch one at a time."""

TINY_BLOCKS = [1, 4 * 13, 4 * 13 * 5, 4 * 13 * 1000]


def row_of(report, step):
    """The line of the account for one filter, as a dict."""
    rows = report.table[report.table["step"] == step]
    assert len(rows) == 1
    return rows.iloc[0].to_dict()


def dropped_by(report, step):
    return row_of(report, step)["dropped"]


# ---- counting --------------------------------------------------------------------------------


def naive_counts(dosages, samples, variants):
    n_samples, n_variants = dosages.shape
    called, alt, het, per_sample = ([0] * n for n in (n_variants,) * 3 + (n_samples,))
    for j in range(n_variants):
        for i in range(n_samples):
            if variants[j] and samples[i] and dosages[i, j] != -1:
                per_sample[i] += 1
                called[j] += 1
                alt[j] += int(dosages[i, j])
                het[j] += int(dosages[i, j] == 1)
    return called, alt, het, per_sample


@pytest.mark.parametrize("block_bytes", TINY_BLOCKS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_count_calls_is_a_double_loop(monkeypatch, block_bytes, order):
    monkeypatch.setattr(passes, "BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(1)
    for _ in range(4):
        dosages = np.asarray(rng.integers(-1, 3, size=(13, 37)).astype(np.int8), order=order)
        samples, variants = rng.random(13) < 0.7, rng.random(37) < 0.8
        counts = count_calls(Genotypes.from_dosages(dosages), samples, variants)
        called, alt, het, per_sample = naive_counts(dosages, samples, variants)
        assert counts.called.tolist() == called
        assert counts.alt.tolist() == alt
        assert counts.het.tolist() == het
        assert counts.called_per_sample.tolist() == per_sample
        frequency = [a / (2 * c) if c else 0 for a, c in zip(alt, called, strict=True)]
        np.testing.assert_allclose(counts.frequency, frequency)


def test_counts_exceed_the_range_of_dosages():
    twos = Genotypes.from_dosages(np.full((300, 2), 2))
    counts = count_calls(twos, np.ones(300, bool), np.ones(2, bool))
    assert counts.alt.tolist() == [600, 600]


@pytest.mark.parametrize("block_bytes", [1, 100, 4096])
@pytest.mark.parametrize(("n_samples", "n_variants"), [(1, 1), (5, 0), (7, 40), (0, 3), (900, 6)])
def test_blocks_cover_every_variant_once_within_the_memory(
    monkeypatch, block_bytes, n_samples, n_variants
):
    monkeypatch.setattr(passes, "BLOCK_BYTES", block_bytes)
    blocks = list(variant_blocks(n_samples, n_variants))
    covered = [j for block in blocks for j in range(n_variants)[block]]
    assert covered == list(range(n_variants))
    for block in blocks:
        width = block.stop - block.start
        assert width == 1 or 4 * n_samples * width <= block_bytes


# ---- the whole of it against plain loops -------------------------------------------------------


def naive_quality_control(genotypes, maf, mac, variant_rate, sample_rate, snvs_only):
    """The filters one by one, in exact fractions; returns masks and (scope, step, dropped)."""
    dosages, table = genotypes.dosages, genotypes.variants
    samples, variants = set(range(genotypes.n_samples)), set(range(genotypes.n_variants))
    account = []

    def drop(scope, step, condition):
        kept = variants if scope == "variants" else samples
        gone = {i for i in kept if condition(i)}
        kept -= gone
        account.append((scope, step, len(gone)))

    def alleles(j):
        return table["ref"][j], table["alt"][j]

    def calls(j):
        return [int(dosages[i, j]) for i in samples if dosages[i, j] >= 0]

    def minor(j):
        return min(sum(calls(j)), sum(2 - call for call in calls(j)))

    def seen_before(j):
        def place(k):
            return table["contig"][k], table["position"][k], frozenset(alleles(k))

        return any(place(k) == place(j) for k in range(j))

    def sample_called(i):
        return Fraction(sum(dosages[i, j] >= 0 for j in variants), len(variants))

    drop("samples", "no calls", lambda i: all(dosages[i] == -1))
    drop("variants", "not autosomal", lambda j: table["contig"][j] == "chrX")
    drop("variants", "multiallelic", lambda j: "," in table["alt"][j])
    if snvs_only:
        drop("variants", "not an SNV", lambda j: any(len(a) > 1 or a == "*" for a in alleles(j)))
    drop("variants", "duplicate", seen_before)
    n_fit = len(samples)
    drop("variants", "variant call rate", lambda j: Fraction(len(calls(j)), n_fit) < variant_rate)
    drop("samples", "sample call rate", lambda i: sample_called(i) < sample_rate)
    drop("variants", "monomorphic", lambda j: minor(j) == 0)
    drop("variants", "minor allele count", lambda j: minor(j) < mac)
    drop(
        "variants",
        "minor allele frequency",
        lambda j: Fraction(minor(j), 2 * len(calls(j))) < maf,
    )
    return samples, variants, account


def messy_genotypes(rng, make_genotypes):
    """Every defect at once: rare and common, gaps, indels, repeated records, empty samples."""
    n_samples, n_variants = 30, 160
    frequency = rng.choice([0.0, 0.01, 0.05, 0.3, 1.0], n_variants, p=[0.1, 0.2, 0.2, 0.4, 0.1])
    dosages = rng.binomial(2, frequency, size=(n_samples, n_variants))
    gaps = rng.choice([0.0, 0.04, 0.3], n_variants, p=[0.6, 0.3, 0.1])[None, :]
    gaps = np.maximum(gaps, rng.choice([0.0, 0.12], n_samples, p=[0.8, 0.2])[:, None])
    dosages[rng.random(dosages.shape) < gaps] = -1
    dosages[rng.choice(n_samples, 2, replace=False)] = -1
    return make_genotypes(
        dosages,
        contig=rng.choice(["1", "2", "chrX"], n_variants, p=[0.45, 0.45, 0.1]),
        position=rng.integers(1, 120, n_variants),
        ref=rng.choice(["A", "C", "AT", "N"], n_variants, p=[0.5, 0.4, 0.05, 0.05]),
        alt=rng.choice(
            ["A", "C", "G", "*", "<DEL>", "A,G", "."], n_variants, p=[0.3] * 3 + [0.025] * 4
        ),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("maf", "mac", "variant_rate", "sample_rate", "snvs_only"),
    [(0.02, 2, 0.95, 0.9, True), (0.05, 1, 0.9, 0.95, False), (0.1, 5, 0.8, 0.97, True)],
)
def test_quality_control_is_its_definition(
    make_genotypes, seed, maf, mac, variant_rate, sample_rate, snvs_only
):
    genotypes = messy_genotypes(np.random.default_rng(seed), make_genotypes)
    report = quality_control(
        genotypes,
        min_maf=maf,
        min_mac=mac,
        min_variant_call_rate=variant_rate,
        min_sample_call_rate=sample_rate,
        snvs_only=snvs_only,
    )
    exact = [Fraction(str(value)) for value in (maf, variant_rate, sample_rate)]
    samples, variants, account = naive_quality_control(
        genotypes, exact[0], mac, exact[1], exact[2], snvs_only
    )
    assert set(np.flatnonzero(report.samples)) == samples
    assert set(np.flatnonzero(report.variants)) == variants
    filters = report.table[report.table["step"] != "read"]
    assert list(filters[["scope", "step", "dropped"]].itertuples(index=False)) == account
    for j in variants:
        calls = [int(genotypes.dosages[i, j]) for i in samples if genotypes.dosages[i, j] >= 0]
        assert report.frequency[j] == pytest.approx(np.mean(calls) / 2)


@pytest.mark.parametrize("seed", range(3))
def test_the_account_is_complete(make_genotypes, seed):
    genotypes = messy_genotypes(np.random.default_rng(seed), make_genotypes)
    report = quality_control(genotypes)
    table = report.table
    assert list(table.columns) == QC_COLUMNS
    assert set(table["scope"]) == {"samples", "variants"}
    for scope, mask in [("samples", report.samples), ("variants", report.variants)]:
        rows = table[table["scope"] == scope]
        assert rows["step"].iloc[0] == "read"
        assert rows["before"].iloc[0] == len(mask)
        assert rows["before"].tolist()[1:] == rows["kept"].tolist()[:-1]
        assert (rows["before"] - rows["dropped"] == rows["kept"]).all()
        assert rows["dropped"].sum() == len(mask) - mask.sum() > 0
        assert rows["kept"].iloc[-1] == mask.sum()


@pytest.mark.parametrize("block_bytes", [1, 1000, 4 * 30 * 17])
def test_blocks_change_nothing(make_genotypes, monkeypatch, block_bytes):
    genotypes = messy_genotypes(np.random.default_rng(8), make_genotypes)
    whole = quality_control(genotypes)
    monkeypatch.setattr(passes, "BLOCK_BYTES", block_bytes)
    blocks = quality_control(genotypes)
    pd.testing.assert_frame_equal(blocks.table, whole.table)
    for name in ("variants", "samples", "sample_call_rate", "frequency"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


# ---- one filter at a time ----------------------------------------------------------------------


@pytest.fixture
def mixed(make_genotypes):
    """Variants with given alleles, positions and contigs; their calls are beyond reproach."""

    def make(**columns):
        n_variants = len(next(iter(columns.values())))
        return make_genotypes(np.tile([[0], [1], [2], [1]], n_variants), **columns)

    return make


def test_multiallelic(mixed):
    report = quality_control(mixed(alt=["G", "C,T", "G", "<DEL>,T", "*"]), **LENIENT)
    assert report.variants.tolist() == [True, False, True, False, True]
    assert dropped_by(report, "multiallelic") == 2


def test_only_single_nucleotide_variants(mixed):
    genotypes = mixed(
        ref=["A", "AT", "A", "A", "A", ".", "0"], alt=["G", "A", "AT", "<DEL>", "*", "G", "G"]
    )
    report = quality_control(genotypes, **LENIENT | {"snvs_only": True})
    assert report.variants.tolist() == [True, False, False, False, False, True, True]
    assert dropped_by(report, "not an SNV") == 4
    everything = quality_control(genotypes, **LENIENT)
    assert everything.variants.all()
    assert "not an SNV" not in set(everything.table["step"])


@pytest.mark.parametrize(
    ("contigs", "kept"),
    [
        (["1", "22", "X", "Y", "XY", "MT"], "1 22"),
        (["chr1", "chrX", "chrM", "chrx", "2", "PAR1"], "chr1 2"),
        (["1", "23", "24", "25", "26", "22"], "1 22"),  # PLINK's codes
        (["1", "23", "24", "25", "38", "X"], "1 23 24 25 38"),  # dogs have 38 autosomes
        (["chrIX", "chrX", "chrXI", "chrM", "chrI", "chrY"], "chrIX chrX chrXI chrI"),  # Roman
        (["chrI", "chrV", "chrX", "Z", "W", "28"], "chrI chrV 28"),
        (["scaffold_23", "unknown", "NC_000001.11", "7", "0", "LG10"], None),
    ],
)
def test_sex_chromosomes_and_mitochondria_are_known_by_name(mixed, contigs, kept):
    genotypes = mixed(contig=contigs)
    report = quality_control(genotypes, **LENIENT | {"autosomes_only": True})
    expected = contigs if kept is None else kept.split()
    assert genotypes.variants["contig"][report.variants].tolist() == expected
    assert dropped_by(report, "not autosomal") == len(contigs) - len(expected)
    everything = quality_control(genotypes, **LENIENT)
    assert everything.variants.all()
    assert "not autosomal" not in set(everything.table["step"])


def test_duplicates_are_later_records_of_a_place_and_pair_of_alleles(mixed):
    genotypes = mixed(
        contig=["1", "1", "1", "2", "1", "1"],
        position=[100, 100, 100, 100, 100, 101],
        ref=["A", "G", "A", "A", "A", "A"],
        alt=["G", "A", "C", "G", "G", "G"],
    )
    report = quality_control(genotypes, **LENIENT)
    assert report.variants.tolist() == [True, False, True, True, False, True]
    assert dropped_by(report, "duplicate") == 2


def test_variants_without_a_position_are_no_duplicates():
    genotypes = Genotypes.from_dosages(np.tile([[0], [1], [2]], 4))
    assert quality_control(genotypes, **LENIENT).variants.all()


def test_monomorphic(make_genotypes):
    columns = {
        "no copy": [0, 0, 0, 0],
        "all copies": [2, 2, 2, 2],
        "one copy": [0, 0, 1, 0],
        "all but one": [2, 2, 1, 2],
        "both alleles in everybody": [1, 1, 1, 1],
        "no call": [-1, -1, -1, -1],
        "alike where called": [2, -1, -1, 2],
    }
    report = quality_control(make_genotypes(np.transpose(list(columns.values()))), **LENIENT)
    kept = [name for name, keep in zip(columns, report.variants, strict=True) if keep]
    assert kept == ["one copy", "all but one", "both alleles in everybody"]
    assert dropped_by(report, "monomorphic") == 4


@pytest.mark.parametrize(("min_mac", "kept"), [(1, [1, 2, 3, 4]), (2, [2, 3, 4]), (3, [3, 4])])
def test_minor_allele_count(make_genotypes, min_mac, kept):
    copies = np.zeros((10, 5), int)  # column j has j minor alleles; from column 3 on, of REF
    for j in range(5):
        copies[:j, j] = 1
    copies[:, 3:] = 2 - copies[:, 3:]
    report = quality_control(make_genotypes(copies), **LENIENT | {"min_mac": min_mac})
    assert np.flatnonzero(report.variants).tolist() == kept


@pytest.mark.parametrize("frequency", [0.01, 0.02, 0.05, 0.07, 0.14, 0.28, 0.29, 0.35, 0.47])
def test_a_frequency_at_the_limit_is_kept(make_genotypes, frequency):
    """0.07 times 100 is more than 7 in floating point."""
    minor = round(100 * frequency)
    copies = np.zeros((50, 2), int)
    for column, count in enumerate([minor, minor - 1]):
        copies[: count // 2, column] = 2
        copies[49, column] = count % 2
    report = quality_control(make_genotypes(copies), **LENIENT | {"min_maf": frequency})
    assert report.variants.tolist() == [True, False]


def test_frequency_is_among_the_calls(make_genotypes):
    column = [1] + [0] * 9 + [-1] * 10
    report = quality_control(make_genotypes(np.transpose([column])), **LENIENT | {"min_maf": 0.05})
    assert report.frequency.tolist() == [1 / 20]


@pytest.mark.parametrize("rate", [0.07, 0.14, 0.55, 0.9, 0.95, 1.0])
def test_variant_call_rate(make_genotypes, rate):
    n_called = round(100 * rate)
    dosages = np.tile([[0], [1]], (50, 3))
    dosages[n_called:, 1] = -1
    dosages[n_called - 1 :, 2] = -1
    report = quality_control(make_genotypes(dosages), **LENIENT | {"min_variant_call_rate": rate})
    assert report.variants.tolist() == [True, True, False]
    row = row_of(report, "variant call rate")
    assert row["dropped"] == 1
    assert row["detail"] == f"called in less than {rate:g} of 100 samples"


def test_sample_call_rate(make_genotypes):
    dosages = np.tile([[0], [1], [2], [1]], 20)
    dosages[1, :2] = -1
    dosages[3, :3] = -1
    report = quality_control(
        make_genotypes(dosages, ids=["a", "b", "c", "d"]), **LENIENT | {"min_sample_call_rate": 0.9}
    )
    assert report.samples.tolist() == [True, True, True, False]
    np.testing.assert_allclose(report.sample_call_rate, [1, 0.9, 1, 0.85])
    row = row_of(report, "sample call rate")
    assert (row["dropped"], row["kept"]) == (1, 3)
    assert row["detail"].endswith(": d")


def test_samples_without_a_call_are_named_and_cost_no_variants(make_genotypes):
    dosages = np.tile([[0], [1], [2], [1]], 20)
    dosages[[1, 3]] = -1
    report = quality_control(make_genotypes(dosages, ids=["ann", "bo", "cy", "di"]))
    assert report.samples.tolist() == [True, False, True, False]
    assert report.variants.all()
    row = row_of(report, "no calls")
    assert (row["before"], row["dropped"], row["kept"]) == (4, 2, 2)
    assert row["detail"] == "not one called variant: bo, di"
    assert report.sample_call_rate.tolist() == [1, 0, 1, 0]


def test_the_variants_of_one_array_in_a_merge_cost_no_samples(make_genotypes):
    rng = np.random.default_rng(0)
    dosages = rng.binomial(2, 0.4, size=(40, 60))
    dosages[:20, 30:] = -1  # typed on one array only
    report = quality_control(make_genotypes(dosages))
    assert report.variants.tolist() == [True] * 30 + [False] * 30
    assert report.samples.all()


def test_alleles_are_counted_among_the_samples_that_are_fitted(make_genotypes):
    dosages = np.zeros((20, 40), int)
    dosages[:10] = 1
    dosages[19, 0], dosages[:19, 0] = 2, 0  # the only carrier of column 0 ...
    dosages[19, 10:] = -1  # ... is set aside
    report = quality_control(make_genotypes(dosages))
    assert not report.samples[19]
    assert not report.variants[0]
    assert dropped_by(report, "monomorphic") == 1


def test_equilibrium_is_tested_exactly():
    """By enumerating the ways to pair alleles: n! / (AA! Aa! aa!) 2^Aa of them."""
    for n, alt, het in [(10, 7, 5), (10, 7, 1), (25, 20, 0), (25, 20, 20), (6, 6, 4), (9, 0, 0)]:
        ways = {}
        for h in range(alt % 2, min(alt, 2 * n - alt) + 1, 2):
            hom = (alt - h) // 2
            pairings = math.factorial(n) * 2**h
            ways[h] = Fraction(pairings, math.prod(map(math.factorial, (hom, h, n - hom - h))))
        total = sum(ways.values())
        expected = sum(w for w in ways.values() if w <= ways[het]) / total
        found = hwe_p(np.array([n]), np.array([alt]), np.array([het]))
        assert found[0] == pytest.approx(float(expected), rel=1e-9)


def test_equilibrium_is_no_filter_unless_asked_for(make_genotypes):
    column = np.repeat([0, 2], 20)  # two populations, each fixed
    mixed = np.tile([0, 1, 1, 2], 10)
    genotypes = make_genotypes(np.column_stack([column, mixed]))
    report = quality_control(genotypes, **LENIENT)
    assert report.variants.all()
    assert "Hardy-Weinberg" not in set(report.table["step"])
    report = quality_control(genotypes, **LENIENT, min_hwe_p=1e-6)
    assert report.variants.tolist() == [False, True]
    assert dropped_by(report, "Hardy-Weinberg") == 1


@pytest.mark.parametrize("dropped", [0, 1, 3])
def test_genotypes_without_gaps_are_read_once(make_genotypes, monkeypatch, dropped):
    alt = ["C,T"] * dropped + ["G"] * (40 - dropped)
    dosages = np.random.default_rng(0).binomial(2, 0.5, size=(30, 40))
    read = []
    original = Genotypes.read_dosages
    monkeypatch.setattr(
        Genotypes, "read_dosages", lambda g, c: read.append(len(c)) or original(g, c)
    )
    quality_control(make_genotypes(dosages, alt=alt))
    assert sum(read) == 40
    dosages[3, dropped:4] = -1
    read.clear()
    quality_control(make_genotypes(dosages, alt=alt), min_variant_call_rate=0.5)
    assert sum(read) == 40  # the variants with gaps are all kept


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "dosages", "columns", "options", "remedy"),
    [
        ("multiallelic", [[0], [1]], {"alt": "C,T"}, {}, "bcftools norm -m-any"),
        ("not an SNV", [[0], [1]], {"alt": "<DUP>"}, {"snvs_only": True}, "--keep-indels"),
        (
            "not autosomal",
            [[0], [1]],
            {"contig": "X"},
            {"autosomes_only": True},
            "--keep-sex-chromosomes",
        ),
        (
            "variant call rate",
            [[0, -1], [1, -1], [-1, 2]],
            {},
            {"min_variant_call_rate": 0.95},
            "--min-variant-call-rate",
        ),
        ("monomorphic", [[2, 0], [2, 0]], {}, {}, "check the input"),
        ("minor allele count", [[0], [1]], {}, {"min_mac": 2}, "--min-mac"),
        ("minor allele frequency", [[0], [1], [0]], {}, {"min_maf": 0.2}, "--min-maf"),
    ],
)
def test_an_empty_result_names_the_filter_and_the_remedy(
    make_genotypes, step, dosages, columns, options, remedy
):
    genotypes = make_genotypes(dosages, **columns)
    with pytest.raises(NoVariantsError, match=f"'{step}'") as caught:
        quality_control(genotypes, **LENIENT | options)
    message = str(caught.value)
    assert remedy in message
    n_variants = genotypes.n_variants
    assert f"removed the last {n_variants} of {n_variants}." in message


def test_the_filter_that_took_the_last_variants_is_named(make_genotypes):
    genotypes = make_genotypes([[0, 0, 0], [1, 0, 0]], alt=["C,T", "G", "G"])
    with pytest.raises(NoVariantsError, match=r"'monomorphic' .* removed the last 2 of 3"):
        quality_control(genotypes, **LENIENT)


def test_too_few_samples(make_genotypes):
    with pytest.raises(SampleError, match=r"1 sample, .* `ancestryvi project`"):
        quality_control(make_genotypes([[0, 1, 2]]))
    with pytest.raises(SampleError, match=r"1 of 3 samples .* 'no calls'.* GT field"):
        quality_control(make_genotypes([[0, 1], [-1, -1], [-1, -1]]))
    sparse = [[0, 1, 2, 0], [1, -1, -1, -1], [-1, -1, -1, 1]]
    with pytest.raises(SampleError, match=r"1 of 3 .* 'sample call rate'.* --min-sample-call-rate"):
        quality_control(make_genotypes(sparse), **LENIENT | {"min_sample_call_rate": 0.5})
