"""Assignment of codes to nodes by how often two codes are the best and second best of a row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.som.initialization import grid_order

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Each random start costs some tens of matrix products: as many starts as fit into a few seconds, but no more than help.
_MAX_TRIES = 32
_WORK = 1 << 25
# Largest map on which pairs of nodes are exchanged afterward: on larger ones that takes too long.
_MAX_EXCHANGE_NODES = 64


def find_relabeling(pairs: Tensor, grid: Grid, *, seed: int = 0) -> Tensor:
    """Finds an order of the codes in which as many pairs of codes as possible are neighbors on the grid.

    This is a quadratic assignment problem, solved approximately (Vogelstein et al. 2015, "Fast approximate quadratic
    programming for graph matching", by scipy) from several starts, of which the best result is taken. One start embeds
    the pairs as a sheet (two eigenvectors of their Laplacian, Belkin and Niyogi 2003) and lays it out on the map; the
    others are random. The new order lowers the topographic error, the share of pairs that are not neighbors. It is no
    evidence of any other order: decoded neighbors may look as different as before. Time is O(K^3), memory O(K^2); above
    322 nodes there is no random start.

    Args:
        pairs: how often two codes were the best and the second best of a row, ``[K, K]``, any numbers of at least 0;
            the two directions are added up.
        grid: grid of the K nodes.
        seed: seed of the random starts.

    Returns:
        int64 ``[K]``, a permutation: ``codebook[order]`` is the codebook in its new order. If no order is better than
        the present one, the present one.

    Raises:
        ValueError: a wrong shape, or numbers that are negative or not finite.
        ModuleNotFoundError: scipy (extra ``som``) is missing.

    Example:
        >>> line = torch.tensor([[0, 0, 5], [0, 0, 5], [0, 0, 0]])  # code 2 lies between the others
        >>> find_relabeling(line, Grid(1, 3))[1].item()
        2
    """
    if pairs.shape != (grid.num_nodes, grid.num_nodes):
        raise ValueError(
            f"find_relabeling: pairs must have shape [K, K] with K = {grid.num_nodes}, got {list(pairs.shape)}"
        )
    counts = pairs.detach().cpu().double()
    if not counts.isfinite().all() or (counts < 0).any():
        raise ValueError("find_relabeling: pairs must hold finite numbers of at least 0, got others")
    counts = counts + counts.T
    counts.fill_diagonal_(0)
    if counts.sum() == 0:
        return torch.arange(grid.num_nodes)
    counts /= counts.sum()
    weights = counts.numpy()
    edges = _neighbor_matrix(grid)
    best = np.arange(grid.num_nodes)
    best_score = float((weights * edges).sum())
    sheet = grid_order(_embedding(counts), grid).numpy()
    for order in _candidate_orders(weights, edges, sheet, seed):
        score = float((weights[np.ix_(order, order)] * edges).sum())
        if score > best_score:
            best, best_score = order, score
    return torch.from_numpy(best)


def _embedding(counts: Tensor) -> Tensor:
    """Embeds the codes as points ``[K, 2]``: the more often two are best and second best, the closer their points."""
    degree = counts.sum(dim=1)
    degree = degree.clamp_min(1e-3 * degree.mean())  # for codes without pairs
    scale = degree.rsqrt()
    laplacian = torch.eye(len(counts), dtype=torch.float64) - scale[:, None] * counts * scale
    _, vectors = torch.linalg.eigh(laplacian)
    return scale[:, None] * vectors[:, 1:3]  # the first is constant


def _candidate_orders(weights: Floats, edges: Floats, sheet: Integers, seed: int) -> Iterator[Integers]:
    """Yields orders of the codes, int64 ``[K]``."""
    from scipy.optimize import quadratic_assignment  # type: ignore[import-untyped]

    nodes = len(weights)
    rng = np.random.default_rng(seed)
    places = [np.argsort(sheet)]  # the node of each code
    for _ in range(min(_MAX_TRIES, _WORK // nodes**3)):
        options = {"maximize": True, "rng": rng, "P0": "randomized"}
        places.append(quadratic_assignment(weights, edges, method="faq", options=options).col_ind)
    for place in places:
        if nodes <= _MAX_EXCHANGE_NODES:
            guess = np.stack([np.arange(nodes), place], axis=1)
            options = {"maximize": True, "rng": rng, "partial_guess": guess}
            yield np.argsort(quadratic_assignment(weights, edges, method="2opt", options=options).col_ind)
        else:
            yield np.argsort(place)


def _neighbor_matrix(grid: Grid) -> Floats:
    """Adjacency matrix of the grid, float64 ``[K, K]``: 1 between neighbors."""
    neighbors = grid.neighbors()
    node, slot = (neighbors >= 0).nonzero(as_tuple=True)
    edges = torch.zeros(grid.num_nodes, grid.num_nodes, dtype=torch.float64)
    edges[node, neighbors[node, slot]] = 1
    return edges.numpy()
