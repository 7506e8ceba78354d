"""NMI, bound and time of every variant of the objective on 1000g-pcs, K = 20.

The authors' algorithm takes far longer than all others together: half an hour for a seed on one
core. ``--only reference --seeds 1 --n-epochs 40`` runs a fifth of it.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from common import by_name, features, machine, markdown, parser, spread, write
from sklearn.metrics import normalized_mutual_info_score as nmi

from ancestryvi import AncestryDDVI

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "none": {"sleep": None},
    "latent": {"sleep": "latent"},
    "latent_class": {"clustering": "latent_class"},
    "cold": {"pretrain": False},
    "reference": {"preset": "reference"},
}
TITLES = {
    "full": "wake-sleep (default)",
    "none": "`sleep=None`: the ELBO alone",
    "latent": '`sleep="latent"`: appendix B',
    "latent_class": '`clustering="latent_class"`: equation 11',
    "cold": "`pretrain=False`",
    "reference": '`preset="reference"`: as the authors coded it',
}


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--only", choices=list(VARIANTS), help="one variant")
    options.add_argument("--n-epochs", type=int, help="instead of the default of the variant")
    options = options.parse_args()
    data_set = by_name("1000g-pcs")
    scores, populations = features(data_set, options.data)
    names = [options.only] if options.only else [n for n in VARIANTS if n != "reference"]
    rows = []
    for name in names:
        found, bounds, seconds, counts = [], [], [], []
        for seed in range(options.seeds):
            model = AncestryDDVI(
                data_set.n_clusters,
                n_epochs=options.n_epochs or "auto",
                random_state=seed,
                **VARIANTS[name],
            )
            start = time.process_time()
            model.fit(scores)
            seconds.append(time.process_time() - start)
            found.append(nmi(populations, model.labels_))
            bounds.append(model.elbo_)
            counts.append(model.n_clusters_)
            print(name, seed, f"{found[-1]:.3f} {bounds[-1]:.2f} {seconds[-1]:.0f} s", flush=True)
        rows.append(
            {
                "variant": TITLES[name],
                "NMI": spread(found),
                "ELBO, nats": spread(bounds, 2),
                "clusters": f"{min(counts)}-{max(counts)}",
                "s": f"{np.median(seconds):.0f}",
            }
        )
    only = f" --only {options.only}" if options.only else ""
    only += f" --n-epochs {options.n_epochs}" if options.n_epochs else ""
    write(
        "variants" + (f"-{options.only}" if options.only else ""),
        f"`python benchmarks/variants.py --seeds {options.seeds}{only}` on {machine()}.\n\n"
        f"{data_set.name} ({data_set.what}), K = {data_set.n_clusters}; mean and 95 % t-interval "
        "over seeds; s: median processor time of `fit`. The bound of `reference` holds where its "
        "chain is one-to-one.\n\n" + markdown(rows),
    )


if __name__ == "__main__":
    main()
