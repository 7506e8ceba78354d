"""`ancestryvi project`: samples onto the map of a model."""

import json
import re
import shutil

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from ancestryvi import AncestryDDVI
from ancestryvi.cli.outputs import OUTPUTS
from ancestryvi.estimators import AncestryEstimator
from ancestryvi.evaluate import reference_accuracy

MAP = ["ddvi1", "ddvi2"]


@pytest.fixture
def project(run, embedded, tmp_path):
    """Return a function that places files on the map of the small cohort."""

    def place(*arguments):
        out = tmp_path / "placed"
        result = run("project", embedded.out / "model", *arguments, "--out", out)
        assert result.exit_code == 0, result.stderr
        return pd.read_csv(out / "embedding.tsv", sep="\t"), result.stderr

    return place


@pytest.fixture
def n_used(embedded):
    return len(pd.read_csv(embedded.out / "model" / "variants.tsv", sep="\t"))


def test_fitted_samples_have_the_places_they_had(project, embedded, tmp_path, n_used):
    placed, stderr = project(embedded.vcf)
    first = embedded.table("embedding.tsv")
    assert list(placed["sample_id"]) == list(first["sample_id"])
    assert_allclose(placed[MAP], first[MAP], atol=1e-6)
    assert_array_equal(placed["cluster"], first["cluster"])
    for name in ("probability", "spread", "entropy"):
        assert_allclose(placed[name], first[name], atol=1e-6)
    assert f"{n_used} of the model's {n_used} variants are used: {n_used} with the same" in stderr
    assert "Note: 40 of 40 samples took part in the fit of the model" in stderr
    written = {path.name for path in (tmp_path / "placed").iterdir()}
    assert written == set(OUTPUTS) - {"model", "metrics.json"}


def test_swapped_alleles_other_contig_names_and_another_order(
    project, cohort, embedded, tmp_path, n_used
):
    order = np.random.default_rng(0).permutation(300)
    other = cohort.swapped().on_contigs({"1": "chr1", "chrX2": "X2"}).take(variants=order)
    placed, stderr = project(other.vcf(tmp_path / "swapped.vcf"))
    assert_allclose(placed[MAP], embedded.table("embedding.tsv")[MAP], atol=1e-6)
    assert f"variants are used: {n_used} with alleles swapped." in stderr


def test_one_fitted_sample_alone(project, cohort, embedded, tmp_path):
    placed, _ = project(cohort.take([7]).vcf(tmp_path / "one.vcf"))
    assert list(placed["sample_id"]) == ["A07"]
    assert_allclose(placed[MAP], embedded.table("embedding.tsv")[MAP].iloc[[7]], atol=1e-6)


def test_half_of_the_variants_missing(project, cohort, embedded, tmp_path, n_used):
    model = pd.read_csv(embedded.out / "model" / "variants.tsv", sep="\t")
    kept = np.sort(np.random.default_rng(1).permutation(300)[:180])
    places = {(c, p) for c, p in zip(model["contig"].astype(str), model["position"], strict=True)}
    n_present = sum((cohort.contig[j], cohort.position[j]) in places for j in kept)
    placed, stderr = project(cohort.take(variants=kept).vcf(tmp_path / "part.vcf"))
    assert f"{n_present} of the model's {n_used} variants are used" in stderr
    assert f"{n_used - n_present} are absent" in stderr
    assert "took part in the fit" not in stderr
    qc = pd.read_csv(tmp_path / "placed" / "qc.tsv", sep="\t").set_index("step")
    assert qc.loc["absent", "dropped"] == n_used - n_present
    assert qc.loc["matched", "kept"] == n_present
    first = embedded.table("embedding.tsv")
    for axis in MAP:
        assert np.corrcoef(placed[axis], first[axis])[0, 1] > 0.8
    record = json.loads((tmp_path / "placed" / "provenance.json").read_text())
    assert record["counts"]["variants"]["absent"] == n_used - n_present


def test_a_sample_without_calls_is_listed_without_a_place(project, cohort, tmp_path):
    calls = cohort.dosages.copy()
    calls[2] = -1
    placed, stderr = project(cohort.with_calls(calls).vcf(tmp_path / "silent.vcf"))
    assert placed.loc[2, [*MAP, "cluster", "probability", "spread", "entropy"]].isna().all()
    assert placed.drop(index=2)[MAP].notna().all(axis=None)
    assert "1 sample has no call at the model's variants: A02" in stderr
    qc = pd.read_csv(tmp_path / "placed" / "qc.tsv", sep="\t").set_index("step")
    assert qc.loc["no calls", ["before", "dropped", "kept"]].tolist() == [40, 1, 39]
    assert qc.loc["no calls", "detail"].endswith(": A02")


