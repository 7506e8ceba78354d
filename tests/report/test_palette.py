import itertools
import re

import numpy as np
import pytest

from ancestryvi.report.palette import (
    MARKERS,
    MISSING_STYLE,
    REFERENCE_STYLE,
    _hex,
    category_styles,
)

REGIONS = {
    **dict.fromkeys(["ACB", "ASW", "ESN", "GWD", "LWK", "MSL", "YRI"], "AFR"),
    **dict.fromkeys(["CLM", "MXL", "PEL", "PUR"], "AMR"),
    **dict.fromkeys(["CDX", "CHB", "CHS", "JPT", "KHV"], "EAS"),
    **dict.fromkeys(["CEU", "FIN", "GBR", "IBS", "TSI"], "EUR"),
    **dict.fromkeys(["BEB", "GIH", "ITU", "PJL", "STU"], "SAS"),
}

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB
VISION = {
    "trichromat": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def linear(color):
    value = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lightness(color):
    """CIE L* of a colour, 0 to 100."""
    y = linear(color) @ [0.2126, 0.7152, 0.0722]
    return 116 * np.cbrt(y) - 16 if y > 216 / 24389 else y * 24389 / 27


def hue(color):
    """CIE LAB hue in degrees (D65)."""
    xyz = (
        np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        @ linear(color)
        / [0.9505, 1.0, 1.089]
    )
    x, y, z = np.cbrt(xyz)
    return np.degrees(np.arctan2(200 * (y - z), 500 * (x - y)))


@pytest.mark.parametrize(
    ("oklch", "expected"),
    [  # the primaries in OKLCH, as CSS Color 4 and Ottosson's article give them
        ((1.0, 0.0, 0.0), "#ffffff"),
        ((0.0, 0.0, 0.0), "#000000"),
        ((0.62796, 0.25768, 29.234), "#ff0000"),
        ((0.86644, 0.29483, 142.495), "#00ff00"),
        ((0.45201, 0.31321, 264.052), "#0000ff"),
    ],
)
def test_oklch_of_known_colours(oklch, expected):
    got = linear(_hex(*oklch))
    assert got == pytest.approx(linear(expected), abs=0.02)


@pytest.mark.parametrize("n", [1, 2, 26, 80])
def test_every_category_has_a_look_of_its_own(n):
    names = [f"c{i}" for i in range(n)]
    groups = {name: f"g{i % 7}" for i, name in enumerate(names)}
    for styles in (category_styles(names), category_styles(names, groups)):
        assert list(styles) == names
        assert len(set(styles.values())) == n
        assert MISSING_STYLE not in styles.values()
        assert REFERENCE_STYLE not in styles.values()
        for style in styles.values():
            assert re.fullmatch("#[0-9a-f]{6}", style.color)
            assert style.marker in MARKERS


def test_styles_are_the_same_every_time_and_kept_when_clusters_are_added():
    twenty = [str(i) for i in range(20)]
    assert category_styles(twenty) == category_styles(twenty)
    more = category_styles([str(i) for i in range(30)])
    assert category_styles(twenty) == {name: more[name] for name in twenty}


def test_a_group_is_one_hue_from_light_to_dark():
    styles = category_styles(list(REGIONS), REGIONS)
    middles = {}
    for group in set(REGIONS.values()):
        members = [styles[name] for name in REGIONS if REGIONS[name] == group]
        levels = [lightness(style.color) for style in members]
        assert all(a - b > 3 for a, b in itertools.pairwise(levels))
        hues = np.unwrap([hue(style.color) for style in members], period=360)
        assert np.ptp(hues) < 50
        middles[group] = float(np.median(hues))
        neighbours = itertools.pairwise(style.marker for style in members)
        assert all(a != b for a, b in neighbours)
    for a, b in itertools.combinations(middles.values(), 2):
        assert abs((a - b + 180) % 360 - 180) > 25


def test_the_ungrouped_do_not_change_the_hues_of_the_groups():
    names = [*REGIONS, "UNK"]
    styles = category_styles(names, REGIONS)
    assert category_styles(list(REGIONS), REGIONS) == {n: styles[n] for n in REGIONS}
    assert styles["UNK"] not in [styles[name] for name in REGIONS]


@pytest.mark.parametrize("groups", [None, REGIONS], ids=["ungrouped", "grouped"])
@pytest.mark.parametrize("vision", VISION)
def test_equal_markers_differ_in_colour_for_every_reader(vision, groups):
    styles = category_styles(list(REGIONS), groups)
    seen = {
        name: np.cbrt(np.clip(np.array(VISION[vision]) @ linear(style.color), 0, 1))
        for name, style in styles.items()
    }
    for a, b in itertools.combinations(styles, 2):
        if styles[a].marker == styles[b].marker:
            assert np.linalg.norm(seen[a] - seen[b]) > 0.03, (a, b)


def test_every_colour_shows_on_white():
    for style in [*category_styles([str(i) for i in range(80)]).values(), MISSING_STYLE]:
        assert lightness(style.color) < 86
