"""The contract of `AncestryDDVI` for each variant of prior, posterior and objective."""

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import adjusted_rand_score

from ancestryvi import AncestryDDVI
from ancestryvi.estimators.recipe import Recipe
from ancestryvi.models.priors import KernelPrior, MixturePrior, Prior, kernel_prior
from ancestryvi.models.shapes import Pinwheel
from ancestryvi.training import reference


def trefoil(n_samples, rng):
    """Three spots in the plane, as latents and parts."""
    part = rng.integers(3, size=n_samples)
    angle = 2.0 * np.pi * part / 3.0
    centres = np.column_stack([np.cos(angle), np.sin(angle)])
    return centres + 0.1 * rng.standard_normal((n_samples, 2)), part


def ring(n_samples, rng):
    """A circle, of one part."""
    angle = rng.uniform(0.0, 2.0 * np.pi, n_samples)
    return np.column_stack([np.cos(angle), np.sin(angle)])


VARIANTS = {
    "default": {},
    "latent sleep": {"sleep": "latent"},
    "no sleep": {"sleep": None},
    "clusters of the prior": {"clustering": "mixture"},
    "clusters of the prior, latent sleep": {"clustering": "mixture", "sleep": "latent"},
    "more classes than are summed over": {"clustering": "latent_class", "n_clusters": 12},
    "classes of a shape": {"clustering": "latent_class", "prior": "pinwheel"},
    "normal": {"prior": "normal"},
    "mixture": {"prior": "mixture"},
    "pinwheel": {"prior": "pinwheel"},
    "swiss roll": {"prior": "swiss_roll"},
    "square": {"prior": "square"},
    "sampler": {"prior": trefoil},
    "sampler of one part": {"prior": ring},
    "prior object": {"prior": kernel_prior(trefoil, 2, np.random.default_rng(0), 300)},
    "no pre-training": {"pretrain": False},
    "sleeps more": {"n_sleep_steps": 3},
    "all at once": {
        "prior": "square",
        "clustering": "latent_class",
        "sleep": "latent",
        "pretrain": False,
    },
    "reference": {"preset": "reference", "n_epochs": 1},
}

N_PARTS = {
    "classes of a shape": 10,
    "normal": 1,
    "pinwheel": 10,
    "swiss roll": 10,
    "square": 10,
    "sampler": 3,
    "sampler of one part": 1,
    "prior object": 3,
    "all at once": 10,
}
"""Of priors that are not learned."""


