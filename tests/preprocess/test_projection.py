import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import InputFormatError, OverlapError
from ancestryvi.genotypes import Genotypes, match_variants, read_genotypes
from ancestryvi.preprocess import GenotypePCA, passes
from ancestryvi.preprocess.fingerprints import fingerprints, hash_weights
from ancestryvi.preprocess.project import place

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A"}


@pytest.fixture
def cohort(drifted, with_missing, make_genotypes) -> Genotypes:
    """Four populations at 300 places on two contigs; no pair of alleles is A/T or C/G."""
    rng = np.random.default_rng(0)
    dosages, _ = drifted(rng, [15] * 4, 300, fst=0.1)
    pairs = [("A", "G"), ("C", "T"), ("G", "T"), ("A", "C")]
    ref, alt = zip(*(pairs[k] for k in rng.integers(4, size=300)), strict=True)
    return make_genotypes(
        with_missing(rng, dosages, 0.03),
        contig=["1"] * 150 + ["2"] * 150,
        position=np.tile(10_000 * np.arange(1, 151), 2),
        ref=ref,
        alt=alt,
    )


@pytest.fixture
def model(cohort):
    """Components of the cohort; LD thinning and frequency filters leave some variants out."""
    model = GenotypePCA(n_components=4, min_maf=0.1).fit(cohort)
    assert 150 < len(model.variants_) < 300
    return model


@pytest.fixture
def newcomers(cohort, with_missing) -> Genotypes:
    """Other people, typed at the variants of the cohort."""
    rng = np.random.default_rng(1)
    frequency = np.where(cohort.dosages < 0, 0, cohort.dosages).mean(axis=0) / 2
    dosages = rng.binomial(2, frequency, size=(9, 300)).astype(np.int8)
    samples = pd.DataFrame(index=pd.Index([f"new{row}" for row in range(9)], dtype=object))
    return Genotypes(with_missing(rng, dosages, 0.1), samples, cohort.variants)


def scaled(model, dosages):
    """The fitted variants of dosages with the cohort's columns, in double precision."""
    dosages = dosages[:, model.kept_variants_]
    return np.where(dosages < 0, 0.0, (dosages - model.mean_) / model.scale_)


def expected(model, dosages, present=slice(None)):
    """V'z given the calls of each sample: the Gaussian with V diag(v) V' + s, conditioned."""
    V = model.components_.T.astype(float)
    total = model.explained_variance_[0] / model.explained_variance_ratio_[0]
    noise = (total - model.explained_variance_.sum()) / (len(V) - V.shape[1])
    variance = model.explained_variance_ * model.shrinkage_**2
    covariance = (V * variance) @ V.T + noise * np.eye(len(V))
    is_there = np.zeros(len(V), bool)
    is_there[present] = True
    found = []
    for z, calls in zip(scaled(model, dosages), dosages[:, model.kept_variants_], strict=True):
        known = is_there & (calls >= 0)
        among = covariance[np.ix_(known, known)]
        found.append(V.T @ covariance[:, known] @ np.linalg.solve(among, z[known]))
    return np.array(found)


def without(genotypes, model, n_present, seed=0):
    """Remove all but so many of the fitted variants; return which of them are left, too."""
    rng = np.random.default_rng(seed)
    fitted = np.flatnonzero(model.kept_variants_)
    present = np.sort(rng.choice(len(fitted), n_present, replace=False))
    others = np.flatnonzero(~model.kept_variants_)
    columns = rng.permutation(np.concatenate([fitted[present], others]))
    return genotypes.select(variants=columns), present


# ---- all variants present ----------------------------------------------------------------------


def test_with_every_variant_present_scores_are_those_of_the_calls_there_are(model, newcomers):
    scores, match = model.transform(newcomers), model.project(newcomers)[1]
    np.testing.assert_allclose(
        scores * model.shrinkage_, expected(model, newcomers.dosages), atol=1e-4
    )
    called = Genotypes(
        np.abs(newcomers.dosages), newcomers.samples, newcomers.variants
    )  # without a missing call, a product
    np.testing.assert_allclose(
        model.transform(called) * model.shrinkage_,
        scaled(model, called.dosages) @ model.components_.T,
        atol=1e-4,
    )
    assert match.counts()["same"] == match.n_matched == len(model.variants_)
    np.testing.assert_array_equal(model.project(newcomers)[0], scores)


