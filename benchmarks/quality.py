"""NMI, time and memory of `ancestryvi embed` on 1000 Genomes, beside ordinary tools on its PCs.

Each run is a process of its own with default settings: only the number of clusters and the seed are
given, and labels are used for scoring. The ordinary tools get the PC scores that `embed` wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from common import DATA_SETS, DataSet, machine, markdown, parser, spread, write
from sklearn.cluster import KMeans
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import normalized_mutual_info_score as nmi
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict
from umap import UMAP

CLI = [sys.executable, "-c", "from ancestryvi.cli import main; main()"]


def embed(data_set: DataSet, data: Path, seed: int, out: Path) -> dict[str, float]:
    """One run of the command; its metrics, whole wall time and peak memory."""
    command = [*CLI, "embed", *data_set.paths(data), "--labels", data_set.labels(data)]
    command += ["--n-clusters", str(data_set.n_clusters), "--seed", str(seed), "--out", str(out)]
    timed = ["/usr/bin/env", "python3", "-c", TIMER, *command]
    done = subprocess.run(timed, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds, peak = done.stdout.split()[-2:]
    metrics = json.loads((out / "metrics.json").read_text())
    return {**metrics, "seconds": float(seconds), "peak_mb": float(peak)}


TIMER = (
    "import resource, subprocess, sys, time; start = time.perf_counter(); "
    "code = subprocess.call(sys.argv[1:]); "
    "print(time.perf_counter() - start, "
    "resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024); sys.exit(code)"
)


def ordinary_tools(
    scores: np.ndarray, labels: np.ndarray, n_clusters: int, seed: int
) -> dict[str, float]:
    """NMI of what a user would run otherwise, on the same PC scores."""
    umap = UMAP(random_state=seed).fit_transform(scores)
    kmeans = KMeans(n_clusters, n_init=10, random_state=seed)
    mixture = GaussianMixture(n_clusters, covariance_type="diag", n_init=3, random_state=seed)
    return {
        "KMeans on PCs": nmi(labels, kmeans.fit_predict(scores)),
        "mixture on PCs": nmi(labels, mixture.fit_predict(scores)),
        "UMAP + KMeans": nmi(labels, kmeans.fit_predict(umap)),
        "UMAP + mixture": nmi(labels, mixture.fit_predict(umap)),
    }


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    warnings.simplefilter("ignore")
    rows = []
    for data_set in DATA_SETS:
        runs, others = [], []
        for seed in range(options.seeds):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out"
                runs.append(embed(data_set, options.data, seed, out))
                scores = pd.read_csv(out / "pcs.tsv", sep="\t", index_col=0).to_numpy()
                table = pd.read_csv(out / "embedding.tsv", sep="\t", keep_default_na=False)
                labels = table[str(runs[-1]["label_column"])].to_numpy()
            others.append(ordinary_tools(scores, labels, data_set.n_clusters, seed))
            print(data_set.name, seed, f"{runs[-1]['nmi']:.3f}", others[-1], flush=True)
        ceiling = cross_val_predict(LinearDiscriminantAnalysis(), scores, labels, cv=5)
        split = next((runs[0][key]["nmi"] for key in runs[0] if key.startswith("perfect")), None)
        rows.append(
            {
                "data": f"{data_set.name} ({data_set.what})",
                "samples": len(labels),
                "PCs": scores.shape[1],
                "K": data_set.n_clusters,
                "**ancestryvi**": f"**{spread([run['nmi'] for run in runs])}**",
                **{name: spread([other[name] for other in others]) for name in others[0]},
                "superpopulations": "" if split is None else f"{split:.3f}",
                "LDA, supervised": f"{nmi(labels, ceiling):.3f}",
                "kNN acc.": f"{np.mean([run['knn_accuracy'] for run in runs]):.3f}",
                "s": f"{np.median([run['seconds'] for run in runs]):.0f}",
                "MB": f"{max(run['peak_mb'] for run in runs):.0f}",
            }
        )
    text = (
        f"`python benchmarks/quality.py --seeds {options.seeds}` on {machine()}.\n\n"
        "NMI with population labels, mean and 95 % t-interval over seeds; s: median wall time of "
        "the whole `embed` process; MB: its peak memory. superpopulations: what a perfect split "
        "into superpopulations would score. LDA: linear discriminants on the same PCs, 5-fold "
        "cross-validated, which do see labels.\n\n" + markdown(rows)
    )
    write("quality", text)


if __name__ == "__main__":
    main()
