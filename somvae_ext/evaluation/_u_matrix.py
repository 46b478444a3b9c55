"""Distances between the codes of neighboring nodes, which show valleys of the map and the ridges between them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.evaluation._arguments import as_codes_of_grid, as_connectivity, as_metric
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.som import Distance, Metric, MetricName


class UMatrix(NamedTuple):
    """Distances between the codes of neighbors, see :func:`u_matrix`; float64, on the codebook's device.

    ``node`` ``[K]``: mean distance of a node's code to those of its neighbors; 0 for a node without neighbors.
    ``pairs`` int64 ``[P, 2]``: each pair of neighbors once, the smaller node first, sorted by that node. ``pair``
    ``[P]``: the distance of each pair. ``diagonal`` ``[R - 1, C - 1]`` on a rectangular grid, whatever the
    connectivity: for the four nodes in rows r, r + 1 and columns c, c + 1, the mean of the two diagonal distances per
    unit of length, (d(e_rc, e_(r+1)(c+1)) + d(e_r(c+1), e_(r+1)c)) / (2 sqrt 2); ``[0, 0]`` on hexagons, which leave no
    corners between them.
    """

    node: Tensor
    pairs: Tensor
    pair: Tensor
    diagonal: Tensor


def u_matrix(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    metric: MetricName | Distance | Metric = "euclidean",
    *,
    connectivity: Connectivity | None = None,
) -> UMatrix:
    """Computes the unified distance matrix of a map (Ultsch and Siemon 1990).

    Large values are ridges between groups of similar codes. On a periodic grid neighbors across the edge count like all
    others.

    Args:
        codebook: codes ``[K, D]`` in the grid's order, an array-like or a tensor on any device.
        grid: the map's grid, of K = R * C nodes.
        metric: the map's metric: a name, a function, or a :class:`~somvae_ext.som.Metric`.
        connectivity: number of neighbors per node. On rectangles 8, diagonal ones included (the default, as in other
            libraries), or 4. On hexagons 6.

    Raises:
        ValueError: a codebook that is not of shape ``[K, D]`` or does not hold numbers, a connectivity that the grid
            does not have, or anything that the metric rejects.

    Example:
        >>> distances = u_matrix([[0.0], [1.0], [4.0]], Grid(1, 3))
        >>> distances.node.tolist(), distances.pairs.tolist(), distances.pair.tolist()
        ([1.0, 2.0, 3.0], [[0, 1], [1, 2]], [1.0, 3.0])
    """
    codes = as_codes_of_grid("u_matrix", codebook, grid).double()
    metric, connectivity = as_metric(metric).with_weights_like(codes), as_connectivity(grid, connectivity)
    neighbors = grid.neighbors(codes.device, connectivity)
    nodes = torch.arange(len(codes), device=codes.device)
    first, slot = (neighbors > nodes[:, None]).nonzero(as_tuple=True)
    second = neighbors[first, slot]
    pair = metric.pair_distances(codes, first, second)
    # Each pair is stored in the slots of both nodes: sums over slots have a fixed order, additions at an index do not.
    by_slot = pair.new_zeros(neighbors.shape)
    by_slot[first, slot] = pair
    by_slot[second, (neighbors[second] == first[:, None]).int().argmax(dim=1)] = pair
    node = by_slot.sum(dim=1) / grid.degree(codes.device, connectivity).clamp(min=1)
    if grid.topology == "rectangular":
        sheet = nodes.view(grid.rows, grid.cols)
        falling = metric.pair_distances(codes, sheet[:-1, :-1].flatten(), sheet[1:, 1:].flatten())
        rising = metric.pair_distances(codes, sheet[:-1, 1:].flatten(), sheet[1:, :-1].flatten())
        diagonal = ((falling + rising) / (2 * math.sqrt(2))).view(grid.rows - 1, grid.cols - 1)
    else:
        diagonal = codes.new_zeros(0, 0)
    return UMatrix(node, torch.stack([first, second], dim=1), pair, diagonal)
