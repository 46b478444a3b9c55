"""Plot of the clusters of a map's nodes."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_integers
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_node_values
from somvae_ext.plotting._categories import draw_categories
from somvae_ext.plotting._cells import (
    adjacent_cell_pairs,
    area_centers,
    cell_centers,
    cell_polygons,
    draw_borders,
    fitting_font_size,
    ink_on,
    legend_room,
    shared_sides,
    sheet_axes,
)
from somvae_ext.plotting.palettes import category_colors


def plot_map_clusters(cluster: ArrayLike | Tensor, grid: Grid, ax: Axes | None = None) -> Axes:
    """Shows clusters of nodes on the map, with borders between them and the cluster's number in each large enough area.

    A cluster may have several areas, each with its number. On a periodic grid, areas are those of the sheet cut open.
    Ten clusters have distinct colors; beyond ten, the numbers tell them apart.

    Args:
        cluster: the cluster of each node, integers ``[K]`` from 0 on, such as
            :func:`somvae_ext.evaluation.cluster_nodes` returns. Nodes with -1 are in no cluster and stay empty.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.

    Raises:
        ValueError: anything other than an integer of at least -1 for each node.

    Example:
        >>> ax = plot_map_clusters([0, 0, 1, 0, 1, 1], Grid(2, 3))
    """
    plot = "plot_map_clusters"
    clusters = as_node_values(plot, "cluster", as_integers(plot, "cluster", cluster), grid)
    if clusters.min() < -1:
        raise ValueError(f"{plot}: cluster must hold integers of at least -1, got {clusters.min()}")
    centers = cell_centers(grid)
    cells = cell_polygons(centers, grid.topology)
    names = [str(number) for number in range(clusters.max() + 1)]
    ax = sheet_axes(ax, cells, grid, title="Clusters", room=legend_room(grid, names, len(names)))
    draw_categories(ax, cells, clusters, names, title="cluster", with_letters=False)
    pairs = adjacent_cell_pairs(grid)
    apart = clusters[pairs[:, 0]] != clusters[pairs[:, 1]]
    draw_borders(ax, shared_sides(grid, pairs[apart]))
    _number_areas(ax, grid, centers, clusters)
    return ax


def _number_areas(ax: Axes, grid: Grid, centers: NDArray[np.floating], clusters: NDArray[np.int64]) -> None:
    """Writes the number of its cluster into each area, where the area is widest and as large as fits."""
    node, depth = area_centers(grid, clusters)
    is_area = clusters[node] >= 0
    node, depth = node[is_area], depth[is_area]
    inks = ink_on(category_colors(clusters.max() + 1)[clusters[node]])
    for (x, y), number, cells_around, ink in zip(
        centers[node].tolist(), clusters[node].tolist(), depth.tolist(), inks, strict=True
    ):
        size = fitting_font_size(ax, [str(number)], cells=2 * cells_around + 1)
        if size is not None:
            ax.text(x, y, str(number), ha="center", va="center", fontsize=size, fontweight="bold", color=ink)
