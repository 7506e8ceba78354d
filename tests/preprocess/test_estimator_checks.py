"""scikit-learn's own checks of the contract of an estimator, on `GenotypePCA`.

The checks feed matrices of real numbers, which a transformer of genotypes must refuse. So they run
twice: as they are, where those that need a fit must fail for exactly that reason, and on a subclass
that turns any numbers into calls first, where every check must pass.
"""

import numpy as np
import pandas as pd
import pytest
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from ancestryvi.exceptions import InputFormatError
from ancestryvi.preprocess import GenotypePCA

OPTIONS = {
    "min_maf": 0.0,
    "min_mac": 1,
    "min_variant_call_rate": 0.0,  # one check scatters missing calls over 30 samples
    "min_sample_call_rate": 0.0,
    "max_ld_r2": None,
}

NEED_A_FIT_ON_REAL_NUMBERS = [
    "check_dict_unchanged",
    "check_dont_overwrite_parameters",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit2d_predict1d",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_fit_score_takes_y",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
    "check_transformer_preserve_dtypes",
]
REASON = "the check fits real numbers, which are no dosages; it passes on OfAnyNumbers"


def calls_of(X):
    """Turn each number into 0, 1 or 2; leave alone what is no matrix of numbers."""
    if isinstance(X, pd.DataFrame):
        return pd.DataFrame(calls_of(X.to_numpy()), index=X.index, columns=X.columns)
    values = np.asarray(X)
    try:
        values = values.astype(float) if values.dtype == object else values
    except (TypeError, ValueError):
        return X
    if values.ndim != 2 or values.dtype.kind not in "iuf":
        return X
    return np.floor(2 * values) % 3


class OfAnyNumbers(GenotypePCA):
    """`GenotypePCA` on the calls that `calls_of` makes of any numbers."""

    def fit(self, X, y=None):
        return super().fit(calls_of(X), y)

    def fit_transform(self, X, y=None):
        return super().fit_transform(calls_of(X), y)

    def transform(self, X):
        return super().transform(calls_of(X))


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def names(results, status=None):
    return {r["check_name"] for r in results if status in (None, r["status"])}


def test_checks_that_fit_real_numbers_are_refused_and_all_others_pass():
    results = check_estimator(
        GenotypePCA(**OPTIONS),
        expected_failed_checks=dict.fromkeys(NEED_A_FIT_ON_REAL_NUMBERS, REASON),
        on_skip=None,
        on_fail=None,
    )
    assert names(results, "failed") == set()
    assert names(results, "xfail") == names(results) & set(NEED_A_FIT_ON_REAL_NUMBERS)
    assert names(results, "skipped") <= {"check_array_api_input"}  # needs an environment variable
    for result in results:
        if result["status"] == "xfail":
            assert any(
                isinstance(error, InputFormatError) and "is no dosage matrix" in str(error)
                for error in causes(result["exception"])
            ), result["check_name"]


@pytest.mark.parametrize("options", [{}, {"n_components": 1}], ids=str)
def test_every_check_passes_on_calls(options):
    results = check_estimator(OfAnyNumbers(**OPTIONS, **options), on_skip=None, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert failed == {}
    assert names(results, "skipped") <= {"check_array_api_input"}


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@pytest.mark.parametrize(
    "check",
    [
        "check_dataframe_column_names_consistency",
        "check_get_feature_names_out_error",
        "check_set_output_transform",
        "check_set_output_transform_pandas",
        "check_global_output_transform_pandas",
        "check_transformer_get_feature_names_out",
        "check_transformer_get_feature_names_out_pandas",
    ],
)
def test_checks_outside_the_common_suite(check):
    getattr(estimator_checks, check)("OfAnyNumbers", OfAnyNumbers(**OPTIONS))
