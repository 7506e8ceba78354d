"""A fitted estimator as data, and back."""

from __future__ import annotations

from dataclasses import fields
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd

from ancestryvi import __version__
from ancestryvi.estimators.base import AncestryEstimator
from ancestryvi.estimators.latent_variable import LatentVariableEstimator
from ancestryvi.exceptions import ModelFormatError
from ancestryvi.persistence import (
    ARRAYS_FILE,
    LABELS_FILE,
    MODEL_FILE,
    Artifact,
    whole_directory,
)
from ancestryvi.preprocess import GenotypePCA
from ancestryvi.preprocess.score_prior import ScorePrior
from ancestryvi.training import History

SCALARS = ("input_", "elbo_", "n_iter_", "n_features_in_")
"""Those that the estimator has."""

ARRAYS = ("embedding_", "_codes")
PCA_SCALARS = ("n_features_in_", "n_signal_", "n_structure_", "solver_")
PCA_ARRAYS = (
    "components_",
    "explained_variance_",
    "explained_variance_ratio_",
    "shrinkage_",
    "fingerprints_",
    "spectrum_",
    "mean_",
    "scale_",
    "kept_variants_",
    "fit_samples_",
    "sample_call_rate_",
)
PCA_TABLES = {"variants_": "variants", "qc_": "qc"}

OWNED = (
    MODEL_FILE,
    ARRAYS_FILE,
    LABELS_FILE,
    *(f"{name}.tsv" for name in PCA_TABLES.values()),
)
"""Names of the files of a model directory."""


def save_model(model: AncestryEstimator, path: str | PathLike[str], *, overwrite: bool) -> None:
    """Write a fitted model; see `AncestryEstimator.save`."""
    parameters = model.get_params(deep=False)
    seed = parameters["random_state"]
    parameters["random_state"] = int(seed) if isinstance(seed, int | np.integer) else None
    if not isinstance(parameters.get("prior", ""), str):
        parameters["prior"] = None  # it comes back as what it became
    parameters["pca"] = None if model.pca is None else model.pca.get_params()
    record: dict[str, Any] = {
        "ancestryvi_version": __version__,
        "estimator": type(model).__name__,
        "parameters": parameters,
        "fitted": {name: getattr(model, name) for name in SCALARS if hasattr(model, name)},
        **model._fitted.record(),
    }
    arrays = {name: getattr(model, name) for name in ARRAYS} | model._fitted.arrays()
    tables = {}
    if hasattr(model, "history_"):
        record["history"] = model.history_.to_dict()
    if hasattr(model, "classes_"):
        record["classes"] = model.classes_.tolist()
    if hasattr(model, "feature_names_in_"):
        record["feature_names"] = [str(name) for name in model.feature_names_in_]
    if model.pca_ is not None:
        record["pca"] = {
            "parameters": model.pca_.get_params(),
            "fitted": {name: getattr(model.pca_, name) for name in PCA_SCALARS},
        }
        arrays |= {f"pca.{name}": getattr(model.pca_, name) for name in PCA_ARRAYS}
        arrays |= {f"scores.{name}": array for name, array in vars(model._score_prior).items()}
        tables = {table: getattr(model.pca_, name) for name, table in PCA_TABLES.items()}
        tables["qc"] = _without_sample_ids(tables["qc"])
    with whole_directory(path, overwrite=overwrite, owned=OWNED) as staging:
        Artifact(record, arrays, tables).write(staging)


def _without_sample_ids(qc: pd.DataFrame) -> pd.DataFrame:
    """The account of quality control less the ids, which follow a colon."""
    reasons = qc["detail"].str.partition(": ")[0]
    return qc.assign(detail=qc["detail"].where(qc["scope"] != "samples", reasons))


def load_model(path: str | PathLike[str], kind: type[Any] = AncestryEstimator) -> Any:
    """Read a fitted model of this class or one below it; see `AncestryEstimator.load`."""
    artifact = Artifact.read(path)
    name = str(artifact.record.get("estimator"))
    known = {cls.__name__: cls for cls in _below(AncestryEstimator)}
    if not issubclass(known.get(name, object), kind):
        raise ModelFormatError(
            f"The model in {path} is of the class {name!r}, not {kind.__name__}; load it with its "
            "own class, or with AncestryEstimator.load."
        )
    try:
        return _restore(artifact, known[name])
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ModelFormatError(
            f"The model in {path} lacks a part or has one of the wrong shape ({error}); copy it "
            "again or fit it again."
        ) from error


def _below(cls: type[Any]) -> list[type[Any]]:
    """A class and every class that is derived from it."""
    return [cls, *(found for child in cls.__subclasses__() for found in _below(child))]


def _restore(artifact: Artifact, kind: type[AncestryEstimator]) -> AncestryEstimator:
    """The estimator that an artifact describes."""
    record, arrays = artifact.record, artifact.arrays
    parameters = dict(record["parameters"])
    if parameters["pca"] is not None:
        parameters["pca"] = GenotypePCA(**parameters["pca"])
    model = kind(**parameters)
    for name in SCALARS:
        if name in record["fitted"]:
            setattr(model, name, record["fitted"][name])
    for name in ARRAYS:
        setattr(model, name, arrays[name])
    if issubclass(kind, LatentVariableEstimator):
        model.history_ = History.from_dict(record["history"])
    if "classes" in record:
        classes = record["classes"]
        model.classes_ = np.array(classes, dtype=object if isinstance(classes[0], str) else None)
    if "feature_names" in record:
        model.feature_names_in_ = np.array(record["feature_names"], dtype=object)
    model.pca_ = model._score_prior = None
    if "pca" in record:
        model.pca_ = _restore_pca(artifact)
        names = (field.name for field in fields(ScorePrior))
        model._score_prior = ScorePrior(**{name: arrays[f"scores.{name}"] for name in names})
    model._fitted = kind.fitted_type.restore(record, arrays)
    if getattr(model, "prior", "") is None:
        model.prior = model._fitted.module.prior
    model._publish()
    return model


def _restore_pca(artifact: Artifact) -> GenotypePCA:
    """The fitted components of an artifact."""
    record = artifact.record["pca"]
    pca = GenotypePCA(**record["parameters"])
    for name in PCA_SCALARS:
        setattr(pca, name, record["fitted"][name])
    for name in PCA_ARRAYS:
        setattr(pca, name, artifact.arrays[f"pca.{name}"])
    for name, table in PCA_TABLES.items():
        setattr(pca, name, artifact.tables[table])
    return pca
