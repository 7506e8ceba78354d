"""Seconds and memory to read one simulated cohort from each format, and to convert it from BED.

Every line is a process of its own; imports are not counted. VCF is in `benchmarks/vcf.py`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from common import machine, markdown, parser, write

from ancestryvi.genotypes import Genotypes, open_source, read_genotypes, write_genotypes
from ancestryvi.genotypes.source import Block

FORMATS = [".bed", ".pgen", ".vcz", ".h5ad", ".vcf.gz"]


class Simulated:
    """Independent variants in Hardy-Weinberg equilibrium, 2 calls in 1,000 missing."""

    content = "dosages"
    paths = ()

    def __init__(self, n_samples: int, n_variants: int) -> None:
        self.sample_ids = [f"s{i}" for i in range(n_samples)]
        self._n_variants = n_variants

    def iter_blocks(self):
        rng = np.random.default_rng(0)
        for start in range(0, self._n_variants, 1000):
            n = min(1000, self._n_variants - start)
            maf = rng.beta(0.5, 2, size=n) / 2
            calls = rng.binomial(2, maf, size=(len(self.sample_ids), n)).astype(np.int8)
            calls[rng.random(calls.shape) < 0.002] = -1
            place = np.arange(start, start + n)
            columns = {"contig": "1", "position": 1000 * place + 1, "id": "."}
            yield Block(calls, pd.DataFrame(columns | {"ref": "A", "alt": "C"}))


def step(what: str, path: str, out: str) -> None:
    """One measured step, in this process."""
    start, cpu = time.perf_counter(), time.process_time()
    if what == "read":
        genotypes: Genotypes = read_genotypes(path)
        assert genotypes.n_variants
    elif what == "stream":
        assert sum(len(block.columns) for block in open_source(path).iter_blocks())
    else:
        write_genotypes(open_source(path), out, overwrite=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.perf_counter() - start, time.process_time() - cpu, peak)


def measured(what: str, path: Path, out: Path, repeats: int) -> str:
    """Median seconds, of the processor in brackets, and peak memory, of processes of their own."""
    runs = []
    for _ in range(repeats):
        command = [sys.executable, __file__, "--step", what, str(path), str(out)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        runs.append([float(value) for value in done.stdout.split()])
    wall, cpu, peak = np.median(runs, axis=0)
    return f"{wall:.2f} ({cpu:.2f}), {peak:.0f}"


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--samples", type=int, default=2504)
    options.add_argument("--variants", type=int, default=100_000)
    options.add_argument("--step", nargs=3, help="for its own use")
    options = options.parse_args()
    if options.step:
        step(*options.step)
        return
    rows = []
    with tempfile.TemporaryDirectory() as name:
        bed = Path(name, "cohort.bed")
        write_genotypes(Simulated(options.samples, options.variants), bed)
        for suffix in FORMATS:
            path, again = Path(name, f"cohort{suffix}"), Path(name, f"again{suffix}")
            converted = measured("convert", bed, again, options.seeds)
            if suffix != ".bed":
                write_genotypes(open_source(bed), path)
            files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
            rows.append(
                {
                    "format": suffix,
                    "MB": round(sum(file.stat().st_size for file in files) / 1e6),
                    "read whole: s (CPU), peak MB": measured("read", path, again, options.seeds),
                    "by blocks: s (CPU), peak MB": measured("stream", path, again, options.seeds),
                    "write from BED: s (CPU), peak MB": converted,
                }
            )
    size = f"{options.samples:,} samples x {options.variants:,} variants"
    write(
        "formats",
        f"`python benchmarks/formats.py` on {machine()}.\n\n{size}, medians of {options.seeds} "
        f"processes; one processor, or more where a library uses them.\n\n{markdown(rows)}",
    )


if __name__ == "__main__":
    main()
