"""`ancestryvi info`: what a model or a genotype file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ancestryvi.cli.common import verb


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
@verb
def info(path: tuple[str, ...]) -> None:
    """Describe a model directory, or genotype files, as lines of name and value."""
    from ancestryvi.persistence import MODEL_FILE

    is_model = len(path) == 1 and (Path(path[0]).is_dir() or Path(path[0]).name == MODEL_FILE)
    facts = _describe_model(Path(path[0])) if is_model else _describe_data(path)
    for name, value in facts.items():
        click.echo(f"{name}\t{value}")


def _describe_model(path: Path) -> dict[str, Any]:
    """Facts of a model directory; reads JSON and arrays, not torch."""
    from ancestryvi.persistence import MODEL_FILE, Artifact

    directory = path.parent if path.name == MODEL_FILE else path
    artifact = Artifact.read(directory)
    record, arrays = artifact.record, artifact.arrays
    facts: dict[str, Any] = {
        "model": record["estimator"],
        "ancestryvi version": record["ancestryvi_version"],
        "training samples": len(arrays["labels_"]),
        "clusters": int(arrays["labels_"].max()) + 1,
        "features": len(arrays["centre"]),
        "ELBO (nats per sample)": round(record["fitted"]["elbo_"], 3),
        "epochs": record["fitted"]["n_iter_"],
    }
    facts |= {f"parameter {k}": v for k, v in record["parameters"].items() if k != "pca"}
    if "pca" in record:
        facts["fitted on"] = "genotypes"
        facts["variants used"] = len(artifact.tables["variants"])
        facts["variants read"] = record["pca"]["fitted"]["n_features_in_"]
        facts |= {f"components {k}": v for k, v in record["pca"]["parameters"].items()}
    else:
        facts["fitted on"] = "features such as PC scores"
    return facts


def _describe_data(paths: tuple[str, ...]) -> dict[str, Any]:
    """Facts of genotype files or a table of PC scores."""
    from ancestryvi.genotypes import open_source, read_genotypes, read_scores

    source = open_source(list(paths))
    facts: dict[str, Any] = {"files": len(paths), "samples": len(source.sample_ids)}
    if source.content == "scores":
        return facts | {"content": "PC scores", "components": read_scores(paths[0]).shape[1]}
    genotypes = read_genotypes(list(paths), progress=True)
    contigs = genotypes.variants["contig"].value_counts(sort=False)
    return facts | {
        "content": "genotypes",
        "variants": genotypes.n_variants,
        "missing calls": f"{genotypes.n_missing / max(1, genotypes.dosages.size):.4%}",
        "contigs": ", ".join(f"{name} ({count})" for name, count in contigs.items()),
    }
