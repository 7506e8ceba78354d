"""Sample tables: header, id column, repeated ids, and the join by id."""

import pytest

from ancestryvi.exceptions import InputFormatError, LabelError
from ancestryvi.genotypes import join_labels, read_sample_table


@pytest.fixture
def write(tmp_path):
    def write_text(text, name="samples.tsv"):
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return write_text


@pytest.mark.parametrize(
    "text",
    [
        "sample\tpopulation\nann\tGBR\nbo\tYRI\n",
        "population,IID\nGBR,ann\nYRI,bo\n",
        "#IID population\nann GBR\nbo YRI\n",
        "Population\tSample name\nGBR\tann\nYRI\tbo\n".replace("Pop", "pop"),
        "\ufeffS;population\r\nann;GBR\r\nbo;YRI\r\n",
        "sample\tpopulation\t\t\nann\tGBR\nbo\tYRI\n",  # the 1000 Genomes panel ends in tabs
        "SAMPLE_ID,population\n ann , GBR\n bo , YRI\n",
        'sample,population\n"ann","GBR"\n"bo","YRI"\n',
    ],
)
def test_forms(write, text):
    table = read_sample_table(write(text))
    assert table.index.tolist() == ["ann", "bo"]
    assert table.columns.tolist() == ["population"]
    assert table["population"].tolist() == ["GBR", "YRI"]


def test_everything_is_a_string_and_blanks_are_none(write):
    table = read_sample_table(write("id\tage\tsite\n007\t030\t\n008\tNA\t.\n9\t1e3\tnan\n"))
    assert table.index.tolist() == ["007", "008", "9"]
    assert table["age"].tolist() == ["030", None, "1e3"]
    assert table["site"].tolist() == [None, None, None]


def test_preferred_and_given_column(write):
    path = write("id\tsample\tpopulation\n1\tann\tGBR\n2\tbo\tYRI\n")
    assert read_sample_table(path).index.tolist() == ["ann", "bo"]
    assert read_sample_table(path, id_column="id").index.tolist() == ["1", "2"]
    with pytest.raises(LabelError, match="no column 'ID'"):
        read_sample_table(path, id_column="ID")


def test_equal_rows_collapse_and_different_ones_do_not(write):
    path = write("sample\tpopulation\nann\tGBR\nbo\tYRI\nann\tGBR\n")
    assert read_sample_table(path).index.tolist() == ["ann", "bo"]
    path = write("sample\tpopulation\nann\tGBR\nbo\tYRI\nann\tCHB\n")
    with pytest.raises(LabelError, match=r"'ann' has two different rows, \['GBR'\] and \['CHB'\]"):
        read_sample_table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ann\tGBR\nbo\tYRI\n", r"no column of sample ids: its header is \['ann', 'GBR'\]"),
        ("sample\tpop\tpop\nann\tGBR\tGBR\n", "column 'pop' occurs twice"),
        ("sample\tpop\nann\tGBR\n\tYRI\n", "row 3: no sample id"),
    ],
)
def test_tables_that_are_refused(write, text, message):
    with pytest.raises(LabelError, match=message):
        read_sample_table(write(text))


def test_files_that_are_none(write, tmp_path):
    with pytest.raises(InputFormatError, match=r"absent\.tsv is no file"):
        read_sample_table(tmp_path / "absent.tsv")
    with pytest.raises(InputFormatError, match="empty"):
        read_sample_table(write(""))


def test_join_follows_the_samples(write):
    path = write("sample\tpopulation\tsex\nann\tGBR\tf\nbo\tYRI\tNA\ncy\tCHB\tm\n")
    labels = join_labels(["cy", "zoe", "bo"], read_sample_table(path), path)
    assert labels.n_matched == 2
    assert labels.table.index.tolist() == ["cy", "zoe", "bo"]
    assert labels.table["population"].tolist() == ["CHB", None, "YRI"]
    assert labels.table["sex"].tolist() == ["m", None, None]


def test_join_of_strangers_shows_both_sides(write):
    path = write("sample\tpopulation\nann\tGBR\nbo\tYRI\n")
    with pytest.raises(LabelError, match=r"samples\.tsv .*\['0_ann', '0_bo'\].*\['ann', 'bo'\]"):
        join_labels(["0_ann", "0_bo"], read_sample_table(path), path)


def test_real_table(shared_data):
    table = read_sample_table(shared_data / "1000g-26pop" / "samples.tsv")
    assert table["population"].nunique() == 26
    assert table.loc["HG00096"].tolist() == ["GBR", "EUR"]
