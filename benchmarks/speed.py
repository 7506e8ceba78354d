"""Seconds of `fit` by number of samples: AncestryDDVI and UMAP, one after the other.

Features are 20 simulated PCs of 26 populations in five groups. Imports and compilation are not
counted. UMAP runs as its users call it, without a seed, which would forbid it a second core.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from common import machine, markdown, parser, write
from numpy.typing import NDArray
from umap import UMAP

from ancestryvi import AncestryDDVI

N_PCS, N_GROUPS, N_POPULATIONS = 20, 5, 26


def pcs(n_samples: int, seed: int = 0) -> NDArray[np.float64]:
    """Groups far apart, populations within them near each other, variances that fall off."""
    rng = np.random.default_rng(seed)
    scale = np.linspace(1.0, 0.1, N_PCS)
    groups = 8.0 * rng.normal(size=(N_GROUPS, N_PCS)) * scale
    centres = groups[np.arange(N_POPULATIONS) % N_GROUPS]
    centres = centres + 2.0 * rng.normal(size=(N_POPULATIONS, N_PCS)) * scale
    population = rng.integers(N_POPULATIONS, size=n_samples)
    return centres[population] + 0.3 * rng.normal(size=(n_samples, N_PCS))


def seconds(fit, x: NDArray[np.float64]) -> float:
    start = time.perf_counter()
    fit(x)
    return time.perf_counter() - start


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--sizes", type=int, nargs="+", default=[2504, 10_000, 50_000, 500_000])
    options.add_argument("--most-umap", type=int, default=10_000, help="larger ones without UMAP")
    options = options.parse_args()
    warm = pcs(300)
    UMAP(n_epochs=2).fit(warm)
    AncestryDDVI(20, n_epochs=2, random_state=0).fit(warm)
    rows = []
    for n_samples in options.sizes:
        x = pcs(n_samples)
        row: dict[str, object] = {"samples": f"{n_samples:,}"}
        repeats = range(options.seeds if n_samples <= options.most_umap else 1)
        ours = [seconds(AncestryDDVI(20, random_state=seed).fit, x) for seed in repeats]
        row["AncestryDDVI, s"] = f"{np.median(ours):.1f}"
        row["peak memory so far, MB"] = round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        )
        row["UMAP, s"] = "-"
        if n_samples <= options.most_umap:
            row["UMAP, s"] = f"{np.median([seconds(UMAP().fit, x) for _ in repeats]):.1f}"
        rows.append(row)
        print(row, flush=True)
    sizes = " ".join(map(str, options.sizes))
    write(
        "speed",
        f"`python benchmarks/speed.py --seeds {options.seeds} --sizes {sizes}` on {machine()}. "
        "Seconds of `fit`, median over seeds (one above "
        f"{options.most_umap:,} samples), 20 simulated PCs, 20 clusters; on all cores.\n\n"
        f"{markdown(rows)}",
    )


if __name__ == "__main__":
    main()
