"""Figures in a size for notebooks: a map, its hits and what its nodes stand for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.plotting.decoded_map import plot_codebook_images, plot_decoded_map
from somvae_ext.plotting.images import plot_image_rows
from somvae_ext.plotting.node_values import plot_hits
from somvae_ext.plotting.u_matrix import plot_u_matrix

# Sizes in inches.
_PER_NODE, _SMALLEST_SIDE, _LARGEST_SIDE = 0.5, 1.5, 3.4
_PER_IMAGE = 0.5
_ROOM_BESIDE = 0.9
# Nodes of the largest map with cells between the nodes: on a larger map these are less than two pixels wide.
_LARGEST_INTERSTITIAL = 4096


def u_matrix_figure(codebook: ArrayLike | Tensor, grid: Grid, metric: Any = "euclidean") -> Figure:
    """Draws the U-matrix of codes ``[K, D]``, on a large map without the cells between the nodes."""
    is_small = grid.num_nodes <= _LARGEST_INTERSTITIAL
    ax = _axes_of_map(grid, _ROOM_BESIDE)
    return _figure_of(plot_u_matrix(codebook, grid, ax, interstitial=is_small, metric=metric))


def hits_figure(hits: ArrayLike | Tensor, grid: Grid) -> Figure:
    """Draws how many samples each node won, ``[K]``."""
    return _figure_of(plot_hits(hits, grid, _axes_of_map(grid, _ROOM_BESIDE)))


def codebook_images_figure(codebook: ArrayLike | Tensor, grid: Grid, image_shape: Sequence[int]) -> Figure:
    """Draws codes ``[K, D]`` as images of shape ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``."""
    return _figure_of(plot_codebook_images(codebook, grid, image_shape, _axes_of_map(grid)))


def decoded_map_figure(images: ArrayLike | Tensor, grid: Grid) -> Figure:
    """Draws images ``[R, C, H, W]`` or ``[R, C, 1 or 3, H, W]`` that were decoded from the codes."""
    return _figure_of(plot_decoded_map(images, None, _axes_of_map(grid), topology=grid.topology))


def image_rows_figure(
    images: ArrayLike | Tensor, *, row_labels: Sequence[object] | None = None, max_height: float = 5.0
) -> Figure:
    """Draws images ``[R, C, H, W]`` or ``[R, C, 1 or 3, H, W]`` in a table."""
    rows, columns = np.shape(images)[:2]
    side = min(_PER_IMAGE, max_height / rows)
    ax = Figure(figsize=(side * columns + 0.4, side * rows + 0.1), layout="compressed").add_subplot()
    return _figure_of(plot_image_rows(images, ax, row_labels=row_labels))


def _axes_of_map(grid: Grid, room: float = 0.0) -> Axes:
    """Returns axes of a figure whose height or width the map fills; the rest is cut off when the figure is saved."""
    side = min(max(_PER_NODE * max(grid.rows, grid.cols), _SMALLEST_SIDE), _LARGEST_SIDE)
    return Figure(figsize=(side + room, side), layout="compressed").add_subplot()


def _figure_of(ax: Axes) -> Figure:
    figure = ax.figure
    assert isinstance(figure, Figure)
    return figure
