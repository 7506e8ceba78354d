"""NMI, bound and time against the number T of steps on 1000g-pcs (the paper's table 5)."""

from __future__ import annotations

import time

import numpy as np
from common import by_name, features, machine, markdown, parser, spread, write
from sklearn.metrics import normalized_mutual_info_score as nmi

from ancestryvi import AncestryDDVI

PUBLISHED = {5: 0.66, 10: 0.70, 20: 0.68, 50: 0.59}
"""NMI after 60 minutes, on other SNPs of the same project (table 5)."""


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    data_set = by_name("1000g-pcs")
    scores, populations = features(data_set, options.data)
    rows = []
    for n_steps, published in PUBLISHED.items():
        found, bounds, seconds = [], [], []
        for seed in range(options.seeds):
            model = AncestryDDVI(data_set.n_clusters, n_diffusion_steps=n_steps, random_state=seed)
            start = time.process_time()
            model.fit(scores)
            seconds.append(time.process_time() - start)
            found.append(nmi(populations, model.labels_))
            bounds.append(model.elbo_)
            print(
                n_steps, seed, f"{found[-1]:.3f} {bounds[-1]:.2f} {seconds[-1]:.0f} s", flush=True
            )
        rows.append(
            {
                "T": n_steps,
                "NMI": spread(found),
                "ELBO, nats": spread(bounds, 2),
                "s": f"{np.median(seconds):.0f}",
                "published NMI, 60 min on a GPU": f"{published:.2f}",
            }
        )
    write(
        "steps",
        f"`python benchmarks/steps.py --seeds {options.seeds}` on {machine()}.\n\n"
        f"{data_set.name} ({data_set.what}), K = {data_set.n_clusters}; mean and 95 % t-interval "
        "over seeds; s: median processor time of `fit`.\n\n" + markdown(rows),
    )


if __name__ == "__main__":
    main()
