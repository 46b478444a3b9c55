"""Drawing of nodes by category, where some may belong to none."""

from __future__ import annotations

import itertools
import string
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray

from somvae_ext.grid import Grid
from somvae_ext.plotting._cells import (
    add_legend,
    draw_colors,
    draw_grid_lines,
    fitting_font_size,
    legend_room,
    write_in_cells,
)
from somvae_ext.plotting.palettes import CATEGORIES, MOST_CATEGORIES, OTHERS, category_colors

_LETTERS = string.ascii_lowercase + string.ascii_uppercase
_LARGEST_WITH_LETTERS = 70  # rows or columns, approximately
_LONGEST_SIGN = 2  # letters of a name that is written into cells as it is


def draw_categories(
    ax: Axes,
    cells: NDArray[np.floating],
    categories: NDArray[np.int64],
    names: Sequence[str],
    *,
    title: str | None = None,
    strength: NDArray[np.float64] | None = None,
    with_letters: bool | None = None,
) -> None:
    """Draws cells in the colors of their categories, -1 for none, and a legend of the categories that occur.

    If more categories occur than :data:`~somvae_ext.plotting.palettes.CATEGORIES` has colors, letters are written into
    the cells as well. If cells are too small for letters, only the most frequent categories have colors, and the rest
    are drawn as others.

    Args:
        ax: axes of the sheet.
        cells: corners of the cells ``[n, 4 or 6, 2]``.
        categories: category of each cell, ``[n]``.
        names: names of the categories.
        title: title of the legend.
        strength: strength of the color against white, ``[n]`` from 0 to 1.
        with_letters: True always writes letters if cells are large enough; False never does, because the numbers of
            areas will tell categories apart.
    """
    occurring = np.unique(categories[categories >= 0])
    is_readable = fitting_font_size(ax, [""]) is not None
    if with_letters is None:
        with_letters = len(occurring) > len(CATEGORIES)
    max_colors = MOST_CATEGORIES if is_readable or with_letters is False else len(CATEGORIES)
    with_letters = with_letters and is_readable
    palette = CategoryPalette(names, np.bincount(categories[categories >= 0], minlength=len(names)), max_colors)
    signs = palette.signs()
    rgba = np.where(categories[:, None] >= 0, palette.colors[categories], 0)
    if strength is not None:
        shade = np.where(palette.is_other[categories], 1, strength)
        rgba[:, :3] = 1 - shade[:, None] * (1 - rgba[:, :3])
    draw_colors(ax, cells, rgba)
    draw_grid_lines(ax, cells)
    if with_letters:
        shown = (categories >= 0) & ~palette.is_other[categories]
        texts = [signs[category] for category in categories[shown].tolist()]
        write_in_cells(ax, cells[shown].mean(axis=1), texts, rgba[shown])
    palette.add_legend(ax, occurring, title, signs if with_letters else None)


class CategoryPalette:
    """Colors of categories: one for each or, if there are more than can be told apart, for the most frequent.

    Args:
        names: names of the C categories.
        frequency: how often each occurs, ``[C]``.
        max_colors: largest number of occurring categories with colors of their own.
    """

    def __init__(self, names: Sequence[str], frequency: NDArray[np.int64], max_colors: int) -> None:
        self.names = names
        self.is_other = np.zeros(len(names), bool)
        """Whether a category is among the others, ``[C]``."""
        self.colors = category_colors(len(names))
        """RGBA ``[C, 4]``."""
        if np.count_nonzero(frequency) > max_colors:
            kept = np.sort(np.argsort(-frequency, kind="stable")[:max_colors])
            self.is_other[:] = True
            self.is_other[kept] = False
            self.colors[kept] = category_colors(max_colors)
            self.colors[self.is_other] = to_rgba(OTHERS)

    def signs(self) -> list[str]:
        """Returns a short text for each category to write into cells: the names if all are short, otherwise letters.

        Others get no letter.
        """
        if max(map(len, self.names), default=0) <= _LONGEST_SIGN:
            return list(self.names)
        signs = [""] * len(self.names)
        for category, letter in zip(np.flatnonzero(~self.is_other).tolist(), itertools.cycle(_LETTERS)):
            signs[category] = letter
        return signs

    def add_legend(
        self, ax: Axes, occurring: NDArray[np.int64], title: str | None = None, signs: Sequence[str] | None = None
    ) -> None:
        """Adds a legend of the categories that occur, with their ``signs`` if the cells show these."""
        if len(occurring) == 0:
            return
        named = occurring[~self.is_other[occurring]].tolist()
        labels = [
            self.names[category]
            if signs is None or signs[category] == self.names[category]
            else f"{signs[category]}  {self.names[category]}"
            for category in named
        ]
        colors = self.colors[named]
        if len(named) < len(occurring):
            labels.append(f"{len(occurring) - len(named):,} others")
            colors = np.concatenate([colors, [to_rgba(OTHERS)]])
        add_legend(ax, labels, colors, title)


def categories_room(grid: Grid, names: Sequence[str], occurring: int) -> float:
    """Returns the inches beside the sheet for the legend of ``occurring`` categories."""
    is_large = max(grid.rows, grid.cols) > _LARGEST_WITH_LETTERS
    return legend_room(grid, names, min(occurring, (len(CATEGORIES) if is_large else MOST_CATEGORIES) + 1))
