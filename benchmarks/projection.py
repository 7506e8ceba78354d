"""Held-out samples of 1000g-26pop projected onto the model of the rest, against training samples.

Agreement is the share of samples whose cluster is the one that most training samples of their
population are in. Then their PC scores beside those of a joint analysis: the slope of the former on
the latter, which shrinkage would make less than 1. Then the same samples with most calls masked:
whether they say how far they are from where they would be, and how sure their cluster is.
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

SHARES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.01)
"""Of calls that are left."""


def slopes(genotypes: Genotypes, held_out: np.ndarray, joint: np.ndarray) -> np.ndarray:
    """For each PC, the slope of projected scores on joint ones turned onto the same axes."""
    kept = genotypes.select(samples=~held_out)
    pca = GenotypePCA(N_PCS).fit(kept)
    turned = joint @ np.linalg.lstsq(joint[~held_out], pca.transform(kept))[0]
    new, old = pca.transform(genotypes.select(samples=held_out)), turned[held_out]
    return np.sum(new * old, axis=0) / np.sum(old**2, axis=0)


def with_few_calls(model: AncestryDDVI, genotypes: Genotypes, seed: int) -> list[list[float]]:
    """By share of calls: cluster as with all, probability, distance from that place, spread."""
    rng = np.random.default_rng(seed)
    whole = model.project(genotypes)
    found = []
    for share in SHARES:
        known = rng.random(genotypes.dosages.shape) < share
        dosages = np.where(known, genotypes.dosages, -1).astype(np.int8)
        placed = model.project(Genotypes(dosages, genotypes.samples, genotypes.variants))
        moved = np.linalg.norm(placed.embedding - whole.embedding, axis=1)
        found.append(
            [
                float(np.mean(placed.labels == whole.labels)),
                float(placed.probabilities.max(axis=1).mean()),
                float(np.sqrt(np.mean(moved**2))),
                float(np.sqrt(np.mean(placed.spread**2))),
            ]
        )
    return found


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    data_set = by_name("1000g-26pop")
    genotypes = read_genotypes(data_set.paths(options.data))
    table = pd.read_csv(data_set.labels(options.data), sep="\t", index_col=0)
    populations = table.loc[genotypes.sample_ids, "population"].to_numpy()
    lines, differences, ratios, masked = [], [], [], []
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
        newcomers = genotypes.select(samples=held_out)
        projected = loaded.predict(newcomers)
        counts = pd.crosstab(populations[~held_out], model.labels_)
        majority = counts.idxmax(axis=1)
        training = np.mean(majority[populations[~held_out]].to_numpy() == model.labels_)
        new = np.mean(majority[populations[held_out]].to_numpy() == projected)
        differences.append(100 * (new - training))
        lines.append(f"| {seed} | {training:.3f} | {new:.3f} | {differences[-1]:+.1f} |")
        ratios.append(slopes(genotypes, held_out, joint))
        masked.append(with_few_calls(loaded, newcomers, seed))
        print(lines[-1], flush=True)
    mean, half = confidence_interval(differences)
    by_pc = zip(*ratios, strict=True)
    names = ("cluster as with all", "probability of it", "moved by, rms", "spread, rms")
    of_shares = np.array(masked)  # by seed, share and name
    by_share = [
        {"calls left": f"{share:.0%}"}
        | {name: spread(of_shares[:, i, j], 2) for j, name in enumerate(names)}
        for i, share in enumerate(SHARES)
    ]
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
        + "\nThe same samples with calls masked at random: share whose cluster is the one that all "
        "calls give, mean probability of the cluster, distance from the place that all calls give, "
        "and the spread that is stated:\n\n" + markdown(by_share)
    )
    write("projection", text)


if __name__ == "__main__":
    main()
