"""`ancestryvi embed`: the files of the contract, whatever the genotypes come in."""

import hashlib
import json
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from ancestryvi import AncestryDDVI
from ancestryvi.cli.inputs import Cohort
from ancestryvi.cli.outputs import MODULES, OUTPUTS, Result, provenance_record, write_result

ROOT = Path(__file__).parents[2]


def test_every_file_of_the_contract_is_there_and_no_other(embedded):
    assert {path.name for path in embedded.out.iterdir()} == set(OUTPUTS)
    assert [path.name for path in embedded.out.parent.iterdir() if path.name[0] == "."] == []


def test_embedding_table(embedded, cohort):
    table = embedded.table("embedding.tsv")
    assert list(table.columns) == [
        "sample_id", "ddvi1", "ddvi2", "cluster", "probability", "spread", "entropy", "region",
        "population",
    ]  # fmt: skip
    assert list(table["sample_id"]) == cohort.ids
    assert np.isfinite(table[["ddvi1", "ddvi2"]].to_numpy()).all()
    assert table["cluster"].dtype.kind == "i"
    expected = [p if i % 2 == 0 else None for i, p in enumerate(cohort.populations)]
    assert [p if isinstance(p, str) else None for p in table["population"]] == expected
    sizes = table["cluster"].value_counts().sort_index()
    assert list(sizes.index) == list(range(len(sizes)))
    assert sizes.is_monotonic_decreasing


def test_responsibilities(embedded, cohort):
    table, map_ = embedded.table("responsibilities.tsv"), embedded.table("embedding.tsv")
    assert list(table["sample_id"]) == cohort.ids
    values = table.drop(columns="sample_id")
    assert list(values.columns) == [f"cluster{k}" for k in range(map_["cluster"].max() + 1)]
    assert_allclose(values.sum(axis=1), 1.0, atol=1e-6)
    assert_array_equal(values.to_numpy().argmax(axis=1), map_["cluster"])
    assert_allclose(values.max(axis=1), map_["probability"])


def test_clusters_and_what_they_hold(embedded):
    """By a loop over clusters; half of the samples have a label."""
    table, map_ = embedded.table("clusters.tsv"), embedded.table("embedding.tsv")
    assert list(table["cluster"]) == list(range(map_["cluster"].max() + 1))
    for row in table.to_dict("records"):
        own = map_[map_["cluster"] == row["cluster"]]
        labels = own["population"].dropna()
        assert row["samples"] == len(own)
        assert row["labelled"] == len(labels)
        votes = labels.value_counts()
        assert votes[row["label"]] == votes.max()
        assert row["share"] == pytest.approx(votes.max() / len(labels))


def test_spread_and_entropy_of_every_sample(embedded):
    table, p = embedded.table("embedding.tsv"), embedded.table("responsibilities.tsv")
    assert_allclose(
        table["entropy"], stats.entropy(p.drop(columns="sample_id"), axis=1), rtol=1e-5, atol=1e-6
    )
    assert (table["spread"] > 0).all()
    model = AncestryDDVI.load(embedded.out / "model")
    draws = model.posterior_samples(embedded.vcf, 500)
    distances = np.linalg.norm(draws - draws.mean(axis=1, keepdims=True), axis=2)
    exact = np.sqrt((distances**2).mean(axis=1))
    assert_allclose(table["spread"], exact, rtol=0.3)  # 32 draws against 500


def test_pc_scores_are_those_of_the_model(embedded, cohort):
    table = embedded.table("pcs.tsv")
    assert list(table["sample_id"]) == cohort.ids
    model = AncestryDDVI.load(embedded.out / "model")
    scores = model.pca_.transform(embedded.vcf)
    assert list(table.columns[1:]) == [f"PC{i + 1}" for i in range(scores.shape[1])]
    assert_allclose(table.iloc[:, 1:], scores, rtol=1e-6, atol=1e-8)
    assert_allclose(
        embedded.table("embedding.tsv")[["ddvi1", "ddvi2"]], model.embedding_, rtol=1e-6, atol=1e-8
    )


def test_quality_control_adds_up(embedded, cohort):
    table = embedded.table("qc.tsv")
    assert list(table.columns) == ["scope", "step", "before", "dropped", "kept", "detail"]
    for scope, total in (("samples", 40), ("variants", 300)):
        steps = table[table["scope"] == scope]
        assert steps["before"].iloc[0] == total
        assert_array_equal(steps["before"] - steps["dropped"], steps["kept"])
        assert_array_equal(steps["before"].iloc[1:], steps["kept"].iloc[:-1])
    model = AncestryDDVI.load(embedded.out / "model")
    assert steps["kept"].iloc[-1] == len(model.pca_.variants_)


