"""`ancestryvi info`: what a model or a genotype file holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from ancestryvi.cli.common import verb


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
@verb
def info(path: tuple[str, ...]) -> None:
    """Describe a model directory, or genotype files, as lines of name and value."""
    from ancestryvi.genotypes.vcz import is_store

    models = [name for name in path if Path(name).is_dir() and not is_store(Path(name))]
    if models and len(path) > 1:
        raise click.UsageError(
            f"{models[0]} is a directory, such as that of a model, and models are described one at "
            "a time; genotype files are described together."
        )
    facts = _describe_model(Path(path[0])) if models else _describe_data(path)
    for name, value in facts.items():
        click.echo(f"{name}\t{value}")


def _describe_model(path: Path) -> dict[str, Any]:
    """Facts of a model directory."""
    from ancestryvi.estimators import AncestryEstimator

    model = AncestryEstimator.load(path)
    facts: dict[str, Any] = {
        "model": type(model).__name__,
        "fitted on": model.input_,
        "training samples": len(model.labels_),
        "clusters": model.n_clusters_,
    }
    if hasattr(model, "n_iter_"):
        facts["epochs"] = model.n_iter_
    if hasattr(model, "elbo_"):
        facts["ELBO (nats per sample)"] = round(model.elbo_, 3)
    if hasattr(model, "classes_"):
        facts["fitted labels"] = ", ".join(map(str, model.classes_))
    facts |= {f"parameter {k}": v for k, v in model.get_params(deep=False).items() if k != "pca"}
    pca = model.pca_
    if pca is None:
        return facts | {"features": model.n_features_in_}
    facts |= {
        "variants read": pca.n_features_in_,
        "variants used": len(pca.variants_),
        "samples that components were fitted on": int(pca.fit_samples_.sum()),
        "components": len(pca.components_),
        "components that are at least half signal": pca.n_signal_,
        "components that stand out from noise": pca.n_structure_,
    }
    return facts | {f"components parameter {k}": v for k, v in pca.get_params().items()}


def _describe_data(paths: tuple[str, ...]) -> dict[str, Any]:
    """Facts of genotype files or a table of PC scores."""
    import numpy as np

    from ancestryvi.genotypes import MISSING, open_source
    from ancestryvi.genotypes.memory import available_bytes, size
    from ancestryvi.genotypes.reading import format_of, score_table, with_progress

    source = open_source(list(paths))
    facts: dict[str, Any] = {
        "files": len(paths),
        "format": "; ".join(dict.fromkeys(map(format_of, paths))),
        "samples": len(source.sample_ids),
    }
    if source.content == "scores":
        return facts | {"content": "PC scores", "components": score_table(source).shape[1]}
    n_variants = n_missing = 0
    contigs: Counter[str] = Counter()
    for block in with_progress(source.iter_blocks()):
        n_variants += len(block.columns)
        n_missing += int(np.count_nonzero(block.values == MISSING))
        contigs.update(block.columns["contig"])
    n_calls = n_variants * len(source.sample_ids)
    available = available_bytes()
    return facts | {
        "content": "genotypes",
        "variants": n_variants,
        "missing calls": f"{n_missing / max(1, n_calls):.4%}",
        "contigs": ", ".join(f"{name} ({count})" for name, count in contigs.items()),
        "memory to read all": size(n_calls),
        "memory available": "unknown" if available is None else size(available),
    }
