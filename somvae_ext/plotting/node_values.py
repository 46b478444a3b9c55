"""Plots of a value per node, and of the hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgba
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_counts, as_node_values
from somvae_ext.plotting._categories import categories_room, draw_categories
from somvae_ext.plotting._cells import (
    add_colorbar,
    cell_centers,
    cell_polygons,
    draw_colors,
    draw_grid_lines,
    draw_outlines,
    draw_values,
    sheet_axes,
    write_in_cells,
)
from somvae_ext.plotting.palettes import ACCENT, VALUES

_VALUES_TITLE, _HITS_TITLE = "Values of the nodes", "Hits"
_LARGEST_HIT = 0.7  # of a cell's side, so that a plot below stays visible

HitStyle = Literal["color", "area"]


def plot_node_values(
    values: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    categories: Sequence[Any] | None = None,
    label: str | None = None,
    cmap: str | Colormap = VALUES,
    vmin: float | None = None,
    vmax: float | None = None,
) -> Axes:
    """Shows a number or a category of each node, such as a model's prediction for its code.

    Numbers get a color bar, categories a legend. If there are more than ten categories, letters are written into the
    cells, too; if cells are too small for letters, the ten most frequent categories have colors, and the rest are drawn
    as others. Nodes lie at ``grid.coordinates()``, row 0 on top, in all plots of a map, so that one can be drawn over
    another.

    Args:
        values: a value per node, ``[K]``, numpy or torch on any device: numbers, where NaN leaves a node empty; strings
            or booleans, which are categories, where None and NaN leave a node empty; or, with ``categories``, whole
            numbers that index them, where -1 and NaN leave a node empty.
        grid: the map's grid, of K = R * C nodes.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        categories: names of the categories 0, 1, ...; colors do not depend on which categories occur.
        label: what the values are, written beside the color bar or above the legend.
        cmap: color map of matplotlib for numbers; the default is readable whatever the viewer's color vision.
        vmin: number at the lower end of the color map; by default the smallest.
        vmax: number at the upper end of the color map; by default the largest.

    Raises:
        ValueError: values of a wrong shape, infinite, or not among the categories.

    Example:
        >>> import torch
        >>> ax = plot_node_values(torch.arange(6.0), Grid(2, 3, topology="hexagonal"))
        >>> ax.figure.savefig("map.png")
    """
    array = as_node_values("plot_node_values", "values", values, grid)
    cells = cell_polygons(cell_centers(grid), grid.topology)
    if categories is not None or array.dtype.kind in "bOSTU":
        category, names = _categories(array, categories)
        room = categories_room(grid, names, len(np.unique(category)))
        ax = sheet_axes(ax, cells, grid, title=_VALUES_TITLE, room=room)
        draw_categories(ax, cells, category, names, title=label)
        return ax
    array = array.astype(np.float64)
    if np.isinf(array).any():
        node = int(np.flatnonzero(np.isinf(array))[0])
        raise ValueError(
            f"plot_node_values: values must be finite, or NaN for no value, got {array[node]} at node {node}"
        )
    ax = sheet_axes(ax, cells, grid, title=_VALUES_TITLE)
    collection = draw_values(ax, cells, array, cmap=cmap, vmin=vmin, vmax=vmax)
    draw_grid_lines(ax, cells)
    if not np.isnan(array).all():
        add_colorbar(ax, collection, label)
    return ax


def plot_hits(count: ArrayLike | Tensor, grid: Grid, ax: Axes | None = None, *, by: HitStyle = "color") -> Axes:
    """Shows how many samples each node won. Nodes that won none are empty.

    By color, the numbers are also written into the cells if these are large enough. By area, each cell holds a smaller
    cell whose area is proportional to the number; these can be drawn over another plot of the map:

        >>> import torch
        >>> from somvae_ext.plotting import plot_u_matrix
        >>> ax = plot_u_matrix(torch.rand(12, 2), Grid(3, 4))
        >>> ax = plot_hits(torch.arange(12), Grid(3, 4), ax, by="area")

    Args:
        count: number of samples, or sum of their weights, per node, ``[K]``, numpy or torch on any device, such as
            ``torch.bincount(nodes, minlength=K)`` returns.
        grid: the map's grid, of K = R * C nodes.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        by: ``"color"`` or ``"area"``.

    Raises:
        ValueError: counts of a wrong shape, negative or not finite, or an unknown ``by``.
    """
    if by not in get_args(HitStyle):
        raise ValueError(f"plot_hits: by must be 'color' or 'area', got {by!r}")
    array = as_counts("plot_hits", "count", count, grid)
    centers = cell_centers(grid)
    cells = cell_polygons(centers, grid.topology)
    largest = array.max() or 1.0
    if by == "area":
        is_alone = ax is None or not ax.has_data()
        caption = "area: samples that the node won" if is_alone else None
        ax = sheet_axes(ax, cells, grid, title=_HITS_TITLE, room=0.0, caption=caption)
        if is_alone:
            draw_outlines(ax, cells)
        has_hits = array > 0
        filled = cell_polygons(centers[has_hits], grid.topology, _LARGEST_HIT * np.sqrt(array[has_hits] / largest))
        draw_colors(ax, filled, np.tile(to_rgba(ACCENT), (len(filled), 1)))
        return ax
    ax = sheet_axes(ax, cells, grid, title=_HITS_TITLE)
    has_hits = array > 0
    is_integer = bool((array == np.floor(array)).all())
    collection = draw_values(ax, cells, np.where(has_hits, array, np.nan), cmap=VALUES, vmin=0, vmax=largest)
    draw_grid_lines(ax, cells)
    add_colorbar(ax, collection, "samples that the node won", integer_ticks=is_integer)
    texts = [f"{value:.0f}" if is_integer else f"{value:.3g}" for value in array[has_hits].tolist()]
    write_in_cells(ax, centers[has_hits], texts, collection.to_rgba(array[has_hits]))
    return ax


def _categories(values: NDArray[Any], categories: Sequence[Any] | None) -> tuple[NDArray[np.int64], list[str]]:
    """Returns the category of each value, -1 for none, and the names of the categories."""
    if categories is None:
        missing = np.array([value is None or value != value for value in values.tolist()])
        names, category = np.unique(values.astype(str), return_inverse=True)
        return np.where(missing, -1, category), names.tolist()
    if values.dtype.kind not in "iuf":
        raise ValueError(
            f"plot_node_values: values must be whole numbers where names are given for them, got {values.dtype}"
        )
    numbers = np.where(np.isnan(values), -1.0, values) if values.dtype.kind == "f" else values
    if (wrong := ~((numbers >= -1) & (numbers < len(categories)) & (numbers == np.floor(numbers)))).any():
        raise ValueError(
            f"plot_node_values: values must be whole numbers from -1 to {len(categories) - 1}, got {values[wrong][0]}"
        )
    return numbers.astype(np.int64), [str(name) for name in categories]
