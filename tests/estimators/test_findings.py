"""Two findings of the paper on data that nobody drew for the purpose; `benchmarks` has the rest."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ancestryvi import AncestryDDVI, GenotypePCA, read_genotypes
from ancestryvi.evaluate import latent_nll
from ancestryvi.models.shapes import SHAPES


def test_the_sleep_term_spreads_the_latents_over_the_prior():
    """Table 9: a lower latent NLL with the sleep term (equation 7) than without.

    On held-out digits, under the prior where the paper's difference is largest; and the bound of
    equation 5 is better too, since dreams keep the posterior right where no digit was seen.
    """
    pixels, _ = load_digits(return_X_y=True)
    order = np.random.default_rng(1).permutation(len(pixels))
    fitted, held_out = pixels[order[:1437]], pixels[order[1437:]]
    draws, _ = SHAPES["swiss_roll"](4000, np.random.default_rng(0))
    nll, bound = {}, {}
    for sleep in (None, "full"):
        model = AncestryDDVI(
            prior="swiss_roll",
            sleep=sleep,
            n_sleep_steps=3,
            beta_reg=3.0,
            n_epochs=400,
            n_diffusion_steps=5,
            random_state=1,
        ).fit(fitted)
        latents = model.posterior_samples(held_out, 10, random_state=1).reshape(-1, 2)
        nll[sleep] = latent_nll(latents, draws)
        bound[sleep] = model.score(held_out)
    assert nll["full"] < nll[None]
    assert bound["full"] > bound[None] + 10


@pytest.fixture(scope="module")
def scores(shared_data):
    """PC scores and populations of 26 populations of 1000 Genomes."""
    folder = shared_data / "1000g-26pop"
    if not folder.is_dir():
        pytest.skip(f"real genotypes are not at {folder}")
    genotypes = read_genotypes(sorted(folder.glob("*.vcf.gz")))
    table = pd.read_csv(folder / "samples.tsv", sep="\t", index_col=0)
    populations = table.loc[genotypes.sample_ids, "population"].to_numpy()
    return GenotypePCA().fit_transform(genotypes), populations


@pytest.mark.parametrize("seed", range(3))
def test_one_label_in_ten_goes_at_least_as_far_as_in_a_linear_discriminant(scores, seed):
    """Section 4.1: samples without a label help each other to theirs."""
    features, populations = scores
    order = np.random.default_rng(seed).permutation(len(features))
    known, rest = np.split(order, [len(features) // 10])
    labels = np.full(len(features), None, dtype=object)
    labels[known] = populations[known]
    model = AncestryDDVI(n_epochs=60, random_state=seed).fit(features, labels)
    ours = np.mean(model.predict(features[rest]) == populations[rest])
    linear = LinearDiscriminantAnalysis().fit(features[known], populations[known])
    assert ours >= linear.score(features[rest], populations[rest])
