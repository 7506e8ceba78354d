"""Held-out samples of 1000g-26pop projected onto the model of the rest, against training samples.

Agreement is the share of samples whose cluster is the one that most training samples of their
population are in. Then their PC scores beside those of a joint analysis: the slope of the former on
the latter, which shrinkage would make less than 1.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from common import by_name, machine, markdown, parser, spread, write

from ancestryvi import AncestryDDVI, GenotypePCA, Genotypes, read_genotypes
from ancestryvi.evaluate import confidence_interval

N_PCS = 8


def slopes(genotypes: Genotypes, held_out: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """For each PC, the slope of projected scores on joint ones turned onto the same axes."""
    kept = genotypes.select(samples=~held_out)
    pca = GenotypePCA(N_PCS).fit(kept)
    turned = joint @ np.linalg.lstsq(joint[~held_out], pca.transform(kept))[0]
    new, old = pca.transform(genotypes.select(samples=held_out)), turned[held_out]
    return np.sum(new * old, axis=0) / np.sum(old**2, axis=0)


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    data_set = by_name("1000g-26pop")
    genotypes = read_genotypes(data_set.paths(options.data))
    table = pd.read_csv(data_set.labels(options.data), sep="\t", index_col=0)
    populations = table.loc[genotypes.sample_ids, "population"].to_numpy()
    lines, differences, ratios = [], [], []
    joint = GenotypePCA(N_PCS).fit_transform(genotypes)
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
        ratios.append(slopes(genotypes, held_out, joint))
        print(lines[-1], flush=True)
    mean, half = confidence_interval(differences)
    by_pc = zip(*ratios, strict=True)
    text = (
        f"`python benchmarks/projection.py --seeds {options.seeds}` on {machine()}.\n\n"
        f"{held_out.sum()} of {len(held_out)} samples held out at random, K = "
        f"{data_set.n_clusters}.\n\n| seed | training | projected | difference, points |\n"
        "|---|---|---|---|\n"
        + "\n".join(lines)
        + f"\n| mean |  |  | {mean:+.1f} ± {half:.1f} |\n\n"
        "Slope of projected PC scores on those of a joint analysis, mean and 95 % t-interval; "
        f"median of all {np.median(ratios):.3f}:\n\n"
        + markdown([{f"PC{k + 1}": spread(values, 2) for k, values in enumerate(by_pc)}])
    )
    write("projection", text)


if __name__ == "__main__":
    main()
