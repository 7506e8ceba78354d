"""Seconds and memory from VCF.gz to dosages: ancestryvi, scikit-allel, cyvcf2 and plink2.

The files are simulated: one with GT alone, one with GT:AD:DP:GQ:PL, both BGZF. Each reading is a
process of its own, timed whole; the readers take turns. scikit-allel and cyvcf2 (a Python package
that only this benchmark needs) give the number of ALT alleles of each call as int8, as ancestryvi
does; plink2 writes its binary format.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from common import machine, markdown, parser, write
from numpy.typing import NDArray

# Each leaves `dosages`, (variants, samples) or its transpose, and counts how much memory the
# interpreter had with the library imported: `imported`.
READERS = {
    "ancestryvi": """
from ancestryvi.genotypes import read_genotypes
imported = peak()
dosages = read_genotypes(path).dosages
""",
    "scikit-allel, tuned": """
import allel, numpy as np
imported = peak()
_, _, _, chunks = allel.iter_vcf_chunks(
    path, fields=["calldata/GT"], types={"calldata/GT": "i1"}, chunk_length=1024
)
parts = [
    allel.GenotypeArray(chunk["calldata/GT"]).to_n_alt(fill=-1, dtype="i1") for chunk, *_ in chunks
]
dosages = np.concatenate(parts)
""",
    "scikit-allel, default": """
import allel
imported = peak()
calls = allel.read_vcf(path, fields=["calldata/GT"])["calldata/GT"]
dosages = allel.GenotypeArray(calls).to_n_alt(fill=-1, dtype="i1")
""",
    "cyvcf2, genotype.array": """
import cyvcf2, numpy as np
imported = peak()
parts = []
for variant in cyvcf2.VCF(path, threads=2):
    calls = variant.genotype.array()[:, :2]
    parts.append(np.where((calls < 0).any(axis=1), -1, (calls > 0).sum(axis=1)).astype("i1"))
dosages = np.stack(parts)
""",
    "cyvcf2, gt_types": """
import cyvcf2, numpy as np
imported = peak()
code = np.array([0, 1, 2, -1], dtype="i1")
dosages = np.stack([code[v.gt_types] for v in cyvcf2.VCF(path, gts012=True, threads=2)])
""",
}
PACKAGE = {"scikit-allel, tuned": "allel", "scikit-allel, default": "allel"}
PACKAGE |= dict.fromkeys(["cyvcf2, genotype.array", "cyvcf2, gt_types"], "cyvcf2")
START = """
import sys
path = sys.argv[1]
def peak():
    # The highest resident memory of this process; that of getrusage may be its parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024
