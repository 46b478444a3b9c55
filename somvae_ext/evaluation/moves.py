"""Shares of near moves on the grid: those that series make, and those that a chain over the nodes expects."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_floats
from somvae_ext.config_checks import check_number
from somvae_ext.evaluation._series import as_series, steps_between
from somvae_ext.grid import Grid

# Far above the rounding error of a distance computed in another order than the grid's, and far below the difference
# between two distances on a grid, which is at least 1 / (8 distance).
_SLACK = 1e-9
# Probabilities that are processed at a time (16 MiB of float32).
_TILE_VALUES = 1 << 22

TransitionRows = Callable[[Tensor], Tensor]


def share_of_moves_within(
    indices: ArrayLike | Tensor, grid: Grid, distance: float, mask: ArrayLike | Tensor | None = None
) -> float:
    """Computes the share of the moves of series that lead no further than ``distance`` on the grid.

    A move is a step between two real frames whose nodes differ; a step that stays in a node is not a move. On an
    ordered map, series whose frames change little move to near nodes.

    Args:
        indices: node of each frame, integers ``[B, T]``, 0 to K - 1, an array-like or a tensor on any device.
        grid: the map's grid, of K nodes.
        distance: largest distance that counts as near, at least 0, in units of the grid (neighbors are at 1): Euclidean
            and, on a torus, the shortest way around, as in :meth:`Grid.distance <somvae_ext.Grid.distance>`. On
            rectangles a distance of 1 reaches 4 nodes and 2 reaches 12, on hexagons 6 and 18.
        mask: which frames are real, bool ``[B, T]``; by default all. The others may hold any integer.

    Returns:
        The share, from 0 to 1; NaN if there is no move.

    Raises:
        ValueError: nodes that are not integers or outside the grid, wrong shapes, or a distance that is negative or not
            finite.

    Example:
        >>> share_of_moves_within([[0, 0, 1, 5]], Grid(2, 3), 1.0)  # a stay, a move to a neighbor, a move further
        0.5
    """
    distance = check_number("share_of_moves_within", "distance", distance)
    origin, target = steps_between(*as_series("share_of_moves_within", indices, grid.num_nodes, mask))
    is_move = origin != target
    if not is_move.any():
        return math.nan
    return (grid.distance(origin[is_move], target[is_move]) <= distance + _SLACK).double().mean().item()


def transition_mass_within(
    transitions: ArrayLike | Tensor | TransitionRows,
    indices: ArrayLike | Tensor,
    grid: Grid,
    distance: float,
    mask: ArrayLike | Tensor | None = None,
) -> float:
    """Computes the share of near moves, no further than ``distance`` on the grid, that a chain expects.

    The result is the probability of near moves divided by the probability of leaving a node::

        sum_i n_i sum_{j != i, d(i, j) <= distance} P(j | i)  /  sum_i n_i sum_{j != i} P(j | i)

    n_i is the number of steps of the series that start at node i, including those that stay there. The result is thus
    the expected number of near moves at these steps divided by the expected number of all moves;
    :func:`share_of_moves_within` is the same ratio for the moves that the series made. If the probabilities are counted
    on the series themselves, both are equal.

    Args:
        transitions: P(j | i), as a matrix ``[K, K]`` with row = from, an array-like or a tensor on any device. For
            large maps, a function from nodes, int64 ``[M]`` on the device of ``indices``, to their rows ``[M, K]``,
            such as :meth:`TransitionModel.rows <somvae_ext.nn.TransitionModel.rows>`; it is called only for nodes that
            steps start at, some at a time.
        indices: node of each frame, as for :func:`share_of_moves_within`.
        grid: as for :func:`share_of_moves_within`.
        distance: as for :func:`share_of_moves_within`.
        mask: as for :func:`share_of_moves_within`.

    Returns:
        The share, from 0 to 1; NaN if there is no step, or if the chain never leaves the nodes that steps start at.

    Raises:
        ValueError: anything that :func:`share_of_moves_within` rejects, or transitions that are not numbers or have a
            wrong shape.

    Example:
        >>> chain = [[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        >>> round(transition_mass_within(chain, [[0, 2]], Grid(1, 3), 1.0), 6)  # .3 of .5
        0.6
    """
    distance = check_number("transition_mass_within", "distance", distance)
    origin, _ = steps_between(*as_series("transition_mass_within", indices, grid.num_nodes, mask))
    rows = transitions if callable(transitions) else _rows_of_matrix(transitions, grid.num_nodes)
    nodes, times = origin.unique(return_counts=True)
    tile = max(1, _TILE_VALUES // grid.num_nodes)
    near_mass = leaving_mass = 0.0
    for part, weights in zip(nodes.split(tile), times.double().split(tile), strict=True):
        leaving_rows = rows(part).detach().to(part.device)
        if leaving_rows.shape != (len(part), grid.num_nodes):
            raise ValueError(
                f"transition_mass_within: transitions must give rows of shape [M, K] = {[len(part), grid.num_nodes]}, "
                f"got {list(leaving_rows.shape)}"
            )
        leaving_rows = leaving_rows.scatter(1, part[:, None], 0)
        leaving_mass += (weights @ leaving_rows.sum(dim=1, dtype=torch.float64)).item()
        near_mass += (weights @ _sum_within(leaving_rows, part, grid, distance)).item()
    # The two sums round differently, even if all nodes are near.
    return min(1.0, near_mass / leaving_mass) if leaving_mass > 0 else math.nan


def _sum_within(values: Tensor, nodes: Tensor, grid: Grid, distance: float) -> Tensor:
    """Sums each row ``[K]`` of ``values`` over the nodes near the row's own, float64 ``[M]``."""
    # A window holds the nodes within a number of steps. On hexagons each step covers a distance of sqrt(3) / 2 or more.
    steps = distance * 2 / math.sqrt(3) if grid.topology == "hexagonal" else distance
    window = grid.window_nodes(math.ceil(min(steps, grid.num_nodes)), nodes)
    is_near = (window >= 0) & (grid.distance(nodes[:, None], window) <= distance + _SLACK)
    return torch.where(is_near, values.gather(1, window.clamp_min(0)).double(), 0).sum(dim=1)


def _rows_of_matrix(transitions: ArrayLike | Tensor, num_nodes: int) -> TransitionRows:
    matrix = as_floats("transition_mass_within", "transitions", transitions)
    if matrix.shape != (num_nodes, num_nodes):
        raise ValueError(
            f"transition_mass_within: transitions must have shape [K, K] = {[num_nodes, num_nodes]}, got "
            f"{list(matrix.shape)}"
        )
    return lambda nodes: matrix[nodes.to(matrix.device)]
