"""A comparison of your own: which methods, which parameters, on whose data is up to you.

Run it from the repository: ``python examples/compare_methods.py --out comparison/``. The command
`ancestryvi benchmark` does the same for all methods with default settings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from ancestryvi import AncestryDDVI, GenotypePCA, make_estimator, read_genotypes
from ancestryvi.evaluate import run_benchmark, summary_table, supervised_ceiling
from ancestryvi.report import Comparison, write_comparison

DATA = Path(__file__).parents[1] / "data"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path, required=True, help="directory for runs and report")
    options.add_argument("--n-epochs", type=int, default=None, help="fewer, for a quick look")
    options.add_argument("--seeds", type=int, default=3)
    arguments = options.parse_args()
    n_epochs = arguments.n_epochs or "auto"

    genotypes = read_genotypes(DATA / "example.vcf.gz")
    scores = pd.DataFrame(GenotypePCA().fit_transform(genotypes), index=genotypes.sample_ids)
    table = pd.read_csv(DATA / "example.samples.tsv", sep="\t", index_col="sample")
    table = table.loc[genotypes.sample_ids, ["population", "superpopulation"]]

    # Any scikit-learn estimator of a class that can be imported will do. Every run is a process of
    # its own, and a file in `folder`: started again, only what is missing is run.
    methods = {
        "20 steps": AncestryDDVI(n_clusters=14, n_diffusion_steps=20, n_epochs=n_epochs),
        "beta 0.5": make_estimator("aevb", n_clusters=14, beta=0.5, n_epochs=n_epochs),
        "UMAP, Ward": make_estimator("umap-ward", n_clusters=14),
    }
    runs = run_benchmark(
        scores,
        table["population"],
        methods,
        seeds=arguments.seeds,
        folder=arguments.out / "runs",
        progress=print,
    )
    print(summary_table(runs)[["method", "nmi_mean", "nmi_half_width", "seconds_mean"]])
    ceiling = supervised_ceiling(scores, table["population"])
    references = {} if ceiling is None else {"linear discriminant": ceiling}
    columns = ["population", "superpopulation"]
    write_comparison(
        arguments.out,
        Comparison(runs=runs, labels=table, label_columns=columns, references=references),
    )
    print(f"The page is {arguments.out / 'benchmark.html'}.")


if __name__ == "__main__":
    main()
