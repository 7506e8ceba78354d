"""Simulated cohorts whose ancestry is known, by msprime; needs ``pip install --group simulate``.

Coalescent simulations of a genome with recombination; admixed samples are mosaics of the
haplotypes of sources that are not sampled themselves, with ancestry that varies from person to
person. Nothing here was fitted to a real cohort.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msprime
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ancestryvi import Genotypes

CONTIG = 1.5e7
N_CONTIGS = 20
RECOMBINATION = 1e-8
"""The genome: contigs simulated one by one, which is far faster than one long one."""

SEGMENT = 5e6
"""Length of the pieces of ancestry of an admixed haplotype, about those of ten generations."""

MIN_MAF = 0.02


@dataclass(frozen=True)
class Cohort:
    """Genotypes with the truth.

    Attributes
    ----------
    genotypes : Genotypes
    populations : ndarray of shape (n_samples,)
    ancestry : ndarray of shape (n_samples, n_sources) or None
        True ancestry fractions, where there is admixture.
    """

    genotypes: Genotypes
    populations: NDArray[np.object_]
    ancestry: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Mixture:
    """An admixed population: Dirichlet fractions of the source populations."""

    size: int
    sources: dict[str, float]
    concentration: float


def simulate(
    demography: msprime.Demography,
    sizes: dict[str, int],
    seed: int,
    admixed: dict[str, Mixture] | None = None,
    n_variants: int = 40_000,
    pool: int = 60,
) -> Cohort:
    """Sample individuals, admix some, and keep common variants.

    Every source population of `admixed` gives `pool` haplotypes to the mosaics of each.
    """
    admixed = admixed or {}
    rng = np.random.default_rng(seed)
    sources = sorted({name for mixture in admixed.values() for name in mixture.sources})
    drawn = [msprime.SampleSet(size, population=name) for name, size in sizes.items()]
    drawn += [msprime.SampleSet(pool, population=name, ploidy=1) for name in sources]
    rate = (
        3.2
        * n_variants
        / (4 * 1e4 * CONTIG * N_CONTIGS * np.log(max(100, 2 * sum(sizes.values()))))
    )
    n_own = 2 * sum(sizes.values())
    of_source = {name: n_own + i * pool + np.arange(pool) for i, name in enumerate(sources)}
    plans = [
        (name, fractions)
        for name, mixture in admixed.items()
        for fractions in rng.dirichlet(
            mixture.concentration * np.array(list(mixture.sources.values())), mixture.size
        )
    ]
    names = [name for name, size in sizes.items() for _ in range(size)] + [p[0] for p in plans]
    ancestry = np.zeros((len(names), len(sources)))
    n_segments = int(CONTIG // SEGMENT) * N_CONTIGS
    donors = np.zeros((2 * len(plans), n_segments), dtype=np.int64)
    for i, (name, fractions) in enumerate(plans):
        local = list(admixed[name].sources)
        for haplotype in (2 * i, 2 * i + 1):
            chosen = rng.choice(len(local), size=n_segments, p=fractions)
            for segment, source in enumerate(chosen):
                donors[haplotype, segment] = rng.choice(of_source[local[source]])
                row = len(names) - len(plans) + i
                ancestry[row, sources.index(local[source])] += 0.5 / n_segments
    for row, name in enumerate(names[: len(names) - len(plans)]):
        if name in sources:
            ancestry[row, sources.index(name)] = 1.0

    dosages, contigs, positions = [], [], []
    for contig in range(N_CONTIGS):
        trees = msprime.sim_ancestry(
            drawn,
            demography=demography,
            sequence_length=CONTIG,
            recombination_rate=RECOMBINATION,
            random_seed=seed * N_CONTIGS + contig + 1,
        )
        mutated = msprime.sim_mutations(
            trees,
            rate=rate,
            random_seed=seed * N_CONTIGS + contig + 1,
            model=msprime.BinaryMutationModel(),
        )
        first = contig * int(CONTIG // SEGMENT)
        for variant in mutated.variants():
            calls = variant.genotypes.astype(np.int8)
            segment = first + int(variant.site.position // SEGMENT)
            full = np.concatenate([calls[:n_own], calls[donors[:, segment]]])
            frequency = full.mean()
            if MIN_MAF <= frequency <= 1 - MIN_MAF and full.max() == 1:
                dosages.append(full[::2] + full[1::2])
                contigs.append(str(contig + 1))
                positions.append(int(variant.site.position) + 1)
    return Cohort(
        _genotypes(np.array(dosages, dtype=np.int8).T, contigs, positions),
        np.array(names, dtype=object),
        ancestry if admixed else None,
    )


def _genotypes(dosages: NDArray[np.int8], contigs: list[str], positions: list[int]) -> Genotypes:
    variants = pd.DataFrame(
        {"contig": contigs, "position": positions, "id": ".", "ref": "A", "alt": "C"}
    )
    kept = ~variants.duplicated(["contig", "position"])
    samples = pd.DataFrame(index=[f"s{i}" for i in range(len(dosages))])
    return Genotypes(
        np.ascontiguousarray(dosages[:, kept]), samples, variants[kept].reset_index(drop=True)
    )


def _tree(
    splits: list[tuple[str, float, list[str]]], sizes: dict[str, float], default: float
) -> msprime.Demography:
    """Populations that split at times (generations ago), the most recent first."""
    demography = msprime.Demography()
    names = {name for parent, _, children in splits for name in (parent, *children)}
    for name in sorted(names):
        demography.add_population(name=name, initial_size=sizes.get(name, default))
    for parent, time, children in sorted(splits, key=lambda split: split[1]):
        demography.add_population_split(time, derived=children, ancestral=parent)
    return demography


def _comb(prefix: str, n: int, times: tuple[float, float], rng: np.random.Generator):
    """A random tree of n populations: pairs of lineages join at times within a range."""
    alive = [f"{prefix}{i + 1}" for i in range(n)]
    splits = []
    for j, time in enumerate(np.sort(rng.uniform(*times, n - 1))):
        a, b = rng.choice(len(alive), 2, replace=False)
        children = [alive[a], alive[b]]
        parent = prefix if j == n - 2 else f"{prefix}_{j}"
        splits.append((parent, float(time), children))
        alive = [name for name in alive if name not in children] + [parent]
    return splits


def human(size: int, seed: int) -> Cohort:
    """26 populations of five continents, four of them admixed; `size` samples of each."""
    rng = np.random.default_rng(seed)
    splits = [
        *_comb("AFR", 7, (30, 250), rng),
        *_comb("EUR", 5, (20, 150), rng),
        *_comb("SAS", 5, (25, 150), rng),
        *_comb("EAS", 5, (20, 160), rng),
        ("WES", 700, ["EUR", "SAS"]),
        ("ASI", 600, ["EAS", "NAT"]),
        ("OOA", 1100, ["WES", "ASI"]),
        ("ANC", 2200, ["AFR", "OOA"]),
    ]
    sizes = {"AFR": 14000, "OOA": 1900, "ANC": 9000, "NAT": 2500}
    demography = _tree(splits, sizes, 8000)
    sampled = {
        name: size
        for prefix, n in (("AFR", 7), ("EUR", 5), ("SAS", 5), ("EAS", 5))
        for name in (f"{prefix}{i + 1}" for i in range(n))
    }
    admixed = {
        "AMR1": Mixture(size, {"EUR1": 0.55, "NAT": 0.38, "AFR1": 0.07}, 12.0),
        "AMR2": Mixture(size, {"EUR2": 0.25, "NAT": 0.73, "AFR1": 0.02}, 12.0),
        "AMR3": Mixture(size, {"EUR1": 0.68, "NAT": 0.17, "AFR2": 0.15}, 12.0),
        "AMR4": Mixture(size, {"EUR2": 0.2, "AFR2": 0.8}, 15.0),
    }
    return simulate(demography, sampled, seed, admixed, pool=120)


def close(seed: int) -> Cohort:
    """Four populations of 300 at F_ST of about 0.001: near the limit of what can be told apart."""
    names = [f"P{i + 1}" for i in range(4)]
    demography = _tree([("ANC", 20, names)], {}, 10_000)
    return simulate(demography, dict.fromkeys(names, 300), seed, n_variants=60_000)


def unequal(seed: int) -> Cohort:
    """Fourteen populations of 10 to 1,000 samples."""
    rng = np.random.default_rng(seed)
    counts = np.round(np.geomspace(10, 1000, 14)).astype(int)
    names = [f"P{i + 1}" for i in range(14)]
    demography = _tree(_comb("P", 14, (60, 1500), rng), {}, 9000)
    order = rng.permutation(14)
    return simulate(demography, {names[i]: int(counts[j]) for j, i in enumerate(order)}, seed)


def many(seed: int) -> Cohort:
    """Eighty populations of 10 to 60 samples, breeds or villages."""
    rng = np.random.default_rng(seed)
    demography = _tree(_comb("P", 80, (20, 900), rng), {}, 3000)
    return simulate(demography, {f"P{i + 1}": int(rng.integers(10, 61)) for i in range(80)}, seed)


def small(seed: int) -> Cohort:
    """Twelve strongly structured populations of 8 samples, of small size: not human."""
    rng = np.random.default_rng(seed)
    demography = _tree(_comb("P", 12, (100, 2000), rng), {}, 1500)
    return simulate(demography, {f"P{i + 1}": 8 for i in range(12)}, seed)


def panmictic(seed: int) -> Cohort:
    """A thousand samples of one population."""
    demography = msprime.Demography()
    demography.add_population(name="P1", initial_size=10_000)
    return simulate(demography, {"P1": 1000}, seed)


def cline(seed: int) -> Cohort:
    """A line of 30 villages, 40 samples of each, along which one ancestry gives way to another."""
    demography = _tree([("ANC", 900, ["A", "B"])], {}, 9000)
    villages = {
        f"V{i + 1:02d}": Mixture(40, {"A": 1 - share, "B": share}, 40.0)
        for i, share in enumerate(np.linspace(0.02, 0.98, 30))
    }
    return simulate(demography, {}, seed, villages, pool=200)


def admixed(seed: int) -> Cohort:
    """Three sources of 100 samples and 900 admixed ones, of every fraction."""
    splits = [("AB", 900, ["A", "B"]), ("ANC", 1800, ["AB", "C"])]
    demography = _tree(splits, {}, 9000)
    mixtures = {
        "A-B": Mixture(450, {"A": 0.5, "B": 0.5}, 2.0),
        "A-B-C": Mixture(450, {"A": 0.4, "B": 0.3, "C": 0.3}, 3.0),
    }
    return simulate(demography, {"A": 100, "B": 100, "C": 100}, seed, mixtures, pool=200)


COHORTS: dict[str, Callable[[int], Cohort]] = {
    "human-2500": lambda seed: human(96, seed),
    "human-10000": lambda seed: human(385, seed),
    "close": close,
    "unequal": unequal,
    "many": many,
    "small": small,
    "panmictic": panmictic,
    "cline": cline,
    "admixed": admixed,
}
"""By name; each takes a seed."""
