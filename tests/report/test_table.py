import numpy as np
import pandas as pd
import pytest

from ancestryvi.exceptions import InputFormatError
from ancestryvi.report import colouring, nested_group
from ancestryvi.report.table import (
    categories,
    category_names,
    medoids,
    placed,
    reference_names,
    trailing_labels,
)


def test_only_samples_with_finite_coordinates_are_placed(table):
    table.loc[5, "ddvi2"] = np.inf
    assert set(table["sample_id"]) - set(placed(table)["sample_id"]) == {"S003", "S005", "S070"}


def test_absent_coordinates_are_named():
    with pytest.raises(InputFormatError, match=r"no column 'ddvi2' but 'ddvi1', 'umap2'"):
        placed(pd.DataFrame(columns=["ddvi1", "umap2"]))


def test_names_of_categories():
    values = pd.Series([1.0, 2.5, "  TSI ", "", None, np.nan, 10, True, pd.NA], dtype=object)
    assert list(category_names(values)) == [
        "1",
        "2.5",
        "TSI",
        None,
        None,
        None,
        "10",
        "True",
        None,
    ]
    assert list(category_names(pd.Series(["a", None], dtype="category"))) == ["a", None]


def test_categories_are_in_natural_order():
    values = pd.Series(["c10", "c9", "b", "c9", "c1x2", "10", "9", None])
    assert categories(values) == ["9", "10", "b", "c1x2", "c9", "c10"]


def test_colour_by_population_within_regions(table, regions):
    colour = colouring(table, ["population", "region"])
    assert colour.column == "population"
    assert colour.group == "region"
    assert colour.groups == regions
    assert colour.categories == ["LWK", "YRI", "JPT", "FIN", "GBR", "TSI"]


def test_the_group_column_need_not_be_the_next(table):
    table["batch"] = ["x", "y"] * 60
    assert colouring(table, ["population", "batch", "region"]).group == "region"


def test_without_a_usable_label_the_clusters_are_coloured(table):
    assert colouring(table, []).categories == ["0", "1", "2", "3", "4", "5"]
    table["family"] = table["sample_id"]
    table["empty"] = None
    assert colouring(table, ["family", "empty"]).column == "cluster"
    assert colouring(table, ["family", "empty", "region"]).column == "region"


def naive_nesting(fine, coarse):
    homes = {}
    for f, c in zip(fine, coarse, strict=True):
        if f is not None and c is not None:
            homes.setdefault(f, set()).add(c)
    return all(len(home) == 1 for home in homes.values())


@pytest.mark.parametrize("seed", range(8))
def test_nested_group_agrees_with_a_loop(seed):
    rng = np.random.default_rng(seed)
    fine = rng.integers(0, 5, 40)
    coarse = np.where(rng.random(40) < 0.02 * (seed % 2), rng.integers(0, 2, 40), fine % 2)
    table = pd.DataFrame({"fine": fine.astype(str), "coarse": coarse.astype(str)})
    expected = "coarse" if naive_nesting(table["fine"], table["coarse"]) else None
    assert nested_group(table, ["fine", "coarse"]) == expected


def test_nested_group_is_coarser_and_more_than_one():
    table = pd.DataFrame({"pop": list("aabbcc"), "same": list("xxyyzz"), "one": list("kkkkkk")})
    assert nested_group(table, ["pop", "same", "one"]) is None
    assert nested_group(table, ["pop"]) is None
    assert nested_group(table, []) is None


def test_one_sample_in_a_second_region_breaks_the_nesting(table):
    assert nested_group(table, ["population", "region"]) == "region"
    table.loc[0, "region"] = "AFR"
    assert nested_group(table, ["population", "region"]) is None


def test_medoids_are_samples_nearest_the_median(table):
    shown = placed(table)
    found = medoids(table, "population")
    assert list(found) == ["FIN", "GBR", "JPT", "LWK", "TSI", "YRI"]
    for name, (x, y) in found.items():
        rows = shown[shown["population"] == name]
        mx, my = rows["ddvi1"].median(), rows["ddvi2"].median()
        best = min(
            (np.hypot(row.ddvi1 - mx, row.ddvi2 - my), row.ddvi1, row.ddvi2)
            for row in rows.itertuples()
        )
        assert (x, y) == best[1:]


def test_trailing_labels_are_the_columns_after_probability(table):
    assert trailing_labels(table) == ["population", "region"]
    assert trailing_labels(table.drop(columns="probability")) == []


def test_spread_and_entropy_are_no_labels(table):
    table.insert(5, "spread", 0.1)
    table.insert(6, "entropy", 0.2)
    assert trailing_labels(table) == ["population", "region"]
    assert colouring(table, trailing_labels(table)).column == "population"


def test_a_reference_map_is_named_by_labels_then_by_named_clusters(table):
    assert reference_names(table).column == "population"
    clusters = table[["ddvi1", "ddvi2", "cluster"]]
    assert reference_names(clusters) is None
    named = clusters.assign(cluster=table["cluster"].map("class {:.0f}".format))
    assert reference_names(named[table["cluster"].notna()]).categories == [
        f"class {k}" for k in range(6)
    ]
