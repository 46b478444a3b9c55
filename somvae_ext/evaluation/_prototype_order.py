"""How similar the prototypes of neighboring nodes are."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_floats
from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.grid import Connectivity, Grid

# Largest map of which all pairs of nodes are compared.
_MAX_NODES_ALL_PAIRS = 1024
_NUM_RANDOM_PAIRS = 20_000
# Prototype values that are subtracted at a time (8 MiB of float64).
_TILE_VALUES = 1 << 20


def prototype_order(
    prototypes: ArrayLike | Tensor,
    grid: Grid,
    *,
    connectivity: Connectivity | None = None,
    seed: int = 0,
) -> float:
    """Computes the mean distance of grid neighbors as a share of that of all pairs of nodes.

    The ratio, with Euclidean distances, is::

        mean over neighbors i, j of |p_i - p_j|  /  mean over all i != j of |p_i - p_j|

    The ratio is about 1 if the grid says nothing about the prototypes, and smaller the more similar neighbors are.
    Unlike the topographic error it needs no data. For decoded codes, such as images, it measures how smoothly the
    picture of the map changes. Compare it for equal grids only: neighbors on a larger map can be closer.

    Args:
        prototypes: what each node stands for, ``[K, ...]`` in the grid's order: codes, decoded or not; an array-like or
            a tensor on any device.
        grid: the map's grid, of K = R * C nodes, at least two.
        connectivity: number of neighbors per node. By default 4 on rectangles, those of the SOM-VAE's loss (the default
            of the topographic error is 8), and 6 on hexagons; on rectangles 8 adds the diagonal neighbors.
        seed: seed of the random pairs on a map of more than 1024 nodes, at least 0. There the denominator is the mean
            over 20,000 random pairs, the same on every device; its relative standard error is 0.2 % if distances vary
            by 30 % of their mean. On smaller maps all pairs count. The numerator counts all neighbors on any map.

    Returns:
        The ratio, at least 0. NaN if all distances of the denominator are 0, as when all prototypes are equal, or if a
        prototype holds NaN or infinity.

    Raises:
        ValueError: prototypes that are not numbers or not one per node, a grid of one node, a connectivity that the
            grid does not have, or a negative seed.

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
    seed = check_integer("prototype_order", "seed", seed, Bounds(at_least=0, at_most=2**63 - 1))
    codes = codes.reshape(len(codes), math.prod(codes.shape[1:]))
    between_neighbors = _mean_distance(codes, _neighbors(grid, connectivity))
    if grid.num_nodes <= _MAX_NODES_ALL_PAIRS:
        between_all = torch.pdist(codes.double()).mean().item()
    else:
        between_all = _mean_distance(codes, _random_pairs(grid.num_nodes, seed))
    return between_neighbors / between_all if between_all > 0 else math.nan


def _neighbors(grid: Grid, connectivity: Connectivity | None) -> Tensor:
    """Each pair of neighbors once, int64 ``[2, P]``."""
    neighbors = grid.neighbors(connectivity=connectivity)
    first, slot = (neighbors > torch.arange(grid.num_nodes, device="cpu")[:, None]).nonzero(as_tuple=True)
    return torch.stack([first, neighbors[first, slot]])


def _random_pairs(num_nodes: int, seed: int) -> Tensor:
    """Random pairs of different nodes, int64 ``[2, P]``."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(num_nodes, (_NUM_RANDOM_PAIRS,), generator=generator, device="cpu")
    step = torch.randint(1, num_nodes, (_NUM_RANDOM_PAIRS,), generator=generator, device="cpu")
    return torch.stack([first, (first + step) % num_nodes])


def _mean_distance(codes: Tensor, pairs: Tensor) -> float:
    """Mean distance between the codes of each pair; differences are taken in float64."""
    total = 0.0
    for first, second in pairs.to(codes.device).split(max(1, _TILE_VALUES // max(1, codes.shape[1])), dim=1):
        total += (codes[first].double() - codes[second].double()).square().sum(dim=1).sqrt().sum().item()
    return total / pairs.shape[1]
