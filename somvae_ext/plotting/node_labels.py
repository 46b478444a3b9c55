"""The map with the labels of the data on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices, as_labels
from somvae_ext.grid import Grid
from somvae_ext.plotting._categories import draw_categories
from somvae_ext.plotting._cells import cell_centers, cell_polygons, sheet_axes

_PALEST = 0.2  # strength of the colour at purity 0, which none has


def plot_labels(
    labels: ArrayLike | Tensor,
    nodes: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    names: Sequence[Any] | None = None,
) -> Axes:
    """Shows the most frequent label of the samples that each node won, the paler the more others there are.

    Of labels as frequent as each other it is the first in order. Nodes that won no sample are empty.

    Args:
        labels: label of each sample, ``[N]``: integers, booleans or strings, numpy or torch on any device.
        nodes: the node that each sample is assigned to, integers ``[N]``, 0 to K - 1.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        names: names of the labels, which are then the integers 0, 1, ..., with the same colours whichever occur.

    Raises:
        ValueError: no samples, shapes that differ, labels that are missing or floats, nodes that are not integers or
            outside of the grid, or labels without a name.
    """
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
    total = count.sum(axis=1)
    purity = count.max(axis=1) / np.maximum(total, 1)
    cells = cell_polygons(cell_centers(grid), grid.topology)
    ax = sheet_axes(ax, cells)
    draw_categories(
        ax,
        cells,
        np.where(total > 0, count.argmax(axis=1), -1),
        [str(name) for name in names],
        strength=_PALEST + (1 - _PALEST) * purity,
    )
    return ax
