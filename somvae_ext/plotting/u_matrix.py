"""Plot of the U-matrix."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.evaluation import UMatrix, u_matrix
from somvae_ext.evaluation._arguments import as_connectivity, as_metric
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.plotting._arguments import as_finite_codes
from somvae_ext.plotting._cells import (
    add_colorbar,
    cell_centers,
    cell_polygons,
    draw_grid_lines,
    draw_values,
    sheet_axes,
)
from somvae_ext.plotting.palettes import DISTANCES, OUTLINE
from somvae_ext.som import Distance, Metric, MetricName


def plot_u_matrix(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    interstitial: bool = True,
    metric: MetricName | Distance | Metric = "euclidean",
    connectivity: Connectivity | None = None,
) -> Axes:
    """Shows how far apart the codes of neighbors are: dark ridges separate light valleys of similar codes.

    With interstitial cells (Ultsch and Siemon 1990) all cells are half as wide, and a cell between each pair of
    neighbors shows their distance. A node's own cell shows its mean distance to its neighbors. A rectangular map has
    (2R - 1) x (2C - 1) cells; those between four nodes show the mean of the two diagonal distances. All distances are
    per unit of length on the grid, those along a diagonal divided by sqrt 2, so that a flat map has one color. Unless
    the map is large, lines around the cells of nodes distinguish them from the cells between nodes. Without
    interstitial cells, nodes have the colors of the means that :func:`somvae_ext.evaluation.u_matrix` returns.

    The color bar names the metric and the number of neighbors per node. On a periodic grid neighbors across the edge
    count in the means; the plot shows the sheet cut open.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        interstitial: whether to draw cells between the nodes.
        metric: the map's metric: a name, a function, or a :class:`~somvae_ext.som.Metric`.
        connectivity: number of neighbors per node in the mean distance of its own cell: on rectangles 8 (the default)
            or 4, on hexagons 6.

    Raises:
        ValueError: a codebook of a wrong shape or with values that are not finite, a connectivity that the grid does
            not have, or anything that the metric rejects.
    """
    metric, connectivity = as_metric(metric), as_connectivity(grid, connectivity)
    codes = torch.from_numpy(as_finite_codes("plot_u_matrix", codebook, grid))
    distances = u_matrix(codes, grid, metric, connectivity=connectivity)
    centers, values, size = cell_centers(grid), distances.node.numpy(), 1.0
    if interstitial:
        values = _mean_slopes(distances, grid, connectivity)
        ends = centers[distances.pairs.numpy()]
        # The other pairs are neighbors across the edge of a periodic grid.
        is_adjacent = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) < 1.1
        corners = np.argwhere(np.ones(distances.diagonal.shape))[:, ::-1] + 0.5
        values = np.concatenate([values, distances.pair.numpy()[is_adjacent], distances.diagonal.numpy().ravel()])
        centers = np.concatenate([centers, ends[is_adjacent].mean(axis=1), corners])
        size = 0.5
    cells = cell_polygons(centers, grid.topology, size)
    ax = sheet_axes(ax, cells, grid, title="U-matrix")
    collection = draw_values(ax, cells, values, cmap=DISTANCES)
    draw_grid_lines(ax, cells[: grid.num_nodes], OUTLINE)  # around nodes only, so that they stand out
    name = metric.distance if isinstance(metric.distance, str) else "custom"
    add_colorbar(ax, collection, f"{name} distance\n(nodes: to {connectivity} neighbors)")
    return ax


def _mean_slopes(distances: UMatrix, grid: Grid, connectivity: Connectivity) -> NDArray[np.float64]:
    """Mean distance of each node's code to those of its neighbors per unit of length on the grid, ``[K]``."""
    first, second = distances.pairs.unbind(dim=1)
    slope = distances.pair / grid.distance(first, second)
    total = slope.new_zeros(grid.num_nodes).index_add(0, first, slope).index_add(0, second, slope)
    return (total / grid.degree(connectivity=connectivity).clamp(min=1)).numpy()
