"""Clusters of the map."""

from __future__ import annotations

from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_integers
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_node_values
from somvae_ext.plotting._categories import draw_categories
from somvae_ext.plotting._cells import (
    adjacent_cell_pairs,
    cell_centers,
    cell_polygons,
    draw_borders,
    shared_sides,
    sheet_axes,
)


def plot_map_clusters(cluster: ArrayLike | Tensor, grid: Grid, ax: Axes | None = None) -> Axes:
    """Shows groups of nodes on the map, with borders between them.

    Args:
        cluster: the cluster of each node, integers ``[K]`` from 0 on, such as
            :func:`somvae_ext.evaluation.cluster_nodes` gives them. Nodes with -1 are in none, and empty.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: anything but an integer of at least -1 for each node.

    Example:
        >>> ax = plot_map_clusters([0, 0, 1, 0, 1, 1], Grid(2, 3))
    """
    plot = "plot_map_clusters"
    clusters = as_node_values(plot, "cluster", as_integers(plot, "cluster", cluster), grid)
    if clusters.min() < -1:
        raise ValueError(f"{plot}: cluster must hold integers of at least -1, got {clusters.min()}")
    cells = cell_polygons(cell_centers(grid), grid.topology)
    ax = sheet_axes(ax, cells)
    draw_categories(ax, cells, clusters, [str(name) for name in range(clusters.max() + 1)], title="cluster")
    pairs = adjacent_cell_pairs(grid)
    apart = clusters[pairs[:, 0]] != clusters[pairs[:, 1]]
    draw_borders(ax, shared_sides(grid, pairs[apart]))
    return ax