def test_the_order_of_variants_plays_no_part(model, newcomers):
    order = np.random.default_rng(2).permutation(300)
    np.testing.assert_array_equal(
        model.transform(newcomers.select(variants=order)), model.transform(newcomers)
    )


def test_other_names_of_contigs_and_more_variants_play_no_part(model, newcomers, make_genotypes):
    extra = make_genotypes(np.ones((9, 50)), contig="7", ids=newcomers.sample_ids)
    variants = pd.concat([extra.variants, newcomers.variants], ignore_index=True)
    variants["contig"] = "chr" + variants["contig"]
    dosages = np.hstack([extra.dosages, newcomers.dosages])
    np.testing.assert_array_equal(
        model.transform(Genotypes(dosages, newcomers.samples, variants)),
        model.transform(newcomers),
    )


def other_notation(genotypes, chosen, *, swap, complement):
    """Write some variants with REF and ALT swapped, on the other strand, or both."""
    variants, dosages = genotypes.variants.copy(), genotypes.dosages.copy()
    if swap:
        variants.loc[chosen, ["ref", "alt"]] = variants.loc[chosen, ["alt", "ref"]].to_numpy()
        part = dosages[:, chosen]
        dosages[:, chosen] = np.where(part < 0, -1, 2 - part)
    if complement:
        for name in ("ref", "alt"):
            variants.loc[chosen, name] = variants.loc[chosen, name].map(COMPLEMENT)
    return Genotypes(dosages, genotypes.samples, variants)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_swapped_alleles_and_strands_give_identical_scores(
    model, newcomers, swap, complement, share
):
    chosen = np.random.default_rng(3).random(300) < share
    other = other_notation(newcomers, chosen, swap=swap, complement=complement)
    scores, match = model.transform(other), model.project(other)[1]
    np.testing.assert_array_equal(scores, model.transform(newcomers))
    status = {
        (False, False): "same",
        (True, False): "flipped",
        (False, True): "strand",
        (True, True): "strand_flipped",
    }[swap, complement]
    assert match.counts()[status] >= np.sum(chosen & model.kept_variants_)


@pytest.mark.parametrize("n_present", [None, 170])
@pytest.mark.parametrize("columns_at_once", [1, 7, 100])
def test_blocks_change_nothing(model, newcomers, monkeypatch, n_present, columns_at_once):
    if n_present:
        newcomers, _ = without(newcomers, model, n_present)
    whole = model.transform(newcomers)
    monkeypatch.setattr(passes, "BLOCK_BYTES", 4 * 9 * columns_at_once)
    np.testing.assert_allclose(model.transform(newcomers), whole, atol=1e-10)


def write_vcf(path, genotypes, order):
    calls = {0: "0/0", 1: "0|1", 2: "1/1", -1: "./."}
    header = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
    lines = ["##fileformat=VCFv4.2", "\t".join(header + genotypes.sample_ids)]
    for column in order:
        contig, position, name, ref, alt = genotypes.variants.iloc[column]
        gt = [calls[int(call)] for call in genotypes.dosages[:, column]]
        fields = [contig, str(position), name, ref, alt, ".", "PASS", ".", "GT"]
        lines.append("\t".join(fields + gt))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_with_another_order_and_notation_give_the_same_scores(model, newcomers, tmp_path):
    order = np.random.default_rng(4).permutation(300)
    chosen = np.arange(300) % 3 == 0
    other = other_notation(newcomers, chosen, swap=True, complement=False)
    path = write_vcf(tmp_path / "new.vcf", other, order)
    expected = model.transform(newcomers)
    np.testing.assert_array_equal(model.transform(path), expected)
    np.testing.assert_array_equal(model.transform(str(path)), expected)
    np.testing.assert_array_equal(model.transform(read_genotypes(path)), expected)


