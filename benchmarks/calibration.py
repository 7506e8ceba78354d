"""How sure clusters of new samples are said to be, by several powers of the likelihood.

On whole simulated cohorts, and on random choices of populations as in subsets.py, a mixture is
fitted to the PCs of four fifths of the samples, as `AncestryDDVI` starts from, and says of the
others, projected, how probable each cluster is. The power by halves is what the estimator uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from cohorts import COHORTS
from common import (
    DATA_SETS,
    Ledger,
    add_work,
    labelled_genotypes,
    machine,
    markdown,
    parser,
    spread,
    write,
)
from default import SIMULATION_SEED, held_out_scores, load
from numpy.typing import NDArray
from scipy.special import softmax
from semi_supervised import calibration_error
from subsets import choose

from ancestryvi import Genotypes
from ancestryvi.estimators.calibration import calibrate_on_halves
from ancestryvi.estimators.feature_mixture import fit_feature_mixture

WHOLE = ("unequal", "many", "close", "cline", "admixed")
OF_SIMULATED = "human-2500"
POWERS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15)
BY_HALVES = "by halves"


def errors(cohort: dict[str, NDArray]) -> dict[str, float]:
    """Calibration errors of clusters and of populations by each power, and the power by halves.

    As `held_out` of default.py counts them.
    """
    kept, rest = cohort["kept"], cohort["rest"]
    names, population = np.unique(cohort["y"], return_inverse=True)
    k = len(names)
    centre = cohort["x_kept"].mean(axis=0)
    unit = np.sqrt(np.square(cohort["x_kept"] - centre).mean())
    fitted, new = (cohort["x_kept"] - centre) / unit, (cohort["x_rest"] - centre) / unit
    mixture = fit_feature_mixture(fitted, k)
    counts = np.zeros((k, k))
    np.add.at(counts, (population[kept], mixture.at(fitted).argmax(axis=1)), 1)
    share = counts / np.maximum(counts.sum(axis=0), 1)
    joint, main = mixture.log_joint(new), counts.argmax(axis=1)
    power = calibrate_on_halves(fitted, k)
    found = {"samples": len(cohort["y"]), "k": k, "power": power}
    for name, value in [*((f"{p}", p) for p in POWERS), (BY_HALVES, power)]:
        sure = softmax(value * joint, axis=1)
        named = sure @ share.T
        right = main[population[rest]] == sure.argmax(axis=1)
        found[f"{name} clusters"] = calibration_error(sure, right)
        found[f"{name} populations"] = calibration_error(
            named, named.argmax(axis=1) == population[rest]
        )
    return found


def of_subset(genotypes: Genotypes, populations: NDArray) -> dict[str, float]:
    """As `errors`, of a cohort of its own."""
    return errors(held_out_scores(genotypes) | {"y": populations})


def sets(data: Path) -> Iterator[tuple[str, Genotypes, NDArray]]:
    """Genotypes and populations that random cohorts are chosen from."""
    for data_set in DATA_SETS:
        if data_set.has_genotypes:
            yield data_set.name, *labelled_genotypes(data_set, data)
    simulated = COHORTS[OF_SIMULATED](SIMULATION_SEED)
    yield OF_SIMULATED, simulated.genotypes, simulated.populations


def ends(found: list[dict[str, float]]) -> tuple[float, float]:
    """The least and the largest power."""
    powers = [run["power"] for run in found]
    return min(powers), max(powers)


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--cohorts", type=int, default=12, help="of each data set")
    add_work(options)
    options = options.parse_args()
    ledger = Ledger(options.work, "calibration")
    runs: dict[str, list[dict[str, float]]] = {}
    for name in WHOLE:
        cohort = load(name, options.data, ledger.path.parent)
        runs[name] = [ledger.once(partial(errors, cohort), set=name, cohort="whole")]
    for name, genotypes, populations in sets(options.data):
        populations, rng = populations.astype(str), np.random.default_rng(0)
        runs[f"of {name}"] = []
        for number in range(options.cohorts):
            rows = choose(populations, number % 2 == 1, rng)
            run = partial(of_subset, genotypes.select(samples=rows), populations[rows])
            runs[f"of {name}"].append(ledger.once(run, set=name, cohort=number))
    powers = [*map(str, POWERS), BY_HALVES]
    by_set = [
        {"cohorts": name, "number": len(found)}
        | {power: f"{np.mean([run[f'{power} clusters'] for run in found]):.3f}" for power in powers}
        | {"that power": " to ".join(sorted({f"{end:.2f}" for end in ends(found)}))}
        for name, found in runs.items()
    ]
    every = [run for found in runs.values() for run in found]
    by_power = [
        {
            "power": power,
            "error of clusters": spread([run[f"{power} clusters"] for run in every]),
            "largest": f"{max(run[f'{power} clusters'] for run in every):.3f}",
            "above 0.05": sum(run[f"{power} clusters"] > 0.05 for run in every),
            "above 0.1": sum(run[f"{power} clusters"] > 0.1 for run in every),
            "error of populations": spread([run[f"{power} populations"] for run in every]),
        }
        for power in powers
    ]
    write(
        "calibration",
        f"`python benchmarks/calibration.py --cohorts {options.cohorts}` on {machine()}. Expected "
        "calibration error of clusters for samples held out, mean over cohorts, by the power of "
        f"the likelihood.\n\n{markdown(by_set)}\nOver all {len(every)} cohorts, mean and 95 % "
        f"t-interval:\n\n{markdown(by_power)}",
    )


if __name__ == "__main__":
    main()
