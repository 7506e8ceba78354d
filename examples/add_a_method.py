"""A method of your own beside the others: a Gaussian posterior whose covariance is full.

Run it from the repository: ``python examples/add_a_method.py``.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch
from torch import nn

from ancestryvi import AncestryAutoencoder, GenotypePCA, read_genotypes
from ancestryvi.estimators.systems import SYSTEMS, System
from ancestryvi.evaluate import clustering_metrics
from ancestryvi.models.diffusion import gaussian_entropy
from ancestryvi.models.networks import zero_init
from ancestryvi.models.posterior import EncoderPosterior, Trajectory


class CorrelatedPosterior(EncoderPosterior):
    """z = m(x) + s(x) (noise + L(x) noise), L strictly lower triangular: entropy as without L."""

    n_noise = 1

    def __init__(self, n_features, n_latent, *, n_classes=0, n_hidden=256):
        super().__init__(n_features, n_latent, n_classes=n_classes, n_hidden=n_hidden)
        self.tilt = zero_init(nn.Linear(n_hidden, n_latent**2))

    def trajectory(self, encoding, noise, log_joint):
        tilt = self.tilt(encoding.features).unflatten(-1, (self.n_latent, self.n_latent)).tril(-1)
        white = noise[0] + torch.einsum("...ij,...j->...i", tilt, noise[0])
        z = encoding.mean + encoding.log_scale.exp() * white
        entropy = gaussian_entropy((2.0 * encoding.log_scale).exp()).expand(z.shape[:-1])
        return Trajectory(z, torch.zeros_like(entropy), entropy)


SYSTEMS["aevb-full"] = System(
    title="AEVB, full covariance",
    summary="variational auto-encoder, Gaussian posterior with a full covariance",
    posterior=lambda make: CorrelatedPosterior(
        make.n_features, make.n_latent, n_classes=make.n_classes
    ),
)

if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--n-epochs", type=int, default=None, help="fewer, for a quick look")
    n_epochs = options.parse_args().n_epochs or "auto"
    data = Path(__file__).parents[1] / "data"
    genotypes = read_genotypes(data / "example.vcf.gz")
    labels = pd.read_csv(data / "example.samples.tsv", sep="\t", index_col="sample")["population"]
    features = GenotypePCA().fit_transform(genotypes)
    for method in ("aevb", "aevb-full"):
        model = AncestryAutoencoder(method, 14, n_epochs=n_epochs, random_state=0).fit(features)
        nmi = clustering_metrics(labels.loc[genotypes.sample_ids], model.labels_)["nmi"]
        print(f"{method}: NMI {nmi:.3f}, ELBO {model.elbo_:.2f} nats per sample")
