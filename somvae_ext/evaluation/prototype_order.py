"""How far neighbouring nodes of a map stand for alike things."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_floats
from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.grid import Connectivity, Grid

# Values of the prototypes that are subtracted at a time (8 MiB of float64).
_TILE_VALUES = 1 << 20


def prototype_order(
    prototypes: ArrayLike | Tensor,
    grid: Grid,
    *,
    connectivity: Connectivity | None = None,
    max_pairs: int = 50_000,
    seed: int = 0,
) -> float:
    """Mean distance of grid neighbours, as a share of that of all pairs of nodes::

        mean over neighbours i, j of |p_i - p_j|  /  mean over all i != j of |p_i - p_j|

    Distances are Euclidean. It is about 1 where the grid says nothing about the prototypes, and the smaller the more
    alike neighbours are. Unlike the topographic error it needs no data; of decoded codes, such as images, it measures
    how smoothly the picture of the map changes. Compare it at equal grids only: neighbours on a larger map can be
    closer.

    Args:
        prototypes: what each node stands for, ``[K, ...]`` in the grid's order: codes, decoded or not; an array-like or
            a tensor on any device.
        grid: the map's grid, of K = R * C nodes, at least two.
        connectivity: neighbours of a node. By default 4 on rectangles, unlike for the topographic error, because the
            SOM-VAE's loss knows these, and 6 on hexagons; on rectangles 8 adds those at a corner.
        max_pairs: how many pairs the denominator takes at most. It is exact where there are no more, by default up to
            K = 316. Of more pairs as many are drawn, with repetition; the standard error of the mean of 50,000
            distances is below 1 % unless they vary by more than twice their mean. Neighbours are all counted.
        seed: draws them, at least 0; the same on every device.

    Returns:
        The ratio, at least 0. NaN if the distances of the denominator are all 0, which is when all prototypes are
        equal, and if a prototype holds NaN or infinity.

    Raises:
        ValueError: prototypes that are not numbers or not one for each node, a grid of one node, a connectivity that
            the grid does not have, ``max_pairs`` below 1, or a negative seed.

    Example:
        >>> prototype_order([[0.0], [1.0], [2.0]], Grid(1, 3))  # (1 + 1) / 2 by (1 + 1 + 2) / 3
        0.75
    """
    codes = as_floats("prototype_order", "prototypes", prototypes)
    if codes.dim() == 0 or len(codes) != grid.num_nodes:
        raise ValueError(
            f"prototype_order: prototypes must have shape [K, ...] with one for each of the grid's {grid.num_nodes} "
            f"nodes, got {list(codes.shape)}"
        )
    if grid.num_nodes < 2:
        raise ValueError(f"prototype_order: grid must have at least 2 nodes, got {grid.rows} x {grid.cols}")
    max_pairs = check_integer("prototype_order", "max_pairs", max_pairs)
    seed = check_integer("prototype_order", "seed", seed, Bounds(at_least=0, at_most=2**63 - 1))
    codes = codes.reshape(len(codes), math.prod(codes.shape[1:]))
    between_neighbors = _mean_distance(codes, _neighbors(grid, connectivity))
    between_all = _mean_distance(codes, _pairs(grid.num_nodes, max_pairs, seed))
    return between_neighbors / between_all if between_all > 0 else math.nan


def _neighbors(grid: Grid, connectivity: Connectivity | None) -> Tensor:
    """Each pair of neighbours once, int64 ``[2, P]``."""
    neighbors = grid.neighbors(connectivity=connectivity)
    first, slot = (neighbors > torch.arange(grid.num_nodes, device="cpu")[:, None]).nonzero(as_tuple=True)
    return torch.stack([first, neighbors[first, slot]])


def _pairs(num_nodes: int, most: int, seed: int) -> Tensor:
    """Each pair of different nodes once, or ``most`` random ones of more, int64 ``[2, P]``."""
    if num_nodes * (num_nodes - 1) // 2 <= most:
        return torch.triu_indices(num_nodes, num_nodes, offset=1, device="cpu")
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(num_nodes, (most,), generator=generator, device="cpu")
    step = torch.randint(1, num_nodes, (most,), generator=generator, device="cpu")
    return torch.stack([first, (first + step) % num_nodes])


def _mean_distance(codes: Tensor, pairs: Tensor) -> float:
    """Of the rows ``[K, D]`` at each pair; differences are taken in float64."""
    total = 0.0
    for first, second in pairs.to(codes.device).split(max(1, _TILE_VALUES // max(1, codes.shape[1])), dim=1):
        total += (codes[first].double() - codes[second].double()).square().sum(dim=1).sqrt().sum().item()
    return total / pairs.shape[1]
