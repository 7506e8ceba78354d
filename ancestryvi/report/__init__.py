"""Pictures for papers and the interactive report."""

from ancestryvi.report.comparison import Comparison, comparison_markdown, write_comparison
from ancestryvi.report.comparison_figures import cost_figure, maps_figure
from ancestryvi.report.content import ReportContent
from ancestryvi.report.figures import embedding_figure, save_figure
from ancestryvi.report.html import write_report
from ancestryvi.report.palette import Style, category_styles
from ancestryvi.report.table import Colouring, colouring, nested_group, trailing_labels

__all__ = [
    "Colouring",
    "Comparison",
    "ReportContent",
    "Style",
    "category_styles",
    "colouring",
    "comparison_markdown",
    "cost_figure",
    "embedding_figure",
    "maps_figure",
    "nested_group",
    "save_figure",
    "trailing_labels",
    "write_comparison",
    "write_report",
]
