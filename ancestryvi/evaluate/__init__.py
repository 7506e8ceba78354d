"""Scores of maps and clusters against known labels."""

from ancestryvi.evaluate.metrics import (
    clustering_metrics,
    confidence_interval,
    map_metrics,
    reference_line,
)

__all__ = ["clustering_metrics", "confidence_interval", "map_metrics", "reference_line"]
