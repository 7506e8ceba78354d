"""From genotypes to PC scores: quality control, LD thinning, scaling, PCA, projection."""

from ancestryvi.preprocess.passes import passes_on
from ancestryvi.preprocess.pca import GenotypePCA
from ancestryvi.preprocess.quality import QualityReport, quality_control

__all__ = ["GenotypePCA", "QualityReport", "passes_on", "quality_control"]
