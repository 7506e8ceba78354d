"""Scores of maps and clusters against known labels, of latents against their prior."""

from ancestryvi.evaluate.latents import latent_nll, mmd
from ancestryvi.evaluate.metrics import (
    clustering_metrics,
    confidence_interval,
    map_metrics,
    reference_line,
)
from ancestryvi.evaluate.uncertainty import assignment_entropy

__all__ = [
    "assignment_entropy",
    "clustering_metrics",
    "confidence_interval",
    "latent_nll",
    "map_metrics",
    "mmd",
    "reference_line",
]
