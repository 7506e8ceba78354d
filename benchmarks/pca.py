"""Seconds, peak memory and agreement of the leading 20 PCs of a BED file, beside other programs.

Parts, chosen with --parts: `exact` compares with PLINK 2, PLINK 1.9 and scikit-learn's randomized
PCA on one file, with scores in double precision as the reference; `streaming` runs the randomised
solver on larger files, and shows how time and memory grow with samples and variants; `dask` runs it
on two worker processes, without and with a worker killed in mid-pass. Every program is a process of
its own; files are simulated with 26 populations in five groups. Nothing is filtered or thinned.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from common import machine, markdown, write
from numpy.typing import NDArray

N_PCS, N_GROUPS, N_POPULATIONS = 20, 5, 26
PLAIN = {"min_maf": 0.0, "max_ld_r2": None, "max_kinship": None}

OURS = """
import sys, numpy as np
from ancestryvi import GenotypePCA
path, solver, out = sys.argv[1:]
pca = GenotypePCA({n_pcs}, solver=solver, **{plain})
np.save(out, pca.fit_transform(path))
"""
SKLEARN = """
import sys, numpy as np
from sklearn.decomposition import PCA
from ancestryvi import read_genotypes
dosages = read_genotypes(sys.argv[1]).dosages
p = dosages.mean(axis=0) / 2
kept = (p > 0) & (p < 1)
scaled = dosages[:, kept].astype(np.float32)
scaled -= 2 * p[kept].astype(np.float32)
scaled /= np.sqrt(p[kept] * (1 - p[kept])).astype(np.float32)
del dosages
pca = PCA({n_pcs}, svd_solver="randomized", random_state=0)
np.save(sys.argv[3], pca.fit_transform(scaled))
"""
DOUBLE = """
import sys, numpy as np
from ancestryvi import read_genotypes
dosages = read_genotypes(sys.argv[1]).dosages
gram = 0.0
for start in range(0, dosages.shape[1], 2000):
    part = dosages[:, start:start + 2000].astype(float)
    p = part.mean(axis=0) / 2
    kept = (p > 0) & (p < 1)
    part = (part[:, kept] - 2 * p[kept]) / np.sqrt(p[kept] * (1 - p[kept]))
    gram = gram + part @ part.T
values, vectors = np.linalg.eigh(gram)
np.save(sys.argv[3], (vectors * np.sqrt(np.maximum(values, 0)))[:, ::-1][:, :{n_pcs}])
"""


def simulate(folder: Path, n_samples: int, n_variants: int) -> Path:
    """Write a PLINK file set under the model of Balding and Nichols (1995), without gaps."""
    path = folder / f"{n_samples}x{n_variants}.bed"
    if path.exists():
        return path
    rng = np.random.default_rng(0)
    population = np.arange(n_samples) % N_POPULATIONS
    codes = np.array([3, 2, 0], np.uint8)

    def drift(frequency: NDArray[np.float64], fst: float) -> NDArray[np.float64]:
        shape = (1 - fst) / fst
        return np.clip(rng.beta(frequency * shape, (1 - frequency) * shape), 0.001, 0.999)

    with path.with_suffix(".part").open("wb") as file:
        file.write(b"\x6c\x1b\x01")
        for start in range(0, n_variants, 500):
            width = min(500, n_variants - start)
            groups = drift(np.tile(rng.uniform(0.05, 0.95, width), (N_GROUPS, 1)), 0.05)
            frequency = drift(groups[np.arange(N_POPULATIONS) % N_GROUPS], 0.01)
            chance = frequency.astype(np.float32).T[:, population]
            copies = (rng.random(chance.shape, dtype=np.float32) < chance).astype(np.uint8)
            copies += rng.random(chance.shape, dtype=np.float32) < chance
            calls = np.pad(codes[copies], ((0, 0), (0, -n_samples % 4)))
            packed = (
                calls[:, 0::4] | calls[:, 1::4] << 2 | calls[:, 2::4] << 4 | calls[:, 3::4] << 6
            )
            file.write(packed.astype(np.uint8).tobytes())
    per_contig = n_variants // 22 + 1
    path.with_suffix(".fam").write_text("".join(f"0 s{i} 0 0 0 -9\n" for i in range(n_samples)))
    path.with_suffix(".bim").write_text(
        "".join(
            f"{1 + j // per_contig} v{j} 0 {1 + 1000 * (j % per_contig)} A G\n"
            for j in range(n_variants)
        )
    )
    path.with_suffix(".part").rename(path)
    return path


def run(command: list[str], limit: float) -> dict[str, float] | None:
    """Wall and CPU seconds and peak MB of a process; None if it ran past the limit."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    timer = threading.Timer(limit, process.kill)
    timer.start()
    _, status, usage = os.wait4(process.pid, 0)
    timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode == -signal.SIGKILL:
        return None
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed with exit status {process.returncode}")
    return {
        "s": time.perf_counter() - start,
        "CPU s": usage.ru_utime + usage.ru_stime,
        "MB": usage.ru_maxrss / 1024,
    }


def script(text: str, path: Path, solver: str, out: Path) -> list[str]:
    """The command that runs one of the scripts above."""
    return [
        sys.executable,
        "-c",
        text.format(n_pcs=N_PCS, plain=PLAIN),
        str(path),
        solver,
        str(out),
    ]


