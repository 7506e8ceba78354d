import itertools
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ancestryvi.exceptions import InputFormatError
from ancestryvi.report import category_styles, colouring, embedding_figure, save_figure
from ancestryvi.report.figures import spread_apart
from ancestryvi.report.palette import MISSING_STYLE, REFERENCE_STYLE

LABELS = ["population", "region"]
POPULATIONS = ["GBR", "TSI", "FIN", "YRI", "LWK", "JPT"]  # in the order of the clusters


def points(figure):
    """Number of points by the name of their artist, from bottom to top."""
    return {c.get_label(): len(c.get_offsets()) for c in figure.axes[0].collections}


def names(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_placed_sample_is_drawn_once_with_its_label(table):
    figure = embedding_figure(table, LABELS)
    expected = table[table["ddvi1"].notna()]["population"].value_counts().to_dict()
    assert points(figure) == {"no label": 4, **expected}
    for collection in figure.axes[0].collections[1:]:
        rows = table[(table["population"] == collection.get_label()) & table["ddvi1"].notna()]
        np.testing.assert_array_equal(collection.get_offsets(), rows[["ddvi1", "ddvi2"]])


def test_samples_without_label_lie_underneath_in_grey(table):
    lowest, *others = embedding_figure(table, LABELS).axes[0].collections
    assert lowest.get_label() == "no label"
    assert to_hex(lowest.get_facecolor()[0]) == MISSING_STYLE.color
    assert lowest.get_zorder() <= min(other.get_zorder() for other in others)
    assert lowest.get_sizes()[0] < min(other.get_sizes()[0] for other in others)


def test_colours_are_those_of_the_palette(table):
    colour = colouring(table, LABELS)
    styles = category_styles(colour.categories, colour.groups)
    for collection in embedding_figure(table, LABELS).axes[0].collections[1:]:
        color = to_hex(collection.get_facecolor()[0])
        assert color == styles[collection.get_label()].color


def test_the_legend_is_grouped_under_bold_headings(table):
    figure = embedding_figure(table, LABELS)
    assert legend(figure) == [
        *["AFR", "LWK", "YRI"],
        *["EAS", "JPT"],
        *["EUR", "FIN", "GBR", "TSI", "no label"],
    ]
    bold = [t.get_text() for t in figure.legends[0].get_texts() if t.get_fontweight() == "bold"]
    assert bold == ["AFR", "EAS", "EUR"]


def test_labels_default_to_the_columns_after_probability(table):
    assert points(embedding_figure(table)) == points(embedding_figure(table, LABELS))


def test_without_labels_the_clusters_are_drawn(table):
    figure = embedding_figure(table, [])
    assert points(figure) == {"0": 19, "1": 20, "2": 20, "3": 19, "4": 20, "5": 20}
    assert legend(figure) == ["cluster", *"012345"]
    assert sorted(names(figure)) == list("012345")


def many(n):
    rng = np.random.default_rng(0)
    xy = np.repeat(rng.normal(size=(n, 2)), 5, axis=0) + rng.normal(scale=0.02, size=(5 * n, 2))
    table = pd.DataFrame(xy, columns=["ddvi1", "ddvi2"])
    table.insert(0, "sample_id", [f"S{i}" for i in range(5 * n)])
    return table.assign(
        cluster=0, probability=1.0, population=[f"P{i:02d}" for i in range(n) for _ in range(5)]
    )


def test_above_forty_categories_the_names_replace_the_legend():
    assert embedding_figure(many(40)).legends
    figure = embedding_figure(many(41))
    assert not figure.legends
    assert names(figure) == [f"P{i:02d}" for i in range(41)]


@pytest.mark.parametrize("n", [6, 30, 60])
def test_names_do_not_cover_each_other(n):
    figure = embedding_figure(many(n))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent().padded(-0.5) for text in figure.axes[0].texts]
    assert len(boxes) == n
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_names_of_close_groups_do_not_run_into_one_word(table):
    pair = table.iloc[[0, 1, 100, 101]].copy()
    pair[["ddvi1", "ddvi2"]] = [[0.0, 0.0], [0.0, 1.0], [0.04, 0.0], [0.04, 1.0]]
    figure = embedding_figure(pair, LABELS)
    figure.draw_without_rendering()
    a, b = (text.get_window_extent() for text in figure.axes[0].texts)
    gaps = [max(a.x0, b.x0) - min(a.x1, b.x1), max(a.y0, b.y0) - min(a.y1, b.y1)]
    assert gaps[0] > 6 or gaps[1] > 2.5  # pixels, at a height of about 10


def test_a_name_stands_at_the_medoid_when_there_is_room(table):
    figure = embedding_figure(table, LABELS)
    extent = table[["ddvi1", "ddvi2"]].max().max() - table[["ddvi1", "ddvi2"]].min().min()
    for text in figure.axes[0].texts:
        centre = table[table["population"] == text.get_text()][["ddvi1", "ddvi2"]].median()
        assert np.hypot(*(np.array(text.get_position()) - centre)) < 0.05 * extent


