"""scikit-learn's own checks of the contract of an estimator; none is expected to fail."""

import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from ancestryvi import AncestryDDVI


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([AncestryDDVI(n_epochs=10)])
def test_common_checks(estimator, check):
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
