"""scikit-learn's own checks of the contract of an estimator; none is expected to fail.

The checks hand labels to ``fit``, so that they see every variant with and without.
"""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from ancestryvi import AncestryDDVI
from ancestryvi.training import reference


def ladder(n_samples, rng):
    """Four rungs on a line."""
    rung = rng.integers(4, size=n_samples)
    return (rung - 1.5 + 0.1 * rng.standard_normal(n_samples))[:, None], rung


VARIANTS = [
    {},
    {"sleep": "latent"},
    {"sleep": None},
    {"clustering": "latent_class"},
    {"clustering": "latent_class", "sleep": "latent"},
    {"prior": "normal"},
    {"prior": "pinwheel"},
    {"prior": ladder, "n_components": 1},
    {"pretrain": False},
    {"n_sleep_steps": 2},
    {"preset": "reference", "n_epochs": 1},
]

CLUSTERS_ANEW = {"check_clustering"}
"""Sets `n_clusters`, which is not how many parts a given prior has, and asks for its clusters."""

IN_ONE_DIMENSION = {
    "check_dont_overwrite_parameters",
    "check_fit2d_1feature",
    "check_fit2d_predict1d",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
}
"""Set `n_components` to 1, where a shape of the plane is no prior."""

NOT_FOR_PRIOR = {
    "normal": CLUSTERS_ANEW,
    "pinwheel": CLUSTERS_ANEW | IN_ONE_DIMENSION,
    ladder: CLUSTERS_ANEW,
}


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([AncestryDDVI(**{"n_epochs": 2} | variant) for variant in VARIANTS])
def test_common_checks(estimator, check, monkeypatch):
    # each epoch of the authors' warm up has 500 steps
    monkeypatch.setattr(reference, "WARM_UP_STEPS", 2)
    name = check.func.__name__
    if name in NOT_FOR_PRIOR.get(estimator.prior, ()):
        pytest.skip("contradicts the prior")
    if name == "check_clustering":
        if estimator.preset:
            pytest.skip("takes minutes, as clusters need many epochs of wide networks")
        # explicit classes need longer to part
        estimator.set_params(n_epochs=10 if estimator.clustering == "mixture" else 150)
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_get_feature_names_out_error",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_transformer_get_feature_names_out",
    ],
)
def test_checks_outside_the_common_suite(check):
    getattr(estimator_checks, check)("AncestryDDVI", AncestryDDVI(n_epochs=5))
