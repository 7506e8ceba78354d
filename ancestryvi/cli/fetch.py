"""`ancestryvi fetch`: published genotypes to try the other verbs on."""

from __future__ import annotations

from pathlib import Path

import click

from ancestryvi.cli.common import say, verb


@click.command()
@click.argument("dataset", type=click.Choice(["1000g"]))
@click.option("--out", type=click.Path(), required=True, help="Directory for the files.")
@click.option(
    "--set",
    "which",
    type=click.Choice(["affy6", "chr22"]),
    default="affy6",
    show_default=True,
    help="affy6: the Affymetrix 6.0 array, 3,450 samples, all chromosomes. chr22: chromosome 22 of "
    "the whole genomes of phase 3, 2,504 samples. Both GRCh37.",
)
@verb
def fetch(dataset: str, out: str, which: str) -> None:
    """Download the genotypes of 1000 Genomes and the populations of their samples.

    Files come from the project's server (affy6) or from Zenodo (chr22), and have their names when
    they are whole and their published MD5 is right. Run again, it goes on where it was cut, and
    leaves alone what is there.
    """
    from ancestryvi.datasets import fetch_1000g

    try:
        genotypes, labels = fetch_1000g(out, which, progress=True)
    except KeyboardInterrupt:
        if Path(out).is_dir():
            say(f"What has come is in {out}; the same command goes on from there.")
        raise
    whole = genotypes.with_name(genotypes.name.removesuffix(".vcf.gz") + ".pgen")
    say(
        f"Wrote {out}. Next, as a VCF is parsed anew each time and held in memory:\n"
        f"  ancestryvi convert {genotypes} {whole} --skip-multiallelic\n"
        f"  ancestryvi embed {whole} --labels {labels} --out map/"
    )