"""
END = """
print(dosages.size, int(dosages.sum(dtype="i8")), peak(), imported)
"""

BLOCK_VARIANTS = 50
N_ANCESTORS, N_POPULATIONS = 60, 26
HEADER = (
    "##fileformat=VCFv4.3\n"
    '##FILTER=<ID=PASS,Description="All filters passed">\n'
    "##contig=<ID=1>\n"
    '##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    '##FORMAT=<ID=AD,Number=R,Type=Integer,Description="Reads of each allele">\n'
    '##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Reads">\n'
    '##FORMAT=<ID=GQ,Number=1,Type=Integer,Description="Quality">\n'
    '##FORMAT=<ID=PL,Number=G,Type=Integer,Description="Likelihoods">\n'
)


def haplotypes(
    rng: np.random.Generator, n_samples: int, n_variants: int
) -> Iterator[NDArray[np.uint8]]:
    """Alleles of (variants, samples, 2), some variants at a time.

    Populations copy short stretches from the same ancestral haplotypes in shares of their own, so
    near variants are correlated and frequencies differ between populations; one in 2,000 copied
    alleles has mutated. Frequencies fall off as in a sample of common variants.
    """
    population = rng.integers(N_POPULATIONS, size=n_samples)
    shares = rng.dirichlet(np.full(N_ANCESTORS, 0.5), size=N_POPULATIONS).cumsum(axis=1)
    for start in range(0, n_variants, BLOCK_VARIANTS):
        n = min(BLOCK_VARIANTS, n_variants - start)
        frequency = 0.02 * 25 ** rng.random(n)
        ancestors = rng.random((n, N_ANCESTORS)) < frequency[:, None]
        draws = rng.random((n_samples, 2))
        copied = (draws[:, :, None] > shares[population][:, None, :-1]).sum(axis=2)
        alleles = ancestors[:, copied]
        alleles ^= rng.random(alleles.shape, dtype=np.float32) < 1 / 2000
        yield alleles.astype(np.uint8)


def heads(
    rng: np.random.Generator, start: int, alleles: NDArray[np.uint8], fields: str
) -> list[bytes]:
    """The nine fixed columns of some records."""
    letters = rng.permuted(np.tile(np.array(list("ACGT")), (len(alleles), 1)), axis=1)
    return [
        f"1\t{10_000 + 29 * (start + row)}\trs{start + row}\t{ref}\t{alt}\t.\tPASS\t"
        f"AF={frequency:.4f}\t{fields}\t".encode()
        for row, (ref, alt, frequency) in enumerate(
            zip(letters[:, 0], letters[:, 1], alleles.mean(axis=(1, 2)), strict=True)
        )
    ]


def calls_alone(rng: np.random.Generator, alleles: NDArray[np.uint8]) -> Iterator[bytes]:
    """Phased calls of each record, no call missing."""
    text = np.full((*alleles.shape[:2], 4), ord("\t"), dtype=np.uint8)
    text[:, :, 0] = alleles[:, :, 0] + ord("0")
    text[:, :, 1] = ord("|")
    text[:, :, 2] = alleles[:, :, 1] + ord("0")
    text[:, -1, 3] = ord("\n")
    return (row.tobytes() for row in text)


def calls_with_reads(rng: np.random.Generator, alleles: NDArray[np.uint8]) -> Iterator[bytes]:
    """Unphased calls of each record with depths and likelihoods, 1 % of them missing."""
    pools = np.array(
        [[cell(rng, dosage) for _ in range(20_000)] for dosage in (0, 1, 2, -1)], dtype=object
    )
    dosage = alleles.sum(axis=2, dtype=np.int8)
    dosage[rng.random(dosage.shape) < 0.01] = 3
    for row in pools[dosage, rng.integers(pools.shape[1], size=dosage.shape)]:
        yield "\t".join(row.tolist()).encode() + b"\n"


def cell(rng: np.random.Generator, dosage: int) -> str:
    """One call with the fields that GATK gives it."""
    if dosage < 0:
        return "./.:0,0:0:.:0,0,0"
    depth = int(rng.poisson(30))
    alt = int(rng.binomial(depth, (0.002, 0.5, 0.998)[dosage]))
    likelihoods = [3 * depth * abs(dosage - other) + int(rng.integers(9)) for other in range(3)]
    likelihoods[dosage] = 0
    quality = min(99, sorted(likelihoods)[1])
    call = ("0/0", "0/1", "1/1")[dosage]
    return f"{call}:{depth - alt},{alt}:{depth}:{quality}:{','.join(map(str, likelihoods))}"


def simulate(path: Path, n_samples: int, n_variants: int, fields: str) -> None:
    """Write a file through bgzip, unless it is there."""
    if path.exists():
        return
    rng = np.random.default_rng(0)
    cells = calls_alone if fields == "GT" else calls_with_reads
    part = path.with_suffix(".part")
    samples = "\t".join(f"S{i:05d}" for i in range(n_samples))
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"
    with part.open("wb") as out:
        pack = subprocess.Popen(["bgzip", "-c", "-@", "2"], stdin=subprocess.PIPE, stdout=out)
        assert pack.stdin is not None
        pack.stdin.write(f"{HEADER}{columns}\t{samples}\n".encode())
        start = 0
        for alleles in haplotypes(rng, n_samples, n_variants):
            lines = zip(heads(rng, start, alleles, fields), cells(rng, alleles), strict=True)
            for head, rest in lines:
                pack.stdin.write(head + rest)
            start += len(alleles)
        pack.stdin.close()
        if pack.wait():
            raise SystemExit("bgzip failed")
    part.rename(path)


def measure(reader: str, path: Path, work: Path) -> dict[str, float]:
    """Seconds and CPU seconds of a process, its peak memory, and what it read."""
    if reader == "plink2 --make-pgen":
        command = ["plink2", "--vcf", str(path), "--make-pgen", "--out", str(work / "plink2")]
    else:
        command = [sys.executable, "-c", START + READERS[reader] + END, str(path)]
    start = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    output = run.stdout.read()
    _, status, usage = os.wait4(run.pid, 0)
    run.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if run.returncode:
        raise SystemExit(f"{reader} failed on {path}:\n{output}")
    found = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime}
    if reader == "plink2 --make-pgen":
        return found | {"peak": usage.ru_maxrss * 1024}
    size, total, peak, imported = map(int, output.split())
    return found | {"size": size, "total": total, "peak": peak, "imported": imported}


def missing(reader: str) -> str | None:
    """Why a reader cannot run."""
    if reader.startswith("plink2"):
        return None if shutil.which("plink2") else "plink2 is not installed (Debian has it)"
    package = PACKAGE.get(reader, "ancestryvi")
    return None if importlib.util.find_spec(package) else f"pip install {package}"


def compare(path: Path, readers: list[str], repeats: int, work: Path) -> list[dict[str, object]]:
    """One row for each reader; all must have read the same number of calls of the same sum."""
    runs: dict[str, list[dict[str, float]]] = {reader: [] for reader in readers}
    for repeat in range(repeats):
        for reader in readers:
            if missing(reader) is None:
                runs[reader].append(measure(reader, path, work))
                print(path.name, repeat, reader, runs[reader][-1], flush=True)
    contents = {(run["size"], run["total"]) for of in runs.values() for run in of if "size" in run}
    if len(contents) != 1:
        raise SystemExit(f"The readers disagree on {path}: {contents}")
    size = contents.pop()[0]

    def median(reader: str, what: str) -> float:
        return float(np.median([run[what] for run in runs[reader]]))

    rows = []
    for reader in readers:
        if reason := missing(reader):
            rows.append(dict.fromkeys(rows[0], "-") | {"reader": f"{reader}: {reason}"})
            continue
        seconds = [run["seconds"] for run in runs[reader]]
        row: dict[str, object] = {
            "reader": reader,
            "s": f"{np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
            "times ancestryvi": f"{median(reader, 'seconds') / median(readers[0], 'seconds'):.1f}",
            "CPU, s": f"{median(reader, 'cpu'):.2f}",
            "peak, MB": f"{median(reader, 'peak') / 1e6:.0f}",
            "peak / matrix": f"{median(reader, 'peak') / size:.2f}",
            "the same without the imports": "-",
        }
        if "imported" in runs[reader][0]:
            above = median(reader, "peak") - median(reader, "imported")
            row["the same without the imports"] = f"{above / size:.2f}"
        rows.append(row)
    return rows


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--samples", type=int, default=2504)
    options.add_argument("--variants", type=int, default=100_000, help="with GT alone")
    options.add_argument("--rich-variants", type=int, default=10_000, help="with all fields")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--readers", nargs="+", choices=names(), default=names())
    options.add_argument("--work", type=Path, help="folder that keeps the simulated files")
    options = options.parse_args()
    work = options.work or Path(tempfile.mkdtemp(prefix="ancestryvi-"))
    work.mkdir(parents=True, exist_ok=True)
    text = ""
    for fields, n in (("GT", options.variants), ("GT:AD:DP:GQ:PL", options.rich_variants)):
        path = work / f"{fields.replace(':', '-')}.{options.samples}x{n}.vcf.gz"
        simulate(path, options.samples, n, fields)
        rows = compare(path, options.readers, options.repeats, work)
        size = path.stat().st_size / 1e6
        text += (
            f"## {fields}: {options.samples:,} samples x {n:,} variants, {size:.0f} MB of BGZF; "
            f"int8 matrix {options.samples * n / 1e6:.0f} MB\n\n{markdown(rows)}\n"
        )
    versions = [
        f"{package} {importlib.metadata.version(package)}"
        for package in ("ancestryvi", "numpy", "isal", "scikit-allel", "cyvcf2")
        if package == "ancestryvi" or importlib.util.find_spec(package.removeprefix("scikit-"))
    ]
    if shutil.which("plink2"):
        versions.append(subprocess.check_output(["plink2", "--version"], text=True).strip())
    write(
        "vcf",
        f"`python benchmarks/vcf.py --repeats {options.repeats} --samples {options.samples} "
        f"--variants {options.variants} --rich-variants {options.rich_variants}` on {machine()}; "
        f"{', '.join(versions)}.\n\nSeconds of whole processes, start and imports included: "
        "median (least to most); CPU seconds are of all threads; memory is the highest resident "
        "memory. Files in the page cache.\n\n"
        f"{text}",
    )


def names() -> list[str]:
    """All readers, ancestryvi first."""
    return [*READERS, "plink2 --make-pgen"]


if __name__ == "__main__":
    main()
