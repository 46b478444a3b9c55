"""Tests of the neighborhood functions: their weights, the separable ones, and the update of the codes."""

from __future__ import annotations

import map_oracle
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.som import Neighborhood, neighborhood_update
from somvae_ext.som.neighborhoods import NEIGHBORHOOD_NAMES, axis_weights

EPS = torch.finfo(torch.float64).eps


def grids(draw_rows: int, draw_cols: int, topology: str, periodic: bool) -> Grid:
    if topology == "hexagonal" and periodic:
        draw_rows += draw_rows % 2
    return Grid(draw_rows, draw_cols, topology, periodic)  # type: ignore[arg-type]


GRIDS = st.builds(
    grids, st.integers(1, 6), st.integers(1, 6), st.sampled_from(["rectangular", "hexagonal"]), st.booleans()
)
SIGMAS = st.floats(0.3, 8)


def weights_between_nodes(grid: Grid, neighborhood: str | Neighborhood, sigma: float) -> Tensor:
    """Returns the weights ``[K, K]``, read off an update in which each node wins a unit vector of its own."""
    nodes = grid.num_nodes
    one_each = torch.eye(nodes, dtype=torch.float64)
    zeros = torch.zeros(nodes, nodes, dtype=torch.float64)
    count = torch.ones(nodes, dtype=torch.int64)
    return neighborhood_update(zeros, one_each, count, grid, neighborhood, sigma, rate=1.0).T


@pytest.mark.parametrize("name", [name for name in NEIGHBORHOOD_NAMES if name != "square"])
@given(grid=GRIDS, sigma=SIGMAS)
def test_weights_match_the_function_of_the_grid_distance(name: str, grid: Grid, sigma: float) -> None:
    distances = map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic)
    if name == "bubble":  # a distance that equals sigma up to rounding may be inside or outside
        distances[np.isclose(distances, sigma, rtol=1e-12)] = sigma
    expected = map_oracle.neighborhood(name, distances, sigma)
    if name == "bubble" and np.isclose(distances, sigma, rtol=1e-12).any():
        sigma *= 1 + 1e-9
    # d^2 / sigma^2 is at most 600 and has an error of a few roundings, which is the relative error of its exponential.
    bound = 8 * EPS * (distances.max() / sigma) ** 2 + 8 * EPS
    np.testing.assert_allclose(weights_between_nodes(grid, name, sigma), expected, rtol=0, atol=bound)


@given(grid=GRIDS, sigma=SIGMAS)
def test_a_square_includes_nodes_within_sigma_along_both_axes(grid: Grid, sigma: float) -> None:
    place = map_oracle.positions(grid.rows, grid.cols, grid.topology)
    size = np.array([grid.cols, grid.rows * (3**0.5 / 2 if grid.topology == "hexagonal" else 1)])
    along = abs(place[:, None] - place)
    if grid.periodic:
        along = np.minimum(along, size - along)
    if np.isclose(along, sigma, rtol=1e-9).any():
        sigma *= 1 + 1e-6
    assert (weights_between_nodes(grid, "square", sigma).numpy() == (along <= sigma).all(axis=2)).all()


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("radius", [1, 2])
def test_a_bubble_on_hexagons_includes_all_nodes_at_its_radius(radius: int, periodic: bool) -> None:
    """Distances on hexagons contain square roots; rounding must not exclude nodes exactly at the radius."""
    grid = Grid(8, 7, "hexagonal", periodic)
    reached = (weights_between_nodes(grid, "bubble", float(radius)) > 0).sum(dim=1)
    inside = (grid.window_nodes(radius, torch.arange(grid.num_nodes)) >= 0).sum(dim=1)
    assert reached.equal(inside)


def test_a_function_may_return_booleans_but_not_nan() -> None:
    count, total = torch.tensor([2, 0, 0, 0]), torch.tensor([[4.0], [0.0], [0.0], [0.0]])
    codes = neighborhood_update(
        torch.full((4, 1), 9.0), total, count, Grid(2, 2), lambda distance, sigma: distance <= sigma, 1.0
    )
    assert codes.flatten().tolist() == [2, 2, 2, 9]
    with pytest.raises(ValueError, match="neighborhood must give finite weights, got NaN or infinity"):
        neighborhood_update(codes, total, count, Grid(2, 2), lambda distance, sigma: distance / distance, 1.0)


def test_which_neighborhoods_are_separable() -> None:
    separate = [name for name in NEIGHBORHOOD_NAMES if axis_weights(Grid(3, 4), name, 1.0) is not None]
    assert separate == ["gaussian", "fastsom_gaussian", "square"]
    assert axis_weights(Grid(3, 4), lambda distance, sigma: distance, 1.0) is None


@given(grid=GRIDS, sigma=SIGMAS)
def test_the_separable_update_matches_the_general_one(grid: Grid, sigma: float) -> None:
    def general(distance: Tensor, sigma: float) -> Tensor:
        return torch.exp(-distance.square() / (2 * sigma**2))

    generator = torch.Generator().manual_seed(0)
    codebook, total = torch.randn(2, grid.num_nodes, 3, dtype=torch.float64, generator=generator)
    count = torch.randint(0, 3, (grid.num_nodes,), generator=generator)
    total = total * (count > 0)[:, None]
    a, b = (neighborhood_update(codebook, total, count, grid, h, sigma) for h in ("gaussian", general))
    # Both compute weighted means of values of size up to 5, with sums of at most 36 terms and positive weights.
    reached = map_oracle.neighborhood(
        "gaussian", map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic), sigma
    )
    faint = (reached @ count.numpy()) < 1e-200  # near underflow of the weights the results may differ
    torch.testing.assert_close(a[~faint], b[~faint], rtol=1e-11, atol=1e-11)


def test_a_function_gets_distances_from_all_nodes_to_the_winners() -> None:
    seen = []

    def only_itself(distance: Tensor, sigma: float) -> Tensor:
        seen.append((tuple(distance.shape), sigma))
        return (distance == 0).double()

    count = torch.tensor([0, 2, 0, 1, 0, 0])
    total = torch.tensor([[0.0], [4.0], [0.0], [7.0], [0.0], [0.0]])
    codes = neighborhood_update(torch.full((6, 1), 9.0), total, count, Grid(2, 3), only_itself, 1.5)
    assert codes.flatten().tolist() == [9, 2, 9, 7, 9, 9]
    assert seen == [((6, 2), 1.5)]


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan"), float("inf")])
def test_an_invalid_width_is_refused(sigma: float) -> None:
    ones = torch.ones(4, 1)
    with pytest.raises(ValueError, match="sigma must be a finite number above 0"):
        neighborhood_update(ones, ones, torch.ones(4, dtype=torch.int64), Grid(2, 2), "gaussian", sigma)


@pytest.mark.parametrize("name", ["bubble", "square", "triangle"])
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("distance", [1.0, 3**0.5, 2.0, 7**0.5])
@pytest.mark.parametrize("rounding", [-4 * EPS, -EPS, EPS, 4 * EPS])
def test_rounding_of_the_width_does_not_change_which_nodes_are_included(
    name: str, topology: str, distance: float, rounding: float
) -> None:
    """If the width equals a distance between nodes up to rounding, its last bits change neither nodes nor weights."""
    grid = grids(7, 6, topology, periodic=False)
    exact = weights_between_nodes(grid, name, distance)
    moved = weights_between_nodes(grid, name, distance * (1 + rounding))
    assert moved.gt(0).equal(exact.gt(0))
    torch.testing.assert_close(moved, exact, rtol=0, atol=16 * EPS)