def distance(scores: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Largest difference of scores, relative to the largest score, whatever their signs."""
    signs = np.sign((scores * reference).sum(axis=0))
    return float(np.abs(scores * signs - reference).max() / np.abs(reference).max())


def describe(runs: list[dict[str, float] | None]) -> dict[str, object]:
    """Medians over repeats."""
    done = [found for found in runs if found is not None]
    if not done:
        return {"s": "over the limit", "CPU s": "-", "MB": "-"}
    return {
        "s": f"{np.median([found['s'] for found in done]):.1f}",
        "CPU s": f"{np.median([found['CPU s'] for found in done]):.1f}",
        "MB": f"{max(found['MB'] for found in done):.0f}",
    }


def exact(options: argparse.Namespace, folder: Path) -> str:
    """Everything on one file, one after the other in each repeat."""
    path = simulate(folder, options.samples, options.variants)
    prefix = str(path.with_suffix(""))
    out = folder / "scores.npy"
    commands = {
        "ancestryvi, exact": script(OURS, path, "exact", out),
        "ancestryvi, randomized": script(OURS, path, "randomized", folder / "randomized.npy"),
        "scikit-learn, randomized": script(SKLEARN, path, "", folder / "sklearn.npy"),
    }
    programs = {"PLINK 2": ("plink2", "--pca"), "PLINK 1.9": ("plink1.9", "--pca")}
    missing = []
    for name, (program, verb) in programs.items():
        if shutil.which(program) is None:
            missing.append(program)
            continue
        commands[name] = [program, "--bfile", prefix, verb, str(N_PCS), "--out", f"{prefix}-pcs"]
        commands[name] += ["--threads", str(os.cpu_count())]
    found: dict[str, list[dict[str, float] | None]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            found[name].append(run(command, options.limit))
            print(name, found[name][-1], flush=True)
    reference = folder / "double.npy"
    run(script(DOUBLE, path, "", reference), 10 * options.limit)
    rows = []
    for name in commands:
        row = {"program": name, **describe(found[name])}
        files = {
            "ancestryvi, exact": out,
            "ancestryvi, randomized": folder / "randomized.npy",
            "scikit-learn, randomized": folder / "sklearn.npy",
        }
        row["off, of the largest score"] = "-"
        if name in files and found[name][-1] is not None:
            row["off, of the largest score"] = (
                f"{distance(*map(np.load, (files[name], reference))):.1e}"
            )
        rows.append(row)
    note = f" Not installed: {', '.join(missing)}." if missing else ""
    return (
        f"{options.samples:,} samples x {options.variants:,} variants from BED, {N_PCS} PCs; whole "
        f"processes, median of {options.repeats}. Off: from scores in double precision.{note}\n\n"
        + markdown(rows)
    )


def streaming(options: argparse.Namespace, folder: Path) -> str:
    """The randomised solver at full size, at half the samples and at half the variants."""
    n, m = options.many_samples, options.many_variants
    rows = []
    for n_samples, n_variants in [(n // 2, m), (n, m // 2), (n, m)]:
        path = simulate(folder, n_samples, n_variants)
        command = script(OURS, path, "randomized", folder / "streaming.npy")
        row = {"samples": f"{n_samples:,}", "variants": f"{n_variants:,}"}
        rows.append(row | describe([run(command, 20 * options.limit)]))
        print(rows[-1], flush=True)
    return f"Randomised solver from BED, {N_PCS} PCs, one run each.\n\n" + markdown(rows)


def dask(options: argparse.Namespace, folder: Path) -> str:
    """Two worker processes; in the second run one is killed in the middle of a pass."""
    from distributed import Client, LocalCluster

    from ancestryvi import GenotypePCA
    from ancestryvi.preprocess import passes_on

    path = simulate(folder, options.dask_samples, options.dask_variants)
    pca = GenotypePCA(N_PCS, solver="randomized", **PLAIN)
    start = time.perf_counter()
    reference = pca.fit_transform(path)
    seconds = time.perf_counter() - start
    rows = [{"run": "threads of one process", "s": f"{seconds:.1f}"}]
    rows[0] |= {"MB of a worker": "-", "off, of the largest score": "-"}
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=options.worker_memory,
        ) as cluster,
        Client(cluster) as client,
    ):
        for killed in (False, True):
            if killed:
                victim = next(iter(client.run(os.getpid).values()))
                threading.Timer(seconds / 2, os.kill, (victim, signal.SIGKILL)).start()
            start = time.perf_counter()
            with passes_on(client):
                scores = pca.fit(path).transform(path)
            rows.append(
                {
                    "run": "2 workers" + (", one killed in mid-pass" if killed else ""),
                    "s": f"{time.perf_counter() - start:.1f}",
                    "MB of a worker": f"{max(client.run(peak_memory).values()):.0f}",
                    "off, of the largest score": f"{distance(scores, reference):.1e}",
                }
            )
            print(rows[-1], flush=True)
    return (
        f"{options.dask_samples:,} samples x {options.dask_variants:,} variants from BED on a "
        f"local Dask cluster, workers limited to {options.worker_memory}, {N_PCS} PCs.\n\n"
        + markdown(rows)
    )


def peak_memory() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS = {"exact": exact, "streaming": streaming, "dask": dask}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2504)
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--many-samples", type=int, default=50_000)
    parser.add_argument("--many-variants", type=int, default=50_000)
    parser.add_argument("--dask-samples", type=int, default=20_000)
    parser.add_argument("--dask-variants", type=int, default=50_000)
    parser.add_argument("--worker-memory", default="2GB")
    parser.add_argument("--limit", type=float, default=300, help="seconds for one run of a program")
    parser.add_argument("--work", type=Path, help="folder for the simulated files, kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        texts = [PARTS[part](options, folder) for part in options.parts]
    arguments = " ".join(sys.argv[1:])
    write("pca", f"`python benchmarks/pca.py {arguments}` on {machine()}.\n\n" + "\n".join(texts))


if __name__ == "__main__":
    main()
