"""People with color vision deficiencies can read every picture; the tests simulate the colors that they see."""

from __future__ import annotations

import ast
from itertools import combinations
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import is_color_like, to_rgb, to_rgba
from numpy.typing import NDArray

from somvae_ext import plotting
from somvae_ext.plotting._cells import ink_on
from somvae_ext.plotting.palettes import CATEGORIES, MOST_CATEGORIES, OTHERS, SCALES, category_colors

Array = NDArray[np.float64]

# Machado, Oliveira and Fernandes (2009), "A physiologically-based model for simulation of color vision deficiency",
# IEEE TVCG 15 (6), table 1: severity 1, of linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}

# In CIELAB. Between small separate patches, such as a map's cell and its legend entry, half of all people notice a
# difference of 5.08 + 0.751 / s in lightness, of 5.34 + 1.541 / s between red and green, and of 5.35 + 2.871 / s
# between yellow and blue, where s is the size of the patches in degrees (Stone, Szafir and Setlur 2014, "An engineering
# model for color difference as a function of size"): 6.6, 8.4 and 11.1 at half a degree, a patch of 0.2 inches in a
# legend at arm's length. The bound is a third larger than the largest of these. tab10 has pairs only 4.6 apart.
LEAST_DISTANCE = 15.0


def to_perceived_lab(colors: Array, vision: str) -> Array:
    """Converts sRGB ``[n, 3]`` to the CIELAB (D65) ``[n, 3]`` that a person with this vision sees."""
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ VISION[vision].T, 0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = linear @ to_xyz.T / to_xyz.sum(axis=1)
    cube = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    x, y, z = cube.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def least_distance(colors: Array, vision: str) -> float:
    lab = to_perceived_lab(colors, vision)
    return min(float(np.linalg.norm(lab[a] - lab[b])) for a, b in combinations(range(len(lab)), 2))


def rgb(colors: tuple[str, ...]) -> Array:
    return np.array([to_rgb(color) for color in colors])


@pytest.mark.parametrize("vision", VISION)
def test_all_categories_and_others_are_distinguishable(vision: str) -> None:
    assert least_distance(rgb((*CATEGORIES, OTHERS)), vision) > LEAST_DISTANCE


@pytest.mark.parametrize("vision", VISION)
def test_all_categories_are_distinguishable_from_white(vision: str) -> None:
    assert least_distance(rgb((*CATEGORIES, "white")), vision) > LEAST_DISTANCE


@pytest.mark.parametrize("vision", ["protanopia", "deuteranopia"])
def test_the_simulation_finds_known_confusable_colors(vision: str) -> None:
    assert least_distance(rgb(tuple(mpl.color_sequences["tab10"])), vision) < 8


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("scale", SCALES)
def test_lightness_is_monotonic_along_each_scale(scale: str, vision: str) -> None:
    colors = mpl.colormaps.get_cmap(SCALES[scale])(np.linspace(0, 1, 64))[:, :3]
    steps = np.diff(to_perceived_lab(colors, vision)[:, 0])
    # All 64 steps go in the same direction and together span more than half of the range from black to white.
    assert (np.sign(steps) == np.sign(steps.sum())).all()
    assert abs(steps.sum()) > 50


def test_more_categories_are_lighter_and_darker_copies_with_the_first_ten_unchanged() -> None:
    colors = category_colors(MOST_CATEGORIES)
    assert len(np.unique(colors, axis=0)) == MOST_CATEGORIES
    np.testing.assert_array_equal(colors[:10], [to_rgba(color) for color in CATEGORIES])
    np.testing.assert_array_equal(category_colors(3), colors[:3])
    np.testing.assert_array_equal(category_colors(MOST_CATEGORIES + 2)[-2:], colors[:2])


def test_text_is_legible_on_cells_of_any_color() -> None:
    gray = np.linspace(0, 1, 256)
    colors = np.concatenate(
        [category_colors(MOST_CATEGORIES), mpl.colormaps["viridis"](gray), mpl.colormaps["gray"](gray)]
    )
    srgb = colors[:, :3]
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    ink = np.array([to_rgb(color)[0] for color in ink_on(colors)])  # luminance: 0 for black, 1 for white
    contrast = (np.maximum(luminance, ink) + 0.05) / (np.minimum(luminance, ink) + 0.05)
    assert contrast.min() >= 4.5  # the contrast that WCAG 2 requires of small text


@pytest.mark.parametrize("path", sorted(Path(plotting.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_all_colors_are_defined_in_palettes(path: Path) -> None:
    if path.stem == "palettes":
        return
    tree = ast.parse(path.read_text())
    strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    # "none" is no color, and "face" stands for the color of the face; single letters also name markers and line styles.
    plain = {"none", "face", *(letter for letter in strings if len(letter) == 1)}
    assert {text for text in strings - plain if is_color_like(text) or text in mpl.colormaps} == set()
