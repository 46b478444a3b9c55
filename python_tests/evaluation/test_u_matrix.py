"""The U-matrix: distances by hand, and a float64 brute force over the grid's coordinates."""

from __future__ import annotations

import math

import numpy as np
import oracle
import pytest
import torch
from cases import GRIDS

from somvae_ext import Grid
from somvae_ext.evaluation import u_matrix

SQRT2 = math.sqrt(2)


def test_a_square_of_four_nodes() -> None:
    distances = u_matrix(torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 1.0], [3.0, 0.0]]), Grid(2, 2))
    assert distances.pairs.tolist() == [[0, 2], [0, 1], [1, 3], [2, 3]]
    assert distances.pair.tolist() == [1, 5, 4, math.sqrt(10)]
    assert distances.node.tolist() == [3, 4.5, (1 + math.sqrt(10)) / 2, (4 + math.sqrt(10)) / 2]
    assert distances.diagonal.tolist() == [[(3 + math.sqrt(18)) / (2 * SQRT2)]]


def test_a_plane_is_flat_in_all_directions() -> None:
    row, col = np.indices((4, 5)).reshape(2, -1)
    distances = u_matrix(torch.from_numpy(np.stack([row, col], axis=1) * 3.0), Grid(4, 5))
    assert (distances.node == 3).all()
    assert (distances.pair == 3).all()
    np.testing.assert_allclose(distances.diagonal, np.full((3, 4), 3), rtol=4 * np.finfo(np.float64).eps)


def test_hexagons_have_six_neighbours_and_no_diagonals() -> None:
    codebook = torch.zeros(9, 1)
    codebook[4] = 6.0  # the middle of the odd row; its neighbours are 1, 2, 3, 5, 7 and 8
    distances = u_matrix(codebook, Grid(3, 3, "hexagonal"))
    assert distances.node.tolist() == [0, 6 / 4, 6 / 3, 6 / 5, 6, 6 / 3, 0, 6 / 4, 6 / 3]
    assert distances.diagonal.shape == (0, 0)


def test_neighbours_around_the_edge_of_a_periodic_grid_count() -> None:
    codebook = torch.tensor([[0.0], [1.0], [5.0]])
    assert u_matrix(codebook, Grid(1, 3)).node.tolist() == [1, 2.5, 4]
    periodic = u_matrix(codebook, Grid(1, 3, periodic=True))
    assert periodic.node.tolist() == [3, 2.5, 4.5]
    assert {tuple(pair) for pair in periodic.pairs.tolist()} == {(0, 1), (0, 2), (1, 2)}


def test_a_node_without_neighbours_is_at_distance_zero() -> None:
    for periodic in (False, True):
        distances = u_matrix(torch.ones(1, 3), Grid(1, 1, periodic=periodic))
        assert distances.node.tolist() == [0]
        assert (distances.pairs.shape, distances.pair.shape, distances.diagonal.shape) == ((0, 2), (0,), (0, 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_random_codes_agree_with_a_brute_force(grid: Grid, dtype: torch.dtype) -> None:
    codebook = torch.randn(grid.num_nodes, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    distances = u_matrix(codebook, grid)
    codes = codebook.double().numpy()
    near = oracle.neighbor_table(grid.rows, grid.cols, grid.topology, grid.periodic)
    # Sums of 7 squares and of 6 distances, in float64.
    rtol = 16 * np.finfo(np.float64).eps
    for node, slots in enumerate(near):
        away = [np.linalg.norm(codes[node] - codes[other]) for other in slots if other >= 0]
        np.testing.assert_allclose(distances.node[node], np.mean(away) if away else 0, rtol=rtol)
    pairs = distances.pairs.tolist()
    assert len(pairs) == len({tuple(pair) for pair in pairs}) == (near >= 0).sum() / 2
    assert all(a < b and b in near[a] for a, b in pairs)
    apart = [np.linalg.norm(codes[a] - codes[b]) for a, b in pairs]
    np.testing.assert_allclose(distances.pair, apart, rtol=rtol)


def test_parameters_that_ask_for_gradients_are_taken() -> None:
    assert not u_matrix(torch.nn.Parameter(torch.rand(6, 2)), Grid(2, 3)).node.requires_grad


@pytest.mark.parametrize("shape", [(5, 2), (6,), (2, 3, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"u_matrix: codebook must have shape \[K, D\] .* 6 nodes, got \["):
        u_matrix(torch.zeros(shape), Grid(2, 3))