def test_samples_of_few_calls_are_named_and_placed(project, cohort, embedded, tmp_path):
    calls = cohort.dosages.copy()
    calls[[2, 11], ::2] = -1
    placed, stderr = project(cohort.with_calls(calls).vcf(tmp_path / "poor.vcf"))
    assert placed[MAP].notna().all(axis=None)
    assert "Note: 2 samples with calls at less than 0.9 of the model's variants" in stderr
    assert "(median 0.5), placed" in stderr
    assert "one of its clusters in any case: A02, B01." in stderr
    scores = pd.read_csv(tmp_path / "placed" / "pcs.tsv", sep="\t", index_col="sample_id")
    of_posterior = AncestryDDVI.load(embedded.out / "model")._fitted.spread(scores.to_numpy())
    more = placed["spread"].to_numpy() > 1.001 * of_posterior  # what is missing adds to it
    assert_array_equal(np.flatnonzero(more), [2, 11])
    qc = pd.read_csv(tmp_path / "placed" / "qc.tsv", sep="\t").set_index("step")
    assert qc.loc["sample call rate", ["before", "dropped", "kept"]].tolist() == [40, 0, 40]
    assert qc.loc["sample call rate", "detail"].endswith("placed as well: A02, B01")
    used = pd.read_csv(embedded.out / "model" / "variants.tsv", sep="\t")
    keys = {(c, p) for c, p in zip(used["contig"].astype(str), used["position"], strict=True)}
    model = [(c, p) in keys for c, p in zip(cohort.contig, cohort.position, strict=True)]
    adata = anndata.read_h5ad(tmp_path / "placed" / "embedding.h5ad")
    assert_allclose(adata.obs["call_rate"], (calls[:, model] >= 0).mean(axis=1))


def test_the_reference_map_has_the_names_it_had(project, embedded, cohort, tmp_path):
    """Half of its samples have one; no sample id is kept with them."""
    kept = pd.read_csv(embedded.out / "model" / "labels.tsv", sep="\t", skip_blank_lines=False)
    assert kept.columns.tolist() == ["population", "region"]
    assert kept["population"][::2].tolist() == cohort.populations[::2]
    assert kept["population"][1::2].isna().all()
    new, _ = project(cohort.take(slice(0, 5)).vcf(tmp_path / "new.vcf"))
    assert "population" not in new
    clusters = pd.read_csv(tmp_path / "placed" / "clusters.tsv", sep="\t")
    first = embedded.table("clusters.tsv")
    for name in ("cluster", "labelled", "label"):  # what the reference holds
        assert clusters[name].tolist() == first[name].tolist()
    placed = new["cluster"].value_counts().reindex(clusters["cluster"], fill_value=0)
    assert clusters["samples"].tolist() == placed.tolist()
    report = (tmp_path / "placed" / "report.html").read_text()
    assert "<h2>Clusters by population among reference samples</h2>" in report


def test_names_of_other_samples_are_refused(run, embedded, tmp_path):
    shutil.copytree(embedded.out / "model", tmp_path / "model")
    (tmp_path / "model" / "labels.tsv").write_text("population\nA\n")
    result = run("project", tmp_path / "model", embedded.vcf, "--out", tmp_path / "placed")
    assert result.exit_code == 1
    assert "labels.tsv has 1 row, and the model 40 samples" in result.stderr
    assert not (tmp_path / "placed").exists()


def test_labels_give_metrics(project, embedded, tmp_path, cohort):
    """Neighbours are those of the reference map, where half of the samples have a label."""
    placed, _ = project(embedded.vcf, "--labels", cohort.labels(tmp_path / "labels.tsv"))
    assert list(placed["population"]) == cohort.populations
    scores = json.loads((tmp_path / "placed" / "metrics.json").read_text())
    assert scores["n_labelled"] == 40
    reference = embedded.table("embedding.tsv")
    expected = reference_accuracy(
        placed[MAP], cohort.populations, reference[MAP], reference["population"]
    )
    assert scores["knn_neighbors"] == expected["knn_neighbors"] == 9
    assert scores["knn_accuracy"] == pytest.approx(expected["knn_accuracy"])


