"""Kinship against plain loops, pedigrees and PLINK 2."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from ancestryvi.genotypes import Genotypes, open_source
from ancestryvi.preprocess import GenotypePCA, kinship, passes
from ancestryvi.preprocess.kinship import largest_unrelated, related_pairs

SECOND_DEGREE = 0.0884


def naive_kinship(a, b):
    both = [(int(x), int(y)) for x, y in zip(a, b, strict=True) if x >= 0 and y >= 0]
    het = min(sum(x == 1 for x, _ in both), sum(y == 1 for _, y in both))
    return 0.5 - sum((x - y) ** 2 for x, y in both) / (4 * het) if het else 0.0


@pytest.mark.parametrize("missing", [0.0, 0.15])
@pytest.mark.parametrize("columns_at_once", [1, 13, 1000])
def test_kinship_is_its_definition(monkeypatch, drifted, with_missing, missing, columns_at_once):
    rng = np.random.default_rng(0)
    dosages = with_missing(rng, drifted(rng, [8, 6], 120, fst=0.1)[0], missing)
    samples, columns = np.array([0, 2, 3, 7, 9, 10, 13]), np.flatnonzero(rng.random(120) < 0.7)
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * len(samples) * columns_at_once)
    pairs, values = related_pairs(Genotypes.from_dosages(dosages), samples, columns, -10.0)
    part = dosages[np.ix_(samples, columns)]
    assert pairs.tolist() == [[i, j] for i in range(7) for j in range(i + 1, 7)]
    expected = [naive_kinship(part[i], part[j]) for i, j in pairs]
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_sums_of_parts_are_added_to_the_first_alone():
    """Another task of a cluster may need those that were added, and may only read them."""
    dosages = np.random.default_rng(4).integers(0, 3, size=(5, 30)).astype(np.int8)
    dosages[2, 12] = dosages[4, 25] = -1  # of the second and the third part
    source = Genotypes.from_dosages(dosages)
    compare = kinship._Comparison(np.arange(30), np.arange(5))
    whole = compare(source, slice(0, 30))
    total, *others = [compare(source, slice(start, start + 10)) for start in (0, 10, 20)]
    for other in others:
        for part in other:
            part.flags.writeable = False
        total = total.join(other)
    for part, expected in zip(total, whole, strict=True):
        np.testing.assert_array_equal(part, expected)


def child(rng, mother, father):
    """Haplotypes of a child, free recombination."""
    return np.stack([np.where(rng.random(p.shape[1]) < 0.5, p[0], p[1]) for p in (mother, father)])


@pytest.fixture
def families():
    """Two populations far apart: 40 founders each, and a pedigree in both."""
    rng = np.random.default_rng(1)
    n_variants, fst = 8000, 0.15
    base, shape = rng.uniform(0.1, 0.9, n_variants), (1 - fst) / fst
    people, names = [], []
    for population in "AB":
        frequency = rng.beta(base * shape, (1 - base) * shape)
        founders = [(rng.random((2, n_variants)) < frequency).astype(np.int8) for _ in range(40)]
        mother, father, stranger = founders[:3]
        first, second = child(rng, mother, father), child(rng, mother, father)
        members = {"first": first, "second": second, "grandchild": child(rng, first, stranger)}
        for name, haplotypes in members.items():
            people.append(haplotypes.sum(axis=0))
            names.append(f"{population}-{name}")
        for i, haplotypes in enumerate(founders):
            people.append(haplotypes.sum(axis=0))
            names.append(f"{population}{i}")
    dosages = np.array(people, dtype=np.int8)
    return dosages[:, (dosages.sum(0) > 3) & ((2 - dosages).sum(0) > 3)], names


def test_pedigrees_in_a_structured_cohort(families):
    dosages, names = families
    genotypes = Genotypes.from_dosages(dosages, names)
    everyone, columns = np.arange(len(names)), np.arange(dosages.shape[1])
    pairs, values = related_pairs(genotypes, everyone, columns, SECOND_DEGREE)
    found = {frozenset((names[i], names[j])): v for (i, j), v in zip(pairs, values, strict=True)}
    expected = {}
    for p in "AB":
        parents, children = (f"{p}0", f"{p}1"), (f"{p}-first", f"{p}-second")
        expected |= {frozenset((a, b)): 0.25 for a in parents for b in children}
        expected[frozenset(children)] = 0.25
        expected[frozenset((f"{p}-first", f"{p}-grandchild"))] = 0.25
        expected[frozenset((f"{p}2", f"{p}-grandchild"))] = 0.25
        expected |= {frozenset((a, f"{p}-grandchild")): 0.125 for a in parents}
        expected[frozenset((f"{p}-second", f"{p}-grandchild"))] = 0.125
    assert found.keys() == expected.keys()
    for pair, value in expected.items():
        assert found[pair] == pytest.approx(value, abs=0.03)


def test_relatives_are_set_aside_counted_named_and_placed(families, monkeypatch):
    dosages, names = families
    genotypes = Genotypes.from_dosages(dosages, names)
    model = GenotypePCA(3).fit(genotypes)
    row = model.qc_.set_index("step").loc["related"]
    gone = [names[i] for i in np.flatnonzero(~model.fit_samples_)]
    assert row["dropped"] == len(gone) == 6  # 3 of each family of 6: the two parents stay, say
    assert all(name in row["detail"] for name in gone)
    left = np.flatnonzero(model.fit_samples_)
    columns = np.arange(dosages.shape[1])
    assert len(related_pairs(genotypes, left, columns, SECOND_DEGREE)[0]) == 0
    scores = model.transform(genotypes)
    population = np.array([name[0] for name in names]) == "A"
    assert np.isfinite(scores).all()
    first = scores[:, 0] * np.sign(scores[population, 0].mean())
    assert first[population].min() > 0 > first[~population].max()
    rows = model.qc_[model.qc_["scope"] == "samples"]
    assert rows["before"].tolist()[1:] == rows["kept"].tolist()[:-1]
    alone = GenotypePCA(3, max_kinship=None, min_maf=0, min_mac=1).fit(
        genotypes.select(samples=model.fit_samples_, variants=model.kept_variants_)
    )
    np.testing.assert_allclose(alone.components_, model.components_, atol=1e-4)


def test_variants_that_only_relatives_carry_are_dropped(families):
    dosages, names = families
    rare = np.zeros((len(names), 1), np.int8)
    rare[[names.index("A-first"), names.index("A0")]] = 2  # both are set aside
    model = GenotypePCA(2, min_maf=0.0).fit(np.hstack([dosages, rare]))
    gone = ~model.fit_samples_
    if gone[names.index("A-first")] and gone[names.index("A0")]:
        assert not model.kept_variants_[-1]
    row = model.qc_.set_index("step").loc["monomorphic without relatives"]
    assert row["kept"] == model.kept_variants_.sum()


def test_what_cannot_be_compared_is_said(families, monkeypatch):
    dosages, _ = families
    few = GenotypePCA(2).fit(dosages[:, :500])
    assert "2000 are needed" in few.qc_.set_index("step").loc["related", "detail"]
    monkeypatch.setattr("ancestryvi.preprocess.independence.MOST_SAMPLES", 10)
    many = GenotypePCA(2).fit(dosages)
    assert "at most 10 are compared" in many.qc_.set_index("step").loc["related", "detail"]
    assert few.fit_samples_.all()
    assert many.fit_samples_.all()


def test_unrelated_samples_are_kept():
    rng = np.random.default_rng(2)
    dosages = rng.binomial(2, rng.uniform(0.05, 0.95, 2500), size=(300, 2500))
    assert GenotypePCA(2).fit(dosages).fit_samples_.all()


def test_the_most_variants_are_spread_evenly(families, monkeypatch):
    dosages, names = families
    monkeypatch.setattr(kinship, "MOST_VARIANTS", 4000)
    genotypes = Genotypes.from_dosages(dosages, names)
    pairs, _ = related_pairs(
        genotypes, np.arange(len(names)), np.arange(dosages.shape[1]), SECOND_DEGREE
    )
    assert len(pairs) == 2 * 10


def test_the_larger_set_stays_and_ties_go_by_call_rate_then_order():
    same = np.ones(6)
    assert largest_unrelated(np.array([[0, 1], [0, 2], [0, 3]]), same).tolist() == [0]
    assert largest_unrelated(np.array([[0, 1], [2, 3]]), same).tolist() == [1, 3]
    worse = np.array([0.9, 1, 1, 0.8, 1, 1])
    assert largest_unrelated(np.array([[0, 1], [2, 3]]), worse).tolist() == [0, 3]
    assert largest_unrelated(np.zeros((0, 2), int), same).tolist() == []


@pytest.mark.skipif(shutil.which("plink2") is None, reason="plink2 is not installed")
def test_kinship_is_that_of_plink(shared_data, tmp_path):
    prefix = shared_data / "1000g-14pop-plink" / "phase1"
    source = open_source(f"{prefix}.bed")
    columns = np.arange(0, len(source.variants), 5)
    names = tmp_path / "variants"
    names.write_text("\n".join(source.variants["id"].iloc[columns]))
    command = ["plink2", "--bfile", str(prefix), "--extract", str(names), "--threads", "1"]
    command += ["--make-king-table", "--king-table-filter", "0.05", "--out", str(tmp_path / "k")]
    subprocess.run(command, check=True, capture_output=True)
    table = pd.read_csv(tmp_path / "k.kin0", sep="\t")
    pairs, values = related_pairs(source, np.arange(len(source.sample_ids)), columns, 0.05)
    ids = np.array(source.sample_ids)
    ours = {frozenset(ids[pair]): v for pair, v in zip(pairs, values, strict=True)}
    ids_of = table[["#IID1" if "#IID1" in table else "IID1", "IID2"]].astype(str).to_numpy()
    theirs = {frozenset(pair): v for pair, v in zip(ids_of, table["KINSHIP"], strict=True)}
    assert len(theirs) > 0
    assert ours.keys() == theirs.keys()
    for pair, value in theirs.items():
        assert ours[pair] == pytest.approx(value, abs=1e-5)
