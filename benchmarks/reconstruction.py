"""Held-out reconstruction of the PCs of 1000g-26pop (table 1 of ScoreVAE, with vectors for images).

Batzolis, Stanczuk and Schönlieb (2023), Variational diffusion auto-encoder: latent space extraction
from pre-trained diffusion models.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from common import Ledger, add_work, by_name, features, machine, markdown, parser, spread, write
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from ancestryvi.estimators.registry import make_estimator

LINEAR = "pca"
ARMS = {
    LINEAR: ("linear (PCA)", None, "-"),
    "aevb": ("VAE (β = 0.01)", 0.01, "3.410"),
    "scorevae": ("ScoreVAE (β = 0.01)", 0.01, "2.634"),
    "scorevae+": ("ScoreVAE+ (β = 0.01)", 0.01, "2.591"),
    "diffdecoder": ("DiffDecoder (β = 0.01)", 0.01, "19.53"),
    "diffdecoder-0": ("DiffDecoder (β = 0)", 0.0, "2.851"),
}
"""By name: the title, the weight of the prior terms, and the L2 of the paper on CIFAR-10."""

SIZES = (2, 8)
"""Of the latent space."""


def reconstruct(
    arm: str,
    size: int,
    seed: int,
    n_epochs: int | None,
    fitted: NDArray[np.float64],
    held_out: NDArray[np.float64],
) -> NDArray[np.float64]:
    """What the latents of held-out samples are decoded to."""
    if arm == LINEAR:
        linear = PCA(size, svd_solver="full").fit(fitted)
        return linear.inverse_transform(linear.transform(held_out))
    model = make_estimator(
        arm.removesuffix("-0"),
        n_components=size,
        prior="normal",
        beta=ARMS[arm][1],
        n_epochs=n_epochs or "auto",
        random_state=seed,
    ).fit(fitted)
    return model.inverse_transform(model.transform(held_out))


def run(
    arm: str, size: int, seed: int, n_epochs: int | None, scores: NDArray[np.float64]
) -> dict[str, float]:
    """Error of one fit to four fifths of the samples on the others."""
    fitted, held_out = train_test_split(scores, test_size=0.2, random_state=seed)
    found = reconstruct(arm, size, seed, n_epochs, fitted, held_out)
    explained = r2_score(held_out, found, multioutput="variance_weighted")
    return {
        "distance": float(np.linalg.norm(held_out - found, axis=1).mean()),
        "unexplained": 1.0 - float(explained),
    }


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--methods", nargs="+", choices=list(ARMS), default=list(ARMS))
    options.add_argument("--n-epochs", type=int, help="instead of the default of the estimator")
    add_work(options)
    options = options.parse_args()
    data_set = by_name("1000g-26pop")
    scores, _ = features(data_set, options.data)
    ledger = Ledger(options.work, "reconstruction")
    rows = []
    for arm in options.methods:
        title, _, published = ARMS[arm]
        row: dict[str, object] = {"method": title}
        for size in SIZES:
            runs = [
                ledger.once(
                    partial(run, arm, size, seed, options.n_epochs, scores),
                    method=arm,
                    size=size,
                    n_epochs=options.n_epochs,
                    seed=seed,
                )
                for seed in range(options.seeds)
            ]
            for name, short, digits in (("distance", "L2", 2), ("unexplained", "1 - R²", 3)):
                row[f"{short}, {size} latents"] = spread([found[name] for found in runs], digits)
        rows.append(row | {"published L2, CIFAR-10": published})
    given = f" --n-epochs {options.n_epochs}" if options.n_epochs else ""
    if options.methods != list(ARMS):
        given += f" --methods {' '.join(options.methods)}"
    n_held_out = len(train_test_split(scores, test_size=0.2, random_state=0)[1])
    write(
        "reconstruction",
        f"`python benchmarks/reconstruction.py --seeds {options.seeds}{given}` on {machine()}.\n\n"
        f"{data_set.name} ({data_set.what}), {scores.shape[1]} PCs of all samples, "
        f"{len(scores) - n_held_out:,} fitted and {n_held_out:,} held out; standard normal prior. "
        "L2: mean Euclidean distance of a held-out sample from what its place on the map is "
        "decoded to, in units of the PC scores. 1 - R²: the squared distances over those from the "
        "mean. Mean and 95 % t-interval over seeds.\n\n" + markdown(rows),
    )


if __name__ == "__main__":
    main()
