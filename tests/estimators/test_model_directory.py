"""The model directory: the same in another process, no pickle, damage found, all or nothing."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.numpy import load_file, save_file

from ancestryvi import AncestryDDVI, GenotypePCA
from ancestryvi.exceptions import ModelFormatError, OutputError
from ancestryvi.genotypes import Genotypes
from ancestryvi.persistence import whole_directory

READ_OUT = """
import sys
import numpy as np
from ancestryvi import AncestryDDVI
for directory, data, out in (sys.argv[1:4], sys.argv[4:]):
    model = AncestryDDVI.load(directory)
    X = data if data.endswith(".h5ad") else np.load(data)
    np.savez(
        out, transform=model.transform(X), predict_proba=model.predict_proba(X),
        score_samples=model.score_samples(X), sample=model.sample(5, random_state=0)[0],
        embedding_=model.embedding_, labels_=model.labels_, elbo_=model.elbo_,
        project=model.project(X).embedding,
    )
"""


@pytest.fixture
def saved_features(quick, tmp_path):
    quick.save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def saved_genotypes(of_genotypes, tmp_path):
    of_genotypes.save(tmp_path / "model")
    return tmp_path / "model"


# ------------------------------------------------------------------------------------ round trip


def test_a_new_process_gives_the_same_results(quick, of_genotypes, X, genotypes, tmp_path):
    np.save(tmp_path / "X.npy", X)
    genotypes.to_anndata().write_h5ad(tmp_path / "X.h5ad")
    quick.save(tmp_path / "features")
    of_genotypes.save(tmp_path / "genotypes")
    names = ["features", "X.npy", "features.npz", "genotypes", "X.h5ad", "genotypes.npz"]
    paths = [str(tmp_path / name) for name in names]
    subprocess.run([sys.executable, "-c", READ_OUT, *paths], check=True)
    for model, data, name in ((quick, X, "features"), (of_genotypes, genotypes, "genotypes")):
        found = np.load(tmp_path / f"{name}.npz")
        for method in ("transform", "predict_proba", "score_samples"):
            assert_allclose(found[method], getattr(model, method)(data), rtol=1e-11, atol=1e-11)
        assert_allclose(found["project"], model.project(data).embedding, rtol=1e-11, atol=1e-11)
        assert_allclose(found["sample"], model.sample(5, random_state=0)[0], rtol=1e-11)
        for attribute in ("embedding_", "labels_", "elbo_"):
            assert_array_equal(found[attribute], getattr(model, attribute))


def test_every_attribute_and_parameter_comes_back(of_genotypes, saved_genotypes):
    loaded = AncestryDDVI.load(saved_genotypes)
    plain, again = of_genotypes.get_params(), loaded.get_params()
    assert {k: v for k, v in again.items() if k != "pca"} == {
        k: v for k, v in plain.items() if k != "pca"
    }
    for name in ("input_", "n_iter_", "n_clusters_", "n_features_in_", "elbo_"):
        assert getattr(loaded, name) == getattr(of_genotypes, name)
    assert_array_equal(loaded.cluster_centers_, of_genotypes.cluster_centers_)
    assert_array_equal(loaded.weights_, of_genotypes.weights_)
    assert loaded.history_.to_dict() == of_genotypes.history_.to_dict()
    for name in ("components_", "mean_", "scale_", "shrinkage_", "kept_variants_", "spectrum_"):
        assert_array_equal(getattr(loaded.pca_, name), getattr(of_genotypes.pca_, name))
    pd.testing.assert_frame_equal(loaded.pca_.variants_, of_genotypes.pca_.variants_)
    pd.testing.assert_frame_equal(loaded.pca_.qc_, of_genotypes.pca_.qc_)
    assert_array_equal(loaded.get_feature_names_out(), of_genotypes.get_feature_names_out())


def test_a_loaded_model_can_be_saved_and_fitted_again(quick, saved_features, tmp_path, X):
    loaded = AncestryDDVI.load(saved_features)
    loaded.save(tmp_path / "copy")
    for name in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "copy" / name).read_bytes() == (saved_features / name).read_bytes()
    assert_array_equal(loaded.fit(X).embedding_, quick.embedding_)


def test_feature_names_come_back(X, tmp_path):
    table = pd.DataFrame(X, columns=list("abcdef"))
    AncestryDDVI(n_clusters=2, n_epochs=5, random_state=0).fit(table).save(tmp_path / "model")
    loaded = AncestryDDVI.load(tmp_path / "model")
    loaded.transform(table)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(table.rename(columns={"a": "z"}))


def test_seeds_that_are_no_numbers_are_not_kept(X, tmp_path):
    state = np.random.RandomState(0)
    AncestryDDVI(n_clusters=2, n_epochs=5, random_state=state).fit(X).save(tmp_path / "a")
    assert AncestryDDVI.load(tmp_path / "a").random_state is None
    numpy_seed = AncestryDDVI(n_clusters=np.int64(2), n_epochs=5, random_state=np.int64(4))
    numpy_seed.fit(X).save(tmp_path / "b")
    assert AncestryDDVI.load(tmp_path / "b").random_state == 4


def test_saving_needs_a_fitted_model(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        AncestryDDVI().save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# --------------------------------------------------------------------------- nothing is executed


def test_nothing_is_unpickled(saved_genotypes, genotypes, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickling executes code")

    for module, name in (
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
    ):
        monkeypatch.setattr(module, name, refuse)
    AncestryDDVI.load(saved_genotypes).transform(genotypes)


def test_the_directory_holds_only_data_formats(saved_genotypes):
    names = {file.name for file in saved_genotypes.iterdir()}
    assert names == {"model.json", "arrays.safetensors", "variants.tsv", "qc.tsv"}


def test_sample_ids_stay_at_home(genotypes, tmp_path):
    calls = genotypes.dosages.copy()
    calls[3] = -1
    calls[5, ::2] = -1  # both are named in the account of quality control
    private = Genotypes(calls, genotypes.samples.copy(), genotypes.variants)
    model = AncestryDDVI(n_clusters=2, n_epochs=5, pca=GenotypePCA(2), random_state=0).fit(private)
    assert model.pca_.qc_["detail"].str.contains("person5").any()
    model.save(tmp_path / "model")
    for file in (tmp_path / "model").iterdir():
        assert b"person" not in file.read_bytes(), file.name
    kept = AncestryDDVI.load(tmp_path / "model").pca_.qc_
    pd.testing.assert_frame_equal(
        kept.drop(columns="detail"), model.pca_.qc_.drop(columns="detail")
    )


# ------------------------------------------------------------------------------------ overwriting


def test_an_existing_model_is_replaced_only_when_asked(quick, saved_features, X):
    other = AncestryDDVI(n_clusters=2, n_epochs=5, random_state=0).fit(X)
    with pytest.raises(OutputError, match="exists and is not empty"):
        other.save(saved_features)
    assert_array_equal(AncestryDDVI.load(saved_features).embedding_, quick.embedding_)
    other.save(saved_features, overwrite=True)
    assert_array_equal(AncestryDDVI.load(saved_features).embedding_, other.embedding_)


def test_tables_of_an_earlier_model_disappear(quick, saved_genotypes):
    (saved_genotypes / "labels.tsv").write_text("population\nGBR\n")
    quick.save(saved_genotypes, overwrite=True)
    assert {file.name for file in saved_genotypes.iterdir()} == {"model.json", "arrays.safetensors"}
    assert AncestryDDVI.load(saved_genotypes).pca_ is None


# ----------------------------------------------------------------------------------------- damage


def remove(name):
    return lambda directory: (directory / name).unlink()


def cut(name):
    def damage(directory):
        content = (directory / name).read_bytes()
        (directory / name).write_bytes(content[: len(content) // 2])

    return damage


def edit(change):
    def damage(directory):
        record = json.loads((directory / "model.json").read_text())
        change(record)
        (directory / "model.json").write_text(json.dumps(record))

    return damage


DAMAGE = {
    "no model.json": (remove("model.json"), "is no model directory: it has no model.json"),
    "no arrays": (remove("arrays.safetensors"), "damaged or incomplete"),
    "no variants": (remove("variants.tsv"), r"damaged or incomplete .*variants\.tsv"),
    "cut arrays": (cut("arrays.safetensors"), "damaged or incomplete"),
    "cut json": (cut("model.json"), "damaged or incomplete"),
    "not json": (
        lambda directory: (directory / "model.json").write_text("hello"),
        "damaged or incomplete",
    ),
    "a list": (
        lambda directory: (directory / "model.json").write_text("[1]"),
        "damaged or incomplete",
    ),
    "not text": (
        lambda directory: (directory / "model.json").write_bytes(b"\xff\xfe\x00"),
        "damaged or incomplete",
    ),
    "newer": (edit(lambda r: r.update(format_version=2)), "format 2, .* up to 1; install a newer"),
    "other": (edit(lambda r: r.update(format="a cake")), "format is 'a cake'"),
    "no parameters": (edit(lambda r: r.pop("parameters")), "lacks a part"),
    "unknown parameter": (edit(lambda r: r["parameters"].update(colour=1)), "lacks a part"),
    "no history": (edit(lambda r: r.pop("history")), "lacks a part"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_found(case, saved_genotypes):
    damage, message = DAMAGE[case]
    damage(saved_genotypes)
    with pytest.raises(ModelFormatError, match=message) as caught:
        AncestryDDVI.load(saved_genotypes)
    assert str(saved_genotypes) in str(caught.value)


def test_a_path_that_is_no_directory(tmp_path):
    with pytest.raises(ModelFormatError, match="does not exist"):
        AncestryDDVI.load(tmp_path / "nowhere")


def test_every_array_is_needed_and_each_of_the_network_in_its_shape(saved_genotypes):
    file = saved_genotypes / "arrays.safetensors"
    arrays = load_file(file)
    for name, array in arrays.items():
        save_file({other: a for other, a in arrays.items() if other != name}, file)
        with pytest.raises(ModelFormatError, match="lacks a part"):
            AncestryDDVI.load(saved_genotypes)
        if name.startswith("module.") and array.size > 1:
            save_file(arrays | {name: np.ascontiguousarray(array.ravel()[:-1])}, file)
            with pytest.raises(ModelFormatError, match="lacks a part"):
                AncestryDDVI.load(saved_genotypes)
    save_file(arrays, file)
    AncestryDDVI.load(saved_genotypes)


# -------------------------------------------------------------------------------- whole_directory


def write(directory, **contents):
    for name, text in contents.items():
        (directory / name).write_text(text)


def break_off(directory, error):
    write(directory, a="half")
    raise error


def tree(directory):
    return {
        str(path.relative_to(directory)): path.read_text() if path.is_file() else None
        for path in directory.rglob("*")
    }


def test_a_directory_appears_when_the_block_ends(tmp_path):
    out = tmp_path / "deep" / "er" / "out"
    with whole_directory(out) as staging:
        write(staging, a="1")
        assert not out.exists()
    assert tree(out) == {"a": "1"}
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["out", "deep/er/out"])
def test_nothing_is_left_behind_when_the_block_raises(tmp_path, error, place):
    with pytest.raises(error), whole_directory(tmp_path / place) as staging:
        break_off(staging, error)
    assert list(tmp_path.iterdir()) == []


def test_parents_that_somebody_uses_meanwhile_stay(tmp_path):
    with pytest.raises(ValueError, match="late"), whole_directory(tmp_path / "a/b/out") as staging:
        break_off(staging.parents[1], ValueError("late"))
    assert tree(tmp_path) == {"a": None, "a/a": "half"}


def test_what_was_there_survives_a_failure(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    write(out, a="old", mine="kept")
    with (
        pytest.raises(ValueError, match="halfway"),
        whole_directory(out, overwrite=True, owned=("a", "b")) as staging,
    ):
        break_off(staging, ValueError("halfway"))
    assert tree(tmp_path) == {"out": None, "out/a": "old", "out/mine": "kept"}


def test_overwriting_replaces_what_is_owned_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    (out / "folder").mkdir(parents=True)
    (out / "theirs").mkdir()
    write(out, a="old", stale="old", mine="kept")
    write(out / "folder", stale="old")
    write(out / "theirs", note="kept")
    with whole_directory(out, overwrite=True, owned=("a", "stale", "folder")) as staging:
        (staging / "folder").mkdir()
        write(staging / "folder", b="new")
        write(staging, a="new")
    assert tree(tmp_path) == {
        "out": None,
        "out/a": "new",
        "out/folder": None,
        "out/folder/b": "new",
        "out/mine": "kept",
        "out/theirs": None,
        "out/theirs/note": "kept",
    }


def test_an_empty_directory_is_filled_and_a_full_one_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with whole_directory(tmp_path / "empty") as staging:
        write(staging, a="1")
    assert tree(tmp_path / "empty") == {"a": "1"}
    with (
        pytest.raises(OutputError, match=r"exists and is not empty.*--force"),
        whole_directory(tmp_path / "empty"),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/none", "/proc/none/below"])
def test_where_no_directory_can_be(place, tmp_path):
    (tmp_path / "file").write_text("mine")
    out = place if place.startswith("/") else tmp_path / place
    with pytest.raises(OutputError, match=str(out)) as caught, whole_directory(out):
        pytest.fail("the block must not run")
    assert "directory" in str(caught.value)
    assert tree(tmp_path) == {"file": "mine"}
