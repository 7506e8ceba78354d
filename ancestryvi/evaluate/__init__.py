"""Scores of maps and clusters against known labels, of latents against their prior."""

from ancestryvi.evaluate.benchmark import run_benchmark, supervised_ceiling
from ancestryvi.evaluate.latents import latent_nll, mmd
from ancestryvi.evaluate.metrics import (
    clustering_metrics,
    confidence_interval,
    map_metrics,
    reference_accuracy,
    reference_line,
)
from ancestryvi.evaluate.runs import Run, median_run, run_table, summary_table
from ancestryvi.evaluate.uncertainty import assignment_entropy

__all__ = [
    "Run",
    "assignment_entropy",
    "clustering_metrics",
    "confidence_interval",
    "latent_nll",
    "map_metrics",
    "median_run",
    "mmd",
    "reference_accuracy",
    "reference_line",
    "run_benchmark",
    "run_table",
    "summary_table",
    "supervised_ceiling",
]
