"""Clusters of new samples with few calls, whose scores are uncertain."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ancestryvi import make_estimator, read_genotypes
from ancestryvi.genotypes import Genotypes

EXAMPLE = Path(__file__).parents[2] / "data" / "example.vcf.gz"
SHARE = 0.1
"""Of the calls that are left."""


@pytest.fixture(scope="module")
def halves():
    """Samples to fit, and new ones."""
    genotypes = read_genotypes(EXAMPLE)
    new = np.random.default_rng(0).permutation(genotypes.n_samples) < genotypes.n_samples // 3
    return genotypes.select(samples=~new), genotypes.select(samples=new)


@pytest.fixture(scope="module")
def model(halves):
    return make_estimator("pca-mixture", n_clusters=14, random_state=0).fit(halves[0])


@pytest.fixture(scope="module")
def masked(halves):
    _, new = halves
    known = np.random.default_rng(1).random(new.dosages.shape) < SHARE
    return Genotypes(np.where(known, new.dosages, -1), new.samples, new.variants)


def test_few_calls_give_the_cluster_of_all_calls_as_often_as_they_say(model, halves, masked):
    whole = model.predict_proba(halves[1])
    said = model.predict_proba(masked)
    cluster = said.argmax(axis=1)
    right = whole[np.arange(len(whole)), cluster].mean()
    assert right > 0.6
    assert said.max(axis=1).mean() == pytest.approx(right, abs=0.1)


def test_samples_of_an_ancestry_that_the_model_lacks_are_beyond_its_clusters(halves):
    """The admixed population between two others; few of those that it knows."""
    fitted, new = halves
    table = pd.read_csv(EXAMPLE.with_name("example.samples.tsv"), sep="\t", index_col=0)
    strange = (table.loc[new.sample_ids, "population"] == "ADM1").to_numpy()
    kept = (table.loc[fitted.sample_ids, "population"] != "ADM1").to_numpy()
    model = make_estimator("pca-mixture", n_clusters=13, random_state=0)
    model.fit(fitted.select(samples=kept))
    beyond = model.project(new).beyond
    assert strange.sum() > 5
    assert beyond[strange].mean() > 0.9
    assert beyond[~strange].mean() < 0.1
    assert not model.project(fitted.select(samples=kept)).beyond.any()


def test_little_is_not_taken_for_strange(model, masked):
    assert not model.project(masked).beyond.any()
