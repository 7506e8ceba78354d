"""NMI of AncestryDDVI on every cohort with one ingredient of the default left out at a time.

Cohorts are those of benchmarks/default.py, which keeps them in --work; nothing sees labels.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from common import Ledger, add_work, machine, markdown, parser, write
from default import NAMES, load, map_scores
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score

from ancestryvi import AncestryDDVI

INGREDIENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "no neighbour term (`beta_neighbors=0`)": {"beta_neighbors": 0.0},
    "no layout term (`beta_layout=0`)": {"beta_layout": 0.0},
    'clusters of the map (`clustering="mixture"`)': {"clustering": "mixture"},
    "no warm start (`pretrain=False`)": {"pretrain": False},
    "no sleep (`sleep=None`)": {"sleep": None},
    "one diffusion step (`n_diffusion_steps=1`)": {"n_diffusion_steps": 1},
}


def run(cohort: dict[str, NDArray], settings: dict[str, Any], seed: int) -> dict[str, float]:
    x, y = cohort["x"], cohort["y"]
    model = AncestryDDVI(int(cohort["k"]), random_state=seed, **settings).fit(x)
    found = map_scores(x, model.embedding_, y)
    return {
        "NMI": normalized_mutual_info_score(y, model.labels_),
        "trustworthiness": found["trustworthiness"],
        "kNN accuracy": found["knn"],
        "global order": found["order"],
    }


def main() -> None:
    options = parser(__doc__ or "")
    names = [name for name in NAMES if name not in ("panmictic", "human-10000")]
    options.add_argument("--cohorts", nargs="+", choices=NAMES, default=names)
    add_work(options)
    options = options.parse_args()
    ledger = Ledger(options.work, "ablation")
    rows: dict[str, list[dict[str, object]]] = {}
    for name in options.cohorts:
        cohort = load(name, options.data, ledger.path.parent)
        for index, (title, settings) in enumerate(INGREDIENTS.items()):
            runs = [
                ledger.once(
                    partial(run, cohort, settings, seed), cohort=name, without=title, seed=seed
                )
                for seed in range(options.seeds)
            ]
            for metric in runs[0]:
                table = rows.setdefault(metric, [{"": title} for title in INGREDIENTS])
                table[index][name] = f"{np.mean([found[metric] for found in runs]):.3f}"
    tables = "\n".join(f"{metric}:\n\n{markdown(table)}" for metric, table in rows.items())
    write(
        "ablation",
        f"`python benchmarks/ablation.py --seeds {options.seeds} --cohorts "
        f"{' '.join(options.cohorts)}` on {machine()}. Means over "
        f"seeds; K as in the truth.\n\n{tables}",
    )


if __name__ == "__main__":
    main()