def test_a_name_does_not_hide_a_group_smaller_than_itself(table):
    two = table.iloc[[0, 60]]
    figure = embedding_figure(two, LABELS)
    figure.draw_without_rendering()
    at = figure.axes[0].transData.transform(two[["ddvi1", "ddvi2"]].to_numpy())
    for text in figure.axes[0].texts:
        assert not any(text.get_window_extent().contains(x, y) for x, y in at)


def test_moved_names_are_tied_to_their_place():
    crowd = many(30)
    crowd[["ddvi1", "ddvi2"]] *= 1e-3
    crowd.loc[149, ["ddvi1", "ddvi2"]] = 5.0
    figure = embedding_figure(crowd)
    assert len(figure.axes[0].lines) > 10


def test_spread_moves_only_what_overlaps():
    centres = np.array([[0.0, 0.0], [1.0, 0.5], [50.0, 50.0], [0.0, 0.0]])
    sizes = np.array([[10.0, 4.0]] * 4)
    moved = spread_apart(centres, sizes)
    assert moved[2].tolist() == [50.0, 50.0]
    for a, b in itertools.combinations(moved, 2):
        assert (np.abs(a - b) >= sizes[0]).any()
    np.testing.assert_array_equal(spread_apart(moved, sizes), moved)


def test_the_aspect_is_equal_and_the_axes_are_named(table):
    axes = embedding_figure(table, LABELS, title="Cohort").axes[0]
    assert axes.get_aspect() == 1
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("DDVI 1", "DDVI 2")
    assert axes.get_title(loc="left") == "Cohort"


def test_other_coordinates(table):
    renamed = table.rename(columns={"ddvi1": "umap1", "ddvi2": "umap2"})
    figure = embedding_figure(renamed, LABELS, coordinates=("umap1", "umap2"))
    assert figure.axes[0].get_xlabel() == "UMAP 1"
    assert points(figure) == points(embedding_figure(table, LABELS))
    with pytest.raises(InputFormatError, match="'ddvi1', 'ddvi2'"):
        embedding_figure(renamed, LABELS)


def test_a_reference_map_lies_beneath_with_its_names_in_grey(table):
    reference = table[table["population"] != "JPT"]
    projected = table[table["population"] == "JPT"].drop(columns=["population", "region"])
    figure = embedding_figure(projected, background=reference)
    assert points(figure) == {"reference map": len(reference) - 2, "5": 19}
    lowest = figure.axes[0].collections[0]
    assert to_hex(lowest.get_facecolor()[0]) == REFERENCE_STYLE.color
    assert sorted(names(figure)) == ["5", "FIN", "GBR", "LWK", "TSI", "YRI"]
    assert legend(figure) == ["cluster", "5", "reference map"]


def test_a_reference_map_of_named_clusters_has_their_names(table):
    reference = table[table["ddvi1"].notna()].drop(columns=LABELS)
    projected = reference[reference["cluster"] == 5].assign(cluster="JPT")
    assert names(embedding_figure(projected, background=reference)) == ["JPT"]
    named = reference.assign(cluster=reference["cluster"].map(dict(enumerate(POPULATIONS))))
    figure = embedding_figure(projected, background=named)
    assert sorted(names(figure)) == sorted(POPULATIONS)
    assert legend(figure) == ["cluster", "JPT", "reference map"]


@pytest.mark.parametrize("rows", [[], [0], [0, 1]])
def test_few_samples(table, rows, tmp_path):
    figure = embedding_figure(table.iloc[rows], LABELS)
    save_figure(figure, tmp_path / "map.png")
    assert sum(points(figure).values()) == len(rows)


@pytest.mark.parametrize("suffix", [".png", ".pdf"])
def test_the_same_map_gives_the_same_bytes(table, tmp_path, suffix):
    for name in ("a", "b"):
        save_figure(embedding_figure(table, LABELS), tmp_path / f"{name}{suffix}")
    first = (tmp_path / f"a{suffix}").read_bytes()
    assert first == (tmp_path / f"b{suffix}").read_bytes()
    assert b"CreationDate" not in first
    assert len(first) > 5000


def test_pictures_have_200_dpi_and_text_in_a_pdf_stays_text(table, tmp_path):
    figure = embedding_figure(table, LABELS)
    save_figure(figure, tmp_path / "map.png")
    header = (tmp_path / "map.png").read_bytes()[:24]
    width, height = (int.from_bytes(header[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == tuple(200 * figure.get_size_inches())
    save_figure(figure, tmp_path / "map.pdf")
    pdf = (tmp_path / "map.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf


def test_pyplot_is_not_loaded_and_settings_are_kept():
    code = """
import pathlib, sys, tempfile
import matplotlib, pandas as pd
params = matplotlib.rcParams  # to ask for the backend would load pyplot
before = {key: params[key] for key in params if "backend" not in key}
from ancestryvi.report.figures import embedding_figure, save_figure
table = pd.DataFrame({"sample_id": ["a"], "ddvi1": [0], "ddvi2": [0], "cluster": [0]})
save_figure(embedding_figure(table), pathlib.Path(tempfile.mkdtemp()) / "a.pdf")
assert "matplotlib.pyplot" not in sys.modules
assert before == {key: params[key] for key in params if "backend" not in key}
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_save_takes_any_figure(tmp_path):
    save_figure(Figure(), str(tmp_path / "empty.png"))
    assert (tmp_path / "empty.png").exists()
