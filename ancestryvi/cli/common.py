"""What the verbs share: error reports, messages, options."""

from __future__ import annotations

import functools
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any, cast

import click

from ancestryvi.exceptions import AncestryVIError


def say(message: str) -> None:
    """One line to standard error, above any progress bar."""
    click.echo(message, err=True)


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command with --debug, whose failures are one message and exit status 1."""

    @click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
    @functools.wraps(function)
    def run(*args: Any, debug: bool, **kwargs: Any) -> None:
        try:
            function(*args, **kwargs)
        except click.ClickException:
            raise
        except Exception as error:
            if debug:
                raise
            say(f"Error: {_describe(error)}")
            sys.exit(1)

    return run


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


labels_options = [
    click.option(
        "--labels",
        type=click.Path(),
        help="Table of samples (TSV or CSV with a header), joined by sample id, for colours and "
        "metrics.",
    ),
    click.option("--label-id", help="Column of sample ids in --labels, if not found by name."),
    click.option(
        "--label-column",
        help="Column of --labels to colour and score by. Default: 'population' or the first.",
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


filter_options = [
    click.option(
        "--region",
        multiple=True,
        metavar="CHR[:FROM-TO]",
        help="Read only these positions, 1-based and inclusive; may be given several times. "
        "Contigs are named as in the file: chr1 is not 1.",
    ),
    click.option(
        "--samples",
        type=click.Path(),
        help="Read only the samples listed in this file, one id a line; they keep the order of the "
        "genotypes.",
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
