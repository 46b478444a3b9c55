"""How far series move on the grid from frame to frame, and how far a chain over its nodes expects them to."""

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

# Far above the rounding of a distance that was computed in another order than the grid's, and far below the difference
# of two distances on a grid, which is at least 1 / (8 distance).
_SLACK = 1e-9
# Probabilities that are looked at at a time (16 MiB of float32).
_TILE_VALUES = 1 << 22

TransitionRows = Callable[[Tensor], Tensor]


def share_of_moves_within(
    indices: ArrayLike | Tensor, grid: Grid, distance: float, mask: ArrayLike | Tensor | None = None
) -> float:
    """Share of the moves of some series that lead no further than ``distance`` on the grid.

    A move is a step from one frame to the next, both of them real, whose nodes differ; a frame that stays where its
    predecessor was is none. On a map in order series whose frames change little move to near nodes.

    Args:
        indices: node of each frame, integers ``[B, T]``, 0 to K - 1, an array-like or a tensor on any device.
        grid: the map's grid, of K nodes.
        distance: how far is near, at least 0, in units of the grid (neighbours are at 1), Euclidean and on a torus the
            shortest way around, as :meth:`Grid.distance <somvae_ext.Grid.distance>`. On rectangles 1 takes 4 nodes and
            2 takes 12, on hexagons 6 and 18.
        mask: which frames are real, bool ``[B, T]``; all by default. Those that are not may hold any integer.

    Returns:
        The share, from 0 to 1; NaN where there is no move.

    Raises:
        ValueError: nodes that are not integers or outside of the grid, other shapes, or a distance that is negative or
            not finite.

    Example:
        >>> share_of_moves_within([[0, 0, 1, 5]], Grid(2, 3), 1.0)  # stays, moves to a neighbour, and further
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
    """Share of the probability of leaving a node that leads no further than ``distance`` on the grid::

        sum_i n_i sum_{j != i, d(i, j) <= distance} P(j | i)  /  sum_i n_i sum_{j != i} P(j | i)

    n_i is the number of steps of the series that start at node i, those that stay there included, so that this is the
    number of near moves that the chain expects at these steps by the number of all moves that it expects: what
    :func:`share_of_moves_within` counts. With the probabilities counted on the series themselves, both are equal.

    Args:
        transitions: P(j | i), the matrix ``[K, K]`` with row = from, an array-like or a tensor on any device; or for
            large maps a function that gives the rows ``[M, K]`` of nodes, int64 ``[M]`` on the device of ``indices``,
            such as :meth:`TransitionModel.rows <somvae_ext.nn.TransitionModel.rows>`: only the nodes that steps start
            at are asked for, some at a time.
        indices: node of each frame, as for :func:`share_of_moves_within`.
        grid: as for :func:`share_of_moves_within`.
        distance: as for :func:`share_of_moves_within`.
        mask: as for :func:`share_of_moves_within`.

    Returns:
        The share, from 0 to 1; NaN where there is no step, and where the chain never leaves the nodes that steps start
        at.

    Raises:
        ValueError: what :func:`share_of_moves_within` refuses, or transitions that are not numbers or of another shape.

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
    # A sum over all nodes and one over the near nodes round differently where these are all.
    return min(1.0, near_mass / leaving_mass) if leaving_mass > 0 else math.nan


def _sum_within(values: Tensor, nodes: Tensor, grid: Grid, distance: float) -> Tensor:
    """Sums each row ``[K]`` of ``values`` over the nodes near the row's own, float64 ``[M]``."""
    # A window holds what is within so many steps. On hexagons a step gets ahead by sqrt(3) / 2 at least.
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
