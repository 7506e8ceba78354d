"""What the verbs share: error reports, messages, options."""

from __future__ import annotations

import functools
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import click

from ancestryvi.exceptions import AncestryVIError

MOST_LISTED = 10
"""Samples that a note names; `qc.tsv` names all."""


def say(message: str) -> None:
    """One line to standard error, above any progress bar."""
    click.echo(message, err=True)


def counted(number: int, noun: str) -> str:
    """A number with a noun: 1 sample, 2,504 samples."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command with --debug, whose failures are one message and exit status 1."""

    @click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, debug: bool, **kwargs: Any) -> None:
        try:
            with interrupted_by(signal.SIGTERM):
                function(*args, **kwargs)
        except click.ClickException:
            raise
        except Exception as error:
            if debug:
                raise
            say(f"Error: {_describe(error)}")
            sys.exit(1)

    return run


@contextmanager
def interrupted_by(number: signal.Signals) -> Iterator[None]:
    """Let a signal do what Ctrl-C does, so that unfinished output goes."""

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # nobody else gets signals
        yield
        return
    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def _describe(error: Exception) -> str:
    """The message of an error, and for errors that are not the user's what to do with it."""
    if isinstance(error, AncestryVIError | ValueError):
        return str(error)
    if isinstance(error, MemoryError):
        return (
            f"Out of memory ({error}). Thin the variants first (for example `plink2 --maf 0.05 "
            "--indep-pairwise 500kb 0.2`), or use a machine with more memory."
        )
    if isinstance(error, OSError):
        return f"{error.filename or 'A file'}: {error.strerror or error}."
    return f"{type(error).__name__}: {error}. This is a bug; rerun with --debug and report it."


class Stopwatch:
    """Seconds of each stage of a run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.seconds[stage] = round(now - self._last, 2)
        self._last = now


class Notes:
    """Warnings raised inside a ``with`` block, said at once and kept for the report."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._catcher = warnings.catch_warnings()

    def __enter__(self) -> Notes:
        self._catcher.__enter__()
        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = cast(Any, self._take)
        return self

    def __exit__(self, *details: Any) -> None:
        self._catcher.__exit__(*details)

    def add(self, line: str) -> None:
        """Note something and say it."""
        self.lines.append(line)
        say(f"Note: {line}")

    def _take(self, message: Warning | str, category: type[Warning], *args: Any) -> None:
        if category is UserWarning:  # ours; libraries warn by classes of their own
            self.add(str(message))


def _with_labels(context: click.Context, option: click.Parameter, column: str | None) -> str | None:
    """Refuse the name of a column where there is no table."""
    if column is not None and context.params.get("labels") is None:
        raise click.UsageError(f"{option.opts[0]} {column!r} needs --labels.", context)
    return column


labels_options = [
    click.option(
        "--labels",
        type=click.Path(),
        is_eager=True,
        help="Table of samples (TSV or CSV with a header), joined by sample id, for colours and "
        "metrics.",
    ),
    click.option(
        "--label-id",
        callback=_with_labels,
        help="Column of sample ids in --labels, if not found by name.",
    ),
    click.option(
        "--label-column",
        callback=_with_labels,
        help="Column of --labels to colour and score by. Default: 'population', 'pop', or the "
        "first that groups samples.",
    ),
]

force_option = click.option(
    "--force", is_flag=True, help="Replace the output of an earlier run in --out."
)

input_option = click.option(
    "--input",
    "content",
    type=click.Choice(["auto", "genotypes", "pcs"]),
    default="auto",
    show_default=True,
    help="What GENOTYPES holds; 'pcs' is a table of PC scores (TSV or PLINK .eigenvec).",
)


def _check_regions(
    context: click.Context, option: click.Parameter, regions: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse what is no region."""
    if regions:
        from ancestryvi.genotypes.selection import parse_regions

        try:
            parse_regions(regions)
        except AncestryVIError as error:
            raise click.BadParameter(str(error)) from error
    return regions


filter_options = [
    click.option(
        "--region",
        multiple=True,
        callback=_check_regions,
        metavar="CHR[:FROM-TO]",
        help="Read only these positions, 1-based and inclusive; may be given several times. "
        "Contigs are named as in the file: chr1 is not 1.",
    ),
    click.option(
        "--samples",
        type=click.Path(),
        help="Read only the samples listed in this file, one id a line or the FID and IID of "
        "plink --keep; they keep the order of the genotypes.",
    ),
    click.option(
        "--variants",
        type=click.Path(),
        help="Read only the variants listed in this file, one a line: an id, CHR:POS or "
        "CHR:POS:REF:ALT.",
    ),
]


def options(*groups: Callable[..., Any] | list[Callable[..., Any]]) -> Callable[..., Any]:
    """Apply options so that --help lists them in this order."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        flat = [o for group in groups for o in (group if isinstance(group, list) else [group])]
        for option in reversed(flat):
            function = option(function)
        return function

    return decorate
