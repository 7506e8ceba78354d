"""The posterior of x = |z| + noise, which has two modes, by DDVI and by AEVB's Gaussian.

z ~ N(0, 1), and the noise has standard deviation 0.1. The generative model is given and stays as it
is; each posterior is trained by the package's own phases, DDVI's on dreams alone. The gap between
log p(x) and the bound is what a posterior loses: log 2 = 0.69 nats for the better half of two equal
modes.
"""

from __future__ import annotations

import argparse
import math

import matplotlib as mpl
import numpy as np
import torch
from common import RESULTS, ROOT, machine
from torch import Tensor, nn

from ancestryvi.evaluate import confidence_interval
from ancestryvi.models.ddvi import DDVI
from ancestryvi.models.diffusion import GaussianDiffusion, gaussian_entropy
from ancestryvi.models.diffusion_posterior import DiffusionPosterior
from ancestryvi.models.latent_variable import normal
from ancestryvi.models.priors import MixturePrior
from ancestryvi.models.schedules import cosine_alpha_bar
from ancestryvi.training import History, Phase, train_phase
from ancestryvi.training.wake_sleep import Weights, dreaming, warm_start

NOISE = 0.1
N_STEPS = 40
RATE = 1e-2
"""Peak learning rate: ten times that of the phase, which is made for larger networks."""

FIGURE = ROOT / "docs" / "images" / "two-modes.png"
SHOWN = (0.3, 1.0, 2.0)

GRID = torch.linspace(-6.0, 6.0, 6001).unsqueeze(-1)


class AbsoluteValue(nn.Module):
    """f(z) = |z|."""

    def forward(self, z: Tensor) -> Tensor:
        """The mean of x, of the shape of z."""
        return z.abs()


def two_modes(n_steps: int, seed: int, n_hidden: int = 64) -> DDVI:
    """The model with its fixed theta and an untrained posterior."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        diffusion = GaussianDiffusion(cosine_alpha_bar(n_steps))
        posterior = DiffusionPosterior(
            1, 1, diffusion, n_hidden=n_hidden, n_hidden_denoiser=n_hidden
        )
    model = DDVI(1, MixturePrior.standard_normal(1), posterior, torch.tensor([NOISE]))
    model.decoder = nn.Sequential(AbsoluteValue())
    for parameter in model.generative_parameters():
        parameter.requires_grad_(False)
    return model


def train(model: DDVI, phase: Phase, generator: torch.Generator) -> None:
    """Run a phase on 2,048 draws of x."""
    phase.objectives[0].optimizers[0].param_groups[0]["peak"] = RATE
    _, _, x = model.dream(2048, generator)
    train_phase(phase, x, batch_size=128, generator=generator, history=History())
    model.requires_grad_(False)


def train_ddvi(seed: int, n_epochs: int = 400) -> DDVI:
    """DDVI after dreaming."""
    model, generator = two_modes(N_STEPS, seed), torch.Generator().manual_seed(seed)
    train(model, dreaming(model, n_epochs, Weights(), generator), generator)
    return model


def train_aevb(seed: int, n_epochs: int = 150) -> DDVI:
    """The same model with the encoder's Gaussian belief trained as AEVB's posterior."""
    model, generator = two_modes(1, seed), torch.Generator().manual_seed(seed)
    train(model, warm_start(model, n_epochs, Weights(), generator), generator)
    return model


def log_evidence(model: DDVI, x: Tensor) -> Tensor:
    """log p(x) by integration over the grid, of shape (n_samples,)."""
    log_joint = model.prior.log_prob(GRID) + model.reconstruction(x.unsqueeze(1), GRID)
    return log_joint.logsumexp(1) + math.log(GRID[1] - GRID[0])


def exact_density(model: DDVI, x: float) -> Tensor:
    """p(z | x) at the points of the grid."""
    rows = torch.tensor([[x]])
    log_joint = model.prior.log_prob(GRID) + model.reconstruction(rows, GRID)
    return (log_joint - log_evidence(model, rows)).exp()


def gaps(ddvi: DDVI, aevb: DDVI, generator: torch.Generator) -> tuple[float, float]:
    """E[log p(x)] - E[bound] of both, in nats, over 2,000 draws of x and 100 of the posterior."""
    _, _, x = ddvi.dream(2000, generator)
    evidence = log_evidence(ddvi, x).mean()
    noise = normal((N_STEPS + 1, 100, len(x), 1), x, generator)
    bound = ddvi.bound(x, noise).mean()
    z, scale = aevb.posterior.draw_belief(x, noise[0])
    terms = aevb.reconstruction(x, z) + aevb.prior.log_prob(z) + gaussian_entropy(scale**2)
    return (evidence - bound).item(), (evidence - terms.mean()).item()


def draw_figure(ddvi: DDVI, aevb: DDVI, generator: torch.Generator) -> None:
    """Densities of z at three values of x, beside each other."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    blue, vermilion = "#0072b2", "#d55e00"  # of Okabe and Ito's colour-blind safe set
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    z = GRID.squeeze(-1).numpy()
    for axis, x in zip(axes, SHOWN, strict=True):
        rows = torch.tensor([[x]])
        exact = exact_density(ddvi, x).numpy()
        axis.fill_between(z, exact, color="#cccccc", lw=0, label="exact")
        draws = ddvi.draw(rows, normal((N_STEPS + 1, 50_000, 1, 1), rows, generator), rows)
        width = 0.04
        edges = np.arange(-3.0, 3.0 + width / 2, width)
        counts, _ = np.histogram(draws.numpy(), edges)
        axis.stairs(counts / draws.numel() / width, edges, color=blue, lw=1.4, label="DDVI")
        mean, scale = aevb.posterior.draw_belief(rows, torch.zeros(1, 1))
        gaussian = torch.distributions.Normal(mean, scale).log_prob(GRID).exp()
        axis.plot(z, gaussian.numpy(), color=vermilion, lw=1.6, ls=(0, (4, 2)), label="AEVB")
        reach = x + 0.6
        axis.set(xlim=(-reach, reach), ylim=(0, None), title=f"x = {x:g}", xlabel="z")
    axes[0].set_ylabel("density of z given x")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=200)
    plt.close(figure)


