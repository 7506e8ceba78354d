"""What `AncestryDDVI` takes X for, and what it does with too little or with the wrong thing."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.testing import assert_allclose, assert_array_equal

from ancestryvi import AncestryDDVI, GenotypePCA
from ancestryvi.exceptions import InputFormatError, SampleError, TrainingError
from ancestryvi.genotypes import Genotypes
from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.priors import MixturePrior


def model(**parameters) -> AncestryDDVI:
    return AncestryDDVI(**{"n_clusters": 3, "n_epochs": 5, "random_state": 7} | parameters)


# ------------------------------------------------------------------------------------ input="auto"


def with_nan(dosages):
    return np.where(dosages < 0, np.nan, dosages.astype(float))


def as_file(genotypes, folder):
    path = folder / "cohort.h5ad"
    genotypes.to_anndata().write_h5ad(path)
    return path


def as_files(genotypes, folder):
    half = genotypes.n_variants // 2
    paths = [folder / "first.h5ad", folder / "second.h5ad"]
    for path, part in zip(paths, (slice(None, half), slice(half, None)), strict=True):
        genotypes.select(variants=part).to_anndata().write_h5ad(path)
    return paths


GENOTYPES = {
    "matrix with -1": lambda genotypes, folder: genotypes.dosages,
    "matrix with NaN": lambda genotypes, folder: with_nan(genotypes.dosages),
    "table": lambda genotypes, folder: pd.DataFrame(genotypes.dosages),
    "AnnData": lambda genotypes, folder: genotypes.to_anndata(),
    "AnnData of floats": lambda genotypes, folder: AnnData(with_nan(genotypes.dosages)),
    "Genotypes": lambda genotypes, folder: genotypes,
    "path": as_file,
    "str": lambda genotypes, folder: str(as_file(genotypes, folder)),
    "list of paths": as_files,
}


@pytest.mark.parametrize("form", GENOTYPES)
def test_genotypes_are_recognised_in_every_form(form, genotypes, tmp_path):
    X = GENOTYPES[form](genotypes, tmp_path)
    fitted = model(pca=GenotypePCA(3)).fit(X)
    assert fitted.input_ == "genotypes"
    assert fitted.pca_.components_.shape[0] == 3
    assert fitted.n_features_in_ == genotypes.n_variants
    assert_array_equal(fitted.transform(X), fitted.embedding_)
    # Whatever the form, the calls are the same, and so is the map.
    plain = model(pca=GenotypePCA(3)).fit(genotypes)
    assert_allclose(fitted.embedding_, plain.embedding_, atol=1e-9)


def test_a_model_of_one_form_places_another(of_genotypes, genotypes, tmp_path):
    path = as_file(genotypes, tmp_path)
    for X in (genotypes, genotypes.to_anndata(), path, as_files(genotypes, tmp_path)):
        assert_allclose(of_genotypes.transform(X), of_genotypes.embedding_, atol=1e-9)
    order = np.random.default_rng(0).permutation(genotypes.n_variants)
    assert_allclose(
        of_genotypes.transform(genotypes.select(variants=order)),
        of_genotypes.embedding_,
        atol=1e-6,
    )


FEATURES = {
    "floats": lambda X: X,
    "integers": lambda X: np.round(10 * X).astype(int),
    "AnnData of floats": lambda X: AnnData(X),
    "table": lambda X: pd.DataFrame(X, columns=[f"PC{i}" for i in range(X.shape[1])]),
    "lists": lambda X: X.tolist(),
    "indicators": lambda X: (X > 0).astype(float),
}


@pytest.mark.parametrize("form", FEATURES)
def test_features_are_recognised(form, X):
    given = FEATURES[form](X)
    fitted = model().fit(given)
    assert fitted.input_ == "features"
    assert fitted.pca_ is None
    assert fitted.n_features_in_ == X.shape[1]
    assert_array_equal(fitted.transform(given), fitted.embedding_)


def test_a_matrix_of_dosages_can_be_features(dosages):
    called = np.abs(dosages[:, :20])
    assert model().fit(called).input_ == "genotypes"
    forced = model(input="features").fit(called)
    assert forced.input_ == "features"
    assert forced.pca_ is None
    assert forced.sample(3, random_state=0)[0].shape == (3, 20)


def test_features_cannot_be_genotypes(X):
    with pytest.raises(InputFormatError, match="dosage"):
        model(input="genotypes").fit(X)


def test_the_decision_is_kept(quick, dosages):
    # Six columns of calls are features for a model of six features, not genotypes.
    assert quick.transform(np.abs(dosages[:, :6])).shape == (len(dosages), 2)


def test_a_model_of_genotypes_refuses_another_number_of_columns(dosages):
    fitted = model(pca=GenotypePCA(3)).fit(dosages)
    with pytest.raises(InputFormatError, match="199 features"):
        fitted.transform(dosages[:, 1:])


def test_project_says_what_the_other_methods_say(of_genotypes, genotypes, quick, X):
    for fitted, data in ((of_genotypes, genotypes), (quick, X)):
        placed = fitted.project(data)
        assert_array_equal(placed.embedding, fitted.embedding_)
        assert_array_equal(placed.labels, fitted.labels_)
        assert_array_equal(placed.probabilities, fitted.predict_proba(data))
    assert of_genotypes.project(genotypes).match.n_matched == len(of_genotypes.pca_.variants_)
    assert_array_equal(
        of_genotypes.project(genotypes).scores, of_genotypes.pca_.transform(genotypes)
    )
    assert placed.match is None


def test_what_is_missing_of_a_sample_makes_it_less_certain(of_genotypes, genotypes):
    """Means over scores that it may have; its neighbours in the file stay as they are."""
    whole = of_genotypes.project(genotypes)
    calls = genotypes.dosages.copy()
    calls[3, np.random.default_rng(0).random(genotypes.n_variants) < 0.9] = -1
    gappy = Genotypes(calls, genotypes.samples, genotypes.variants)
    placed = of_genotypes.project(gappy)
    found, _ = of_genotypes.pca_.place(gappy)
    assert found.fitted.tolist() == placed.fitted.tolist() == [i != 3 for i in range(45)]
    scores, unseen = found.scores, found.unseen
    ((rows, draws),) = unseen.draws(of_genotypes._score_prior)
    assert rows.tolist() == [3]
    module = of_genotypes._fitted
    expected = np.mean([module.probabilities(drawn) for drawn in draws], axis=0)
    assert_allclose(placed.probabilities[rows], expected)
    ((_, draws),) = unseen.draws()
    apart = np.mean([np.square(module.place(d) - placed.embedding[rows]).sum() for d in draws])
    own = module.spread(scores)[rows]
    assert_allclose(placed.spread[rows], np.sqrt(own**2 + apart))
    assert placed.spread[3] > own
    assert_array_equal(of_genotypes.predict_proba(gappy), placed.probabilities)
    assert_array_equal(of_genotypes.predict(gappy), placed.labels)
    assert_array_equal(of_genotypes.transform(gappy), placed.embedding)
    others = np.arange(genotypes.n_samples) != 3
    for name in ("embedding", "probabilities", "spread", "labels"):
        assert_allclose(getattr(placed, name)[others], getattr(whole, name)[others], atol=1e-9)


# ------------------------------------------------------------------------------- few samples


def test_fewer_samples_than_clusters_warns_and_works(X):
    with pytest.warns(UserWarning, match=r"n_clusters=20 is more than the 8 samples"):
        fitted = model(n_clusters=20).fit(X[:8])
    assert fitted.embedding_.shape == (8, 2)
    assert fitted.n_clusters_ <= 8


@pytest.mark.parametrize("rows", [2, 3])
def test_two_and_three_samples_work(X, rows):
    fitted = model(n_clusters=2).fit(X[:rows])
    assert np.isfinite(fitted.embedding_).all()
    assert np.isfinite(fitted.elbo_)
    assert_array_equal(fitted.predict(X[:rows]), fitted.labels_)


def test_one_sample_is_too_few(X, genotypes):
    with pytest.raises(ValueError, match="1 sample"):
        model().fit(X[:1])
    with pytest.raises(SampleError, match="1 sample"):
        model().fit(genotypes.select(samples=[0]))


@pytest.mark.filterwarnings("ignore:Number of distinct clusters")
def test_samples_that_do_not_differ_have_one_place():
    fitted = model(n_clusters=2).fit(np.ones((10, 4)))
    assert np.isfinite(fitted.embedding_).all()
    assert np.ptp(fitted.embedding_, axis=0).max() < 1e-9


# ----------------------------------------------------------------------- missing and broken values


def test_a_sample_without_calls_has_no_place_and_changes_nothing(genotypes):
    silent = np.insert(genotypes.dosages, 10, -1, axis=0)
    table = pd.DataFrame(index=[f"s{i}" for i in range(len(silent))])
    with_silent = Genotypes(silent, table, genotypes.variants)
    fitted = model(pca=GenotypePCA(3)).fit(with_silent)
    others = np.arange(len(silent)) != 10
    assert np.isnan(fitted.embedding_[10]).all()
    assert fitted.labels_[10] == -1
    assert_array_equal(fitted.predict(with_silent), fitted.labels_)
    assert np.isnan(fitted.predict_proba(with_silent)[10]).all()
    assert np.isfinite(fitted.elbo_)
    without = model(pca=GenotypePCA(3)).fit(genotypes)
    assert_allclose(fitted.embedding_[others], without.embedding_, atol=1e-6)
    assert_array_equal(fitted.labels_[others], without.labels_)
    assert fitted.elbo_ == pytest.approx(without.elbo_)


def test_a_sample_of_few_calls_is_placed_but_not_fitted(genotypes):
    poor = genotypes.dosages.copy()
    poor[4, ::2] = -1
    fitted = model(pca=GenotypePCA(3)).fit(
        Genotypes(poor, genotypes.samples.copy(), genotypes.variants)
    )
    assert not fitted.pca_.fit_samples_[4]
    assert fitted.pca_.fit_samples_.sum() == len(poor) - 1
    assert np.isfinite(fitted.embedding_[4]).all()
    assert fitted.labels_[4] >= 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_finite(quick, X, value):
    broken = X.copy()
    broken[3, 2] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        model().fit(broken)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        quick.transform(broken)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_clusters", 0),
        ("n_clusters", 2.5),
        ("n_clusters", "3"),
        ("n_clusters", True),
        ("n_components", 0),
        ("n_components", None),
        ("n_diffusion_steps", 0),
        ("batch_size", 0),
        ("batch_size", 12.0),
        ("beta_reg", -0.1),
        ("beta_reg", np.nan),
        ("beta_reg", "1"),
        ("beta_diff", -1),
        ("alpha", -1),
        ("alpha", np.nan),
        ("alpha", "1"),
        ("n_sleep_steps", 0),
        ("n_sleep_steps", 1.0),
        ("n_sleep_steps", True),
        ("prior", "nonsense"),
        ("prior", None),
        ("prior", 3),
        ("clustering", "kmeans"),
        ("clustering", None),
        ("sleep", "deep"),
        ("sleep", False),
        ("pretrain", "yes"),
        ("pretrain", None),
        ("pretrain", 2),
        ("preset", "paper"),
        ("preset", False),
        ("n_epochs", 0),
        ("n_epochs", 1.5),
        ("n_epochs", True),
        ("n_epochs", "many"),
        ("input", "vcf"),
        ("device", "abacus"),
    ],
)
def test_a_parameter_out_of_range_is_named(X, name, value):
    with pytest.raises(ValueError, match=name) as caught:
        model(**{name: value}).fit(X)
    assert repr(value) in str(caught.value)


SAMPLERS = {
    "no array": (lambda n, rng: "latents", "is not an array of numbers"),
    "too few": (lambda n, rng: np.zeros((n - 1, 2)), r"has shape \(1999, 2\), not \(2000, 2\)"),
    "not finite": (lambda n, rng: np.full((n, 2), np.nan), "not finite in 2000 of 2000 rows"),
    "three things": (lambda n, rng: (np.zeros((n, 2)),) * 3, "not a tuple of 3"),
    "parts with gaps": (
        lambda n, rng: (np.zeros((n, 2)), 2 * rng.integers(2, size=n)),
        "none of 2000 rows is of part 1",
    ),
    "parts from 1": (lambda n, rng: (np.zeros((n, 2)), np.ones(n, int)), "parts begin at 1|part 0"),
    "parts of text": (lambda n, rng: (np.zeros((n, 2)), np.full(n, "a")), "not integers"),
}


@pytest.mark.parametrize("case", SAMPLERS)
def test_a_sampler_that_fails_its_contract_is_told(X, case):
    sampler, message = SAMPLERS[case]
    with pytest.raises(ValueError, match=message):
        model(prior=sampler).fit(X)


def test_what_a_sampler_raises_comes_through(X):
    def broken(n_samples, rng):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        model(prior=broken).fit(X)


@pytest.mark.parametrize("prior", ["pinwheel", MixturePrior.standard_normal(2)])
def test_a_prior_of_another_dimension_is_refused(X, prior):
    with pytest.raises(ValueError, match=r"2 dimensions, n_components is 3|\(2000, 3\)"):
        model(prior=prior, n_components=3).fit(X)


@pytest.mark.parametrize(
    ("method", "call", "where"),
    [
        ("belief_elbo", 3, "wake loss became nan in epoch 3 of the phase 'warm start', batch 1"),
        ("denoising_loss", 1, "sleep loss became nan in epoch 1 of the phase 'dreaming', batch 1"),
    ],
)
def test_a_loss_that_is_no_number_is_reported(X, monkeypatch, method, call, where):
    original, calls = getattr(DDVI, method), []

    def breaking(self, *args):
        calls.append(method)
        result = original(self, *args)
        if len(calls) < call:
            return result
        return result * np.nan if not isinstance(result, tuple) else (result[0] * np.nan, result[1])

    monkeypatch.setattr(DDVI, method, breaking)
    with pytest.raises(TrainingError, match=where) as caught:
        model(n_epochs=20).fit(X)
    assert "extreme values" in str(caught.value)


@pytest.mark.parametrize("method", ["transform", "predict", "score_samples", "posterior_samples"])
def test_nothing_works_before_fit(X, method):
    with pytest.raises(ValueError, match="not fitted"):
        getattr(model(), method)(X)
    with pytest.raises(ValueError, match="not fitted"):
        model().sample()
    with pytest.raises(ValueError, match="not fitted"):
        model().project(X)
