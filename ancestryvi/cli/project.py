"""`ancestryvi project`: new samples on the map of a fitted model."""

from __future__ import annotations

from typing import Any

import click

from ancestryvi.cli.common import (
    Notes,
    Stopwatch,
    counted,
    filter_options,
    force_option,
    input_option,
    labels_options,
    listed,
    options,
    say,
    verb,
)

_MATCHED = {
    "same": "with the same alleles",
    "same_palindromic": "of them A/T or C/G",
    "flipped": "with alleles swapped",
    "strand": "on the other strand",
    "strand_flipped": "on the other strand with alleles swapped",
}


@click.command()
@click.argument("model_dir", type=click.Path())
@click.argument("genotypes", nargs=-1, required=True, type=click.Path())
@click.option(
    "--out", type=click.Path(), required=True, help="Directory to write, whole or not at all."
)
@options(force_option, labels_options, input_option, filter_options)
@verb
def project(
    model_dir: str,
    genotypes: tuple[str, ...],
    labels: str | None,
    label_id: str | None,
    label_column: str | None,
    out: str,
    force: bool,
    content: str,
    **selection: Any,
) -> None:
    """Place the samples of GENOTYPES on the map of MODEL_DIR.

    MODEL_DIR is the directory `model` that `ancestryvi embed` wrote. Variants are matched by
    contig, position and alleles; the counts of matched, flipped, ambiguous and absent ones are in
    qc.tsv. Fewer than half of the model's variants present is an error. PC scores are corrected for
    the shrinkage of new samples.
    """
    from ancestryvi.cli.outputs import OUTPUTS
    from ancestryvi.persistence import whole_directory

    with Notes() as notes, whole_directory(out, overwrite=force, owned=OUTPUTS) as staging:
        from ancestryvi.cli.inputs import input_files, read_cohort
        from ancestryvi.estimators import AncestryEstimator

        clock = Stopwatch()
        model = AncestryEstimator.load(model_dir)
        cohort = read_cohort(
            genotypes, content, labels, label_id, label_column, notes, selection, model.map_name
        )
        clock.lap("read")
        inputs = input_files(genotypes, labels, selection)
        _project(model, model_dir, cohort, inputs, staging, notes, clock)
    say(f"Wrote {out}; open {out}/report.html.")