def spread(values: list[float]) -> str:
    """Mean and 95 % t-interval."""
    mean, half = confidence_interval(values)
    return f"{mean:.3f} ± {half:.3f}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=3)
    n_seeds = options.parse_args().seeds
    torch.set_num_threads(1)
    results, shares = [], []
    for seed in range(n_seeds):
        ddvi, aevb = train_ddvi(seed), train_aevb(seed)
        generator = torch.Generator().manual_seed(1000 + seed)
        results.append(gaps(ddvi, aevb, generator))
        one = torch.ones(1, 1)
        noise = normal((N_STEPS + 1, 50_000, 1, 1), one, generator)
        gaussian, _ = aevb.posterior.draw_belief(one, noise[0, :, 0])
        positive = [
            (draws > 0).double().mean().item() for draws in (ddvi.draw(one, noise, one), gaussian)
        ]
        shares.append(positive)
        print(seed, results[-1], positive, flush=True)
        if seed == 0:
            draw_figure(ddvi, aevb, generator)
    rows = [
        f"| {name} | {spread([result[i] for result in results])} "
        f"| {', '.join(f'{share[i]:.2f}' for share in shares)} |"
        for i, name in enumerate(("DDVI", "AEVB"))
    ]
    text = (
        f"`python benchmarks/two_modes.py --seeds {n_seeds}` on {machine()}.\n\n"
        f"x = |z| + {NOISE} noise, z ~ N(0, 1), the generative model given. gap: E[log p(x)] less "
        f"the mean bound, in nats, mean and 95 % t-interval over seeds; log 2 = {math.log(2):.3f}. "
        "z > 0: share of the draws at x = 1 by seed, where 0.5 is right. DDVI has "
        f"T = {N_STEPS} steps.\n\n"
        "| posterior | gap | z > 0 at x = 1 |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "two_modes.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
