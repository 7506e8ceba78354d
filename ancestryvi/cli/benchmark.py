"""`ancestryvi benchmark`: every method on the same data, scored alike."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ancestryvi.cli.common import (
    Notes,
    Stopwatch,
    filter_options,
    input_option,
    labels_options,
    options,
    say,
    verb,
)
from ancestryvi.cli.components import components, pca_options

if TYPE_CHECKING:
    import pandas as pd

    from ancestryvi.cli.inputs import Cohort
    from ancestryvi.report import Comparison

benchmark_options = [
    click.option(
        "--methods",
        help="Names of methods, separated by commas. Default: all; a wrong name lists them.",
    ),
    click.option(
        "--n-clusters",
        type=click.IntRange(2),
        help="Number of clusters to look for. Default: the number of distinct labels.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        default=3,
        show_default=True,
        help="Runs of each method, with the seeds 0, 1, ...",
    ),
    click.option(
        "--time-limit",
        type=click.FloatRange(0, min_open=True),
        default=600,
        show_default=True,
        help="Seconds after which a run is killed, its start included.",
    ),
    click.option(
        "--memory-limit",
        type=click.FloatRange(0, min_open=True),
        help="GB of resident memory above which a run is killed. Default: none.",
    ),
    click.option(
        "--jobs",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Runs at the same time, each with its share of the cores. With more than one the "
        "seconds mean less.",
    ),
    click.option(
        "--out",
        type=click.Path(),
        default="ancestryvi-benchmark",
        show_default=True,
        help="Directory to write. Run again with the same --out, only what is missing or failed "
        "is run; methods and seeds can be added, and runs that are there stay in the tables.",
    ),
    click.option(
        "--force",
        is_flag=True,
        help="Drop runs in --out of other data, clusters, parameters or version, instead of "
        "stopping with an error.",
    ),
]


@click.command()
@click.argument("genotypes", nargs=-1, required=True, type=click.Path())
@options(labels_options, benchmark_options, input_option, filter_options, pca_options)
@verb
def benchmark(
    genotypes: tuple[str, ...],
    labels: str | None,
    label_id: str | None,
    label_column: str | None,
    methods: str | None,
    out: str,
    force: bool,
    content: str,
    **parameters: Any,
) -> None:
    """Compare methods on the samples of GENOTYPES by how well they find the labels.

    GENOTYPES is what `ancestryvi embed` takes. Principal components are computed once and every
    method gets the same; none sees the labels. Each run is a process of its own, and one that
    fails is a row that says why. Writes runs.tsv, benchmark.tsv, benchmark.md, benchmark.html,
    figures of all maps and of NMI against seconds, provenance.json, and the runs.

    Exit status 1 if no method worked.
    """
    if labels is None:
        raise click.UsageError("benchmark needs --labels: methods are compared by them.")
    names = _chosen(methods)
    directory = Path(out)
    _check_directory(directory, force)
    with Notes() as notes:
        from ancestryvi.cli.inputs import input_files, read_cohort
        from ancestryvi.exceptions import LabelError

        clock = Stopwatch()
        cohort = read_cohort(genotypes, content, labels, label_id, label_column, notes, parameters)
        clock.lap("read")
        if cohort.label_column is None:
            raise LabelError(f"{labels} has no column beside the sample ids; add one of labels.")
        features, table = _components(cohort, parameters, notes)
        clock.lap("components")
        inputs = input_files(genotypes, labels, parameters)
        try:
            done = _benchmark(
                inputs, cohort, features, table, names, parameters, directory, force, notes, clock
            )
        except KeyboardInterrupt:
            if (directory / "runs").is_dir():
                say(f"Finished runs are in {out}; the same command goes on from there.")
            raise
    if not done:
        say(f"Error: no method worked; {directory / 'benchmark.md'} says why.")
        sys.exit(1)


def _chosen(methods: str | None) -> list[str]:
    """The methods asked for, each once."""
    from ancestryvi.estimators.registry import METHODS

    if methods is None:
        return list(METHODS)
    names = list(dict.fromkeys(filter(None, (name.strip() for name in methods.split(",")))))
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        wrong = f"no method {', '.join(map(repr, unknown))}" if unknown else "no method is named"
        raise click.BadParameter(
            f"{wrong}; there are {', '.join(METHODS)}.", param_hint="'--methods'"
        )
    return names


def _check_directory(directory: Path, force: bool) -> None:
    """A new directory, an empty one, or that of an earlier benchmark."""
    from ancestryvi.exceptions import OutputError

    if directory.exists() and not directory.is_dir():
        raise OutputError(f"{directory} is a file; name a directory for the output.")
    is_used = directory.is_dir() and any(directory.iterdir())
    if is_used and not (directory / "runs").is_dir() and not force:
        raise OutputError(
            f"{directory} holds something other than a benchmark; choose another directory, or "
            "write into it with --force."
        )


def _components(
    cohort: Cohort, parameters: Mapping[str, Any], notes: Notes
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The features of the samples to fit, and their labels."""
    import pandas as pd

    from ancestryvi.cli.inputs import leading_scores

    n_pcs = parameters["n_pcs"]
    if isinstance(cohort.data, pd.DataFrame):
        table = leading_scores(cohort.data, None if n_pcs == "auto" else n_pcs)
        return table.set_axis(cohort.labels.index), cohort.labels
    pca = components(parameters)
    scores = pca.fit_transform(cohort.data)
    say(
        f"Kept {len(pca.variants_):,} of {pca.n_features_in_:,} variants; "
        f"{scores.shape[1]} principal components."
    )
    n_dropped = int((~pca.fit_samples_).sum())
    if n_dropped:
        notes.add(
            f"{n_dropped:,} samples with too few calls or close relatives take no part in the "
            "benchmark."
        )
    columns = [f"PC{i + 1}" for i in range(scores.shape[1])]
    labels = cohort.labels[pca.fit_samples_]
    return pd.DataFrame(scores[pca.fit_samples_], labels.index, columns), labels