def test_a_model_of_a_file_is_the_model_of_its_genotypes(model, cohort, newcomers, tmp_path):
    path = write_vcf(tmp_path / "cohort.vcf", cohort, range(300))
    by_file = GenotypePCA(n_components=4, min_maf=0.1).fit(path)
    np.testing.assert_array_equal(by_file.components_, model.components_)
    assert by_file.n_features_in_ == 300
    np.testing.assert_array_equal(by_file.transform(newcomers), model.transform(newcomers))


# ---- variants absent ---------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.5, 0.7, 0.99])
def test_with_absent_variants_scores_are_those_to_expect(model, newcomers, share):
    n_present = int(np.ceil(share * len(model.variants_)))
    part, present = without(newcomers, model, n_present)
    scores, match = model.transform(part), model.project(part)[1]
    assert match.n_matched == n_present
    solution = expected(model, newcomers.dosages, present)
    np.testing.assert_allclose(scores * model.shrinkage_, solution, atol=1e-4)


def test_absent_variants_do_not_shrink_the_scores(model, cohort):
    full = model.transform(cohort)
    part, present = without(cohort, model, len(model.variants_) // 2 + 1)
    projected = model.transform(part) * model.shrinkage_
    plain = scaled(model, cohort.dosages)[:, present] @ model.components_[:, present].T
    for axis in range(3):  # the three that separate the populations
        assert np.polyfit(full[:, axis], projected[:, axis], 1)[0] == pytest.approx(1, abs=0.15)
        assert np.polyfit(full[:, axis], plain[:, axis], 1)[0] < 0.7


def test_fewer_variants_than_components(make_genotypes):
    rng = np.random.default_rng(5)
    genotypes = make_genotypes(rng.binomial(2, 0.4, size=(40, 12)))
    model = GenotypePCA(n_components=10, min_maf=0, max_ld_r2=None).fit(genotypes)
    assert model.components_.shape == (10, 12)
    present = np.arange(7)
    scores = model.transform(genotypes.select(variants=present)) * model.shrinkage_
    np.testing.assert_allclose(scores, expected(model, genotypes.dosages, present), atol=1e-4)


def test_uncertainty_is_finite_where_components_leave_no_noise(make_genotypes):
    """Two samples have one component, and nothing beside it but what rounding leaves."""
    dosages = np.random.default_rng(3).integers(0, 3, size=(2, 40)).astype(np.int8)
    model = GenotypePCA(min_maf=0.0, max_ld_r2=None, max_kinship=None).fit(make_genotypes(dosages))
    noise, variance = model._noise()
    assert variance > 0.0
    assert (noise > 0.0).all()
    dosages[0, ::2] = -1
    placed, _ = model.place(make_genotypes(dosages))
    scores, unseen = placed.scores, placed.unseen
    assert np.isfinite(scores).all()
    assert all(np.isfinite(draws).all() for _, draws in unseen.draws())


def test_the_fewer_calls_the_nearer_to_the_middle_and_to_least_squares_with_many(model, newcomers):
    """Least squares throws a sample with few calls far off."""
    V, rng = model.components_.T.astype(float), np.random.default_rng(9)
    sizes = {}
    for n_calls in (1, 6, 30, 140):
        dosages = np.abs(newcomers.dosages)
        fitted = np.flatnonzero(model.kept_variants_)
        called = np.sort(rng.choice(len(fitted), n_calls, replace=False))
        dosages[:, np.setdiff1d(np.arange(300), fitted[called])] = -1
        masked = Genotypes(dosages, newcomers.samples, newcomers.variants)
        scores = model.transform(masked) * model.shrinkage_
        least = np.linalg.lstsq(V[called], scaled(model, dosages)[:, called].T)[0].T
        sizes[n_calls] = [float(np.linalg.norm(part)) for part in (scores, least)]
    for n_calls, times in {1: 8, 6: 8, 30: 1.8}.items():
        assert times * sizes[n_calls][0] < sizes[n_calls][1]
    assert sizes[140][0] == pytest.approx(sizes[140][1], rel=0.2)


def test_a_sample_without_calls_at_the_variants_present_has_no_scores(model, newcomers):
    part, present = without(newcomers, model, 120)
    shared = model.variants_.loc[present, ["contig", "position"]]
    is_shared = (
        part.variants[["contig", "position"]].apply(tuple, axis=1).isin(shared.apply(tuple, axis=1))
    )
    dosages = part.dosages.copy()
    dosages[0, is_shared] = -1
    dosages[1, ~is_shared] = -1
    scores = model.transform(Genotypes(dosages, part.samples, part.variants))
    assert np.isnan(scores).all(axis=1).tolist() == [True] + [False] * 8
    np.testing.assert_allclose(scores[1:], model.transform(part)[1:])


def test_the_function_alone_solves_for_each_sample(model, newcomers):
    _, match = model.project(newcomers)
    match.index[::3] = -1
    fitted = (model.mean_, model.scale_, model.components_)
    nobody = np.zeros(0, np.uint64)
    present = match.index >= 0
    noise = model._noise()
    placed = place(newcomers, match, *fitted, nobody, *noise)
    assert sorted(np.concatenate([rows for rows, *_ in placed.unseen.groups])) == list(range(9))
    np.testing.assert_allclose(
        placed.scores, expected(model, newcomers.dosages, present), atol=1e-4
    )
    # as if they had been fitted: the scores they had then
    assert not placed.fitted.any()
    calls = match.aligned_dosages(newcomers)
    of_calls = fingerprints(calls, hash_weights(len(match.index)))
    known = place(newcomers, match, *fitted, of_calls, *noise)
    assert known.fitted.all()
    plain = np.where(present, scaled(model, newcomers.dosages), 0.0) @ model.components_.T
    np.testing.assert_allclose(known.scores, plain, atol=1e-4)
    assert not known.unseen.groups


def test_missing_calls_do_not_draw_new_samples_to_the_middle(model, cohort, with_missing):
    """Masking more and more calls of the fitted samples leaves the size of their scores."""
    full = model.transform(cohort) * 1.0
    rng = np.random.default_rng(7)
    for share in (0.2, 0.5):
        masked = Genotypes(
            with_missing(rng, cohort.dosages, share), cohort.samples, cohort.variants
        )
        scores = model.transform(masked) * model.shrinkage_
        plain = scaled(model, masked.dosages) @ model.components_.T
        for axis in range(3):  # the three that separate the populations
            slope = np.polyfit(full[:, axis], scores[:, axis], 1)[0]
            assert slope == pytest.approx(1, abs=0.1)
            assert np.polyfit(full[:, axis], plain[:, axis], 1)[0] < 1 - 0.8 * share


# ---- too few -----------------------------------------------------------------------------------


def test_half_of_the_variants_is_enough_and_one_less_is_not(model, newcomers):
    n_fitted = len(model.variants_)
    n_half = -(-n_fitted // 2)
    enough, _ = without(newcomers, model, n_half)
    assert np.isfinite(model.transform(enough)).all()
    too_few, _ = without(newcomers, model, n_half - 1)
    with pytest.raises(OverlapError, match="genome build") as caught:
        model.transform(too_few)
    message = str(caught.value)
    assert f"Only {n_half - 1} of the model's {n_fitted} variants can be used" in message
    assert f"{n_fitted - n_half + 1} are absent" in message
    assert "At least 50% are needed" in message


def test_ambiguous_variants_are_not_used(make_genotypes):
    rng = np.random.default_rng(6)
    dosages = rng.binomial(2, 0.4, size=(30, 20))
    genotypes = make_genotypes(dosages, ref="A", alt=["T"] * 10 + ["G"] * 10)
    model = GenotypePCA(2, max_ld_r2=None).fit(genotypes)
    swapped = other_notation(genotypes, np.arange(20) < 10, swap=True, complement=False)
    scores, match = model.project(swapped)
    scores *= model.shrinkage_
    assert match.counts()["ambiguous"] == 10  # exactly half is left
    solution = expected(model, dosages, np.arange(10, 20))
    np.testing.assert_allclose(scores, solution, atol=1e-4)
    genotypes = make_genotypes(dosages, ref="A", alt=["T"] * 11 + ["G"] * 9)
    model = GenotypePCA(2, max_ld_r2=None).fit(genotypes)
    swapped = other_notation(genotypes, np.arange(20) < 11, swap=True, complement=False)
    with pytest.raises(OverlapError, match=r"Only 9 of the model's 20 .* 11 ambiguous"):
        model.transform(swapped)


def test_another_genome_build_is_an_error(model, newcomers):
    shifted = newcomers.variants.assign(position=newcomers.variants["position"] + 1)
    with pytest.raises(OverlapError, match="Only 0 of the model's"):
        model.transform(Genotypes(newcomers.dosages, newcomers.samples, shifted))


# ---- without positions -------------------------------------------------------------------------


def test_a_bare_matrix_has_the_fitted_columns(model, newcomers):
    expected = model.transform(newcomers)
    floats = np.where(newcomers.dosages < 0, np.nan, newcomers.dosages)
    frame = pd.DataFrame(newcomers.dosages)
    for X in (newcomers.dosages, floats, frame, Genotypes.from_dosages(floats)):
        np.testing.assert_array_equal(model.transform(X), expected)


@pytest.mark.parametrize("n_columns", [299, 301, 1])
def test_a_bare_matrix_with_other_columns_is_refused(model, n_columns):
    matrix = np.ones((3, n_columns), int)
    pattern = f"X has {n_columns} features, but GenotypePCA is expecting 300 features as input"
    for X in (matrix, pd.DataFrame(matrix), Genotypes.from_dosages(matrix)):
        with pytest.raises(InputFormatError, match=pattern):
            model.transform(X)


def test_a_model_of_a_bare_matrix_places_no_file(cohort, newcomers):
    model = GenotypePCA(2).fit(cohort.dosages)
    np.testing.assert_array_equal(
        model.transform(newcomers.dosages),
        model.transform(Genotypes.from_dosages(newcomers.dosages)),
    )
    with pytest.raises(OverlapError, match="Only 0 of"):
        model.transform(newcomers)


# ---- who is new ----------------------------------------------------------------------------------


def known_by(genotypes, match):
    """The definition, in the integers of Python."""
    weights = hash_weights(len(match.index)).astype(object) @ [256**i for i in range(8)]
    calls = match.aligned_dosages(genotypes).astype(object)
    return np.array([sum((row + 1) * weights) % 2**64 for row in calls], np.uint64)


def test_fitted_samples_are_known_again_and_new_ones_are_not(model, cohort, newcomers):
    match = match_variants(model.variants_, cohort.variants)
    assert known_by(cohort, match).tolist() == model.fingerprints_.tolist()
    assert len(np.unique(model.fingerprints_)) == cohort.n_samples
    match = match_variants(model.variants_, newcomers.variants)
    assert not np.isin(known_by(newcomers, match), model.fingerprints_).any()


def test_fitted_samples_keep_their_scores_among_new_ones_in_other_notation(model, cohort):
    swapped = other_notation(cohort, np.arange(300) < 100, swap=True, complement=True)
    rows = np.array([5, 3, 8])
    np.testing.assert_allclose(
        model.transform(swapped.select(samples=rows)), model.transform(cohort)[rows], atol=1e-6
    )


def test_one_call_makes_a_new_sample(model, cohort):
    dosages = cohort.dosages[:1].copy()
    column = np.flatnonzero(model.kept_variants_)[0]
    dosages[0, column] = (dosages[0, column] + 1) % 3
    changed = Genotypes(dosages, cohort.samples.iloc[:1], cohort.variants)
    raw = expected(model, dosages)
    np.testing.assert_allclose(model.transform(changed) * model.shrinkage_, raw, atol=1e-4)
