"""Colours and marker shapes of categories, the same in pictures and in the report.

Colours are laid out in OKLCH (Ottosson, 2020), where equal steps look equal, so that lightness can
tell apart what hue does not for a colour-blind reader; the marker tells apart the rest.
"""

from collections.abc import Mapping, Sequence
from math import cos, radians, sin
from typing import Final, NamedTuple

MARKERS: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross")
"""Marker shapes by the name plotly gives them, in order of use."""


class Style(NamedTuple):
    """Look of a category: a colour as ``#rrggbb`` and one of `MARKERS`."""

    color: str
    marker: str


MISSING_STYLE: Final = Style("#b5b5b5", "circle")
"""Samples without a label."""

REFERENCE_STYLE: Final = Style("#e2e2e2", "circle")
"""Samples of a reference map beneath projected samples."""

# Hue and middle lightness of the first groups. The order is that of the superpopulations AFR, AMR,
# EAS, EUR, SAS by name, and the hues those in which the 1000 Genomes Project draws them.
_GROUPS: Final = (
    (68.0, 0.70),  # orange
    (22.0, 0.55),  # red
    (150.0, 0.62),  # green
    (255.0, 0.58),  # blue
    (315.0, 0.52),  # purple
    (195.0, 0.68),  # teal
    (355.0, 0.66),  # pink
    (110.0, 0.58),  # olive
)
_GROUP_SPREAD: Final = 0.15  # lightness either side of the middle, within a group
_HUE_SPREAD: Final = 12.0  # degrees either side
_MARKER_STEP: Final = 2
_GOLDEN_ANGLE: Final = 137.50776  # no two multiples fall on each other
_LIGHTNESS: Final = (0.60, 0.76, 0.44, 0.68, 0.52)  # 5, so that 6 markers make 30 pairs
_CHROMA: Final = 0.15


def category_styles(
    categories: Sequence[str], groups: Mapping[str, str] | None = None
) -> dict[str, Style]:
    """Give every category a look of its own, the same for the same names every time.

    Parameters
    ----------
    categories : sequence of str
        Distinct names, in the order of the legend.
    groups : mapping of str to str, optional
        Group of each category. Each group then has one hue, its categories shades of it from
        light to dark and different markers. Categories without a group share a hue.

    Returns
    -------
    styles : dict of str to Style

    Examples
    --------
    >>> styles = category_styles(["ESN", "YRI", "TSI"], {"ESN": "AFR", "YRI": "AFR", "TSI": "EUR"})
    >>> [style.marker for style in styles.values()]
    ['circle', 'square', 'triangle-up']
    """
    if not groups:
        return {name: _ungrouped(i) for i, name in enumerate(categories)}
    members: dict[str, list[str]] = {}
    for name in categories:
        members.setdefault(groups.get(name, ""), []).append(name)
    in_order = sorted(members, key=lambda group: (group == "", group))  # the ungrouped take no hue
    shades = {
        name: _shade(i_group, i, len(members[group]))
        for i_group, group in enumerate(in_order)
        for i, name in enumerate(members[group])
    }
    return {name: shades[name] for name in categories}


def _ungrouped(i: int) -> Style:
    return Style(
        _hex(_LIGHTNESS[i % len(_LIGHTNESS)], _CHROMA, 250.0 + i * _GOLDEN_ANGLE),
        MARKERS[i % len(MARKERS)],
    )


def _shade(i_group: int, i: int, n: int) -> Style:
    """The i-th of the n shades of a group."""
    hue, lightness = (
        _GROUPS[i_group]
        if i_group < len(_GROUPS)
        else (i_group * _GOLDEN_ANGLE, _LIGHTNESS[i_group % len(_LIGHTNESS)])
    )
    offset = 1 - 2 * i / (n - 1) if n > 1 else 0.0  # from light (+1) to dark (-1)
    color = _hex(lightness + offset * _GROUP_SPREAD, _CHROMA, hue + offset * _HUE_SPREAD)
    # equal shades of two groups get different markers, for those who cannot tell the hues apart
    return Style(color, MARKERS[(i + _MARKER_STEP * i_group) % len(MARKERS)])


def _hex(lightness: float, chroma: float, hue: float) -> str:
    """``#rrggbb`` of an OKLCH colour, its chroma lowered until sRGB can show it."""
    while True:
        rgb = _linear_rgb(lightness, chroma, hue)
        if chroma <= 0 or all(-1e-4 <= value <= 1 + 1e-4 for value in rgb):
            break
        chroma -= 0.005
    return "#" + "".join(f"{round(255 * _gamma(min(max(value, 0.0), 1.0))):02x}" for value in rgb)


def _linear_rgb(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCH to linear sRGB with the matrices of Ottosson (2020), "A perceptual color space"."""
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(value: float) -> float:
    """Transfer function of sRGB (IEC 61966-2-1)."""
    return 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
