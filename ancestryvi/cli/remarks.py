"""What quality control and components say of a cohort, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ancestryvi.cli.common import Notes, counted, listed, say
from ancestryvi.cli.components import UNRELATED
from ancestryvi.preprocess import GenotypePCA

COARSE_FST = 0.005
"""F_ST of the closest populations that can be told apart from which on it is worth a note: about
that of neighbouring countries."""


def remark_on_components(pca: GenotypePCA, parameters: Mapping[str, Any], notes: Notes) -> None:
    """Say what was kept, and note what a user should know of it.

    References
    ----------
    Patterson, Price and Reich (2006), PLoS Genetics 2(12):e190: populations whose F_ST is below
    1 / sqrt(samples x variants) cannot be told apart.
    """
    qc = pca.qc_
    n_components, n_variants = pca.components_.shape
    n_fitted, n_samples = int(pca.fit_samples_.sum()), len(pca.fit_samples_)
    say(
        f"Kept {n_variants:,} of {counted(pca.n_features_in_, 'variant')} and fitted on "
        f"{n_fitted:,} of {counted(n_samples, 'sample')}; "
        f"{counted(n_components, 'principal component')}."
    )
    for row in qc[(qc["scope"] == "samples") & (qc["dropped"] > 0)].to_dict("records"):
        dropped = counted(row["dropped"], "sample")
        why, colon, names = str(row["detail"]).partition(": ")
        named = f"{why}{colon}{listed(names.split(', ') if names else [])}"
        notes.add(f"{dropped} set aside, {row['step']}: {named}.")
    called = qc[qc["step"] == "variant call rate"].iloc[-1]
    if called["dropped"] > called["before"] / 2:
        notes.add(
            f"{called['dropped']:,} of {called['before']:,} variants are {called['detail']}. If "
            "some samples miss many calls, leave them out with --samples, and place them with "
            "`ancestryvi project`."
        )
    off = qc[(qc["step"] == "not autosomal") & (qc["dropped"] > 0)]
    for row in off.to_dict("records"):
        notes.add(
            f"{row['dropped']:,} variants are {row['detail']}, and were left out "
            "(--keep-sex-chromosomes)."
        )
    related = qc.loc[qc["step"] == "related", "detail"].iloc[-1]
    if related.startswith("skipped") and parameters["max_kinship"] < UNRELATED:
        notes.add(f"Relatives were not looked for: {related}.")
    if pca.n_structure_ == 0:
        notes.add(
            "No structure: no principal component stands out from the noise of the others, so map "
            "and clusters show chance differences between samples, not populations."
        )
    smallest = (n_fitted * n_variants) ** -0.5
    if smallest > COARSE_FST:
        notes.add(
            f"{counted(n_fitted, 'sample')} and {counted(n_variants, 'variant')} cannot tell "
            f"populations apart whose F_ST is below about {smallest:.2g}."
        )
    n_pcs = parameters["n_pcs"]
    if n_pcs != "auto" and n_components < n_pcs:
        notes.add(f"{n_pcs} principal components were asked for; {n_components} exist.")
