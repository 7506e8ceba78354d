"""The default AncestryDDVI against ordinary tools, on real and simulated cohorts.

Nothing sees labels. Tools get the first 8, 12 and 20 (or 10 and 20, or 15 and 20) of the PCs that
AncestryDDVI gets. Simulated cohorts need msprime (``pip install --group simulate``) and minutes;
with --work they are made once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from cohorts import COHORTS
from common import (
    DATA_SETS,
    Ledger,
    add_work,
    by_name,
    features,
    labelled_genotypes,
    machine,
    markdown,
    parser,
    write,
)
from common import spread as interval
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr
from semi_supervised import calibration_error
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from umap import UMAP

from ancestryvi import AncestryDDVI, GenotypePCA, Genotypes
from ancestryvi.estimators.feature_mixture import choose_n_clusters
from ancestryvi.estimators.tools import cluster, fit_mixture, neighbour_map
from ancestryvi.evaluate import assignment_entropy, map_metrics

SIMULATION_SEED = 1000

N_CHANCES = 200
"""Draws of what is right, for the calibration error by chance."""

LARGE = {"human-10000": 2}
"""Seeds at most, where a map by t-SNE takes minutes."""

NAMES = [data_set.name for data_set in DATA_SETS] + list(COHORTS)


def load(name: str, data: Path, work: Path) -> dict[str, NDArray]:
    """PC scores, populations, number of clusters, and ancestry fractions where they are known.

    Where there are genotypes also the PC scores of four fifths, `kept`, fitted alone, and of the
    others, projected.
    """
    path = work / f"{name}.npz"
    if not path.exists():
        ancestry = None
        if name in COHORTS:
            cohort = COHORTS[name](SIMULATION_SEED)
            y, ancestry = cohort.populations, cohort.ancestry
            k = len(np.unique(y))
            parts = of_genotypes(cohort.genotypes)
        else:
            data_set = by_name(name)
            k = data_set.n_clusters
            if data_set.has_genotypes:
                genotypes, y = labelled_genotypes(data_set, data)
                parts = of_genotypes(genotypes)
            else:
                x, y = features(data_set, data)
                parts = {"x": x}
        parts |= {"y": y.astype(str), "k": k}
        parts |= {"ancestry": np.zeros((0, 0)) if ancestry is None else ancestry}
        np.savez(path, **parts)
    with np.load(path) as file:
        return dict(file)


def of_genotypes(genotypes: Genotypes) -> dict[str, NDArray]:
    """PC scores of all samples together, and those of `held_out_scores`."""
    pca = GenotypePCA().fit(genotypes)
    together = {"x": pca.transform(genotypes), "structure": pca.n_structure_}
    return together | held_out_scores(genotypes)


def held_out_scores(genotypes: Genotypes) -> dict[str, NDArray]:
    """PC scores of four fifths of the samples, and of the others projected onto them."""
    order = np.random.default_rng(0).permutation(genotypes.n_samples)
    rest, kept = (np.sort(rows) for rows in np.split(order, [genotypes.n_samples // 5]))
    of_kept, of_rest = (genotypes.select(samples=rows) for rows in (kept, rest))
    pca = GenotypePCA().fit(of_kept)
    scores = {"x_kept": pca.transform(of_kept), "x_rest": pca.transform(of_rest)}
    return {"kept": kept, "rest": rest} | scores


def global_order(x: NDArray, z: NDArray, y: NDArray) -> float:
    """Rank correlation of distances between population means, on the map and among PCs."""
    of = [y == name for name in np.unique(y)]
    far, near = (pdist([points[rows].mean(axis=0) for rows in of]) for points in (x, z))
    return float(spearmanr(far, near)[0])


def map_scores(x: NDArray, z: NDArray, y: NDArray) -> dict[str, float]:
    found = map_metrics(z, x, y)
    return {
        "trustworthiness": found["trustworthiness"],
        "knn": found["knn_accuracy"],
        "order": global_order(x, z, y) if len(np.unique(y)) > 2 else np.nan,
    }


def between(z: NDArray, ancestry: NDArray) -> float:
    """Correlation of the place between two sources with true ancestry, mean over source pairs.

    Of samples with at least 95 % of their ancestry from the two; the axis joins the means of the
    tenth of these with most of each.
    """
    found = []
    n_sources = ancestry.shape[1]
    for a in range(n_sources):
        for b in range(a + 1, n_sources):
            mixed = ancestry[:, [a, b]].sum(axis=1) >= 0.95
            if mixed.sum() < 50:
                continue
            share, places = ancestry[mixed, a], z[mixed]
            order = np.argsort(share)
            tenth = max(5, len(order) // 10)
            axis = places[order[-tenth:]].mean(axis=0) - places[order[:tenth]].mean(axis=0)
            found.append(abs(np.corrcoef(places @ axis, share)[0, 1]))
    return float(np.mean(found)) if found else np.nan


def ours(cohort: dict[str, NDArray], name: str, seed: int, work: Path) -> dict[str, float]:
    x, y, k = cohort["x"], cohort["y"], int(cohort["k"])
    model = AncestryDDVI(k, random_state=seed).fit(x)
    np.save(work / f"{name}-{seed}.labels.npy", model.labels_)
    found = {"nmi": normalized_mutual_info_score(y, model.labels_)}
    found |= {"entropy": float(np.mean(assignment_entropy(model.predict_proba(x))))}
    if cohort["ancestry"].size:
        found["between"] = between(model.embedding_, cohort["ancestry"])
    return found | map_scores(x, model.embedding_, y)


def umap(cohort: dict[str, NDArray], seed: int) -> dict[str, float]:
    """UMAP of all PCs with default settings."""
    x, y = cohort["x"], cohort["y"]
    z = UMAP(random_state=seed).fit(x).embedding_
    found = {}
    if cohort["ancestry"].size:
        found["between"] = between(z, cohort["ancestry"])
    return found | map_scores(x, z, y)


def tools(cohort: dict[str, NDArray], seed: int) -> dict[str, float]:
    """NMI of every ordinary tool."""
    x, y, k = cohort["x"], cohort["y"], int(cohort["k"])
    found: dict[str, float] = {}

    def clusters(name: str, space: NDArray, kinds: list[str], full: bool) -> None:
        for kind in kinds:
            random = np.random.RandomState(seed)
            if kind == "mixture":
                labels = fit_mixture(space, k, random, full=full).at(space).argmax(axis=1)
            else:
                labels = cluster(space, kind, k, random)
            found[f"{name} + {kind}"] = normalized_mutual_info_score(y, labels)

    def numbers(*wanted: int) -> list[int]:
        return sorted({min(n, x.shape[1]) for n in wanted})

    for n in numbers(8, 12, 20):
        clusters(f"{n} PCs", x[:, :n], ["kmeans", "mixture"], full=False)
    for n in numbers(15, 20):
        clusters(f"{n} PCs", x[:, :n], ["leiden"], full=False)
    for n in numbers(10, 20):
        for kind in ("umap", "tsne"):
            rows = x[:, :n]
            z = neighbour_map(rows, kind, 2, np.random.RandomState(seed)).at(rows)
            clusters(f"{kind} of {n}", z, ["kmeans", "mixture", "ward", "hdbscan"], full=True)
    return found


def held_out(cohort: dict[str, NDArray], seed: int) -> dict[str, float]:
    """Probabilities and places of a fifth of the samples that the fit left out.

    A sample is rightly assigned if it is in the cluster that holds most of its population. By
    chance alone, samples that are right just as often as their probability says have a calibration
    error as well.
    """
    kept, rest, y = cohort["kept"], cohort["rest"], cohort["y"]
    names, population = np.unique(y, return_inverse=True)
    k = len(names)
    model = AncestryDDVI(k, random_state=seed).fit(cohort["x_kept"])
    placed = model.project(cohort["x_rest"])
    counts = np.zeros((k, model.n_clusters_))
    np.add.at(counts, (population[kept], model.labels_), 1)
    right = counts.argmax(axis=1)[population[rest]] == placed.labels
    named = placed.probabilities @ (counts / np.maximum(counts.sum(axis=0), 1)).T
    sure, rng = placed.probabilities.max(axis=1), np.random.default_rng(seed)
    by_chance = [
        calibration_error(placed.probabilities, rng.random(len(sure)) < sure)
        for _ in range(N_CHANCES)
    ]
    joint = AncestryDDVI(k, random_state=seed).fit(cohort["x"]).embedding_
    return {
        "accuracy": float(right.mean()),
        "calibration": calibration_error(placed.probabilities, right),
        "chance": float(np.mean(by_chance)),
        "populations": calibration_error(named, named.argmax(axis=1) == population[rest]),
        "distance": distance(cohort, joint, model.embedding_, placed.embedding),
    }


def held_out_of_umap(cohort: dict[str, NDArray], seed: int) -> dict[str, float]:
    """Places of the same samples by UMAP with default settings."""
    joint = UMAP(random_state=seed).fit(cohort["x"]).embedding_
    model = UMAP(random_state=seed).fit(cohort["x_kept"])
    placed = model.transform(cohort["x_rest"])
    return {"distance": distance(cohort, joint, model.embedding_, placed)}


def distance(cohort: dict[str, NDArray], joint: NDArray, fitted: NDArray, placed: NDArray) -> float:
    """Median distance of projected samples from their places on a map of all, over its width.

    The map of the fit is moved, turned and scaled onto that of all by its own samples
    (Procrustes).
    """
    there = joint[cohort["kept"]]
    centred = fitted - fitted.mean(axis=0)
    turn, scale = orthogonal_procrustes(centred, there - there.mean(axis=0))
    factor = scale / np.square(centred).sum()
    moved = (placed - fitted.mean(axis=0)) @ turn * factor + there.mean(axis=0)
    apart = np.linalg.norm(moved - joint[cohort["rest"]], axis=1)
    return float(np.median(apart) / np.ptp(joint, axis=0).max())


def chosen(cohort: dict[str, NDArray]) -> dict[str, float]:
    """The number of clusters that "auto" chooses, as after `GenotypePCA` where that was used."""
    x = cohort["x"][:, : int(cohort.get("structure", cohort["x"].shape[1]))]
    unit = np.sqrt(np.square(cohort["x"] - cohort["x"].mean(axis=0)).mean())
    return {"k": choose_n_clusters((x - x.mean(axis=0)) / unit)}


def main() -> None:
    options = parser(__doc__ or "")
    options.set_defaults(seeds=5)
    options.add_argument("--cohorts", nargs="+", choices=NAMES, default=NAMES)
    add_work(options)
    options = options.parse_args()
    ledger = Ledger(options.work, "default")
    work = ledger.path.parent
    clusters, maps, more = [], [], []
    for name in options.cohorts:
        cohort = load(name, options.data, work)
        x, y = cohort["x"], cohort["y"]
        mine, theirs, maps_of_umap = [], [], []
        seeds = range(min(options.seeds, LARGE.get(name, options.seeds)))
        for seed in seeds:
            what = {"cohort": name, "seed": seed}
            mine.append(ledger.once(partial(ours, cohort, name, seed, work), method="ddvi", **what))
            maps_of_umap.append(ledger.once(partial(umap, cohort, seed), method="umap", **what))
            if len(np.unique(y)) > 1:
                theirs.append(ledger.once(partial(tools, cohort, seed), method="tools", **what))
        partitions = [np.load(work / f"{name}-{seed}.labels.npy") for seed in seeds]
        agreement = [adjusted_rand_score(partitions[0], other) for other in partitions[1:]]
        auto = ledger.once(partial(chosen, cohort), cohort=name, method="auto")
        row = {"cohort": name, "samples": len(x), "PCs": x.shape[1], "K": int(cohort["k"])}
        if theirs:
            means = {tool: np.mean([run[tool] for run in theirs]) for tool in theirs[0]}
            ranked = sorted(means, key=means.get, reverse=True)
            own = np.mean([run["nmi"] for run in mine])
            clusters.append(
                row
                | {
                    "**ancestryvi**": f"**{interval([run['nmi'] for run in mine])}**",
                    "best tool": interval([run[ranked[0]] for run in theirs]),
                    "which": ranked[0],
                    "next": f"{means[ranked[1]]:.3f} {ranked[1]}",
                    "difference": f"{own - means[ranked[0]]:+.3f}",
                    "tools behind": f"{sum(m <= own for m in means.values())} of {len(means)}",
                    "ARI between seeds": f"{min(agreement):.3f}" if agreement else "",
                    "K by auto": int(auto["k"]),
                }
            )

        def pair(key: str, digits: int = 3, a=mine, b=maps_of_umap) -> str:
            if key not in a[0]:
                return ""
            return " / ".join(
                f"{np.mean([run[key] for run in runs]):.{digits}f}" for runs in (a, b)
            )

        maps.append(
            row
            | {
                "trustworthiness": pair("trustworthiness"),
                "kNN accuracy": pair("knn"),
                "global order": pair("order"),
                "place between sources": pair("between"),
            }
        )
        more.append(
            {
                "cohort": name,
                "components that stand out": cohort.get("structure", ""),
                "K by auto": int(auto["k"]),
                "populations": len(np.unique(y)),
                "mean entropy of probabilities, nats": interval([r["entropy"] for r in mine]),
            }
        )
    projected = []
    for name in options.cohorts:
        cohort = load(name, options.data, work)
        if "x_kept" not in cohort or len(np.unique(cohort["y"])) == 1:
            continue
        runs = [
            ledger.once(partial(held_out, cohort, seed), cohort=name, method="held out", seed=seed)
            for seed in range(min(options.seeds, LARGE.get(name, options.seeds)))
        ]
        of_umap = ledger.once(
            partial(held_out_of_umap, cohort, 0), cohort=name, method="held out, umap", seed=0
        )
        projected.append(
            {
                "cohort": name,
                "rightly assigned": interval([run["accuracy"] for run in runs]),
                "calibration error": interval([run["calibration"] for run in runs]),
                "by chance alone": interval([run["chance"] for run in runs]),
                "that of populations": interval([run["populations"] for run in runs]),
                "distance of places": interval([run["distance"] for run in runs]),
                "of UMAP's": f"{of_umap['distance']:.3f}",
            }
        )
    chosen_cohorts = "" if options.cohorts == NAMES else f" --cohorts {' '.join(options.cohorts)}"
    fewer = "".join(f", {LARGE[name]} of {name}" for name in options.cohorts if name in LARGE)
    sections = [
        f"`python benchmarks/default.py --seeds {options.seeds}{chosen_cohorts}` on {machine()}. "
        "Mean and 95 % "
        f"t-interval over seeds{fewer}; simulated cohorts are of one seed.\n\n"
        "NMI with population labels that nothing saw, of AncestryDDVI with default settings and of "
        "the ordinary tools on the same PCs. ARI: the least of any seed with the first.\n\n"
        f"{markdown(clusters) if clusters else ''}\n"
        "Maps, AncestryDDVI / UMAP. Global order: rank correlation of distances between population "
        "means on the map and among PCs. Place between sources: correlation with true ancestry. "
        "Time is measured by benchmarks/speed.py.\n\n"
        f"{markdown(maps)}\nStructure:\n\n{markdown(more)}"
    ]
    if projected:
        sections.append(
            "\nA fifth of the samples held out and projected: share in the cluster that holds most "
            "of their population, expected calibration error of `predict_proba` for it, what that "
            "would be by chance if probabilities were right, and the error of the probabilities of "
            "populations, each cluster standing for the populations of its samples; median "
            "distance from the place on a map of all samples, both maps superimposed, as a share "
            "of its width, and that of UMAP, of one seed.\n\n"
            f"{markdown(projected)}"
        )
    write("default", "".join(sections))


if __name__ == "__main__":
    main()
