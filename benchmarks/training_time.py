"""NMI against training time on 1000g-pcs, every method by its number of epochs (table 5)."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
from common import (
    ROOT,
    DataSet,
    Ledger,
    add_work,
    by_name,
    features,
    machine,
    markdown,
    parser,
    spread,
    write,
)
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score as nmi

from ancestryvi.estimators.registry import make_estimator
from ancestryvi.evaluate import confidence_interval

METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "aevb": ("AEVB", "aevb", {}),
    "aevb-iaf": ("AEVB-IAF", "aevb-iaf", {}),
    "aaeb": ("AAEB", "aaeb", {}),
    "ddvi-5": ("DDVI (T = 5)", "ddvi", {"n_diffusion_steps": 5}),
    "ddvi-10": ("DDVI (T = 10)", "ddvi", {"n_diffusion_steps": 10}),
    "ddvi-20": ("DDVI (T = 20)", "ddvi", {"n_diffusion_steps": 20}),
    "ddvi-50": ("DDVI (T = 50)", "ddvi", {"n_diffusion_steps": 50}),
}
"""By name: the title, and what `make_estimator` takes."""

BUDGETS = [15, 30, 60, 120, 240]

PUBLISHED = {
    "AEVB": ("0.52", "0.52", "0.52", "0.52", "0.52", "0.52"),
    "AEVB-IAF": ("0.54", "0.52", "0.52", "0.52", "0.52", "0.52"),
    "AAEB": ("0.61", "0.57", "0.57", "0.57", "0.57", "0.57"),
    "DDVI (T = 5)": ("warm up", "0.63", "0.63", "0.66", "0.66", "0.66"),
    "DDVI (T = 10)": ("warm up", "0.64", "0.68", "0.70", "0.70", "0.70"),
    "DDVI (T = 20)": ("warm up", "0.50", "0.51", "0.56", "0.64", "0.68"),
    "DDVI (T = 50)": ("warm up", "0.52", "0.54", "0.51", "0.59", "0.59"),
}
"""NMI after 10, 20, ... 60 minutes on a GPU, on other SNPs of the same project."""

FIGURE = ROOT / "docs" / "images" / "training-time.png"
STYLES = {
    # colours of Okabe and Ito's colour-blind safe set
    "aevb": ("#999999", "o"),
    "aevb-iaf": ("#000000", "s"),
    "aaeb": ("#cc79a7", "^"),
    "ddvi-5": ("#56b4e9", "v"),
    "ddvi-10": ("#0072b2", "D"),
    "ddvi-20": ("#009e73", "P"),
    "ddvi-50": ("#d55e00", "X"),
}

Found = dict[str, dict[int, list[dict[str, float]]]]
"""Runs of every method at every budget, one for each seed."""


def run(
    name: str,
    n_epochs: int,
    seed: int,
    data_set: DataSet,
    scores: NDArray[np.float64],
    populations: NDArray[np.object_],
) -> dict[str, float]:
    """Fit once."""
    _, method, settings = METHODS[name]
    model = make_estimator(
        method, n_clusters=data_set.n_clusters, n_epochs=n_epochs, random_state=seed, **settings
    )
    start = time.process_time()
    model.fit(scores)
    seconds = time.process_time() - start
    return {"nmi": float(nmi(populations, model.labels_)), "seconds": seconds}


def median_seconds(runs: list[dict[str, float]]) -> float:
    """Median processor time."""
    return float(np.median([found["seconds"] for found in runs]))


def draw_figure(found: Found) -> None:
    """NMI with its interval against seconds, a line for each method."""
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.add_subplot()
    for name, by_budget in found.items():
        colour, marker = STYLES[name]
        seconds = [median_seconds(runs) for runs in by_budget.values()]
        values = [[run["nmi"] for run in runs] for runs in by_budget.values()]
        halves = [confidence_interval(v)[1] if len(v) > 1 else 0.0 for v in values]
        axes.errorbar(
            seconds,
            [np.mean(v) for v in values],
            yerr=halves,
            label=METHODS[name][0],
            color=colour,
            marker=marker,
            markersize=5,
            lw=1.4,
            elinewidth=0.8,
            capsize=2,
        )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(xlabel="processor time of fit, s", ylabel="NMI")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=200, metadata={"Software": None})


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--budgets", type=int, nargs="+", default=BUDGETS, help="epochs")
    options.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    add_work(options)
    options = options.parse_args()
    data_set = by_name("1000g-pcs")
    scores, populations = features(data_set, options.data)
    ledger = Ledger(options.work, "time")
    found: Found = {
        name: {
            n_epochs: [
                ledger.once(
                    partial(run, name, n_epochs, seed, data_set, scores, populations),
                    method=name,
                    n_epochs=n_epochs,
                    seed=seed,
                )
                for seed in range(options.seeds)
            ]
            for n_epochs in options.budgets
        }
        for name in options.methods
    }
    rows = [
        {"method": METHODS[name][0]}
        | {
            f"{n_epochs} epochs": f"{spread([run['nmi'] for run in runs])} "
            f"({median_seconds(runs):.0f} s)"
            for n_epochs, runs in by_budget.items()
        }
        for name, by_budget in found.items()
    ]
    paper = [
        {"method": title} | {f"{10 * (i + 1)} min": value for i, value in enumerate(values)}
        for title, values in PUBLISHED.items()
    ]
    draw_figure(found)
    given = ""
    if options.budgets != BUDGETS:
        given += f" --budgets {' '.join(map(str, options.budgets))}"
    if options.methods != list(METHODS):
        given += f" --methods {' '.join(options.methods)}"
    write(
        "training_time",
        f"`python benchmarks/training_time.py --seeds {options.seeds}{given}` on {machine()}.\n\n"
        f"{data_set.name} ({data_set.what}), K = {data_set.n_clusters}; NMI, mean and 95 % "
        "t-interval over seeds, each cell trained from the start for its number of epochs; in "
        "brackets the median processor time of `fit`, read-out included.\n\n"
        f"{markdown(rows)}\n"
        "**The paper's own numbers**: NMI by wall-clock time on a GPU, on other SNPs of the same "
        "project:\n\n" + markdown(paper),
    )


if __name__ == "__main__":
    main()
