"""The default AncestryDDVI against ordinary tools on many cohorts that it was not made with.

Each cohort is a random choice of populations of a real data set, every other one thinned, each of
its populations to a random share, and its PCs are computed anew. Nothing sees labels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial

import numpy as np
import pandas as pd
from common import (
    DATA_SETS,
    DataSet,
    Ledger,
    add_work,
    labelled_genotypes,
    machine,
    markdown,
    parser,
    write,
)
from common import spread as interval
from default import tools
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

from ancestryvi import AncestryDDVI, GenotypePCA, Genotypes

LEAST_POPULATIONS, LEAST_SAMPLES, LEAST_SHARE = 5, 8, 0.15


def choose(populations: NDArray, thinned: bool, rng: np.random.Generator) -> NDArray:
    """Rows of some populations, of all their samples or a random number of them."""
    names = np.unique(populations)
    chosen = rng.choice(names, rng.integers(LEAST_POPULATIONS, len(names) - 1), replace=False)
    rows = []
    for name in chosen:
        own = np.flatnonzero(populations == name)
        share = rng.uniform(LEAST_SHARE, 1.0) if thinned else 1.0
        size = min(len(own), max(LEAST_SAMPLES, round(share * len(own))))
        rows.append(rng.choice(own, size, replace=False))
    return np.sort(np.concatenate(rows))


def compare(genotypes: Genotypes, populations: NDArray) -> dict[str, float]:
    """NMI of AncestryDDVI and of every tool, with the number of clusters of the truth."""
    x = GenotypePCA().fit_transform(genotypes)
    k = len(np.unique(populations))
    labels = AncestryDDVI(k, random_state=0).fit(x).labels_
    found = {"samples": len(x), "k": k, "PCs": x.shape[1]}
    found |= {"ancestryvi": float(normalized_mutual_info_score(populations, labels))}
    return found | tools({"x": x, "y": populations, "k": k}, 0)


def kinds(run: dict[str, float]) -> dict[str, float]:
    """Means over the numbers of PCs that a tool was given."""
    found = defaultdict(list)
    for name, value in run.items():
        if " + " in name:
            found[re.sub(r" of \d+|^\d+ ", "", name)].append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def of_set(data_set: DataSet, options, ledger: Ledger) -> list[dict[str, float]]:
    """The runs of one data set."""
    genotypes, populations = labelled_genotypes(data_set, options.data)
    populations = populations.astype(str)
    rng = np.random.default_rng(0)
    runs = []
    for number in range(options.cohorts):
        rows = choose(populations, number % 2 == 1, rng)
        run = partial(compare, genotypes.select(samples=rows), populations[rows])
        runs.append(ledger.once(run, set=data_set.name, cohort=number))
    return runs


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--cohorts", type=int, default=12, help="of each data set")
    add_work(options)
    options = options.parse_args()
    ledger = Ledger(options.work, "subsets")
    by_set = {
        data_set.name: of_set(data_set, options, ledger)
        for data_set in DATA_SETS
        if data_set.has_genotypes
    }
    rows = []
    for name, runs in by_set.items():
        ours = np.array([run["ancestryvi"] for run in runs])
        best = np.array([max(v for key, v in run.items() if " + " in key) for run in runs])
        rows.append(
            {
                "of": name,
                "cohorts": len(runs),
                "samples": f"{min(r['samples'] for r in runs):.0f} to "
                f"{max(r['samples'] for r in runs):.0f}",
                "populations": f"{min(r['k'] for r in runs):.0f} to "
                f"{max(r['k'] for r in runs):.0f}",
                "**ancestryvi**": f"**{interval(ours)}**",
                "best tool of each cohort": interval(best),
                "difference": interval(ours - best),
                "not behind": f"{np.sum(ours >= best - 1e-9)} of {len(runs)}",
            }
        )
    every = [run for runs in by_set.values() for run in runs]
    ours = np.array([run["ancestryvi"] for run in every])
    theirs = pd.DataFrame([kinds(run) for run in every])
    single = [
        {
            "tool": tool,
            "NMI": interval(theirs[tool]),
            "ancestryvi less tool": interval(ours - theirs[tool]),
            "ancestryvi not behind": f"{np.sum(ours >= theirs[tool] - 1e-9)} of {len(every)}",
        }
        for tool in theirs.mean().sort_values(ascending=False).index
    ]
    write(
        "subsets",
        f"`python benchmarks/subsets.py --cohorts {options.cohorts}` on {machine()}. NMI with "
        "population labels, K as in the truth, one seed; mean and 95 % t-interval over cohorts.\n\n"
        f"{markdown(rows)}\nEach tool by itself, mean over its numbers of PCs:\n\n"
        f"{markdown(single)}",
    )


if __name__ == "__main__":
    main()
