"""The options of genotype quality control and principal components, and what they ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click


class IntOrAuto(click.ParamType):
    """A whole number of at least 1, or "auto"."""

    name = "int|auto"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        if value == "auto" or (isinstance(value, int) and value >= 1):
            return value
        if isinstance(value, str) and value.isdigit() and int(value) >= 1:
            return int(value)
        return self.fail(f"{value!r} is neither 'auto' nor a whole number of at least 1", param)


SHARE = click.FloatRange(0.0, 1.0)

UNRELATED = 0.5
"""The largest kinship: with it as the limit, nobody is too closely related."""

pca_options = [
    click.option(
        "--n-pcs",
        type=IntOrAuto(),
        default="auto",
        show_default=True,
        help="Number of principal components; 'auto' takes those that are at least half signal.",
    ),
    click.option(
        "--min-maf",
        type=click.FloatRange(0.0, 0.5),
        default=0.02,
        show_default=True,
        help="Smallest minor allele frequency of a variant.",
    ),
    click.option(
        "--min-mac",
        type=click.IntRange(0),
        default=2,
        show_default=True,
        help="Smallest minor allele count of a variant.",
    ),
    click.option(
        "--min-variant-call-rate",
        type=SHARE,
        default=0.95,
        show_default=True,
        help="Smallest share of samples called at a variant.",
    ),
    click.option(
        "--min-sample-call-rate",
        type=SHARE,
        default=0.9,
        show_default=True,
        help="Samples below it are placed on the map but do not take part in the fit.",
    ),
    click.option("--keep-indels", is_flag=True, help="Use indels and symbolic alleles too."),
    click.option(
        "--keep-sex-chromosomes",
        is_flag=True,
        help="Use X, Y, Z, W, MT and, where no number is higher, 23 to 26 too.",
    ),
    click.option(
        "--max-ld-r2",
        type=click.FloatRange(0.0, 1.0, min_open=True),
        default=0.2,
        show_default=True,
        help="Thin variants until none exceed it; 1 keeps all.",
    ),
    click.option(
        "--ld-window-kb",
        type=click.FloatRange(0.0),
        default=500.0,
        show_default=True,
        help="Distance within which --max-ld-r2 applies.",
    ),
    click.option(
        "--exclude-long-range-ld",
        "long_range_ld",
        type=click.Choice(["GRCh37", "GRCh38"]),
        help="Leave out the human regions of long-range LD (MHC, LCT, inversions), in coordinates "
        "of this build.",
    ),
    click.option(
        "--min-hwe-p",
        type=SHARE,
        default=0.0,
        show_default=True,
        help="Smallest p-value of the test of Hardy-Weinberg equilibrium; off, since structure "
        "breaks it.",
    ),
    click.option(
        "--max-kinship",
        type=click.FloatRange(0.0, UNRELATED),
        default=0.0884,
        show_default=True,
        help="Of closer relatives only some take part in the fit; the others are placed on the "
        "map. 0.0884 is the second degree; 0.5 fits all.",
    ),
    click.option(
        "--pca-solver",
        "solver",
        type=click.Choice(["auto", "exact", "randomized"]),
        default="auto",
        show_default=True,
        help="'auto' is exact up to 16,384 samples, then by random block-Krylov iteration.",
    ),
]


dask_option = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Run the passes over the genotypes on a Dask cluster, such as tcp://scheduler:8786. Its "
    "workers read the files by the same paths, and need formats with random access, so not VCF.",
)


@contextmanager
def passes(address: str | None) -> Iterator[None]:
    """Run the passes over genotypes on the cluster at this address, or here, with progress bars."""
    from ancestryvi.preprocess.passes import connected, passes_on

    with connected(address) as client, passes_on(client, progress=True):
        yield


def components(parameters: Mapping[str, Any]) -> Any:
    """The unfitted `GenotypePCA` that the options ask for."""
    from ancestryvi.preprocess import GenotypePCA

    same = ["min_maf", "min_mac", "min_variant_call_rate", "min_sample_call_rate", "ld_window_kb"]
    same += ["long_range_ld", "min_hwe_p", "solver"]
    return GenotypePCA(
        parameters["n_pcs"],
        snvs_only=not parameters["keep_indels"],
        autosomes_only=not parameters["keep_sex_chromosomes"],
        max_kinship=parameters["max_kinship"] if parameters["max_kinship"] < UNRELATED else None,
        max_ld_r2=parameters["max_ld_r2"] if parameters["max_ld_r2"] < 1 else None,
        device=parameters.get("device", "auto"),  # of `embed`
        **{name: parameters[name] for name in same},
    )
