"""One class per failure that a user can meet.

Every message says what was wrong (the number, the id), where (the file, the line or the variant)
and what to do next. The command line prints it and exits with status 1.
"""


class AncestryVIError(Exception):
    """Base class of every error that ancestryvi raises on purpose."""


class InputFormatError(AncestryVIError, ValueError):
    """A file is empty, truncated, or not what its name says it is."""


class SampleError(AncestryVIError, ValueError):
    """Sample ids are duplicated, differ between files, or there are too few samples."""


class LabelError(AncestryVIError, ValueError):
    """A sample table has no usable header or matches none of the samples."""


class NoVariantsError(AncestryVIError, ValueError):
    """No variant is left; the message names the filter that removed the last ones."""


class OverlapError(AncestryVIError, ValueError):
    """Too few variants of a fitted model are present in the new genotypes."""


class MemoryNeedError(AncestryVIError, MemoryError):
    """Genotypes do not fit into memory; the message says what is needed, there, and would fit."""


class OutputError(AncestryVIError, OSError):
    """An output exists already, cannot be written, or its format cannot hold the data."""


class DownloadError(AncestryVIError, OSError):
    """A file cannot be fetched; the message says whether trying again helps."""


class ChecksumError(DownloadError):
    """What was fetched is not the file whose checksum its publisher gives."""


class TrainingError(AncestryVIError, ArithmeticError):
    """The loss became non-finite; the message names epoch and batch and what to change."""


class ModelFormatError(AncestryVIError, ValueError):
    """A model directory is incomplete, damaged, or written by an incompatible version."""
