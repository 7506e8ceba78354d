"""`ancestryvi embed`: from genotypes to a map, clusters, a report and a model."""

from __future__ import annotations

import re
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
    options,
    say,
    verb,
)
from ancestryvi.cli.components import (
    IntOrAuto,
    components,
    dask_option,
    passes,
    pca_options,
)


class Device(click.ParamType):
    """The name of a kind of device, with a number or not."""

    name = "device"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        if re.fullmatch(r"auto|cpu|(cuda|mps|xpu)(:\d+)?", value):
            return str(value)
        return self.fail(f"{value!r} is none of auto, cpu, cuda, mps and xpu", param)


TUNING = frozenset(
    {
        "n_clusters",
        "prior",
        "clustering",
        "sleep",
        "n_diffusion_steps",
        "preset",
        "n_epochs",
        "device",
    }
)
"""Options that are parameters of estimators by the same names; not every method has them all."""

out_option = click.option(
    "--out",
    type=click.Path(),
    default="ancestryvi-map",
    show_default=True,
    help="Directory to write, whole or not at all.",
)

model_options = [
    click.option(
        "--n-clusters",
        type=IntOrAuto(),
        default=20,
        show_default=True,
        help="Number of clusters to look for; 'auto' (of ddvi) chooses it, 1 without structure.",
    ),
    click.option(
        "--method",
        default="ddvi",
        show_default=True,
        help="What makes map and clusters: ddvi, another auto-encoder such as aevb or scorevae, or "
        "an ordinary tool such as umap-kmeans; a wrong name lists them all.",
    ),
    click.option(
        "--learn-labels",
        is_flag=True,
        help="Clusters are the labels of --label-column: fit with them, and assign the samples "
        "without one (semi-supervised): those whose cell is empty, NA or a full stop.",
    ),
    click.option(
        "--prior",
        type=click.Choice(["auto", "mixture", "normal", "pinwheel", "swiss_roll", "square"]),
        default="auto",
        show_default=True,
        help="Prior of the map; 'auto' is a mixture, whose components are the clusters. The "
        "others are fixed shapes, whose parts are the clusters.",
    ),
    click.option(
        "--clustering",
        type=click.Choice(["auto", "mixture", "latent_class"]),
        help="Clusters as parts of the prior, or by an explicit class variable; 'auto' is the "
        "latter unless --prior is a fixed shape.  [default: auto for ddvi, else mixture]",
    ),
    click.option(
        "--sleep",
        type=click.Choice(["full", "latent", "none"]),
        default="full",
        show_default=True,
        help="Wake-sleep, wake-sleep in latent space, or the ELBO alone.",
    ),
    click.option(
        "--n-diffusion-steps",
        type=click.IntRange(1),
        default=5,
        show_default=True,
        help="Number T of diffusion steps of the posterior.",
    ),
    click.option(
        "--preset",
        type=click.Choice(["reference"]),
        help="The genotype algorithm as the authors of DDVI coded it, for comparison.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="The same seed on the same machine gives the same result.",
    ),
    click.option(
        "--n-epochs",
        type=IntOrAuto(),
        default="auto",
        show_default=True,
        help="Passes over the samples; 'auto' is by their number.",
    ),
    click.option(
        "--device",
        type=Device(),
        default="auto",
        show_default=True,
        help="auto, cpu, cuda or mps: for PCs of large cohorts and training; cuda:1 is the second "
        "GPU.",
    ),
]


