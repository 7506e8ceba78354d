"""The options of components reach `GenotypePCA`, and a cluster that is not there is one error."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ancestryvi.cli import main
from ancestryvi.cli.common import Notes
from ancestryvi.cli.components import components, pca_options
from ancestryvi.cli.inputs import read_cohort
from ancestryvi.exceptions import InputFormatError
from ancestryvi.preprocess import GenotypePCA


def parsed(*arguments):
    """The estimator that these options ask for."""
    found = []

    def take(**parameters):
        found.append(components(parameters))

    for option in pca_options:
        take = option(take)
    click.command()(take).main(list(arguments), standalone_mode=False)
    return found[0]


def test_defaults_are_those_of_the_estimator():
    assert parsed().get_params() == GenotypePCA().get_params()


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (["--exclude-long-range-ld", "GRCh38"], "long_range_ld", "GRCh38"),
        (["--min-hwe-p", "1e-6"], "min_hwe_p", 1e-6),
        (["--max-kinship", "0.2"], "max_kinship", 0.2),
        (["--max-kinship", "0.5"], "max_kinship", None),
        (["--pca-solver", "randomized"], "solver", "randomized"),
        (["--max-ld-r2", "1"], "max_ld_r2", None),
    ],
)
def test_an_option_sets_its_parameter_and_no_other(arguments, name, value):
    assert parsed(*arguments).get_params() == GenotypePCA().get_params() | {name: value}


def test_a_cluster_that_does_not_answer_ends_in_one_message(tmp_path):
    pytest.importorskip("distributed")
    out = tmp_path / "map"
    arguments = ["embed", "data/example.vcf.gz", "--out", str(out), "--dask", "nonsense://nowhere"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "No Dask scheduler answers at nonsense://nowhere" in result.output
    assert not out.exists()


def test_a_cluster_is_refused_what_its_workers_cannot_read_in_part():
    notes = Notes()
    vcf = Path(__file__).parents[2] / "data" / "example.vcf.gz"
    options = dict.fromkeys(("region", "samples", "variants")) | {"dask": "tcp://scheduler:8786"}
    with pytest.raises(InputFormatError, match=r"ancestryvi convert .*example\.vcf\.gz cohort"):
        read_cohort((str(vcf),), "auto", None, None, None, notes, options)
