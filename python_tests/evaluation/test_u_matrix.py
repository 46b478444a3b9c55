"""The U-matrix, compared with distances by hand and with brute force over the grid's coordinates in float64."""

from __future__ import annotations

import math
from typing import Any

import map_oracle
import numpy as np
import oracle
import pytest
import torch
from cases import GRIDS, grids
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext import Grid
from somvae_ext.evaluation import u_matrix
from somvae_ext.som import Metric

SQRT2 = math.sqrt(2)
WEIGHTS = torch.tensor([1.0, 4.0, 0.0])  # feature weights
REACH = {4: 1.0, 6: 1.0, 8: SQRT2}  # distance on the grid to the farthest neighbor, by connectivity


def test_a_square_of_four_nodes() -> None:
    codebook = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [3.0, 0.0]])
    distances = u_matrix(codebook, Grid(2, 2), connectivity=4)
    assert distances.pairs.tolist() == [[0, 2], [0, 1], [1, 3], [2, 3]]
    assert distances.pair.tolist() == [1, 5, 4, math.sqrt(10)]
    assert distances.node.tolist() == [3, 4.5, (1 + math.sqrt(10)) / 2, (4 + math.sqrt(10)) / 2]
    assert distances.diagonal.tolist() == [[(3 + math.sqrt(18)) / (2 * SQRT2)]]
    distances = u_matrix(codebook, Grid(2, 2))
    assert distances.pairs.tolist() == [[0, 2], [0, 1], [0, 3], [1, 3], [1, 2], [2, 3]]
    assert distances.pair.tolist() == [1, 5, 3, 4, math.sqrt(18), math.sqrt(10)]
    assert distances.node[0] == (1 + 5 + 3) / 3


def test_a_plane_is_flat_in_all_directions() -> None:
    row, col = np.indices((4, 5)).reshape(2, -1)
    distances = u_matrix(torch.from_numpy(np.stack([row, col], axis=1) * 3.0), Grid(4, 5), connectivity=4)
    assert (distances.node == 3).all()
    assert (distances.pair == 3).all()
    np.testing.assert_allclose(distances.diagonal, np.full((3, 4), 3), rtol=4 * np.finfo(np.float64).eps)


def test_hexagons_have_six_neighbors_and_no_diagonals() -> None:
    codebook = torch.zeros(9, 1)
    codebook[4] = 6.0  # the middle of the odd row; its neighbors are 1, 2, 3, 5, 7 and 8
    distances = u_matrix(codebook, Grid(3, 3, "hexagonal"))
    assert distances.node.tolist() == [0, 6 / 4, 6 / 3, 6 / 5, 6, 6 / 3, 0, 6 / 4, 6 / 3]
    assert distances.diagonal.shape == (0, 0)


def test_neighbors_around_the_edge_of_a_periodic_grid_count() -> None:
    codebook = torch.tensor([[0.0], [1.0], [5.0]])
    assert u_matrix(codebook, Grid(1, 3)).node.tolist() == [1, 2.5, 4]
    periodic = u_matrix(codebook, Grid(1, 3, periodic=True))
    assert periodic.node.tolist() == [3, 2.5, 4.5]
    assert {tuple(pair) for pair in periodic.pairs.tolist()} == {(0, 1), (0, 2), (1, 2)}


