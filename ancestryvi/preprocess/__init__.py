"""From genotypes to PC scores: quality control, LD thinning, scaling, PCA, projection."""

from ancestryvi.preprocess.pca import GenotypePCA
from ancestryvi.preprocess.quality import QualityReport, quality_control

__all__ = ["GenotypePCA", "QualityReport", "quality_control"]
