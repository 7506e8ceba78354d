"""scikit-learn's own checks of the contract of an estimator; none is expected to fail.

The checks hand labels to ``fit``, so that they see every variant with and without.
"""

from dataclasses import dataclass

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from ancestryvi import AncestryDDVI
from ancestryvi.training import reference


@dataclass(frozen=True)
class Ladder:
    """Four rungs on a line.

    The names of tests have its repr, which is the same in every process, as a function's is not.
    """

    def __call__(self, n_samples, rng):
        rung = rng.integers(4, size=n_samples)
        return (rung - 1.5 + 0.1 * rng.standard_normal(n_samples))[:, None], rung


VARIANTS = [
    {},
    {"clustering": "mixture"},
    {"sleep": "latent"},
    {"sleep": None},
    {"prior": "normal"},
    {"prior": Ladder(), "n_components": 1},
    {"preset": "reference", "n_epochs": 1},
]
"""Each way to cluster, objective, kind of prior; `test_ddvi_variants.py` has what is left."""

CLUSTERS_ANEW = {"check_clustering"}
"""Sets `n_clusters`, which is not how many parts a given prior has, and asks for its clusters."""

NOT_FOR_PRIOR = {
    "normal": CLUSTERS_ANEW,
    Ladder(): CLUSTERS_ANEW,
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
