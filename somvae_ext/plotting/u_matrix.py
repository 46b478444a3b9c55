"""The U-matrix as a picture."""

from __future__ import annotations

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.evaluation import u_matrix
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import codes_of_nodes
from somvae_ext.plotting._cells import add_colorbar, centers_of, draw_values, polygons, sheet_axes


def plot_u_matrix(
    codebook: ArrayLike | Tensor, grid: Grid, ax: Axes | None = None, *, interstitial: bool = True
) -> Axes:
    """Shows how far apart the codes of neighbours are: dark ridges part light valleys of alike codes.

    With interstitial cells (Ultsch and Siemon 1990) all cells are half as large, and between each two neighbours lies
    one that shows their distance. A node's own cell shows its mean distance to its neighbours. On rectangles these are
    (2R - 1) x (2C - 1) cells; those between four nodes show the mean of the two diagonal distances, divided by
    sqrt 2. The numbers are those of :func:`somvae_ext.evaluation.u_matrix`. On a periodic grid the neighbours around
    the edge count in the means; the picture shows the sheet cut open.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, numpy or torch on any device.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        interstitial: False leaves the cells between the nodes out.

    Raises:
        ValueError: a codebook of another shape or with values that are not finite.
    """
    distances = u_matrix(torch.from_numpy(codes_of_nodes("plot_u_matrix", codebook, grid)), grid)
    centers, values, size = centers_of(grid), distances.node.numpy(), 1.0
    if interstitial:
        ends = centers[distances.pairs.numpy()]
        meet = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) < 1.1  # others meet around the edge of a periodic grid
        corners = np.argwhere(np.ones(distances.diagonal.shape))[:, ::-1] + 0.5
        values = np.concatenate([values, distances.pair.numpy()[meet], distances.diagonal.numpy().ravel()])
        centers = np.concatenate([centers, ends[meet].mean(axis=1), corners])
        size = 0.5
    cells = polygons(centers, grid.topology, size)
    ax = sheet_axes(ax, cells)
    drawn = draw_values(ax, cells, values, cmap="bone_r")
    add_colorbar(ax, drawn, "distance")
    return ax
