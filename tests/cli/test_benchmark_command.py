"""`ancestryvi benchmark`: the files of the contract, going on, and what is refused."""

import json
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ancestryvi.evaluate import clustering_metrics, reference_line

TOYS = Path(__file__).parents[1] / "evaluate"
SUMMARIES = {
    "runs.tsv", "benchmark.tsv", "benchmark.md", "benchmark.html", "maps.png", "maps.pdf",
    "nmi-time.png", "nmi-time.pdf", "provenance.json",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def toys():
    """Toy methods beside those of the registry: one quick, and some that fail."""
    sys.path.insert(0, str(TOYS))
    module = import_module("toy_methods")
    named = {"halves": module.Halves, "partial": module.Partial, "exits": module.Exits}
    registry = ModuleType("ancestryvi.estimators.registry")
    registry.METHODS = {
        name: SimpleNamespace(title=name.capitalize(), summary=f"The {name}.") for name in named
    }
    registry.make_estimator = lambda name, *, n_clusters, random_state, **parameters: named[name](
        n_clusters=n_clusters, random_state=random_state, **parameters
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ancestryvi.estimators.registry", registry)
        yield module
    sys.path.remove(str(TOYS))


@pytest.fixture(scope="module")
def files(cohort, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarked")
    vcf = cohort.vcf(folder / "cohort.vcf")
    return vcf, cohort.labels(folder / "samples.tsv"), folder / "out"


@pytest.fixture(scope="module")
def first(run, files):
    """Two methods, of which one fails."""
    vcf, labels, out = files
    result = run(
        "benchmark", vcf, "--labels", labels, "--methods", "partial, exits", "--seeds", "1",
        "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return result, {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def table(path):
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=[""])


def test_every_file_of_the_contract_is_there(first, files):
    _, written = first
    out = files[2]
    runs = {"runs/partial-0.json", "runs/exits-0.json"}
    assert {str(path.relative_to(out)) for path in written} == SUMMARIES | runs
    assert sorted(path.name for path in out.iterdir()) == sorted({"runs", *SUMMARIES})


def test_the_run_is_scored_against_the_labels(first, files, cohort):
    out = files[2]
    record = json.loads((out / "runs" / "partial-0.json").read_text())
    expected = clustering_metrics(cohort.populations, record["labels"])
    rows = table(out / "runs.tsv").set_index("method")
    assert rows.loc["partial", "nmi"] == pytest.approx(expected["nmi"])
    assert rows.loc["partial", "n_unplaced"] == 5
    assert np.isnan(rows.loc["exits", "nmi"])
    assert "exit status 3" in rows.loc["exits", "error"]
    summary = table(out / "benchmark.tsv")
    assert list(summary["title"]) == ["Partial", "Exits"]
    assert list(summary["n_failed"]) == [0, 1]


def test_what_is_said(first):
    stderr = first[0].stderr
    assert "4 clusters, the number of labels in 'population'" in stderr
    assert "partial, seed 0: NMI" in stderr
    assert "exits, seed 0: failed, ended with exit status 3" in stderr
    assert "Best NMI: Partial" in stderr.splitlines()[-1]
    assert first[0].stdout == ""


def test_the_table_has_the_ceiling_and_the_perfect_split(first, files, cohort):
    text = (files[2] / "benchmark.md").read_text()
    regions = ["west" if name in "AB" else "east" for name in cohort.populations]
    line = reference_line(cohort.populations, regions)
    assert f"| perfect split into the 2 of region | {line['nmi']:.3f} |" in text
    assert "| linear discriminant, cross-validated |" in text
    assert "- samples: 40, of which 40 have a label" in text
    assert "- clusters asked for: 4" in text


def test_provenance(first, files):
    record = json.loads((files[2] / "provenance.json").read_text())
    assert record["parameters"]["methods"] == ["partial", "exits"]
    assert record["parameters"]["n_clusters"] == 4
    assert [entry["path"] for entry in record["inputs"]] == [str(files[0]), str(files[1])]


def test_methods_and_seeds_are_added_and_nothing_is_run_twice(first, run, files, toys):
    vcf, labels, out = files
    before = {path: path.read_bytes() for path in (out / "runs").iterdir()}
    result = run(
        "benchmark", vcf, "--labels", labels, "--methods", "halves,partial", "--seeds", "1",
        "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "halves, seed 0" in result.stderr
    assert "partial, seed 0" not in result.stderr
    assert all(path.read_bytes() == content for path, content in before.items())
    assert sorted(table(out / "benchmark.tsv")["method"]) == ["exits", "halves", "partial"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--n-clusters", "7"], "n_clusters"),
        (["--n-pcs", "2"], "features"),
        (["--label-column", "region"], "label column"),
    ],
)
def test_another_question_in_the_same_directory_is_refused(first, run, files, options, says):
    vcf, labels, out = files
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    result = run(
        "benchmark", vcf, "--labels", labels, "--methods", "partial", "--out", out, *options
    )
    assert result.exit_code == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith("Error: ")
    assert says in error
    assert "--force" in error
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_scores_are_taken_as_they_are_and_no_method_that_works_is_exit_1(run, cohort, tmp_path):
    rng = np.random.default_rng(3)
    scores = pd.DataFrame(rng.normal(size=(40, 4)), cohort.ids, [f"PC{i}" for i in range(1, 5)])
    scores.to_csv(tmp_path / "pcs.tsv", sep="\t", index_label="sample_id")
    out = tmp_path / "out"
    result = run(
        "benchmark", tmp_path / "pcs.tsv", "--labels", cohort.labels(tmp_path / "samples.tsv"),
        "--input", "pcs", "--n-pcs", "3", "--methods", "exits", "--seeds", "1", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 1
    last = f"Error: no method worked; {out / 'benchmark.md'} says why."
    assert result.stderr.splitlines()[-1] == last
    assert "exit status 3" in (out / "benchmark.html").read_text()
    assert "- features: 3 principal components" in (out / "benchmark.md").read_text()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--labels", "l.tsv", "--methods", "halves,nonsense"], "halves, partial, exits"),
        (["--labels", "l.tsv", "--methods", ","], "halves, partial, exits"),
        (["--methods", "halves"], "--labels"),
        (["--labels", "l.tsv", "--time-limit", "0"], "--time-limit"),
    ],
)
def test_wrong_usage(run, tmp_path, monkeypatch, options, says):
    monkeypatch.chdir(tmp_path)
    result = run("benchmark", "x.vcf", *options)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_something_else_is_left_alone(run, files, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    result = run(
        "benchmark", files[0], "--labels", files[1], "--methods", "halves", "--out", tmp_path
    )
    assert result.exit_code == 1
    assert "something other than a benchmark" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_methods_of_the_registry(run, files, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "ancestryvi.estimators.registry")
    pytest.importorskip("ancestryvi.estimators.registry")
    result = run(
        "benchmark", files[0], "--labels", files[1], "--methods", "pca-kmeans,pca-ward",
        "--seeds", "1", "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    summary = table(tmp_path / "out" / "benchmark.tsv").set_index("method")
    assert (summary["n_runs"] == 1).all()
    assert (summary.loc[["pca-kmeans", "pca-ward"], "nmi_mean"] > 0.5).all()