def test_without_any_call_nothing_is_placed(run, cohort, embedded, tmp_path):
    silent = cohort.with_calls(np.full_like(cohort.dosages, -1)).vcf(tmp_path / "silent.vcf")
    result = run("project", embedded.out / "model", silent, "--out", tmp_path / "placed")
    assert result.exit_code == 1
    assert "None of the 40 samples has a call at the variants" in result.stderr
    assert not (tmp_path / "placed").exists()


def test_samples_beyond_every_cluster_are_named(project, cohort, tmp_path):
    """All their calls the other way round: a population that nobody has seen."""
    calls = np.where(cohort.dosages < 0, -1, 2 - cohort.dosages)
    rows = [0, 1, 2]
    placed, stderr = project(cohort.with_calls(calls).take(rows).vcf(tmp_path / "other.vcf"))
    assert placed[MAP].notna().all(axis=None)
    assert "Note: 3 samples farther from every cluster than any that the model was" in stderr
    assert "whatever their probabilities: A00, A01, A02." in stderr
    qc = pd.read_csv(tmp_path / "placed" / "qc.tsv", sep="\t").set_index("step")
    assert qc.loc["beyond the clusters", ["before", "dropped", "kept"]].tolist() == [3, 0, 3]
    assert qc.loc["beyond the clusters", "detail"].endswith(": A00, A01, A02")


def test_scores_on_a_model_of_scores(run, run_quick, embedded, tmp_path):
    scores = embedded.out / "pcs.tsv"
    run_quick(scores, "--out", tmp_path / "map")
    result = run("project", tmp_path / "map" / "model", scores, "--out", tmp_path / "placed")
    assert result.exit_code == 0, result.stderr
    first, placed = (
        pd.read_csv(tmp_path / name / "embedding.tsv", sep="\t") for name in ("map", "placed")
    )
    assert_allclose(placed[MAP], first[MAP], atol=1e-6)
    other = run("project", tmp_path / "map" / "model", embedded.vcf, "--out", tmp_path / "no")
    assert other.exit_code == 1
    assert "was fitted on a table of PC scores" in other.stderr
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("kind", [object, int])
def test_a_model_fitted_with_labels_speaks_their_names(
    kind, project, embedded, tmp_path, monkeypatch
):
    model = AncestryDDVI.load(embedded.out / "model")
    names = [f"{k + 5}" for k in range(model.n_clusters_)]  # the classes may be numbers
    model.classes_ = np.array(names).astype(kind)
    model.labels_ = model.classes_[model.labels_]
    monkeypatch.setattr(AncestryEstimator, "load", lambda path: model)
    placed, _ = project(embedded.vcf)
    first = embedded.table("embedding.tsv")
    assert list(placed["cluster"]) == list(first["cluster"] + 5)
    p = pd.read_csv(tmp_path / "placed" / "responsibilities.tsv", sep="\t")
    assert list(p.columns) == ["sample_id", *names]
    report = (tmp_path / "placed" / "report.html").read_text(encoding="utf-8")
    data = json.loads(re.search(r'id="data">(.*?)</script>', report, re.DOTALL)[1])
    background = data["background"]
    assert [background["names"][code] for code in background["codes"]] == list(
        map(str, model.labels_)
    )
    column = next(c for c in data["columns"] if c["title"] == "cluster")
    assert column["names"] == names


# --------------------------------------------------------------------------------------- failures


def test_too_few_variants_in_common(fails, cohort, embedded, tmp_path, n_used):
    file = cohort.take(variants=slice(0, 60)).vcf(tmp_path / "few.vcf")
    message = fails("project", embedded.out / "model", file, says=(f"{n_used} variants", "50%"))
    assert "Only 6" in message or "Only 5" in message
    assert "genome build" in message


def test_another_build_has_nothing_in_common(fails, cohort, embedded, tmp_path):
    file = cohort.on_contigs({"1": "7", "chrX2": "8"}).vcf(tmp_path / "other.vcf")
    fails("project", embedded.out / "model", file, says=("Only 0 of", "absent"))


def test_the_wrong_kind_of_input(fails, embedded):
    fails(
        "project", embedded.out / "model", embedded.out / "pcs.tsv", "--input", "pcs",
        says=("was fitted on genotypes", str(embedded.out / "model")),
    )  # fmt: skip


def test_no_model(fails, embedded, tmp_path):
    (tmp_path / "empty").mkdir()
    fails("project", tmp_path / "empty", embedded.vcf, says=("is no model directory",))
    fails("project", tmp_path / "nowhere", embedded.vcf, says=("nowhere does not exist",))
    fails("project", embedded.out, embedded.vcf, says=("/model.",))
