"""Seconds of `fit` by number of samples: AncestryDDVI and UMAP, one after the other.

Features are 20 simulated PCs of 26 populations in five groups. Imports and compilation are not
counted. UMAP runs as its users call it, without a seed, which would forbid it a second core.

With ``--device cuda`` the table has, for UMAP, the share of the roofline: the seconds that the
matrix products of the fit would take at the rate of one large product in single precision, measured
beside it, over the seconds that the fit took.
"""

from __future__ import annotations

import resource
import time

import numpy as np
import torch
from common import machine, markdown, parser, write
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

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


def peak_rate(device: str, size: int = 8192) -> float:
    """Floating-point operations per second of a large product in single precision."""
    a = torch.randn(size, size, device=device)
    rates = []
    for _ in range(5):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ a
        torch.cuda.synchronize()
        rates.append(2.0 * size**3 / (time.perf_counter() - start))
    return float(np.median(rates))


def roofline_share(x: NDArray[np.float64], taken: float, device: str) -> float:
    """Share of the seconds taken that the products of the fit would need at the peak rate."""
    with FlopCounterMode(display=False) as counter:
        AncestryDDVI(20, random_state=0, device=device).fit(x)
    return counter.get_total_flops() / peak_rate(device) / taken


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--sizes", type=int, nargs="+", default=[2504, 10_000, 50_000, 500_000])
    options.add_argument("--most-umap", type=int, default=10_000, help="larger ones without UMAP")
    options.add_argument("--device", default="cpu")
    options = options.parse_args()
    gpu = options.device.startswith("cuda")
    if not gpu:
        from umap import UMAP

        for n_samples in (300, 5000):  # compiles the two ways that it searches neighbours
            UMAP(n_epochs=2).fit(pcs(n_samples))
    AncestryDDVI(20, n_epochs=2, random_state=0, device=options.device).fit(pcs(300))
    rows = []
    for n_samples in options.sizes:
        x = pcs(n_samples)
        row: dict[str, object] = {"samples": f"{n_samples:,}"}
        small = n_samples <= options.most_umap
        repeats = range(options.seeds if small or gpu else 1)
        ours, umap = [], []
        for seed in repeats:  # in turns, as machines are faster at one time than at another
            ours.append(seconds(AncestryDDVI(20, random_state=seed, device=options.device).fit, x))
            if not umap:
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            if small and not gpu:
                umap.append(seconds(UMAP().fit, x))
        row["AncestryDDVI, s"] = f"{np.median(ours):.1f}"
        row["peak memory so far, MB"] = round(peak)
        if gpu:
            row["of the GPU, MB"] = round(torch.cuda.max_memory_allocated() / 2**20)
            row["share of the roofline"] = "-"
            if n_samples == max(options.sizes):  # counting takes far longer than the fit
                share = roofline_share(x, float(np.median(ours)), options.device)
                row["share of the roofline"] = f"{100 * share:.2f} %"
        else:
            row["UMAP, s"] = f"{np.median(umap):.1f}" if umap else "-"
        rows.append(row)
        print(row, flush=True)
    sizes = " ".join(map(str, options.sizes))
    command = f"python benchmarks/speed.py --seeds {options.seeds} --sizes {sizes}"
    where = machine()
    if gpu:
        command += f" --device {options.device}"
        where += f", {torch.cuda.get_device_name()}"
    write(
        "speed-gpu" if gpu else "speed",
        f"`{command}` on {where}. Seconds of `fit`, median over seeds (one above "
        f"{options.most_umap:,} samples on a CPU), 20 simulated PCs, 20 clusters.\n\n"
        f"{markdown(rows)}",
    )


if __name__ == "__main__":
    main()
