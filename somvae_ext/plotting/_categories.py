"""Nodes that each belong to a category, and those that belong to none."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba_array
from numpy.typing import NDArray

from somvae_ext.plotting._cells import add_legend, draw_colors


def draw_categories(
    ax: Axes,
    cells: NDArray[np.floating],
    categories: NDArray[np.int64],
    names: Sequence[str],
    *,
    title: str | None = None,
    strength: NDArray[np.float64] | None = None,
) -> None:
    """Cells in the colours of their categories, -1 for none, and a legend of those that occur.

    ``strength [K]`` from 0 to 1 is how much of the colour is left beside white.
    """
    colors = category_colors(len(names))
    rgba = np.zeros((len(categories), 4))
    rgba[categories >= 0] = colors[categories[categories >= 0]]
    if strength is not None:
        rgba[:, :3] = 1 - strength[:, None] * (1 - rgba[:, :3])
    draw_colors(ax, cells, rgba)
    occurring = [category for category in np.unique(categories).tolist() if category >= 0]
    if occurring:
        add_legend(ax, [names[category] for category in occurring], colors[occurring], title)


def category_colors(num_categories: int) -> NDArray[np.float64]:
    """RGBA ``[num_categories, 4]``: as different as so many can be."""
    if num_categories <= 20:
        return to_rgba_array(mpl.colormaps["tab10" if num_categories <= 10 else "tab20"].colors[:num_categories])  # type: ignore[attr-defined]
    return mpl.colormaps["turbo"](np.linspace(0, 1, num_categories))
