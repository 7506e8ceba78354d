"""A small cohort, writers of the formats it may come in, and a runner of the command line."""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from ancestryvi.cli import main

CALLS = np.array(["0/0", "0/1", "1/1", "./."])
QUICK = ("--n-epochs", "5", "--n-clusters", "4")


@dataclass(frozen=True)
class SmallCohort:
    """Dosages of (samples, variants), as text would hold them."""

    dosages: np.ndarray
    ids: list[str]
    populations: list[str]
    contig: list[str] = field(repr=False)
    position: list[int] = field(repr=False)
    ref: list[str] = field(repr=False)
    alt: list[str] = field(repr=False)

    def take(self, samples=slice(None), variants=slice(None)) -> "SmallCohort":
        rows = np.arange(len(self.ids))[samples]
        columns = np.arange(len(self.contig))[variants]
        return SmallCohort(
            self.dosages[np.ix_(rows, columns)],
            [self.ids[i] for i in rows],
            [self.populations[i] for i in rows],
            *(
                [values[j] for j in columns]
                for values in (self.contig, self.position, self.ref, self.alt)
            ),
        )

    def with_calls(self, dosages: np.ndarray) -> "SmallCohort":
        return replace(self, dosages=dosages)

    def swapped(self) -> "SmallCohort":
        """The same calls, counted by the other allele."""
        dosages = np.where(self.dosages < 0, -1, 2 - self.dosages)
        return replace(self, dosages=dosages, ref=self.alt, alt=self.ref)

    def on_contigs(self, names: dict[str, str]) -> "SmallCohort":
        return replace(self, contig=[names[name] for name in self.contig])

    # ------------------------------------------------------------------------------- formats

    def lines(self) -> list[str]:
        """A VCF, line by line: two of header, then one per variant."""
        head = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT"]
        lines = ["##fileformat=VCFv4.2", "\t".join([*head, *self.ids])]
        for j, calls in enumerate(CALLS[self.dosages.T]):
            fixed = [self.contig[j], str(self.position[j]), f"rs{j}", self.ref[j], self.alt[j]]
            lines.append("\t".join([*fixed, ".", "PASS", ".", "GT", *calls]))
        return lines

    def vcf(self, path: Path) -> Path:
        text = "\n".join(self.lines()) + "\n"
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
        return path

    def bed(self, path: Path) -> Path:
        """PLINK 1: two bits a call, the first sample lowest; 00 is two copies of A1, our ALT."""
        code = np.array([0b11, 0b10, 0b00, 0b01], dtype=np.uint8)[self.dosages.T]
        code = np.pad(code, ((0, 0), (0, -code.shape[1] % 4)))
        packed = (code.reshape(len(code), -1, 4) << np.array([0, 2, 4, 6])).sum(axis=2)
        path.write_bytes(b"\x6c\x1b\x01" + packed.astype(np.uint8).tobytes())
        path.with_suffix(".fam").write_text("".join(f"f {i} 0 0 0 -9\n" for i in self.ids))
        rows = zip(self.contig, self.position, self.alt, self.ref, strict=True)
        path.with_suffix(".bim").write_text(
            "".join(f"{c}\trs{j}\t0\t{p}\t{a}\t{r}\n" for j, (c, p, a, r) in enumerate(rows))
        )
        return path

    def h5ad(self, path: Path) -> Path:
        from anndata import AnnData

        var = pd.DataFrame(
            {"contig": self.contig, "position": self.position, "ref": self.ref, "alt": self.alt},
            index=[f"rs{j}" for j in range(len(self.contig))],
        )
        AnnData(self.dosages.astype(float), pd.DataFrame(index=self.ids), var).write_h5ad(path)
        return path

    def labels(self, path: Path, samples=slice(None)) -> Path:
        table = pd.DataFrame({"sample": self.ids, "region": "x", "population": self.populations})
        table["region"] = table["population"].map({"A": "west", "B": "west"}).fillna("east")
        table[samples].to_csv(path, sep="\t", index=False)
        return path


@pytest.fixture(scope="session")
def cohort() -> SmallCohort:
    """Four populations of 10 that drifted apart (Balding and Nichols 1995), on two contigs.

    Variants lie a megabase apart, so that thinning by linkage keeps them, and no pair of alleles
    is A/T or C/G, so that swapped alleles can be told from another strand.
    """
    rng = np.random.default_rng(17)
    n_variants = 300
    ancestral = rng.uniform(0.2, 0.8, n_variants)
    frequency = rng.beta(4 * ancestral, 4 * (1 - ancestral), size=(4, n_variants))  # F_ST = 0.2
    calls = rng.binomial(2, np.repeat(frequency, 10, axis=0))
    calls[rng.random(calls.shape) < 0.01] = -1
    pairs = np.array(["AG", "CT", "AC", "GT"])[rng.integers(4, size=n_variants)]
    half = n_variants // 2
    return SmallCohort(
        calls,
        [f"{population}{i:02}" for population in "ABCD" for i in range(10)],
        [population for population in "ABCD" for _ in range(10)],
        ["1"] * half + ["chrX2"] * half,
        [1_000_000 * (j + 1) for j in range(half)] * 2,
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
    )


def run_main(*arguments) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def run() -> Callable[..., Result]:
    """Return a function that runs the command line in this process."""
    return run_main


@pytest.fixture(scope="session")
def run_quick() -> Callable[..., Result]:
    """Return a function that runs `embed` briefly and requires success."""

    def run(*arguments) -> Result:
        result = run_main("embed", *arguments, *QUICK)
        assert result.exit_code == 0, result.stderr
        return result

    return run


@pytest.fixture
def fails(tmp_path: Path) -> Callable[..., str]:
    """Return a function that requires a clean failure: one message, and nothing written."""

    def run(*arguments, out: Path | str = tmp_path / "out", says: tuple[str, ...] = ()) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        result = run_main(*arguments, "--out", out)
        assert result.exit_code == 1, result.output
        assert result.stdout == ""
        errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1, result.stderr
        assert result.stderr.splitlines()[-1] == errors[0]
        assert "Traceback" not in result.stderr
        assert "bug" not in errors[0]
        for text in says:
            assert text in errors[0]
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        return errors[0]

    return run


@dataclass(frozen=True)
class Embedded:
    """A finished run of `embed` on the small cohort."""

    out: Path
    vcf: Path
    labels: Path
    stderr: str

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.out / name, sep="\t", keep_default_na=False, na_values=[""])


@pytest.fixture(scope="session")
def embedded(cohort, run_quick, tmp_path_factory) -> Embedded:
    """`embed` of the small cohort, with labels for half of the samples."""
    folder = tmp_path_factory.mktemp("embedded")
    vcf = cohort.vcf(folder / "cohort.vcf.gz")
    labels = cohort.labels(folder / "samples.tsv", slice(None, None, 2))
    result = run_quick(vcf, "--labels", labels, "--out", folder / "map")
    return Embedded(folder / "map", vcf, labels, result.stderr)
