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
    program = "from ancestryvi.cli import main; main()"
    missing, out = str(tmp_path / "none.vcf"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", program, "embed", missing, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"Error: {missing} does not exist")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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
