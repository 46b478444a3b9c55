"""The colours of all pictures: no other file names any.

People who see colours in other ways can tell all categories apart, and read every scale by its lightness alone:
``python_tests/plotting/test_palettes.py`` simulates how they see them.
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
"""Ten colours of Petroff (2021, arXiv:2107.02270), chosen for people of all kinds of colour vision, and for beauty."""

MOST_CATEGORIES = 50
"""As many have colours of their own; beyond :data:`CATEGORIES`, these are told apart only together with letters."""

OTHERS = "#f4ecd8"
"""The rest of very many categories. Paler than any category, and not grey, which a pale blue may look like."""

# Sequential scales. VALUES and TIME are perceptually uniform; the others fade into white, where nothing is.
VALUES = "viridis"
DISTANCES = "bone_r"
SHARES = "Blues"
COUNTS = "Greys"
GREYS = "gray"  # of images, from black to white
TIME = ListedColormap(mpl.colormaps["plasma"](np.linspace(0, 0.9, 256)))  # its palest yellow is lost on white
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
DARK, MUTED, GUIDE, OUTLINE, PALE = "0.25", "0.4", "0.5", "0.8", "0.9"  # greys, from text to what is hardly seen
ACCENT = CATEGORIES[1]
"""What stands out on images and on the scales that are grey."""
PLAIN = CATEGORIES[0]
"""Of marks that have no category."""

# Of a lighter or darker copy of a category's colour: how much white, or black, is in it.
_TINTS = (("", 0.0), (PAPER, 0.5), (INK, 0.4), (PAPER, 0.75), (INK, 0.65))


def category_colors(num_categories: int) -> NDArray[np.float64]:
    """RGBA ``[num_categories, 4]``: those of :data:`CATEGORIES`, then lighter and darker ones, and then again."""
    base = to_rgba_array(CATEGORIES)
    colors = base.copy()[:0]
    for other, share in _TINTS:
        tinted = base if not share else (1 - share) * base + share * to_rgba_array(other)
        colors = np.concatenate([colors, tinted])
    assert len(colors) == MOST_CATEGORIES
    return colors[np.arange(num_categories) % len(colors)]
