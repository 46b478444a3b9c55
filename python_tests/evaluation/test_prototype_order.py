"""The order of prototypes on the grid, compared with loops over all pairs in float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import map_oracle
import numpy as np
import pandas as pd
import pytest
import torch
from cases import grids
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext import Grid
from somvae_ext.evaluation import prototype_order

REACH = {4: 1.0, 6: 1.0, 8: math.sqrt(2)}  # distance on the grid to the farthest neighbor, by connectivity


def order_by_loops(prototypes: Any, grid: Grid, connectivity: int) -> float:
    rows = np.asarray(prototypes, np.float64).reshape(grid.num_nodes, -1).tolist()
    on_grid = map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic).tolist()
    neighbors, everything = [], []
    for i, j in itertools.combinations(range(grid.num_nodes), 2):
        distance = math.dist(rows[i], rows[j])
        everything.append(distance)
        if on_grid[i][j] <= REACH[connectivity] + 1e-6:
            neighbors.append(distance)
    return math.fsum(neighbors) / len(neighbors) / (math.fsum(everything) / len(everything))


@given(grids(most=5).filter(lambda grid: grid.num_nodes > 1), st.integers(0, 99))
def test_the_order_equals_its_definition(grid: Grid, seed: int) -> None:
    prototypes = np.random.default_rng(seed).normal(size=(grid.num_nodes, 3, 2))
    # Sums of six squares, and of at most 300 distances, in another order.
    for connectivity in grid.connectivities:
        expected = order_by_loops(prototypes, grid, connectivity)
        assert prototype_order(prototypes, grid, connectivity=connectivity) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(
    "grid",
    [Grid(1, 7), Grid(7, 1), Grid(4, 5), Grid(4, 5, "hexagonal"), Grid(4, 3, periodic=True), Grid(2, 2, periodic=True)],
    ids=str,
)
def test_the_grids_first_connectivity_is_the_default(grid: Grid) -> None:
    prototypes = np.random.default_rng(0).normal(size=(grid.num_nodes, 4))
    expected = order_by_loops(prototypes, grid, 4 if grid.topology == "rectangular" else 6)
    assert prototype_order(prototypes, grid) == pytest.approx(expected, rel=1e-13)


def test_an_ordered_map_has_a_smaller_value_than_shuffled_prototypes() -> None:
    grid = Grid(8, 8)
    in_order = prototype_order(grid.coordinates(), grid)
    places = grid.coordinates().tolist()
    mean = math.fsum(math.dist(a, b) for a, b in itertools.combinations(places, 2)) / (64 * 63 / 2)
    assert in_order == pytest.approx(1 / mean)  # neighbors are at distance 1
    assert in_order < 0.25
    shuffled = [
        prototype_order(grid.coordinates()[torch.randperm(64, generator=torch.Generator().manual_seed(seed))], grid)
        for seed in range(20)
    ]
    assert min(shuffled) > 0.8
    assert np.mean(shuffled) == pytest.approx(1, abs=0.05)


@given(st.integers(0, 99), st.floats(1e-6, 1e6), st.floats(-1e3, 1e3))
def test_units_and_origin_do_not_matter(seed: int, scale: float, shift: float) -> None:
    prototypes, grid = np.random.default_rng(seed).normal(size=(12, 3)), Grid(3, 4)
    moved = scale * (prototypes + shift)
    # The shift multiplies the relative rounding error of the differences by about 1e3.
    assert prototype_order(moved, grid) == pytest.approx(prototype_order(prototypes, grid), rel=1e-11)


def test_the_order_of_two_nodes_is_one() -> None:
    assert prototype_order([[0.0], [3.0]], Grid(1, 2)) == 1
    assert prototype_order([[0.0], [3.0]], Grid(2, 1, periodic=True)) == 1


def test_prototypes_that_are_all_equal_have_no_order() -> None:
    assert math.isnan(prototype_order(np.full((6, 2), 0.1), Grid(2, 3)))
    assert math.isnan(prototype_order(np.zeros((6, 0)), Grid(2, 3)))


def test_only_the_border_between_groups_of_equal_prototypes_counts() -> None:
    # One of 3 pairs of neighbors differs, and 4 of all 6 pairs.
    assert prototype_order([[0.0], [0.0], [1.0], [1.0]], Grid(1, 4)) == pytest.approx((1 / 3) / (4 / 6))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_prototypes_that_are_not_finite_give_nan(value: float) -> None:
    assert math.isnan(prototype_order([[0.0], [value], [1.0]], Grid(1, 3)))


def test_on_large_maps_a_random_sample_of_pairs_is_compared() -> None:
    grid = Grid(5, 205)  # one node more than the limit up to which all pairs are compared
    prototypes = np.random.default_rng(0).normal(size=(1025, 5))
    exact = order_by_loops(prototypes, grid, 4)
    drawn = [prototype_order(prototypes, grid, seed=seed) for seed in range(5)]
    assert len({exact, *drawn}) == 6
    # Distances between normal vectors in five dimensions have a standard deviation of .34 of their mean. The tolerance
    # is six standard errors of a mean of 20,000 pairs.
    assert drawn == pytest.approx([exact] * 5, rel=6 * 0.34 / math.sqrt(20_000))
    assert prototype_order(prototypes, grid, seed=3) == drawn[3]


def test_the_order_is_exact_up_to_1024_nodes() -> None:
    prototypes, grid = np.random.default_rng(0).normal(size=(1024, 2)), Grid(4, 256)
    assert prototype_order(prototypes, grid) == pytest.approx(order_by_loops(prototypes, grid, 4), rel=1e-12)
    assert prototype_order(prototypes, grid) == prototype_order(prototypes, grid, seed=1)


def test_prototypes_of_many_values_are_compared_a_few_pairs_at_a_time() -> None:
    prototypes, grid = np.random.default_rng(0).normal(size=(12, 3)), Grid(3, 4)
    repeated = np.repeat(prototypes, 100_000, axis=1)  # all distances grow by the same factor
    # The 300,000 squares are added up pairwise.
    assert prototype_order(repeated, grid) == pytest.approx(prototype_order(prototypes, grid), rel=1e-13)


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.float16,
        np.ndarray.tolist,
        pd.DataFrame,
        torch.from_numpy,
        lambda values: torch.tensor(values, dtype=torch.bfloat16),
        lambda values: torch.nn.Parameter(torch.tensor(values, dtype=torch.float32)),
        lambda values: values.reshape(6, 3, 1),
    ],
)
def test_prototypes_may_be_arrays_of_any_kind(convert: Any) -> None:
    whole_numbers = np.random.default_rng(0).integers(-9, 9, size=(6, 3))  # exact in every dtype
    expected = order_by_loops(whole_numbers, Grid(2, 3), 4)
    assert prototype_order(convert(whole_numbers), Grid(2, 3)) == pytest.approx(expected, rel=1e-14)


def test_the_order_is_the_same_on_every_device(device: torch.device) -> None:
    for grid in (Grid(3, 4), Grid(33, 32)):
        prototypes = torch.randn(grid.num_nodes, 3, generator=torch.Generator().manual_seed(0))
        expected = prototype_order(prototypes, grid)
        assert prototype_order(prototypes.to(device), grid) == pytest.approx(expected, rel=1e-12)


def test_data_without_an_order_are_refused() -> None:
    with pytest.raises(ValueError, match="grid must have at least 2 nodes, got 1 x 1"):
        prototype_order([[1.0]], Grid(1, 1))
    expected = r"prototypes must have shape \[K, ...\] with one for each of the grid's 6 nodes, got \[5, 2\]"
    with pytest.raises(ValueError, match=expected):
        prototype_order(np.zeros((5, 2)), Grid(2, 3))
    with pytest.raises(ValueError, match="connectivity must be 4 or 8 on a rectangular grid, got 6"):
        prototype_order(np.eye(6), Grid(2, 3), connectivity=6)
    with pytest.raises(ValueError, match="prototypes must hold real numbers, got strings"):
        prototype_order(["a", "b"], Grid(1, 2))
    with pytest.raises(ValueError, match="prototype_order: seed must be an integer"):
        prototype_order(np.eye(6), Grid(2, 3), seed=-1)
