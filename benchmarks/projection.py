"""Held-out samples of 1000g-26pop projected onto the model of the rest, against training samples.

Agreement is the share of samples whose cluster is the one that most training samples of their
population are in.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import by_name, machine, parser, write

from ancestryvi import AncestryDDVI, read_genotypes
from ancestryvi.evaluate import confidence_interval


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    data_set = by_name("1000g-26pop")
    genotypes = read_genotypes(data_set.paths(options.data))
    table = pd.read_csv(data_set.labels(options.data), sep="\t", index_col=0)
    populations = table.loc[genotypes.sample_ids, "population"].to_numpy()
    lines, differences = [], []
    for seed in range(options.seeds):
        held_out = np.zeros(genotypes.n_samples, bool)
        chosen = np.random.default_rng(seed).permutation(genotypes.n_samples)
        held_out[chosen[: genotypes.n_samples // 10]] = True
        model = AncestryDDVI(data_set.n_clusters, random_state=seed)
        model.fit(genotypes.select(samples=~held_out))
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model")
            loaded = AncestryDDVI.load(Path(folder) / "model")
        projected = loaded.predict(genotypes.select(samples=held_out))
        counts = pd.crosstab(populations[~held_out], model.labels_)
        majority = counts.idxmax(axis=1)
        training = np.mean(majority[populations[~held_out]].to_numpy() == model.labels_)
        new = np.mean(majority[populations[held_out]].to_numpy() == projected)
        differences.append(100 * (new - training))
        lines.append(f"| {seed} | {training:.3f} | {new:.3f} | {differences[-1]:+.1f} |")
        print(lines[-1], flush=True)
    mean, half = confidence_interval(differences)
    text = (
        f"`python benchmarks/projection.py --seeds {options.seeds}` on {machine()}.\n\n"
        f"{held_out.sum()} of {len(held_out)} samples held out at random, K = "
        f"{data_set.n_clusters}.\n\n| seed | training | projected | difference, points |\n"
        "|---|---|---|---|\n" + "\n".join(lines) + f"\n| mean |  |  | {mean:+.1f} ± {half:.1f} |\n"
    )
    write("projection", text)


if __name__ == "__main__":
    main()
