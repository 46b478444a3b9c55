"""Clusters of the map."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_finite_codes
from somvae_ext.plotting._categories import draw_categories
from somvae_ext.plotting._cells import (
    adjacent_cell_pairs,
    cell_centers,
    cell_polygons,
    draw_borders,
    shared_sides,
    sheet_axes,
)


class Clusterer(Protocol):
    """The interface of scikit-learn's clusterers."""

    def fit_predict(self, X: NDArray[np.float64], /) -> Any:
        """The cluster of each row, integer ``[K]``; -1 for none."""


def plot_map_clusters(codebook: ArrayLike | Tensor, grid: Grid, clusterer: Clusterer, ax: Axes | None = None) -> Axes:
    """Groups the codes and shows the groups on the map, with borders between them.

    A large map first and then few clusters of its codes is how Vesanto and Alhoniemi (2000) cluster data. Give a
    clusterer of scikit-learn, such as ``AgglomerativeClustering(n_clusters=6)``.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        clusterer: its ``fit_predict(codes)`` is called once, with a float64 array. Nodes that it puts into no cluster
            (-1) are empty.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: a codebook of another shape or with values that are not finite, or a clusterer that does not give a
            whole number of at least -1 for each node.
    """
    codes = as_finite_codes("plot_map_clusters", codebook, grid)
    cluster = as_array("plot_map_clusters", "clusterer", clusterer.fit_predict(codes))
    if cluster.shape != (grid.num_nodes,) or cluster.dtype.kind not in "iu" or cluster.min() < -1:
        raise ValueError(
            f"plot_map_clusters: clusterer must give an integer of at least -1 for each of the {grid.num_nodes} nodes, "
            f"got {cluster.dtype} of shape {list(cluster.shape)}"
            + (f" with {cluster.min()}" if cluster.size and cluster.dtype.kind in "iu" else "")
        )
    cells = cell_polygons(cell_centers(grid), grid.topology)
    ax = sheet_axes(ax, cells)
    draw_categories(ax, cells, cluster, [str(name) for name in range(cluster.max() + 1)], title="cluster")
    pairs = adjacent_cell_pairs(grid)
    apart = cluster[pairs[:, 0]] != cluster[pairs[:, 1]]
    draw_borders(ax, shared_sides(grid, pairs[apart]))
    return ax
