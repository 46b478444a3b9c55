"""Tests of the relabeling, which moves codes so that best and second-best codes are often grid neighbors."""

from __future__ import annotations

import itertools

import pytest
import torch

from somvae_ext import Grid
from somvae_ext.som import find_relabeling


def share(pairs: torch.Tensor, grid: Grid, order: torch.Tensor) -> float:
    """Returns the share of the pairs that are grid neighbors if the codes are in this order."""
    moved = pairs[order][:, order].double()
    node, slot = (grid.neighbors() >= 0).nonzero(as_tuple=True)
    near = torch.zeros_like(moved)
    near[node, grid.neighbors()[node, slot]] = 1
    return float((moved * near).sum() / moved.sum())


@pytest.mark.parametrize("grid", [Grid(2, 3), Grid(1, 6), Grid(2, 3, "hexagonal"), Grid(2, 3, periodic=True)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_small_maps_get_the_optimal_order(grid: Grid, seed: int) -> None:
    pairs = torch.randint(50, (6, 6), generator=torch.Generator().manual_seed(seed))
    pairs.fill_diagonal_(0)
    best = max(share(pairs, grid, torch.tensor(order)) for order in itertools.permutations(range(6)))
    assert share(pairs, grid, find_relabeling(pairs, grid)) == pytest.approx(best)


@pytest.mark.parametrize("grid", [Grid(5, 5), Grid(8, 8), Grid(4, 6, "hexagonal")], ids=str)
def test_a_shuffled_map_is_restored(grid: Grid) -> None:
    nodes = torch.arange(grid.num_nodes)
    ordered = torch.exp(-grid.distance(nodes[:, None], nodes).square()).fill_diagonal_(0)  # as for data on a sheet
    shuffle = torch.randperm(grid.num_nodes, generator=torch.Generator().manual_seed(0))
    pairs = ordered[shuffle][:, shuffle]
    order = find_relabeling(pairs, grid)
    assert order.sort().values.equal(nodes)
    assert share(pairs, grid, order) == pytest.approx(share(ordered, grid, nodes))


def test_an_optimal_order_is_kept() -> None:
    grid = Grid(1, 4)
    pairs = torch.diag(torch.ones(3), 1)
    assert find_relabeling(pairs, grid).tolist() == [0, 1, 2, 3]
    assert find_relabeling(torch.zeros(4, 4), grid).tolist() == [0, 1, 2, 3]
    assert find_relabeling(torch.ones(1, 1), Grid(1, 1)).tolist() == [0]


def test_the_same_seed_gives_the_same_order() -> None:
    pairs = torch.rand(36, 36, generator=torch.Generator().manual_seed(0))
    assert find_relabeling(pairs, Grid(6, 6), seed=3).equal(find_relabeling(pairs, Grid(6, 6), seed=3))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (torch.zeros(3, 4), r"pairs must have shape \[K, K\] with K = 4, got \[3, 4\]"),
        (torch.full((4, 4), -1.0), "pairs must hold finite numbers of at least 0"),
        (torch.full((4, 4), torch.nan), "pairs must hold finite numbers of at least 0"),
    ],
)
def test_invalid_pair_counts_are_refused(pairs: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_relabeling(pairs, Grid(2, 2))
