"""The labels of the samples that a map was made of, which `project` names its parts by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ancestryvi.cli.common import counted
from ancestryvi.cli.inputs import Cohort, groups_samples
from ancestryvi.cli.outputs import write_tsv
from ancestryvi.exceptions import ModelFormatError
from ancestryvi.persistence import LABELS_FILE
from ancestryvi.report import nested_group


def keep_labels(model_dir: Path, cohort: Cohort) -> None:
    """Write the labels that colour the map, and their groups, beside a model.

    Never sample ids, nor values that differ between samples: models are passed on.
    """
    if cohort.label_column is None or not groups_samples(cohort.labels, cohort.label_column):
        return
    group = nested_group(cohort.labels, cohort.label_columns)
    columns = [name for name in (cohort.label_column, group) if name is not None]
    write_tsv(model_dir / LABELS_FILE, cohort.labels[columns])


def reference_map(model: Any, model_dir: str) -> pd.DataFrame:
    """The map of the fitted samples as an embedding table, with their labels if these were kept."""
    places = model.embedding_.T
    table = pd.DataFrame(
        {
            "sample_id": "reference sample",
            **{f"{model.map_name}{i + 1}": column for i, column in enumerate(places)},
            "cluster": map(str, model.labels_) if hasattr(model, "classes_") else model.labels_,
            "probability": np.nan,
        }
    )
    path = Path(model_dir) / LABELS_FILE
    if hasattr(model, "classes_") or not path.is_file():
        return table
    labels = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, na_values=[""])
    if len(labels) != len(table):
        raise ModelFormatError(
            f"{path} has {counted(len(labels), 'row')}, and the model {len(table):,} samples; copy "
            "the model again or fit it again."
        )
    return table.join(labels)