@pytest.fixture(autouse=True, scope="module")
def short_warm_up():
    """Each epoch of the authors' warm up has 500 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "WARM_UP_STEPS", 5)
        yield


def new(variant, **parameters):
    basic = {"n_clusters": 4, "n_epochs": 6, "random_state": 7}
    return AncestryDDVI(**basic | VARIANTS[variant] | parameters)


@pytest.fixture(scope="module")
def fits(X):
    """A fit of each variant, made when first asked for."""
    made = {}

    def fit(variant):
        if variant not in made:
            made[variant] = new(variant).fit(X)
        return made[variant]

    return fit


every_variant = pytest.mark.parametrize("variant", VARIANTS)


# ------------------------------------------------------------------------------------- read-outs


@every_variant
def test_read_outs_agree_and_do_not_depend_on_other_rows(fits, X, variant):
    model = fits(variant)
    assert_array_equal(model.transform(X), model.embedding_)
    some = X[:9]
    probabilities = model.predict_proba(some)
    assert probabilities.shape == (9, model.n_clusters_)
    assert (probabilities >= 0).all()
    assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-12)
    assert_array_equal(probabilities.argmax(axis=1), model.labels_[:9])
    assert_array_equal(model.predict(some), model.labels_[:9])
    assert np.isfinite(model.score_samples(some)).all()
    assert np.isfinite(model.elbo_)
    for method in (model.transform, model.predict_proba, model.score_samples):
        whole = method(some)
        assert_array_equal(method(some), whole)
        assert_allclose(method(some[::-1]), whole[::-1], rtol=0, atol=1e-9)
        assert_allclose(method(some[4:5]), whole[4:5], rtol=0, atol=1e-9)


@every_variant
def test_shapes_and_scales_of_what_is_drawn(fits, X, variant):
    model = fits(variant)
    draws = model.posterior_samples(X[:5], 30, random_state=1)
    assert draws.shape == (5, 30, 2)
    assert np.isfinite(draws).all()
    assert (draws.std(axis=1) > 0).all()
    assert_array_equal(draws, model.posterior_samples(X[:5], 30, random_state=1))
    drawn, parts = model.sample(400, random_state=1)
    assert drawn.shape == (400, X.shape[1])
    assert np.isfinite(drawn).all()
    share = np.bincount(parts, minlength=model.n_clusters_) / 400
    assert_allclose(share, model.weights_, atol=0.1)
    assert model.cluster_centers_.shape == (model.n_clusters_, 2)
    assert_allclose(model.weights_.sum(), 1.0)
    assert model.inverse_transform(model.transform(X)).shape == X.shape


@every_variant
def test_the_same_seed_gives_the_same_and_no_global_state_is_used(fits, X, variant):
    torch.manual_seed(31)
    np.random.seed(31)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    model = new(variant)
    Z = model.fit_transform(X)
    model.sample(3, random_state=0)
    model.posterior_samples(X[:2], 2, random_state=0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    known = fits(variant)
    assert_array_equal(Z, known.embedding_)
    assert_array_equal(model.labels_, known.labels_)
    assert model.history_.to_dict() == known.history_.to_dict()


@every_variant
def test_parts_that_are_learned_own_a_sample_and_others_stay(fits, variant):
    model = fits(variant)
    if variant in N_PARTS:
        assert model.n_clusters_ == N_PARTS[variant]
        assert model.labels_.max() < N_PARTS[variant]
    else:
        sizes = np.bincount(model.labels_, minlength=model.n_clusters_)
        assert (sizes > 0).all()
        assert_array_equal(sizes, np.sort(sizes)[::-1])


@every_variant
def test_spread_is_the_distance_of_posterior_draws_from_their_mean(fits, X, variant):
    model = fits(variant)
    some = X[:6]
    spread = model.project(some).spread
    draws = model.posterior_samples(some, 500, random_state=2)
    naive = [
        math.sqrt(sum(((draw - row.mean(axis=0)) ** 2).sum() for draw in row) / len(row))
        for row in draws
    ]
    assert_allclose(spread, naive, rtol=0.25)


# -------------------------------------------------------------------------------------- on disk


@every_variant
def test_a_saved_model_comes_back_the_same(fits, X, variant, tmp_path):
    model = fits(variant)
    model.save(tmp_path / "model")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    loaded = AncestryDDVI.load(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    some = X[:5]
    for method in ("transform", "predict_proba", "predict", "score_samples"):
        assert_array_equal(getattr(loaded, method)(some), getattr(model, method)(some))
    for ours, theirs in zip(
        loaded.sample(20, random_state=3), model.sample(20, random_state=3), strict=True
    ):
        assert_array_equal(ours, theirs)
    assert_array_equal(
        loaded.posterior_samples(X[:3], 4, random_state=3),
        model.posterior_samples(X[:3], 4, random_state=3),
    )
    assert_array_equal(loaded.project(some).spread, model.project(some).spread)
    for name in ("embedding_", "labels_", "weights_", "cluster_centers_"):
        assert_array_equal(getattr(loaded, name), getattr(model, name))
    assert loaded.history_.to_dict() == model.history_.to_dict()
    assert not hasattr(loaded, "classes_")
    plain, again = model.get_params(), loaded.get_params()
    if not isinstance(plain["prior"], str):
        del plain["prior"], again["prior"]
    assert again == plain


@pytest.mark.parametrize("variant", ["default", "latent sleep", "pinwheel", "reference"])
def test_a_loaded_model_fits_as_the_saved_one_did(fits, X, variant, tmp_path):
    fits(variant).save(tmp_path / "model")
    again = AncestryDDVI.load(tmp_path / "model").fit(X)
    assert_array_equal(again.embedding_, fits(variant).embedding_)


@pytest.mark.parametrize("variant", ["sampler", "sampler of one part", "prior object"])
def test_a_sampler_comes_back_as_the_prior_it_made(fits, X, variant, tmp_path):
    model = fits(variant)
    model.save(tmp_path / "first")
    loaded = AncestryDDVI.load(tmp_path / "first")
    assert isinstance(loaded.prior, KernelPrior)
    refitted = loaded.fit(X)
    assert_array_equal(refitted.weights_, model.weights_)
    assert_allclose(refitted.cluster_centers_, model.cluster_centers_, atol=1e-6)
    assert_allclose(refitted.embedding_, model.embedding_, atol=1e-4)
    refitted.save(tmp_path / "second")
    last = AncestryDDVI.load(tmp_path / "second")
    assert_array_equal(last.transform(X), refitted.embedding_)
    assert_array_equal(last.score_samples(X[:5]), refitted.score_samples(X[:5]))


def test_a_mixture_as_prior_object_comes_back(X, tmp_path):
    prior = MixturePrior(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[-1.0, 0.0], [1.0, 0.0]]),
        4.0 * torch.eye(2).repeat(2, 1, 1),
    )
    model = AncestryDDVI(prior=prior, n_epochs=6, random_state=0).fit(X)
    assert_allclose(model.weights_, [0.3, 0.7], rtol=1e-6)
    assert_allclose(model.cluster_centers_, [[-1.0, 0.0], [1.0, 0.0]])
    model.save(tmp_path / "model")
    loaded = AncestryDDVI.load(tmp_path / "model")
    assert isinstance(loaded.prior, MixturePrior)
    assert_array_equal(loaded.transform(X), model.transform(X))
    assert_array_equal(loaded.fit(X).weights_, model.weights_)


# --------------------------------------------------------------------------------- given priors


@pytest.mark.parametrize("name", ["given", "named"])
def test_a_given_prior_is_not_changed_by_training(X, name):
    prior = kernel_prior(Pinwheel(), 2, np.random.default_rng(3), 500)
    before = {key: value.clone() for key, value in prior.state_dict().items()}
    model = AncestryDDVI(
        prior=prior if name == "given" else "pinwheel", n_epochs=6, random_state=0
    ).fit(X)
    assert isinstance(model._fitted.module.prior, Prior)
    if name == "given":
        assert all(torch.equal(value, before[key]) for key, value in prior.state_dict().items())
        assert_array_equal(model._fitted.module.prior.points.float(), before["points"])
        assert prior.points.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model._fitted.module.prior.parameters())
    # The arms of a pinwheel are turned by 36 degrees each, around the origin.
    distance = np.linalg.norm(model.cluster_centers_, axis=1)
    assert_allclose(distance, 1.0, atol=0.15)


def test_the_normal_prior_stays_standard_and_makes_one_cluster(fits):
    model = fits("normal")
    assert_array_equal(model.labels_, 0)
    assert_array_equal(model.cluster_centers_, [[0.0, 0.0]])
    prior = model._fitted.module.prior
    assert_array_equal(prior.precision_factors, torch.eye(2, dtype=torch.float64)[None])


def test_a_sampler_is_called_with_a_private_generator(X):
    seen = []

    def spying(n_samples, rng):
        seen.append(rng)
        return ring(n_samples, rng)

    AncestryDDVI(prior=spying, n_epochs=4, random_state=0).fit(X)
    assert [type(rng) for rng in seen] == [np.random.Generator]


def test_maps_have_the_shape_of_the_square(X):
    # Trained for long, the samples of well-separated clusters lie near the edge of the square.
    model = AncestryDDVI(prior="square", n_epochs=150, random_state=0).fit(X)
    draws = model.posterior_samples(X, 50, random_state=0).reshape(-1, 2)
    edge = np.abs(np.abs(draws).max(axis=1) - 1.0)
    assert np.median(edge) < 0.15


@pytest.mark.parametrize("sleep", ["full", "latent"])
def test_explicit_classes_find_separated_clusters(blobs, sleep):
    X, truth = blobs
    model = AncestryDDVI(
        4, clustering="latent_class", sleep=sleep, n_epochs=150, random_state=0
    ).fit(X)
    assert adjusted_rand_score(truth, model.labels_) > 0.9


# -------------------------------------------------------------------------------------- phases

LAYOUT, WARM, DREAM, WAKE_SLEEP = "layout", "warm start", "dreaming", "wake-sleep"


@pytest.mark.parametrize(
    ("variant", "phases", "n_epochs"),
    [
        ("default", [LAYOUT, WARM, DREAM, WAKE_SLEEP], [5, 36, 5, 4]),
        ("latent sleep", [LAYOUT, WARM, DREAM, WAKE_SLEEP], [5, 36, 5, 4]),
        ("no sleep", [LAYOUT, WARM, "wake"], [6, 41, 4]),
        ("clusters of the prior", [LAYOUT, WARM, DREAM, WAKE_SLEEP], [5, 36, 5, 4]),
        ("pinwheel", [LAYOUT, WARM, DREAM, WAKE_SLEEP], [4, 30, 6, 10]),
        ("no pre-training", [LAYOUT, WAKE_SLEEP], [14, 36]),
        ("sleeps more", [LAYOUT, WARM, DREAM, WAKE_SLEEP], [5, 36, 5, 4]),
    ],
)
def test_phases_and_their_epochs(X, variant, phases, n_epochs):
    history = new(variant, n_epochs=50).fit(X).history_
    assert list(dict.fromkeys(history.phases)) == phases
    assert [history.phases.count(name) for name in phases] == n_epochs
    terms = {name: set(history.epochs[history.phases.index(name)]) for name in phases}
    last = terms[phases[-1]]
    assert {"wake/elbo", "wake/reconstruction"} <= last
    assert ("sleep/loss" in last) == (VARIANTS[variant].get("sleep", "full") == "full")
    assert ("wake/diffusion" in last) == (VARIANTS[variant].get("sleep") == "latent")
    assert ("wake/log_class" in last) == (variant not in ("pinwheel", "clusters of the prior"))


@pytest.mark.parametrize("n_samples", [100, 2504, 10_000, 50_000, 500_000])
def test_training_is_bounded_whatever_the_cohort(n_samples):
    """560 batches but for what whole epochs of each phase ask; a fixed prior has more to learn."""
    n_batches = -(-min(n_samples, 2**16) // 256)
    given = {field.name for field in fields(Recipe)}
    parameters = {k: v for k, v in AncestryDDVI().get_params().items() if k in given}
    recipe = Recipe(method="ddvi", **parameters)
    settled = sum(recipe.epochs(n_samples, settled=True).values())
    if n_samples <= 20_000:
        assert settled * n_batches == pytest.approx(560, abs=2 * n_batches)
    assert settled * n_batches < 1300
    fixed = sum(recipe.epochs(n_samples, settled=False).values())
    expected = min(max(750, 45 * n_batches), 2000)
    assert fixed * n_batches == pytest.approx(expected, abs=2 * n_batches)


def test_more_sleep_steps_are_other_steps(fits):
    # Sleep steps follow wake steps, so that everything before the wake-sleep phase is the same.
    once, thrice = fits("default").history_, fits("sleeps more").history_
    first = once.phases.index(WAKE_SLEEP)
    assert once.epochs[:first] == thrice.epochs[:first]
    assert once.epochs[first:] != thrice.epochs[first:]


# ---------------------------------------------------------------------------- the authors' model


def test_the_reference_has_their_steps_phases_and_batches(X, monkeypatch):
    sizes = []
    original = reference.ReferenceDDVI.wake_loss

    def counting(self, x, *args):
        sizes.append(len(x))
        return original(self, x, *args)

    monkeypatch.setattr(reference.ReferenceDDVI, "wake_loss", counting)
    model = new("reference", n_epochs=2, batch_size=7, n_diffusion_steps=3).fit(X)
    assert model.history_.phases == ["warm up"] * 2 + ["reference"] * 2
    assert model.n_iter_ == 4
    assert model._fitted.module.n_steps == 20
    # Five copies of 90 samples are 450, in four batches of at most 128; in each of two epochs.
    assert sorted(sizes) == [112] * 4 + [113] * 4


def test_the_reference_has_no_use_for_labels(X):
    plain = new("reference", n_epochs=1).fit(X)
    labelled = new("reference", n_epochs=1).fit(X, ["a", "b"] * 45)
    assert not hasattr(labelled, "classes_")
    assert_array_equal(labelled.labels_, plain.labels_)
    assert_array_equal(labelled.embedding_, plain.embedding_)


def test_the_reference_learns(X):
    errors = new("reference", n_epochs=6).fit(X).history_["wake/squared_error"][6:]
    assert errors[-1] < 0.8 * errors[0]