@click.command()
@click.argument("genotypes", nargs=-1, required=True, type=click.Path())
@options(labels_options, out_option, force_option, input_option, filter_options)
@options(model_options, pca_options, dask_option)
@verb
def embed(
    genotypes: tuple[str, ...],
    labels: str | None,
    label_id: str | None,
    label_column: str | None,
    out: str,
    force: bool,
    content: str,
    **parameters: Any,
) -> None:
    """Map and cluster the samples of GENOTYPES.

    GENOTYPES is a VCF (text, .gz), BCF, PLINK .bed or .pgen, VCF-Zarr, an .h5ad, several files of
    the same samples (one per chromosome), or a table of PC scores. Writes the embedding, cluster
    probabilities, figures, report.html and a model that `ancestryvi project` places new samples
    with.
    """
    from ancestryvi.cli.outputs import OUTPUTS
    from ancestryvi.persistence import whole_directory

    if parameters["learn_labels"] and labels is None:
        raise click.UsageError("--learn-labels needs --labels.")
    _refuse_what_has_no_effect(parameters)
    with (
        Notes() as notes,
        passes(parameters["dask"]),
        whole_directory(out, overwrite=force, owned=OUTPUTS) as staging,
    ):
        from ancestryvi.cli.inputs import input_files, read_cohort

        clock = Stopwatch()
        method = _method(parameters)
        cohort = read_cohort(
            genotypes, content, labels, label_id, label_column, notes, parameters, method.map_name
        )
        clock.lap("read")
        inputs = input_files(genotypes, labels, parameters)
        _embed(method, cohort, inputs, parameters, staging, notes, clock)
    say(f"Wrote {out}; open {out}/report.html.")


def _refuse_what_has_no_effect(parameters: dict[str, Any]) -> None:
    """Usage errors for options beside others that overrule them."""
    given = _given(parameters)
    overruled = {
        "learn_labels": {"n_clusters", "clustering"},
        "preset": {"learn_labels", "prior", "clustering", "sleep", "n_diffusion_steps"},
    }
    if parameters["prior"] not in ("auto", "mixture"):
        overruled["prior"] = {"n_clusters"}
    for name, others in overruled.items():
        for other in sorted(others & given if name in given else ()):
            first, second = (f"--{option.replace('_', '-')}" for option in (name, other))
            raise click.UsageError(f"{second} has no effect beside {first}; drop one of them.")


def _given(parameters: dict[str, Any]) -> set[str]:
    """The options that the command line names."""
    source = click.get_current_context().get_parameter_source
    return {name for name in parameters if source(name) is click.core.ParameterSource.COMMANDLINE}


def _method(parameters: dict[str, Any]) -> Any:
    """The estimator of --method with the options that it takes; a usage error for others."""
    from ancestryvi.estimators import METHODS, make_estimator

    method = parameters["method"]
    if method not in METHODS:
        names = ", ".join(METHODS)
        raise click.BadParameter(f"{method!r} is none of {names}.", param_hint="'--method'")
    takes = make_estimator(method).get_params(deep=False)
    if parameters["n_clusters"] == "auto" and method != "ddvi":
        raise click.UsageError(
            f"--n-clusters auto is for --method ddvi, not {method}; say a number."
        )
    values = {
        **{name: parameters[name] for name in TUNING},
        "sleep": None if parameters["sleep"] == "none" else parameters["sleep"],
        "random_state": parameters["seed"],
        "progress": True,
    }
    given = _given(parameters)
    if "clustering" not in given:
        del values["clustering"]  # each method has a default of its own
    idle = given & (TUNING - takes.keys())
    if parameters["learn_labels"] and "alpha" not in takes:
        idle.add("learn_labels")
    for option in sorted(idle):
        raise click.UsageError(
            f"--{option.replace('_', '-')} has no effect with --method {method}; drop it."
        )
    return make_estimator(method, **{k: v for k, v in values.items() if k in takes})


