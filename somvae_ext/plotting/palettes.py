"""The colors of all plots; no other file names colors.

Viewers with any kind of color vision can tell all categories apart and read every scale by its lightness alone:
``python_tests/plotting/test_palettes.py`` simulates how they see the colors.
"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Colormap, ListedColormap, to_rgba_array
from numpy.typing import NDArray

CATEGORIES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colors of Petroff (2021, arXiv:2107.02270), chosen for people of all kinds of color vision, and for beauty."""

MOST_CATEGORIES = 50
"""Number of categories with colors of their own; beyond :data:`CATEGORIES`, letters must help to tell them apart."""

OTHERS = "#f4ecd8"
"""Color of the rest of very many categories: paler than any category, and not gray, which a pale blue may look like."""

# Sequential scales. VALUES and TIME are perceptually uniform; DISTANCES, SHARES and COUNTS fade to white at low values.
VALUES = "viridis"
DISTANCES = "bone_r"
SHARES = "Blues"
COUNTS = "Greys"
GRAYS = "gray"  # for images, from black to white
TIME = ListedColormap(mpl.colormaps["plasma"](np.linspace(0, 0.9, 256)))  # without pale yellow, invisible on white
MOVES = ListedColormap(mpl.colormaps["Greys"](np.linspace(0.35, 1, 256)))
SCALES: dict[str, str | Colormap] = {
    "values": VALUES,
    "distances": DISTANCES,
    "shares": SHARES,
    "counts": COUNTS,
    "time": TIME,
    "moves": MOVES,
}

INK, PAPER = "black", "white"
DARK, MUTED, GUIDE, OUTLINE, PALE = "0.25", "0.4", "0.5", "0.8", "0.9"  # grays, from text to barely visible
ACCENT = CATEGORIES[1]
"""Color that stands out on images and on gray scales."""
PLAIN = CATEGORIES[0]
"""Color of marks without a category."""

# Lighter and darker versions of a category's color: the color mixed into it, white or black, and its share.
_TINTS = (("", 0.0), (PAPER, 0.5), (INK, 0.4), (PAPER, 0.75), (INK, 0.65))


def category_colors(num_categories: int) -> NDArray[np.float64]:
    """Returns RGBA ``[num_categories, 4]``: :data:`CATEGORIES`, then lighter and darker versions, then all again."""
    base = to_rgba_array(CATEGORIES)
    colors = base.copy()[:0]
    for other, share in _TINTS:
        tinted = base if not share else (1 - share) * base + share * to_rgba_array(other)
        colors = np.concatenate([colors, tinted])
    assert len(colors) == MOST_CATEGORIES
    return colors[np.arange(num_categories) % len(colors)]
