"""The command line: one file per verb. Heavy imports happen when a verb runs, not for --help."""

import click

from ancestryvi import __version__
from ancestryvi.cli.benchmark import benchmark
from ancestryvi.cli.convert import convert
from ancestryvi.cli.embed import embed
from ancestryvi.cli.fetch import fetch
from ancestryvi.cli.info import info
from ancestryvi.cli.project import project


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ancestryvi")
def main() -> None:
    """Turn genotypes into a map and clusters of genetic ancestry.

    \b
    ancestryvi embed cohort.vcf.gz --labels samples.tsv --out map/
    ancestryvi project map/model new.vcf.gz --out placed/
    ancestryvi benchmark cohort.vcf.gz --labels samples.tsv --out compared/
    ancestryvi convert cohort.vcf.gz cohort.pgen
    ancestryvi info map/model
    ancestryvi fetch 1000g --out 1000g/

    Exit status: 0 done, 1 the data or the machine is at fault, 2 wrong usage.
    """


main.add_command(embed)
main.add_command(project)
main.add_command(benchmark)
main.add_command(convert)
main.add_command(info)
main.add_command(fetch)
