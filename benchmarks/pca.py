"""Seconds, peak memory and agreement of the leading 20 PCs of a BED file, beside other programs.

Parts, chosen with --parts, each of which replaces its own section of results/pca.md:

- `exact` compares with PLINK 2, PLINK 1.9 and scikit-learn's PCA, randomized and to convergence, on
  one file, with scores in double precision as the reference;
- `vcf` goes from VCF to PCs with filters, beside PLINK 2;
- `streaming` runs the randomised solver on larger files, and shows how time and memory grow with
  samples and variants;
- `dask` runs it over VCF-Zarr on two worker processes, without and with one killed in mid-pass;
- `gpu` compares a CUDA GPU with the CPU cores beside it, on random genotypes in memory.

Every program is a process of its own; files are simulated with 26 populations in five groups.
Nothing is filtered or thinned but in `vcf`.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, machine, markdown, write
from numpy.typing import NDArray

N_PCS, N_GROUPS, N_POPULATIONS = 20, 5, 26
PLAIN = {"min_maf": 0.0, "max_ld_r2": None, "max_kinship": None}
FILTERS = {"min_maf": 0.02, "min_variant_call_rate": 0.95, "max_ld_r2": None, "max_kinship": None}
SAME_FILTERS = ["--maf", "0.02", "--geno", "0.05", "--snps-only", "--max-alleles", "2"]

# A process starts with the peak memory of the one that started it, so that has to be a small one.
LAUNCHER = """
import os, sys, time
start = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(pid, 0)
print(time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""
OURS = """
import sys, numpy as np
from ancestryvi import GenotypePCA
path, solver, out = sys.argv[1:]
pca = GenotypePCA({n_pcs}, solver=solver, **{filters})
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
pca = PCA({n_pcs}, svd_solver=sys.argv[2], random_state=0)
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
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, *command],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    timer = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    said, _ = process.communicate()
    timer.cancel()
    if process.returncode == -signal.SIGKILL:
        return None
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed with exit status {process.returncode}")
    return dict(zip(("s", "CPU s", "MB"), map(float, said.split()), strict=True))


def script(
    text: str, path: Path, solver: str, out: Path, filters: dict[str, object] = PLAIN
) -> list[str]:
    """The command that runs one of the scripts above."""
    text = text.format(n_pcs=N_PCS, filters=filters)
    return [sys.executable, "-c", text, str(path), solver, str(out)]


def converted(path: Path, suffix: str) -> Path:
    """The same genotypes in another format, made once."""
    other = path.with_suffix(suffix)
    if not other.exists():
        code = "import sys; from ancestryvi.cli import main; main(sys.argv[1:])"
        subprocess.run([sys.executable, "-c", code, "convert", path, other], check=True)
    return other


def distance(scores: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Largest difference of scores, relative to the largest score, whatever their signs."""
    signs = np.sign((scores * reference).sum(axis=0))
    return float(np.abs(scores * signs - reference).max() / np.abs(reference).max())


def describe(runs: list[dict[str, float] | None], limit: float) -> dict[str, object]:
    """Medians over repeats."""
    done = [found for found in runs if found is not None]
    if not done:
        return {"s": f"over {limit:.0f}", "CPU s": "-", "MB": "-"}
    return {
        "s": f"{np.median([found['s'] for found in done]):.1f}",
        "CPU s": f"{np.median([found['CPU s'] for found in done]):.1f}",
        "MB": f"{max(found['MB'] for found in done):.0f}",
    }


def run_all(
    commands: dict[str, list[str]], options: argparse.Namespace
) -> dict[str, list[dict[str, float] | None]]:
    """All commands, one after the other in each repeat; none again that ran past the limit."""
    found: dict[str, list[dict[str, float] | None]] = {name: [] for name in commands}
    for _ in range(options.repeats):
        for name, command in commands.items():
            if None in found[name]:
                continue
            found[name].append(run(command, options.limit))
            print(name, found[name][-1], flush=True)
    return found


def exact(options: argparse.Namespace, folder: Path) -> str:
    """Everything on one file, one after the other in each repeat."""
    path = simulate(folder, options.samples, options.variants)
    prefix = str(path.with_suffix(""))
    files = {
        f"{package}, {solver}": folder / f"{package}-{solver}.npy"
        for package, solver in (
            ("ancestryvi", "exact"),
            ("ancestryvi", "randomized"),
            ("scikit-learn", "randomized"),
            ("scikit-learn", "arpack"),
        )
    }
    commands = {
        name: script(OURS if name.startswith("ancestryvi") else SKLEARN, path, name.split()[1], out)
        for name, out in files.items()
    }
    programs = {"PLINK 2": ("plink2", "--pca"), "PLINK 1.9": ("plink1.9", "--pca")}
    missing = []
    for name, (program, verb) in programs.items():
        if shutil.which(program) is None:
            missing.append(program)
            continue
        commands[name] = [program, "--bfile", prefix, verb, str(N_PCS), "--out", f"{prefix}-pcs"]
        commands[name] += ["--threads", str(os.cpu_count())]
    found = run_all(commands, options)
    reference = folder / "double.npy"
    run(script(DOUBLE, path, "", reference), 10 * options.limit)
    rows = []
    for name in commands:
        row = {"program": name, **describe(found[name], options.limit)}
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


def vcf(options: argparse.Namespace, folder: Path) -> str:
    """From a VCF to PCs, with the filters that PLINK 2 has too."""
    path = converted(simulate(folder, options.samples, options.variants), ".vcf.gz")
    commands = {
        f"ancestryvi, {solver}": script(OURS, path, solver, folder / "vcf.npy", FILTERS)
        for solver in ("exact", "randomized")
    }
    plink = ["plink2", "--vcf", str(path), *SAME_FILTERS, "--pca", str(N_PCS), "--threads"]
    plink += [str(os.cpu_count()), "--out", str(folder / "vcf")]
    if shutil.which("plink2"):
        commands["PLINK 2"] = plink
    rows = [
        {"program": name, **describe(runs, options.limit)}
        for name, runs in run_all(commands, options).items()
    ]
    note = "" if shutil.which("plink2") else " Not installed: plink2."
    return (
        f"{options.samples:,} samples x {options.variants:,} variants from VCF (BGZF, GT), "
        f"`{' '.join(SAME_FILTERS)}` and the same here, {N_PCS} PCs; whole processes, median of "
        f"{options.repeats}.{note}\n\n" + markdown(rows)
    )


def streaming(options: argparse.Namespace, folder: Path) -> str:
    """The randomised solver at full size, at half the samples and at half the variants."""
    n, m = options.many_samples, options.many_variants
    rows = []
    for n_samples, n_variants in [(n // 2, m), (n, m // 2), (n, m)]:
        path = simulate(folder, n_samples, n_variants)
        command = script(OURS, path, "randomized", folder / "streaming.npy")
        row = {"samples": f"{n_samples:,}", "variants": f"{n_variants:,}"}
        limit = 20 * options.limit
        rows.append(row | describe([run(command, limit)], limit))
        print(rows[-1], flush=True)
    return f"Randomised solver from BED, {N_PCS} PCs, one run each.\n\n" + markdown(rows)


def dask(options: argparse.Namespace, folder: Path) -> str:
    """Two worker processes; in the second run one is killed in the middle of a pass."""
    from distributed import Client, LocalCluster

    from ancestryvi import GenotypePCA
    from ancestryvi.preprocess import passes_on

    path = converted(simulate(folder, options.dask_samples, options.dask_variants), ".vcz")
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
                scores = pca.fit_transform(path)
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
        f"{options.dask_samples:,} samples x {options.dask_variants:,} variants from VCF-Zarr on a "
        f"local Dask cluster, workers limited to {options.worker_memory}, {N_PCS} PCs.\n\n"
        + markdown(rows)
    )


def peak_memory() -> float:
    """Peak memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu(options: argparse.Namespace, folder: Path) -> str:
    """Both solvers on the GPU and on the CPU, and the rate of the relationship matrix."""
    import torch

    from ancestryvi import GenotypePCA
    from ancestryvi.preprocess.decomposition import ScaledDosages
    from ancestryvi.preprocess.gpu import OnDevice

    torch.zeros(1, device="cuda").square().sum().item()  # what CUDA sets up is not of one solver
    rows, rate = [], ""
    for solver, (n, m) in {"exact": options.gpu_exact, "randomized": options.gpu_many}.items():
        genotypes = random_genotypes(n, m)
        scores = {}
        for device in ("cuda", "cpu"):
            pca = GenotypePCA(N_PCS, solver=solver, device=device, **PLAIN)
            start = time.perf_counter()
            scores[device] = pca.fit_transform(genotypes)
            seconds = time.perf_counter() - start
            rows.append({"solver": solver, "samples": f"{n:,}", "variants": f"{m:,}"})
            rows[-1] |= {"device": device, "s of fit": f"{seconds:.1f}", "off": "-"}
            print(rows[-1], flush=True)
        rows[-2]["off"] = f"{distance(scores['cuda'], scores['cpu']):.1e}"
        if solver == "exact":
            kept = np.flatnonzero(pca.kept_variants_)
            matrix = ScaledDosages(kept, np.arange(n), pca.mean_, pca.scale_)
            work = OnDevice(torch.device("cuda"))
            torch.cuda.synchronize()
            start = time.perf_counter()
            gram = work.relationship_matrix(genotypes, matrix)
            torch.cuda.synchronize()
            seconds = time.perf_counter() - start
            rate = f"{2 * n * n * len(kept) / seconds / 1e12:.1f} TFLOP/s, {seconds:.1f} s"
            start = time.perf_counter()
            torch.linalg.eigh(gram.float())
            torch.cuda.synchronize()
            rate += f"; its eigenvectors {time.perf_counter() - start:.1f} s"
            del gram
            print(rate, flush=True)
        del genotypes
    return (
        f"Random genotypes of {N_POPULATIONS} populations in memory, {N_PCS} PCs, one run each, on "
        f"{torch.cuda.get_device_name()} and on the {os.cpu_count()} cores beside it. Off: from "
        f"scores of the CPU, of the largest. Relationship matrix on the GPU, with reading, copying "
        f"and scaling: {rate}.\n\n" + markdown(rows)
    )


def random_genotypes(n_samples: int, n_variants: int) -> object:
    """Populations that differ by drift; in memory, one variant after the other."""
    from ancestryvi.genotypes import Genotypes

    by_variant = np.empty((n_variants, n_samples), np.int8)
    population = np.arange(n_samples) % N_POPULATIONS

    def fill(start: int) -> None:
        rng = np.random.default_rng(start)
        rows = by_variant[start : start + 500]
        base = rng.uniform(0.1, 0.9, (len(rows), 1))
        frequency = np.clip(base + 0.1 * rng.normal(size=(len(rows), N_POPULATIONS)), 0.02, 0.98)
        chance = frequency.astype(np.float32)[:, population]
        np.less(rng.random(chance.shape, np.float32), chance, out=rows, casting="unsafe")
        rows += rng.random(chance.shape, np.float32) < chance

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(fill, range(0, n_variants, 500)))
    samples = pd.DataFrame(index=pd.Index([f"s{i}" for i in range(n_samples)], dtype=object))
    variants = pd.DataFrame(
        {"contig": "1", "position": np.arange(1, n_variants + 1), "id": ".", "ref": "A", "alt": "G"}
    )
    return Genotypes(by_variant.T, samples, variants)


PARTS = {"exact": exact, "vcf": vcf, "streaming": streaming, "dask": dask, "gpu": gpu}


def keep(part: str, text: str) -> None:
    """Replace the section of one part in the results."""
    path = RESULTS / "pca.md"
    pieces = re.split(r"^## (\w+)\n", path.read_text("utf-8") if path.exists() else "", flags=re.M)
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True)) | {part: f"\n{text}\n"}
    write("pca", "".join(f"## {name}\n{sections[name]}" for name in PARTS if name in sections))


def size(text: str) -> tuple[int, int]:
    """Samples and variants, as 16000x50000."""
    samples, variants = map(int, text.split("x"))
    return samples, variants


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["exact", "vcf"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--samples", type=int, default=2504)
    parser.add_argument("--variants", type=int, default=100_000)
    parser.add_argument("--many-samples", type=int, default=50_000)
    parser.add_argument("--many-variants", type=int, default=50_000)
    parser.add_argument("--dask-samples", type=int, default=20_000)
    parser.add_argument("--dask-variants", type=int, default=50_000)
    parser.add_argument("--worker-memory", default="2GB")
    parser.add_argument("--gpu-exact", type=size, default=(16_000, 50_000))
    parser.add_argument("--gpu-many", type=size, default=(100_000, 20_000))
    parser.add_argument("--limit", type=float, default=300, help="seconds for one run of a program")
    parser.add_argument("--work", type=Path, help="folder for the simulated files, kept")
    parser.add_argument("--note", default="", help="what else to say of the machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in options.parts:
            text = PARTS[part](options, folder)
            command = f"`python benchmarks/pca.py --parts {part}`"
            keep(part, f"{command} on {machine()}.{options.note and ' ' + options.note}\n\n{text}")


if __name__ == "__main__":
    main()
