"""Genotype files and sample tables; dosages, always with sample ids and variants beside them."""

from ancestryvi.genotypes.alleles import VariantMatch, match_variants
from ancestryvi.genotypes.container import Genotypes
from ancestryvi.genotypes.convert import write_genotypes
from ancestryvi.genotypes.dosage import MISSING
from ancestryvi.genotypes.reading import open_source, read_genotypes, read_scores
from ancestryvi.genotypes.samples import JoinedLabels, join_labels, read_sample_table
from ancestryvi.genotypes.source import Block, GenotypeSource

__all__ = [
    "MISSING",
    "Block",
    "GenotypeSource",
    "Genotypes",
    "JoinedLabels",
    "VariantMatch",
    "join_labels",
    "match_variants",
    "open_source",
    "read_genotypes",
    "read_sample_table",
    "read_scores",
    "write_genotypes",
]
