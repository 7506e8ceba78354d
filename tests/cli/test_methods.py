"""`--method`: another method, the same files, and a model that `project` and `info` read."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from ancestryvi.cli.outputs import OUTPUTS


@pytest.fixture(scope="module", params=["umap-leiden", "pca-mixture", "scorevae+"])
def made(request, cohort, run, tmp_path_factory):
    """What `embed` writes with each kind of method."""
    folder = tmp_path_factory.mktemp("method")
    vcf, labels = cohort.vcf(folder / "c.vcf"), cohort.labels(folder / "samples.tsv")
    brief = ["--n-epochs", 3] if request.param == "scorevae+" else []
    result = run(
        "embed", vcf, "--labels", labels, "--out", folder / "map", "--n-clusters", 4,
        "--method", request.param, *brief,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    prefix = {"umap-leiden": "umap", "pca-mixture": "pca", "scorevae+": "scorevae_plus"}
    return request.param, prefix[request.param], folder, vcf


def test_the_files_are_the_same_and_the_map_is_named(made, cohort):
    method, prefix, folder, _ = made
    out = folder / "map"
    assert {path.name for path in out.iterdir()} == set(OUTPUTS)
    table = pd.read_csv(out / "embedding.tsv", sep="\t")
    assert list(table.columns[:4]) == ["sample_id", f"{prefix}1", f"{prefix}2", "cluster"]
    assert list(table["sample_id"]) == cohort.ids
    assert np.isfinite(table[[f"{prefix}1", f"{prefix}2"]].to_numpy()).all()
    assert table["spread"].isna().all() == (method != "scorevae+")
    data = anndata.read_h5ad(out / "embedding.h5ad")
    assert_allclose(data.obsm[f"X_{prefix}"], table[[f"{prefix}1", f"{prefix}2"]], rtol=1e-6)
    assert f"{prefix}_cluster" in data.obs
    assert not [name for name in data.obs if name.startswith("ddvi")]
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["parameters"]["method"] == method
    assert f"{prefix.upper().replace('_', '-')} 1" in (out / "report.html").read_text()


def test_clusters_are_populations(made):
    method, _, folder, _ = made
    metrics = json.loads((folder / "map" / "metrics.json").read_text())
    assert metrics["nmi"] > (0.2 if method == "scorevae+" else 0.95)  # three epochs are few


def test_project_and_info_read_the_model(made, run, tmp_path):
    method, prefix, folder, vcf = made
    placed = run("project", folder / "map" / "model", vcf, "--out", tmp_path / "placed")
    assert placed.exit_code == 0, placed.stderr
    columns = ["sample_id", f"{prefix}1", f"{prefix}2", "cluster"]
    first, again = (
        pd.read_csv(path / "embedding.tsv", sep="\t")[columns]
        for path in (folder / "map", tmp_path / "placed")
    )
    pd.testing.assert_frame_equal(first, again, rtol=1e-6)
    told = run("info", folder / "map" / "model").stdout
    assert f"parameter method\t{method}" in told


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--method", "umap"], "'umap' is none of ddvi, aevb"),
        (["--method", "aevb", "--sleep", "none"], "--sleep has no effect with --method aevb"),
        (["--method", "pca-ward", "--n-epochs", "5"], "--n-epochs has no effect"),
        (["--method", "pca-ward", "--prior", "square"], "--prior has no effect"),
    ],
)
def test_what_a_method_cannot_do_is_a_usage_error(options, says, cohort, run, tmp_path):
    result = run("embed", cohort.vcf(tmp_path / "c.vcf"), "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


def test_labels_are_not_for_a_tool(cohort, run, tmp_path):
    vcf, labels = cohort.vcf(tmp_path / "c.vcf"), cohort.labels(tmp_path / "samples.tsv")
    result = run(
        "embed", vcf, "--labels", labels, "--learn-labels", "--method", "umap-ward",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 2
    assert "--learn-labels has no effect with --method umap-ward" in result.stderr
