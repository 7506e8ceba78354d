"""`ancestryvi info`, --help, --version, and wrong usage."""

import subprocess
import sys

import pytest

from ancestryvi import __version__
from ancestryvi.cli import main


def facts(result):
    assert result.exit_code == 0, result.stderr
    return dict(line.split("\t") for line in result.stdout.splitlines())


def test_info_of_a_model(run, embedded):
    found = facts(run("info", embedded.out / "model"))
    assert found["model"] == "AncestryDDVI"
    assert found["training samples"] == "40"
    assert found["fitted on"] == "genotypes"
    assert found["variants read"] == "300"
    assert found["parameter n_epochs"] == "5"
    clusters = embedded.table("embedding.tsv")["cluster"].nunique()
    assert found["clusters"] == str(clusters)


def test_info_of_genotypes(run, embedded, cohort):
    found = facts(run("info", embedded.vcf))
    assert found["samples"] == "40"
    assert found["variants"] == "300"
    assert found["contigs"] == "1 (150), chrX2 (150)"
    assert found["missing calls"] == f"{(cohort.dosages < 0).mean():.4%}"


def test_info_names_the_format(run, embedded, cohort, tmp_path):
    written = {
        "cohort.vcf": "VCF, text",
        "packed.vcf.gz": "VCF, BGZF",
        "cohort.bed": "PLINK 1 (.bed)",
        "other.pgen": "PLINK 2 (.pgen)",
        "cohort.vcz": "VCF-Zarr",
        "cohort.h5ad": "AnnData (.h5ad)",
    }
    for name, format_ in written.items():
        assert run("convert", embedded.vcf, tmp_path / name).exit_code == 0
        assert facts(run("info", tmp_path / name))["format"] == format_
    assert facts(run("info", embedded.vcf))["format"] == "VCF, gzip"
    assert facts(run("info", tmp_path / "cohort"))["format"] == "PLINK 1 (.bed)"
    both = facts(run("info", embedded.vcf, tmp_path / "cohort.bed"))
    assert both["format"] == "VCF, gzip; PLINK 1 (.bed)"
    assert facts(run("info", embedded.out / "pcs.tsv"))["format"] == "table"


def test_info_of_two_models_says_that_one_is_described_at_a_time(run, embedded):
    result = run("info", embedded.out / "model", embedded.out / "model")
    assert result.exit_code == 2
    assert f"{embedded.out}/model is a directory" in " ".join(result.stderr.split())
    assert "one at a time" in " ".join(result.stderr.split())


def test_info_of_pc_scores(run, embedded):
    found = facts(run("info", embedded.out / "pcs.tsv"))
    assert found["content"] == "PC scores"
    assert found["samples"] == "40"
    assert int(found["components"]) == embedded.table("pcs.tsv").shape[1] - 1


def test_info_of_nothing(run, tmp_path):
    result = run("info", tmp_path / "nowhere.vcf")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert f"{tmp_path}/nowhere.vcf does not exist" in result.stderr


@pytest.mark.parametrize("verb", [(), *((name,) for name in main.commands)], ids=str)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(run, verb, flag):
    result = run(*verb, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == ""


def test_version(run):
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"ancestryvi, version {__version__}\n"


WRONG = {
    "no such option": ("embed", "x.vcf", "--out", "o", "--colour", "red"),
    "no such verb": ("dance",),
    "no genotypes": ("embed", "--out", "o"),
    "nowhere to put it": ("project", "model", "x.vcf"),
    "no clusters": ("embed", "x.vcf", "--out", "o", "--n-clusters", "0"),
    "half an epoch": ("embed", "x.vcf", "--out", "o", "--n-epochs", "0.5"),
    "no epoch": ("embed", "x.vcf", "--out", "o", "--n-epochs", "0"),
    "a large frequency": ("embed", "x.vcf", "--out", "o", "--min-maf", "0.7"),
    "a negative seed": ("embed", "x.vcf", "--out", "o", "--seed", "-1"),
    "another method": ("embed", "x.vcf", "--out", "o", "--method", "tea leaves"),
    "no model": ("project", "--out", "o"),
    "a device of no kind": ("embed", "x.vcf", "--out", "o", "--device", "abacus"),
    "a region that ends first": ("embed", "x.vcf", "--out", "o", "--region", "1:9-5"),
    "no region": ("convert", "x.vcf", "o.bed", "--region", " "),
    "nothing to convert": ("convert", "x.vcf"),
    "a format that is not written": ("convert", "x.vcf", "o.doc"),
    "a column of no table": ("embed", "x.vcf", "--out", "o", "--label-column", "tribe"),
    "an id column of no table": ("project", "m", "x.vcf", "--out", "o", "--label-id", "tribe"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_usage(run, case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*WRONG[case])
    assert result.exit_code == 2
    assert "Usage: " in result.stderr
    assert "Error: " in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_in_a_process_of_its_own(tmp_path):
    missing, out = str(tmp_path / "none.vcf"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "ancestryvi", "embed", missing, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {missing} does not exist")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_signal_to_end_leaves_nothing_behind(cohort, tmp_path):
    vcf = cohort.vcf(tmp_path / "cohort.vcf")
    program = (
        "import ancestryvi.cli.inputs as inputs, os, signal\n"
        "from pathlib import Path\n"
        "def terminated(*args, **more):\n"
        f"    print(len(list(Path({str(tmp_path)!r}).rglob('.out-*'))))\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "inputs.read_cohort = terminated\n"
        "from ancestryvi.cli import main; main()"
    )
    out = tmp_path / "a" / "b" / "out"
    done = subprocess.run(
        [sys.executable, "-c", program, "embed", str(vcf), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1\n"  # unfinished output was there
    assert done.returncode == 1
    assert done.stderr.strip() == "Aborted!"
    assert list(tmp_path.iterdir()) == [vcf]


def test_help_is_quick(tmp_path):
    program = (
        "import sys; from ancestryvi.cli import main; main(['--help'], standalone_mode=False); "
        "print([name for name in ('torch', 'sklearn', 'pandas', 'anndata', 'allel', 'matplotlib') "
        "if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