def _benchmark(
    inputs: tuple[str, ...],
    cohort: Cohort,
    features: pd.DataFrame,
    table: pd.DataFrame,
    names: list[str],
    parameters: dict[str, Any],
    directory: Path,
    force: bool,
    notes: Notes,
    clock: Stopwatch,
) -> bool:
    """Run and write everything; whether a method worked."""
    from ancestryvi.cli.outputs import provenance_record
    from ancestryvi.estimators.registry import METHODS, make_estimator
    from ancestryvi.evaluate import reference_line, run_benchmark, supervised_ceiling
    from ancestryvi.report import Comparison, nested_group

    column = cohort.label_column
    labels = table[column].to_numpy(object)
    n_labels = table[column].nunique()
    n_clusters = parameters["n_clusters"]
    if n_clusters is None:
        n_clusters = max(2, n_labels)
        say(f"{n_clusters} clusters, the number of labels in {column!r}; --n-clusters sets it.")
    runs = run_benchmark(
        features,
        labels,
        {name: make_estimator(name, n_clusters=n_clusters, random_state=0) for name in names},
        seeds=parameters["seeds"],
        folder=directory / "runs",
        time_limit=parameters["time_limit"],
        memory_limit=parameters["memory_limit"],
        jobs=parameters["jobs"],
        conditions={"label column": column},
        force=force,
        progress=say,
    )
    clock.lap("runs")
    references = {}
    ceiling = supervised_ceiling(features, labels)
    if ceiling is not None:
        references["linear discriminant, cross-validated"] = ceiling
    group = nested_group(table, cohort.label_columns)
    if group is not None:
        line = reference_line(labels, table[group].to_numpy(object))
        references[f"perfect split into the {table[group].nunique()} of {group}"] = line
    clock.lap("references")
    provenance = provenance_record(
        inputs=inputs,
        parameters={**parameters, "methods": names, "n_clusters": n_clusters},
        counts={
            "samples": len(features),
            "samples_labelled": int(table[column].notna().sum()),
            "components": features.shape[1],
            "labels": n_labels,
            "runs": len(runs),
        },
        seconds=clock.seconds,
    )
    of_registry = {run.method: METHODS[run.method] for run in runs if run.method in METHODS}
    comparison = Comparison(
        runs=runs,
        labels=table,
        label_columns=cohort.label_columns,
        titles={name: method.title for name, method in of_registry.items()},
        summaries={name: method.summary for name, method in of_registry.items()},
        references=references,
        facts={
            "samples": f"{len(features):,}, of which {table[column].notna().sum():,} have a label",
            "labels": f"{n_labels} of {column}",
            "features": f"{features.shape[1]} principal components",
            "clusters asked for": str(n_clusters),
            "seeds": ", ".join(map(str, sorted({run.seed for run in runs}))),
            "machine": "; ".join(sorted({run.machine for run in runs})),
            "versions": _versions(provenance),
        },
        notes=notes.lines,
        provenance=provenance,
    )
    summary = _write(directory, comparison)
    best = summary.iloc[0]
    if best["n_runs"] == 0:
        return False
    say(
        f"Best NMI: {comparison.title_of(best['method'])}, {best['nmi_mean']:.3f}. Wrote "
        f"{directory}; open {directory}/benchmark.html."
    )
    return True


def _versions(provenance: Mapping[str, Any]) -> str:
    """All versions in one line."""
    versions = {"ancestryvi": provenance["version"], "Python": provenance["python"]}
    versions |= provenance["packages"]
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _write(directory: Path, comparison: Comparison) -> pd.DataFrame:
    """Write the summary files beside the runs, each whole; return the table of methods."""
    from ancestryvi.cli.outputs import write_json, write_tsv
    from ancestryvi.evaluate import run_table, summary_table
    from ancestryvi.report.comparison import FILES, write_comparison

    summary = summary_table(comparison.runs)
    titles = [comparison.title_of(name) for name in summary["method"]]
    with tempfile.TemporaryDirectory(prefix=".", dir=directory) as name:
        staging = Path(name)
        write_tsv(staging / "runs.tsv", run_table(comparison.runs))
        shown = summary.copy()
        shown.insert(1, "title", titles)
        write_tsv(staging / "benchmark.tsv", shown)
        write_json(staging / "provenance.json", comparison.provenance)
        write_comparison(staging, comparison)
        for path in staging.iterdir():
            path.replace(directory / path.name)
    if summary["n_runs"].sum() == 0:
        for file in FILES:
            if Path(file).suffix in (".png", ".pdf"):  # pictures of runs that are no more
                (directory / file).unlink(missing_ok=True)
    return summary