def _project(
    model: Any,
    model_dir: str,
    cohort: Any,
    paths: tuple[str, ...],
    staging: Any,
    notes: Notes,
    clock: Stopwatch,
) -> None:
    """Match, place and write."""
    import pandas as pd

    from ancestryvi.cli.inputs import leading_scores
    from ancestryvi.cli.outputs import Result, provenance_record, write_result
    from ancestryvi.cli.reference import reference_map
    from ancestryvi.exceptions import InputFormatError
    from ancestryvi.preprocess.quality import QC_COLUMNS

    n_samples = len(cohort.sample_ids)
    rows: list[tuple[str, str, int, int, int, str]] = [
        *cohort.not_selected,
        ("samples", "read", n_samples, 0, n_samples, ""),
    ]
    data = cohort.data
    if isinstance(data, pd.DataFrame) != (model.pca_ is None):
        needed = "a table of PC scores" if model.pca_ is None else "genotypes"
        raise InputFormatError(
            f"The model in {model_dir} was fitted on {needed}; give it the same. Scores of another "
            "analysis are on other axes."
        )
    if model.pca_ is None:
        data = leading_scores(data, model.n_features_in_)
    placed = model.project(data)
    match, counts, call_rate = placed.match, {}, None
    if match is not None:
        call_rate = _call_rate(data, match.index[match.index >= 0])
        _account_for_calls(call_rate, model.pca_.min_sample_call_rate, cohort, rows, notes)
        counts = match.counts()
        n_reference = len(match.index)
        rows.append(("variants", "in the model", n_reference, 0, n_reference, ""))
        left = n_reference
        for status in ("absent", "ambiguous"):
            detail = "in the genotypes" if status == "absent" else "A/T or C/G with alleles swapped"
            after = left - counts[status]
            rows.append(("variants", status, left, counts[status], after, detail))
            left = after
        used = {name: n for name, n in counts.items() if name not in ("absent", "ambiguous")}
        detail = ", ".join(f"{n:,} {_MATCHED[name]}" for name, n in used.items() if n)
        rows.append(("variants", "matched", left, 0, left, detail))
        say(
            f"{match.n_matched:,} of the model's {n_reference:,} variants are used: {detail}. "
            f"{counts['absent']:,} are absent, and {counts['ambiguous']:,} ambiguous (A/T or C/G "
            "with alleles swapped)."
        )
    far = [name for name, is_far in zip(cohort.sample_ids, placed.beyond, strict=True) if is_far]
    if far:
        detail = f"farther from every cluster than any fitted sample: {', '.join(far)}"
        rows.append(("samples", "beyond the clusters", n_samples, 0, n_samples, detail))
        notes.add(
            f"{counted(len(far), 'sample')} farther from every cluster than any that the model was "
            f"fitted on, perhaps of an ancestry that it lacks, whatever their probabilities: "
            f"{listed(far)}."
        )
    n_fitted = int(placed.fitted.sum())
    if n_fitted:
        notes.add(
            f"{n_fitted:,} of {counted(n_samples, 'sample')} took part in the fit of the model, "
            "and are where they were."
        )
    classes = getattr(model, "classes_", None)  # of a model that was fitted with labels
    result = Result(
        title="Samples on a map of ancestry",
        cohort=cohort,
        map_name=model.map_name,
        voted=model.voted,
        embedding=placed.embedding,
        probabilities=placed.probabilities,
        labels=placed.labels,
        scores=placed.scores,
        qc=pd.DataFrame(rows, columns=QC_COLUMNS),
        spread=placed.spread,
        call_rate=call_rate,
        class_names=None if classes is None else [str(name) for name in classes],
        background=reference_map(model, model_dir),
    )
    clock.lap("placed")
    provenance = provenance_record(
        inputs=[*paths, f"{model_dir}/model.json", f"{model_dir}/arrays.safetensors"],
        parameters={"model": model_dir},
        counts={"samples": n_samples, "clusters": model.n_clusters_, "variants": counts},
        seconds=clock.seconds,
    )
    write_result(staging, result, provenance, notes.lines)


def _call_rate(data: Any, variants: Any) -> Any:
    """Share of these variants that are called in each sample, of shape (n_samples,)."""
    import numpy as np

    from ancestryvi.preprocess.quality import count_calls

    chosen = np.zeros(len(data.variants), dtype=bool)
    chosen[variants] = True
    everyone = np.ones(len(data.sample_ids), dtype=bool)
    return count_calls(data, everyone, chosen).called_per_sample / chosen.sum()


def _account_for_calls(
    call_rate: Any, smallest: float, cohort: Any, rows: list[Any], notes: Notes
) -> None:
    """Name the samples without calls, which have no place, and those with few, which have one."""
    import numpy as np

    from ancestryvi.exceptions import SampleError

    rates = list(zip(cohort.sample_ids, call_rate, strict=True))
    silent = [name for name, rate in rates if rate == 0]
    few = [name for name, rate in rates if 0 < rate < smallest]
    if len(silent) == len(rates):
        raise SampleError(
            f"None of the {counted(len(rates), 'sample')} has a call at the variants that are in "
            "the model, so none can be placed; check that the genotypes are filled in."
        )
    n_placed = len(rates) - len(silent)
    detail = "none of the matched variants called" + (f": {', '.join(silent)}" if silent else "")
    rows.append(("samples", "no calls", len(rates), len(silent), n_placed, detail))
    detail = (
        f"{len(few)} with less than {smallest:g} of the matched variants called, placed as well"
    )
    detail += f": {', '.join(few)}" if few else ""
    rows.append(("samples", "sample call rate", n_placed, 0, n_placed, detail))
    if silent:
        have = "has" if len(silent) == 1 else "have"
        notes.add(
            f"{counted(len(silent), 'sample')} {have} no call at the model's variants: "
            f"{listed(silent)}."
        )
    if few:
        median = float(np.median(call_rate[(call_rate > 0) & (call_rate < smallest)]))
        notes.add(
            f"{counted(len(few), 'sample')} with calls at less than {smallest:g} of the model's "
            f"variants (median {median:.2g}), placed by what is known, nearer the middle the less "
            f"that is, and given to one of its clusters in any case: {listed(few)}."
        )
