"""A map of the bundled cohort from Python, step by step, and new samples placed on it.

Run it from the repository: ``python examples/map_from_python.py --out map/``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from ancestryvi import AncestryDDVI, GenotypePCA, read_genotypes
from ancestryvi.evaluate import clustering_metrics

DATA = Path(__file__).parents[1] / "data"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True, help="directory for table and model")
    options.add_argument("--n-epochs", type=int, default=None, help="fewer, for a quick look")
    arguments = options.parse_args()

    genotypes = read_genotypes(DATA / "example.vcf.gz")
    populations = pd.read_csv(DATA / "example.samples.tsv", sep="\t", index_col="sample")
    labels = populations.loc[genotypes.sample_ids, "population"]

    # Keep every tenth sample out, to place it later as if it came from another study.
    new = np.arange(genotypes.n_samples) % 10 == 0
    reference, newcomers = genotypes.select(samples=~new), genotypes.select(samples=new)

    model = AncestryDDVI(
        n_clusters=14,
        n_epochs=arguments.n_epochs or "auto",
        pca=GenotypePCA(min_maf=0.05),
        random_state=0,
    )
    embedding = model.fit_transform(reference)
    print(model.pca_.qc_[["scope", "step", "dropped", "kept"]].to_string(index=False))
    print(f"{model.n_clusters_} clusters, ELBO {model.elbo_:.1f} nats per sample")
    print(f"NMI with populations: {clustering_metrics(labels[~new], model.labels_)['nmi']:.3f}")

    # Where could each sample be? The spread of draws from its posterior says.
    spread = model.posterior_samples(reference, n_samples=50, random_state=0).std(axis=1)
    print(f"median posterior standard deviation on the map: {np.median(spread):.3f}")

    placed = model.project(newcomers)
    print(f"{placed.match.n_matched} variants matched for {len(placed.labels)} new samples")

    arguments.out.mkdir(parents=True, exist_ok=True)
    model.save(arguments.out / "model", overwrite=True)
    columns = ["ddvi1", "ddvi2"]
    table = pd.concat(
        [
            pd.DataFrame(embedding, reference.sample_ids, columns).assign(new=False),
            pd.DataFrame(placed.embedding, newcomers.sample_ids, columns).assign(new=True),
        ]
    )
    table.join(populations).to_csv(arguments.out / "map.tsv", sep="\t", index_label="sample_id")


if __name__ == "__main__":
    main()