def _embed(
    model: Any,
    cohort: Any,
    paths: tuple[str, ...],
    parameters: dict[str, Any],
    staging: Any,
    notes: Notes,
    clock: Stopwatch,
) -> None:
    """Fit, read out and write."""
    import pandas as pd

    from ancestryvi.cli.inputs import leading_scores
    from ancestryvi.cli.outputs import Result, provenance_record, write_result
    from ancestryvi.cli.reference import keep_labels
    from ancestryvi.cli.remarks import remark_on_components
    from ancestryvi.device import resolve_device
    from ancestryvi.exceptions import LabelError
    from ancestryvi.preprocess.quality import QC_COLUMNS

    is_scores = isinstance(cohort.data, pd.DataFrame)
    data = cohort.data
    if is_scores:
        n_pcs = parameters["n_pcs"]
        data = leading_scores(data, None if n_pcs == "auto" else n_pcs)
    taught = None
    if parameters["learn_labels"]:
        taught = cohort.labels[cohort.label_column].to_numpy(object)
        if pd.isna(taught).all():
            raise LabelError(f"No sample has a label in column {cohort.label_column!r} to learn.")
        notes.add(
            f"Fitted with the labels of {cohort.label_column!r}; scores against it are of labels "
            "that the fit has seen."
        )
    model.set_params(
        input="features" if is_scores else "genotypes",
        pca=None if is_scores else components(parameters),
    ).fit(data, taught)
    clock.lap("components and training")
    placed = model.project(data)
    scores = placed.scores
    details: dict[str, Any] = {}
    if model.pca_ is None:
        n_samples = len(data)
        qc = pd.DataFrame([("samples", "read", n_samples, 0, n_samples, "")], columns=QC_COLUMNS)
    else:
        qc = model.pca_.qc_
        details = {
            "call_rate": model.pca_.sample_call_rate_,
            "variants": model.pca_.variants_,
            "loadings": model.pca_.components_,
            "scree": model.pca_.spectrum_,
        }
        remark_on_components(model.pca_, parameters, notes)
    classes = getattr(model, "classes_", None)
    if taught is not None and classes is not None:
        known = ~pd.isna(taught) & (placed.labels >= 0)
        n_other = int((classes[placed.labels[known]] != taught[known]).sum())
        if n_other:
            notes.add(
                f"{n_other:,} of {int(known.sum()):,} labelled samples are more like another label "
                "by their genotypes, which is their cluster."
            )
    history = getattr(model, "history_", {})
    asked = parameters["n_clusters"]
    n_fitted = len(scores) if model.pca_ is None else int(model.pca_.fit_samples_.sum())
    n_empty = 0 if asked == "auto" else min(asked, n_fitted) - model.n_clusters_
    if n_empty > 0 and classes is None and parameters["prior"] in ("auto", "mixture"):
        notes.add(f"{counted(n_empty, 'cluster')} without a sample dropped of those asked for.")
    if cohort.not_selected:
        rows = pd.DataFrame(cohort.not_selected, columns=QC_COLUMNS)
        qc = pd.concat([rows, qc], ignore_index=True)
    result = Result(
        title="Map of ancestry",
        cohort=cohort,
        map_name=model.map_name,
        voted=model.voted,
        embedding=placed.embedding,
        probabilities=placed.probabilities,
        labels=placed.labels,
        spread=placed.spread,
        class_names=None if classes is None else [str(name) for name in classes],
        fitted_labels=classes is not None,
        scores=scores,
        qc=qc,
        history={name: history[name] for name in history},
        **details,
    )
    model.save(staging / "model")
    keep_labels(staging / "model", cohort)
    clock.lap("read-out")
    provenance = provenance_record(
        inputs=paths,
        parameters={**parameters, "estimator": model.get_params(deep=False) | {"pca": None}},
        counts={
            "samples": len(cohort.sample_ids),
            "variants": None if is_scores else model.n_features_in_,
            "variants_used": None if is_scores else len(details["variants"]),
            "components": scores.shape[1],
            "clusters": model.n_clusters_,
            "epochs": getattr(model, "n_iter_", None),
            "elbo_nats_per_sample": getattr(model, "elbo_", None),
        },
        seconds=clock.seconds,
        device=str(resolve_device(model.device)) if hasattr(model, "history_") else None,
    )
    metrics = write_result(staging, result, provenance, notes.lines)
    say(
        f"{model.n_clusters_} clusters"
        + (f", ELBO {model.elbo_:.2f} nats per sample." if hasattr(model, "elbo_") else ".")
        + ("" if metrics is None else f" NMI with {metrics['label_column']}: {metrics['nmi']:.3f}")
        + ("" if metrics is None else "." if classes is None else ", of labels that were fitted.")
    )
