"""Pictures for papers and the interactive report."""

from ancestryvi.report.content import ReportContent
from ancestryvi.report.figures import embedding_figure, save_figure
from ancestryvi.report.html import write_report
from ancestryvi.report.palette import Style, category_styles
from ancestryvi.report.table import Colouring, colouring, nested_group

__all__ = [
    "Colouring",
    "ReportContent",
    "Style",
    "category_styles",
    "colouring",
    "embedding_figure",
    "nested_group",
    "save_figure",
    "write_report",
]
