"""`ancestryvi convert`: genotypes from one format into another."""

from __future__ import annotations

from pathlib import Path

import click

from ancestryvi.cli.common import Notes, filter_options, options, say, verb


@click.command()
@click.argument("genotypes", nargs=-1, metavar="GENOTYPES...", type=click.Path())
@click.argument("out", type=click.Path())
@click.option(
    "--skip-multiallelic",
    is_flag=True,
    help="Leave out variants with several ALT alleles, which only .h5ad can hold here.",
)
@click.option("--force", is_flag=True, help="Replace OUT if it exists.")
@options(filter_options)
@verb
def convert(
    genotypes: tuple[str, ...],
    out: str,
    skip_multiallelic: bool,
    force: bool,
    region: tuple[str, ...],
    samples: str | None,
    variants: str | None,
) -> None:
    """Write GENOTYPES to OUT, whose suffix says the format.

    \b
    .pgen .bed         PLINK, with the files beside it
    .vcf.gz .vcf       VCF, BGZF or text
    .vcz .zarr         VCF-Zarr
    .h5ad              AnnData

    GENOTYPES is what `ancestryvi embed` takes; several files follow one another. What is written is
    what ancestryvi reads: unphased diploid calls. Haploid calls become homozygous and half calls
    missing; phase, qualities and other fields are not kept. Memory stays that of a few blocks, and
    OUT appears whole or not at all.
    """
    if not genotypes:
        raise click.UsageError(f"Nothing to read was named, only the output {out!r}.")
    with Notes() as notes:
        from ancestryvi.exceptions import OutputError
        from ancestryvi.genotypes import open_source, write_genotypes
        from ancestryvi.genotypes.convert import suffix_of
        from ancestryvi.genotypes.reading import with_progress

        try:
            suffix_of(Path(out))
        except OutputError as error:
            raise click.BadParameter(str(error), param_hint="'OUT'") from error

        source = open_source(
            list(genotypes), "dosages", region=region or None, samples=samples, variants=variants
        )
        written = write_genotypes(
            source,
            out,
            overwrite=force,
            skip_multiallelic=skip_multiallelic,
            progress=with_progress,
        )
        if written.n_multiallelic:
            left_out = f"{written.n_multiallelic:,} variants with several ALT alleles"
            notes.add(f"{left_out} were left out.")
    say(f"Wrote {out}: {written.n_samples:,} samples x {written.n_variants:,} variants.")