def test_metrics(embedded):
    metrics = json.loads((embedded.out / "metrics.json").read_text())
    assert metrics["label_column"] == "population"
    assert metrics["n_labelled"] == 20
    for name in ("purity", "nmi", "ari", "homogeneity", "completeness"):
        assert -0.5 <= metrics[name] <= 1
    assert "perfect_split_into_region" in metrics
    assert f"{metrics['nmi']:.3f}" in embedded.stderr


def test_provenance(embedded):
    record = json.loads((embedded.out / "provenance.json").read_text())
    source, labels = record["inputs"]
    assert labels["sha256"]
    content = embedded.vcf.read_bytes()
    assert source == {
        "path": str(embedded.vcf),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    assert record["parameters"]["seed"] == 0
    assert record["parameters"]["n_epochs"] == 5
    assert record["parameters"]["n_clusters"] == 4
    assert record["counts"]["samples"] == 40
    assert record["counts"]["variants"] == 300
    assert record["version"]
    assert record["device"] in ("cpu", "cuda")  # and not the "auto" of the parameters
    assert record["parameters"]["device"] == "auto"


def test_provenance_names_the_packages_that_were_loaded(monkeypatch):
    for module in ("pgenlib", "igraph"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    for module in ("umap", "cyvcf2"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    packages = provenance_record(inputs=[], parameters={}, counts={}, seconds={})["packages"]
    assert {"numpy", "pandas", "anndata", "Pgenlib", "igraph"} <= set(packages)
    assert not {"umap-learn", "cyvcf2"} & set(packages)
    assert packages["Pgenlib"] == version("Pgenlib")


def test_every_package_that_can_be_recorded_is_a_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["bcf"], *extras["dask"]]
    assert MODULES.keys() <= {re.split("[<>=]", line)[0] for line in listed}


def test_anndata(embedded, cohort):
    adata = anndata.read_h5ad(embedded.out / "embedding.h5ad")
    table = embedded.table("embedding.tsv")
    assert list(adata.obs_names) == cohort.ids
    assert_allclose(adata.obsm["X_ddvi"], table[["ddvi1", "ddvi2"]], rtol=1e-6, atol=1e-8)
    assert_allclose(
        adata.obsm["X_pca"], embedded.table("pcs.tsv").iloc[:, 1:], rtol=1e-6, atol=1e-8
    )
    assert_allclose(adata.obsm["ddvi_responsibilities"].sum(axis=1), 1.0)
    assert adata.varm["PCs"].shape == (adata.n_vars, adata.obsm["X_pca"].shape[1])
    assert_allclose((adata.varm["PCs"] ** 2).sum(axis=0), 1.0, rtol=1e-4)
    assert list(adata.obs["ddvi_cluster"].astype(int)) == list(table["cluster"])
    for name in ("probability", "spread", "entropy"):
        assert_allclose(adata.obs[f"ddvi_{name}"], table[name], rtol=1e-6, atol=1e-8)
        assert name not in adata.obs
    assert adata.obs["population"].notna().sum() == 20
    assert adata.var_names[0].startswith("1:1000000:")
    assert json.loads(adata.uns["ancestryvi"])["program"] == "ancestryvi"


def test_figures_and_report(embedded, cohort):
    assert (embedded.out / "embedding.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert (embedded.out / "embedding.pdf").read_bytes().startswith(b"%PDF-")
    report = (embedded.out / "report.html").read_text(encoding="utf-8")
    assert all(sample in report for sample in cohort.ids)
    assert report.lstrip().lower().startswith("<!doctype html>")


def test_what_is_said(embedded):
    assert "Read 40 samples x 300 variants from 1 file;" in embedded.stderr
    assert f"20 of 40 samples have a row in {embedded.labels}" in embedded.stderr
    assert embedded.stderr.splitlines()[-1].startswith(f"Wrote {embedded.out}")
    assert "\r" not in embedded.stderr  # no progress bar where there is no terminal


def test_too_little_to_tell_close_populations_apart_is_noted(embedded):
    n_used = len(embedded.table("model/variants.tsv"))
    smallest = 1 / np.sqrt(40 * n_used)
    assert f"40 samples and {n_used} variants cannot tell" in embedded.stderr
    assert f"whose F_ST is below about {smallest:.2g}." in embedded.stderr


@pytest.mark.parametrize(
    "name", ["spread", "entropy", "ddvi_spread", "ddvi_entropy", "cluster", "ddvi3"]
)
def test_a_label_column_cannot_be_one_of_ours(name, cohort, embedded, fails, tmp_path):
    labels = tmp_path / "labels.tsv"
    pd.DataFrame({"sample": cohort.ids, name: "x"}).to_csv(labels, sep="\t", index=False)
    fails("embed", embedded.vcf, "--labels", labels, says=(repr(name), "rename it"))


# --------------------------------------------------------------------- what a result is written as


def result_of_three(**more):
    """A sample of each of two clusters, and one without a place."""
    nan = np.nan
    more = {"spread": np.array([0.5, 0.25, nan]), **more}
    return Result(
        title="Three",
        map_name="ddvi",
        cohort=Cohort(None, ["s1", "s2", "s3"], pd.DataFrame(index=["s1", "s2", "s3"]), None),
        embedding=np.array([[0.0, 1.0], [2.0, 3.0], [nan, nan]]),
        probabilities=np.array([[0.2, 0.8], [1.0, 0.0], [nan, nan]]),
        labels=np.array([1, 0, -1]),
        scores=np.zeros((3, 2)),
        qc=pd.DataFrame({"step": ["read"]}),
        **more,
    )


def test_clusters_without_names_are_numbers():
    table = result_of_three().table()
    assert list(table.columns) == [
        "sample_id", "ddvi1", "ddvi2", "cluster", "probability", "spread", "entropy",
    ]  # fmt: skip
    assert list(table["cluster"][:2]) == [1, 0]
    assert pd.isna(table["cluster"][2])
    expected = [-0.2 * np.log(0.2) - 0.8 * np.log(0.8), 0.0, np.nan]
    assert_allclose(table["entropy"], expected, rtol=1e-12)


def test_clusters_of_a_model_fitted_with_labels_are_written_by_name(tmp_path):
    result = result_of_three(class_names=["GBR", "YRI"])
    write_result(tmp_path, result, {"command": "ancestryvi"}, [])
    lines = (tmp_path / "embedding.tsv").read_text().splitlines()
    assert lines == [
        "sample_id\tddvi1\tddvi2\tcluster\tprobability\tspread\tentropy",
        "s1\t0\t1\tYRI\t0.8\t0.5\t0.50040242",
        "s2\t2\t3\tGBR\t1\t0.25\t0",
        "s3\t\t\t\t\t\t",
    ]
    lines = (tmp_path / "responsibilities.tsv").read_text().splitlines()
    assert lines == ["sample_id\tGBR\tYRI", "s1\t0.2\t0.8", "s2\t1\t0", "s3\t\t"]
    obs = anndata.read_h5ad(tmp_path / "embedding.h5ad").obs
    assert list(obs["ddvi_cluster"].astype(object)[:2]) == ["YRI", "GBR"]
    assert obs["ddvi_cluster"].isna().tolist() == [False, False, True]
    assert_allclose(obs["ddvi_spread"], [0.5, 0.25, np.nan])
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    listed = '<td>s1</td><td class="n">0.500</td><td class="n">0.500</td><td>YRI</td>'
    assert listed in report
    assert '"names":["GBR","YRI"]' in report


# ------------------------------------------------------------------------- the same map, any way


def map_of(out):
    return pd.read_csv(out / "embedding.tsv", sep="\t")[["ddvi1", "ddvi2"]].to_numpy()


@pytest.mark.parametrize("form", ["bed", "h5ad", "vcf"])
def test_other_formats_give_the_same_map(form, embedded, cohort, run_quick, tmp_path):
    file = getattr(cohort, form)(tmp_path / f"cohort.{form}")
    run_quick(file, "--out", tmp_path / "map")
    assert_allclose(map_of(tmp_path / "map"), map_of(embedded.out), atol=1e-6)
    assert not (tmp_path / "map" / "metrics.json").exists()


def test_pc_scores_give_the_same_map(embedded, cohort, run_quick, tmp_path):
    given = embedded.out / "pcs.tsv"
    run_quick(given, "--out", tmp_path / "auto")
    run_quick(given, "--out", tmp_path / "pcs", "--input", "pcs")
    assert_array_equal(map_of(tmp_path / "auto"), map_of(tmp_path / "pcs"))
    # The table holds eight digits, so training starts from slightly other numbers.
    assert_allclose(map_of(tmp_path / "auto"), map_of(embedded.out), atol=1e-3)
    record = json.loads((tmp_path / "auto" / "provenance.json").read_text())
    assert record["counts"]["variants"] is None
    assert {path.name for path in (tmp_path / "auto").iterdir()} == set(OUTPUTS) - {"metrics.json"}


def test_two_files_of_the_same_samples_in_another_order(embedded, cohort, run_quick, tmp_path):
    first = cohort.take(variants=slice(None, 150)).vcf(tmp_path / "first.vcf")
    order = np.random.default_rng(0).permutation(40)
    second = cohort.take(order, slice(150, None)).vcf(tmp_path / "second.vcf")
    run_quick(first, second, "--out", tmp_path / "map")
    assert (
        list(pd.read_csv(tmp_path / "map" / "embedding.tsv", sep="\t")["sample_id"]) == cohort.ids
    )
    assert_allclose(map_of(tmp_path / "map"), map_of(embedded.out), atol=1e-6)
    inputs = json.loads((tmp_path / "map" / "provenance.json").read_text())["inputs"]
    assert [entry["path"] for entry in inputs] == [str(first), str(second)]


def test_seeds(embedded, run_quick, tmp_path):
    run_quick(embedded.vcf, "--out", tmp_path / "other", "--seed", 1)
    assert not np.allclose(map_of(tmp_path / "other"), map_of(embedded.out), atol=1e-3)


def test_options_reach_the_model(cohort, run_quick, tmp_path):
    dosages = cohort.dosages.copy()
    dosages[:, 0] = 0
    dosages[:7, 0] = 1  # a frequency of 0.0875
    dosages[:5, 1] = -1  # a call rate of 0.875
    alt = ["AT", *cohort.alt[1:]]
    file = type(cohort)(
        dosages, cohort.ids, cohort.populations, cohort.contig, cohort.position, cohort.ref, alt
    ).vcf(tmp_path / "cohort.vcf")
    run_quick(
        file, "--out", tmp_path / "map", "--n-pcs", 3, "--keep-indels", "--min-maf", 0.08,
        "--min-variant-call-rate", 0.8, "--max-ld-r2", 1,
    )  # fmt: skip
    model = AncestryDDVI.load(tmp_path / "map" / "model")
    assert model.pca_.components_.shape[0] == 3
    assert {"AT"} <= set(model.pca_.variants_["alt"])
    assert model.pca_.kept_variants_[1]
    qc = pd.read_csv(tmp_path / "map" / "qc.tsv", sep="\t")
    assert "not an SNV" not in list(qc["step"])
    assert qc.set_index("step").loc["linked", "detail"] == "skipped: not asked for"


def test_the_label_column_can_be_chosen(embedded, cohort, run_quick, tmp_path):
    run_quick(
        embedded.vcf, "--labels", cohort.labels(tmp_path / "l.tsv"), "--label-column", "region",
        "--out", tmp_path / "map",
    )  # fmt: skip
    metrics = json.loads((tmp_path / "map" / "metrics.json").read_text())
    assert metrics["label_column"] == "region"
    assert metrics["n_labelled"] == 40


def test_values_are_no_labels_unless_they_are_asked_for(embedded, cohort, run_quick, tmp_path):
    """The first column that groups samples is scored, and the report says which one was."""
    sex = ["F", "M"] * (len(cohort.ids) // 2)
    rows = [f"{name},{20 + i / 2},{sex[i]}" for i, name in enumerate(cohort.ids)]
    file = tmp_path / "labels.csv"
    file.write_text("\n".join(["sample,age,sex", *rows]))
    for asked, scored in (((), "sex"), (("--label-column", "age"), "age")):
        out = tmp_path / scored
        said = run_quick(embedded.vcf, "--labels", file, *asked, "--out", out).output
        assert json.loads((out / "metrics.json").read_text())["label_column"] == scored
        assert f"Scores against {scored}" in (out / "report.html").read_text()
        assert ("'age' of" in said and "say nothing" in said) == (scored == "age")


def test_force_replaces_an_earlier_run_and_keeps_other_files(embedded, cohort, run_quick, tmp_path):
    out = tmp_path / "map"
    run_quick(embedded.vcf, "--labels", embedded.labels, "--out", out)
    (out / "notes.txt").write_text("mine")
    run_quick(embedded.vcf, "--out", out, "--force", "--seed", 3)
    assert (out / "notes.txt").read_text() == "mine"
    assert not (out / "metrics.json").exists()  # it belonged to the labels of the earlier run
    assert not np.allclose(map_of(out), map_of(embedded.out))


# ----------------------------------------------------------------------- labels, and variants


@pytest.fixture(scope="module")
def taught(embedded, run, tmp_path_factory):
    """`embed` that learns the labels, which half of the samples have; and what it said."""
    out = tmp_path_factory.mktemp("taught") / "map"
    result = run(
        "embed", embedded.vcf, "--labels", embedded.labels, "--learn-labels",
        "--n-epochs", 60, "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out, result.stderr


def test_learned_labels_are_given_to_the_samples_without_one(taught, cohort):
    out, stderr = taught
    table = pd.read_csv(out / "embedding.tsv", sep="\t")
    hidden = table["population"].isna()
    assert hidden.sum() == 20
    truth = np.array(cohort.populations, object)
    assert (table["cluster"] == truth)[hidden].mean() > 0.9
    p = pd.read_csv(out / "responsibilities.tsv", sep="\t", index_col=0)
    assert list(p.columns) == ["A", "B", "C", "D"]
    assert_array_equal(p.columns[p.to_numpy().argmax(axis=1)], table["cluster"])
    assert "Fitted with the labels of 'population'" in stderr
    assert "labels that the fit has seen" in (out / "report.html").read_text(encoding="utf-8")
    assert AncestryDDVI.load(out / "model").classes_.tolist() == ["A", "B", "C", "D"]
    assert json.loads((out / "metrics.json").read_text())["labels_were_fitted"] is True


def test_a_wrong_label_is_counted_and_not_followed(embedded, run, tmp_path):
    labels = pd.read_csv(embedded.labels, sep="\t")
    row = labels.index[labels["population"] == "A"][0]
    labels.loc[row, "population"] = "B"
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    result = run(
        "embed", embedded.vcf, "--labels", tmp_path / "labels.tsv", "--learn-labels",
        "--n-epochs", 60, "--out", tmp_path / "map",
    )  # fmt: skip
    table = pd.read_csv(tmp_path / "map" / "embedding.tsv", sep="\t").set_index("sample_id")
    assert table.loc[labels.loc[row, labels.columns[0]], "cluster"] == "A"
    known = table[table["population"].notna()]
    n_other = (known["cluster"] != known["population"]).sum()
    assert f"{n_other} of {len(known)} labelled samples are more like another" in result.stderr


def test_a_model_of_labels_places_and_names_new_samples(taught, cohort, run, tmp_path):
    new = cohort.take(slice(1, None, 3)).vcf(tmp_path / "new.vcf")
    result = run("project", taught[0] / "model", new, "--out", tmp_path / "placed")
    assert result.exit_code == 0, result.stderr
    placed = pd.read_csv(tmp_path / "placed" / "embedding.tsv", sep="\t").set_index("sample_id")
    first = pd.read_csv(taught[0] / "embedding.tsv", sep="\t").set_index("sample_id")
    assert_array_equal(placed["cluster"], first.loc[placed.index, "cluster"])


def test_labels_to_learn_must_be_given(embedded, run):
    result = run("embed", embedded.vcf, "--learn-labels")
    assert result.exit_code == 2
    assert "--learn-labels needs --labels" in result.stderr


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        (("--learn-labels", "--preset", "reference"), "--learn-labels"),
        (("--learn-labels", "--n-clusters", "3"), "--n-clusters"),
        (("--prior", "square", "--n-clusters", "3"), "--n-clusters"),
        (("--preset", "reference", "--sleep", "none"), "--sleep"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(options, idle, embedded, run):
    result = run("embed", embedded.vcf, "--labels", embedded.labels, *options)
    assert result.exit_code == 2
    assert f"{idle} has no effect" in result.stderr


def test_labels_to_learn_that_are_all_missing(embedded, cohort, fails, tmp_path):
    file = tmp_path / "labels.tsv"
    pd.DataFrame({"sample": cohort.ids, "pop": "NA"}).to_csv(file, sep="\t", index=False)
    fails("embed", embedded.vcf, "--labels", file, "--learn-labels", says=("No sample", "'pop'"))


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (("--sleep", "none"), {"sleep": None}),
        (("--sleep", "latent", "--n-diffusion-steps", "4"), {"n_diffusion_steps": 4}),
        (("--clustering", "latent_class"), {"clustering": "latent_class"}),
        (("--prior", "square"), {"prior": "square"}),
    ],
)
def test_variants_reach_the_model(options, parameters, embedded, run, tmp_path):
    result = run(
        "embed", embedded.out / "pcs.tsv", *options, "--n-epochs", 5, "--out", tmp_path / "map"
    )
    assert result.exit_code == 0, result.stderr
    model = AncestryDDVI.load(tmp_path / "map" / "model")
    assert parameters.items() <= model.get_params().items()
    p = pd.read_csv(tmp_path / "map" / "responsibilities.tsv", sep="\t", index_col=0)
    assert_allclose(p.sum(axis=1), 1.0, atol=1e-6)
