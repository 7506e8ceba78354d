"""Elements of HTML; text is escaped here."""

from collections.abc import Iterable, Mapping
from html import escape


def section(title: str, *parts: str) -> str:
    body = "\n".join(filter(None, parts))
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>"


def html_table(head: Iterable[str], rows: Iterable[str], kind: str = "") -> str:
    return (
        f'<div class="scroll"><table class="{kind}">\n<thead>{tr(head)}</thead>\n<tbody>\n'
        + "\n".join(rows)
        + "\n</tbody></table></div>"
    )


def tr(cells: Iterable[str], kind: str = "") -> str:
    return f"<tr{class_of(kind)}>{''.join(cells)}</tr>"


def th(text: str, kind: str = "") -> str:
    return f"<th{class_of(kind)}>{escape(text)}</th>"


def td(text: str, kind: str = "") -> str:
    return f"<td{class_of(kind)}>{escape(text)}</td>"


def class_of(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def nested(value: object) -> str:
    """A mapping as a table, a sequence line by line, anything else as text."""
    if isinstance(value, Mapping):
        rows = "".join(f"<tr>{th(str(k))}<td>{nested(v)}</td></tr>" for k, v in value.items())
        return f"<table>{rows}</table>"
    if isinstance(value, list | tuple):
        return "".join(f"<div>{nested(item)}</div>" for item in value)
    return f"<code>{escape(str(value))}</code>"
