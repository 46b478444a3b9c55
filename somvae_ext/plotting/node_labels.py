"""Plot of the labels of the data on the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices, as_labels
from somvae_ext.grid import Grid
from somvae_ext.plotting._categories import CategoryPalette, categories_room, draw_categories
from somvae_ext.plotting._cells import cell_centers, cell_polygons, draw_outlines, points_per_unit, sheet_axes
from somvae_ext.plotting.palettes import CATEGORIES, OUTLINE

_PALEST = 0.2  # strength of the color in the limit of purity 0
_PIE = 0.44  # radius, in sides of a cell
_SMALLEST_CELL = 8.0  # points, in which the pieces of a pie can be distinguished
_ARC_POINTS = 25  # per piece

LabelStyle = Literal["color", "letter", "pie"]


def plot_labels(
    labels: ArrayLike | Tensor,
    nodes: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    names: Sequence[Any] | None = None,
    by: LabelStyle = "color",
) -> Axes:
    """Shows the most frequent label of the samples that each node won, paler the more samples have other labels.

    Ties go to the first label in order. Nodes that won no sample are empty. If there are more than ten labels, letters
    are written into the cells, too; if cells are too small for letters, the ten most frequent labels have colors, and
    the rest are drawn as others.

    Args:
        labels: label of each sample, ``[N]``: integers, booleans or strings, numpy or torch on any device.
        nodes: the node that each sample is assigned to, integers ``[N]``, 0 to K - 1.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        names: names of the labels, which are then the integers 0, 1, ...; colors do not depend on which labels occur.
        by: ``"color"`` colors the cells. ``"letter"`` also writes the label into the cells or, if any name is longer
            than two letters, a letter that the legend explains. ``"pie"`` shows the shares of all labels in each cell,
            with colors for the ten most frequent; maps with cells that are too small for it are drawn by color.

    Raises:
        ValueError: no samples, shapes that differ, labels that are missing or floats, nodes that are not integers or
            outside the grid, labels without a name, or an unknown ``by``.

    Example:
        >>> ax = plot_labels(["oak", "elm", "oak", "elm"], [0, 1, 1, 5], Grid(2, 3), by="pie")
        >>> ax.figure.savefig("labels.png")
    """
    if by not in get_args(LabelStyle):
        raise ValueError(f"plot_labels: by must be 'color', 'letter' or 'pie', got {by!r}")
    label, node = as_array("plot_labels", "labels", labels), as_array("plot_labels", "nodes", nodes)
    if label.ndim != 1 or label.shape != node.shape or len(label) == 0:
        raise ValueError(
            "plot_labels: labels and nodes must have the same shape [N] with N of at least 1, got "
            f"{list(label.shape)} and {list(node.shape)}"
        )
    node = as_indices("plot_labels", "nodes", node, grid.num_nodes).numpy()
    if names is None:
        values, label_index = np.unique(as_labels("plot_labels", "labels", label), return_inverse=True)
        names = values.tolist()
    else:
        label_index = as_indices("plot_labels", "labels", label, len(names)).numpy()
    count = np.bincount(node * len(names) + label_index, minlength=grid.num_nodes * len(names))
    count = count.reshape(grid.num_nodes, len(names))
    texts = [str(name) for name in names]

    centers = cell_centers(grid)
    cells = cell_polygons(centers, grid.topology)
    ax = sheet_axes(ax, cells, grid, title="Labels", room=categories_room(grid, texts, int(count.any(axis=0).sum())))
    if by == "pie" and points_per_unit(ax) >= _SMALLEST_CELL:
        draw_outlines(ax, cells)
        _draw_pies(ax, centers, count, texts)
        return ax
    total = count.sum(axis=1)
    purity = count.max(axis=1) / np.maximum(total, 1)
    draw_categories(
        ax,
        cells,
        np.where(total > 0, count.argmax(axis=1), -1),
        texts,
        title="most frequent label\n(paler: more others)",
        strength=_PALEST + (1 - _PALEST) * purity,
        with_letters=True if by == "letter" else None,
    )
    return ax


def _draw_pies(ax: Axes, centers: NDArray[np.floating], count: NDArray[np.int64], names: Sequence[str]) -> None:
    """Draws a pie in each cell, clockwise from the top, of the counts ``[K, C]``."""
    palette = CategoryPalette(names, count.sum(axis=0), len(CATEGORIES))
    order = np.argsort(palette.is_other, kind="stable")  # others last, so that they are one piece
    count, colors = count[:, order], palette.colors[order]
    share = count / np.maximum(count.sum(axis=1), 1)[:, None]
    end = np.cumsum(share, axis=1)
    node, piece = np.nonzero(share)
    angle = 2 * math.pi * ((end - share)[node, piece, None] + share[node, piece, None] * np.linspace(0, 1, _ARC_POINTS))
    arc = _PIE * np.stack([np.sin(angle), -np.cos(angle)], axis=2)  # y grows downward
    hub = np.where(share[node, piece] < 1, 0.0, _PIE)[:, None] * (0.0, -1.0)  # a pie of one piece has no hub
    pieces = centers[node][:, None] + np.concatenate([hub[:, None], arc], axis=1)
    ax.add_collection(
        PolyCollection(list(pieces), facecolors=colors[piece], edgecolors=OUTLINE, linewidths=0.2), autolim=False
    )
    palette.add_legend(ax, np.flatnonzero(count[:, np.argsort(order)].sum(axis=0)), "share of the labels")
