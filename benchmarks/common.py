"""The real data sets of the benchmarks, and what every benchmark says of the machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ancestryvi import GenotypePCA, Genotypes, read_genotypes, read_scores
from ancestryvi.evaluate import confidence_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class DataSet:
    """Files of one cohort, its labels, and the number of clusters to ask for."""

    name: str
    folder: str
    pattern: str
    n_clusters: int
    what: str

    def paths(self, data: Path) -> list[str]:
        found = sorted((data / self.folder).glob(self.pattern))
        if not found:
            raise SystemExit(f"{data / self.folder} holds no {self.pattern}; see --data.")
        return [str(path) for path in found]

    @property
    def has_genotypes(self) -> bool:
        """Whether there are genotypes and not PC scores."""
        return self.pattern != "pcs.tsv"

    def labels(self, data: Path) -> str:
        return str(data / self.folder / "samples.tsv")


def by_name(name: str) -> DataSet:
    """The data set of this name."""
    return next(data_set for data_set in DATA_SETS if data_set.name == name)


def labelled_genotypes(data_set: DataSet, data: Path) -> tuple[Genotypes, np.ndarray]:
    """Genotypes of a data set that has them, and populations."""
    genotypes = read_genotypes(data_set.paths(data))
    return genotypes, _populations(data_set, data, genotypes.sample_ids)


def features(data_set: DataSet, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """PC scores of a data set, with default settings where it is genotypes, and populations."""
    if data_set.has_genotypes:
        genotypes, populations = labelled_genotypes(data_set, data)
        return GenotypePCA().fit_transform(genotypes), populations
    scores = read_scores(data_set.paths(data)[0])
    return scores.to_numpy(), _populations(data_set, data, scores.index)


def _populations(data_set: DataSet, data: Path, samples: Sequence[str]) -> np.ndarray:
    table = pd.read_csv(data_set.labels(data), sep="\t", index_col=0, keep_default_na=False)
    return table.loc[samples, "population"].to_numpy()


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and 95 % t-interval."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    mean, half = confidence_interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def markdown(rows: list[dict[str, object]]) -> str:
    """A table of rows that have the same keys."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write(name: str, text: str) -> None:
    """Keep and print what a benchmark found."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    print(text)


DATA_SETS = [
    DataSet("1000g-pcs", "1000g-pcs", "pcs.tsv", 20, "phase 3, 26 populations, 20 PCs"),
    DataSet("1000g-26pop", "1000g-26pop", "*.vcf.gz", 26, "phase 3, 26 populations, exome SNPs"),
    DataSet("1000g-12pop", "1000g-12pop", "chr*.vcf.gz", 12, "phase 3, 12 populations, 22 files"),
    DataSet("1000g-14pop", "1000g-14pop-plink", "*.bed", 14, "phase 1, 14 populations, BED"),
]


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument(
        "--data",
        type=Path,
        default=ROOT.parent / "shared" / "data",
        help="folder of the 1000 Genomes sets, as named in DATA_SETS of benchmarks/common.py",
    )
    options.add_argument("--seeds", type=int, default=3)
    return options


class Ledger:
    """Finished runs, one a line of a file, so that a benchmark that was stopped goes on.

    Benchmarks that run at the same time may share a folder, each with runs of its own.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        folder = folder or Path(tempfile.mkdtemp(prefix="ancestryvi-"))
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        self.path.touch()
        print(f"Finished runs are kept in {self.path}", flush=True)

    def once(self, run: Callable[[], dict[str, float]], **what: object) -> dict[str, float]:
        """What the run of this description gave; it is run if it is not in the file."""
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # empty, or cut off as the benchmark was stopped
                continue
            if entry["what"] == what:
                return entry["found"]
        found = run()
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" + json.dumps({"what": what, "found": found}))
        print(*what.values(), *(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
        return found


def add_work(options: argparse.ArgumentParser) -> None:
    """The option that says where a `Ledger` is."""
    options.add_argument(
        "--work",
        type=Path,
        help="folder that keeps finished runs: give it again to go on after a stop, and clear it "
        "when the package has changed (default: a new one under the temporary files)",
    )


def machine() -> str:
    """Cores, memory, processor and versions, in one line."""
    import sklearn
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {model}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    )