def test_a_node_without_neighbors_is_at_distance_zero() -> None:
    for periodic in (False, True):
        distances = u_matrix(torch.ones(1, 3), Grid(1, 1, periodic=periodic))
        assert distances.node.tolist() == [0]
        assert (distances.pairs.shape, distances.pair.shape, distances.diagonal.shape) == ((0, 2), (0,), (0, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize(
    ("grid", "connectivity"), [(grid, number) for grid in GRIDS for number in grid.connectivities], ids=str
)
def test_random_codes_agree_with_a_brute_force(grid: Grid, connectivity: Any, dtype: torch.dtype) -> None:
    codebook = torch.randn(grid.num_nodes, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    distances = u_matrix(codebook, grid, connectivity=connectivity)
    codes = codebook.double().numpy()
    apart = oracle.grid_distance(grid.rows, grid.cols, grid.topology, grid.periodic)
    near = (apart > 0) & (apart < REACH[connectivity] + 1e-9)
    # Sums of 7 squares, and of 8 distances, in float64.
    rtol = 16 * np.finfo(np.float64).eps
    for node, others in enumerate(near):
        away = [np.linalg.norm(codes[node] - codes[other]) for other in np.flatnonzero(others)]
        np.testing.assert_allclose(distances.node[node], np.mean(away) if away else 0, rtol=rtol)
    pairs = distances.pairs.tolist()
    assert len(pairs) == len({tuple(pair) for pair in pairs}) == near.sum() / 2
    assert all(a < b and near[a, b] for a, b in pairs)
    np.testing.assert_allclose(distances.pair, [np.linalg.norm(codes[a] - codes[b]) for a, b in pairs], rtol=rtol)


@given(grids(most=5), st.integers(0, 99))
def test_eight_neighbors_are_those_at_the_sides_and_corners(grid: Grid, seed: int) -> None:
    codebook = np.random.default_rng(seed).normal(size=(grid.num_nodes, 2))
    by_default, largest = u_matrix(codebook, grid), u_matrix(codebook, grid, connectivity=grid.connectivities[-1])
    assert all(torch.equal(a, b) for a, b in zip(by_default, largest, strict=True))
    apart = oracle.grid_distance(grid.rows, grid.cols, grid.topology, grid.periodic)
    near = {tuple(pair) for pair in np.argwhere(np.triu((apart > 0) & (apart < REACH[grid.connectivities[-1]] + 1e-9)))}
    assert {tuple(pair) for pair in by_default.pairs.tolist()} == near


def manhattan(x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return (x - codes).abs().sum(dim=2)


@pytest.mark.parametrize(
    ("metric", "name", "options"),
    [
        ("cosine", "cosine", {}),
        ("manhattan", "manhattan", {}),
        ("chebyshev", "chebyshev", {}),
        (Metric("minkowski", p=3), "minkowski", {"p": 3.0}),
        (Metric("euclidean", feature_weights=WEIGHTS), "euclidean", {"weights": WEIGHTS.numpy()}),
        (Metric("cosine", feature_weights=WEIGHTS), "cosine", {"weights": WEIGHTS.numpy()}),
        (manhattan, "manhattan", {}),
    ],
)
@pytest.mark.parametrize("grid", [Grid(7, 8), Grid(4, 5, "hexagonal", True)], ids=str)
def test_distances_use_the_requested_metric(metric: Any, name: str, options: Any, grid: Grid) -> None:
    codes = np.random.default_rng(0).normal(size=(grid.num_nodes, 3))
    expected = map_oracle.distances(name, codes, codes, **options)
    distances = u_matrix(codes, grid, metric)
    first, second = distances.pairs.numpy().T
    # Cosines are computed from sums of three products, and 1 - cos has their absolute error.
    np.testing.assert_allclose(distances.pair, expected[first, second], rtol=1e-12, atol=1e-14)
    assert len(first) > 32  # more than a block
    if grid.topology == "rectangular":
        at = np.arange(grid.num_nodes).reshape(grid.rows, grid.cols)
        both = expected[at[:-1, :-1], at[1:, 1:]] + expected[at[:-1, 1:], at[1:, :-1]]
        np.testing.assert_allclose(distances.diagonal, both / (2 * SQRT2), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", manhattan])
def test_a_code_with_a_nan_has_nan_distances(metric: Any) -> None:
    codebook = np.array([[1.0, 2.0], [3.0, np.nan], [4.0, 5.0], [6.0, 5.0]])
    distances = u_matrix(codebook, Grid(1, 4), metric)
    assert distances.pair.isnan().tolist() == [True, True, False]
    assert distances.node.isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize("convert", [np.asarray, np.float32, torch.tensor, np.ndarray.tolist, np.int64])
def test_codes_may_be_arrays_of_any_kind(convert: Any) -> None:
    codebook = np.array([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [3.0, 0.0]])
    assert u_matrix(convert(codebook), Grid(2, 2)).pair.tolist() == u_matrix(codebook, Grid(2, 2)).pair.tolist()


def test_parameters_that_require_gradients_are_accepted() -> None:
    assert not u_matrix(torch.nn.Parameter(torch.rand(6, 2)), Grid(2, 3)).node.requires_grad


@pytest.mark.parametrize("shape", [(5, 2), (6,), (2, 3, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"u_matrix: codebook must have shape \[K, D\] .* 6 nodes, got \["):
        u_matrix(torch.zeros(shape), Grid(2, 3))


@pytest.mark.parametrize(
    ("grid", "connectivity", "expected"),
    [(Grid(2, 3), 6, "4 or 8 on a rectangular"), (Grid(2, 3, "hexagonal"), 8, "6 on a hexagonal")],
    ids=str,
)
def test_other_connectivities_are_refused(grid: Grid, connectivity: Any, expected: str) -> None:
    with pytest.raises(ValueError, match=f"connectivity must be {expected} grid, got {connectivity}"):
        u_matrix(torch.zeros(6, 2), grid, connectivity=connectivity)
