"""Moves on the grid and a chain's probability of them, compared with loops over steps and nodes in float64."""

from __future__ import annotations

import math
from typing import Any

import map_oracle
import numpy as np
import pytest
import torch
from cases import grids
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.evaluation import share_of_moves_within, transition_mass_within
from somvae_ext.nn import TransitionModel

DISTANCES = [0.0, 0.9, 1.0, math.sqrt(2), math.sqrt(3), 2.0, 3.5, 100.0]


def distances_of(grid: Grid) -> Any:
    return map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic)


def steps_by_loops(indices: Any, mask: Any) -> list[tuple[int, int]]:
    steps = []
    for row, real in zip(np.asarray(indices), np.asarray(mask), strict=True):
        for t in range(1, len(row)):
            if real[t - 1] and real[t]:
                steps.append((int(row[t - 1]), int(row[t])))
    return steps


def moves_by_loops(indices: Any, grid: Grid, distance: float, mask: Any) -> float:
    moves = [(i, j) for i, j in steps_by_loops(indices, mask) if i != j]
    near = [(i, j) for i, j in moves if distances_of(grid)[i, j] <= distance + 1e-6]
    return len(near) / len(moves) if moves else math.nan


def mass_by_loops(matrix: Any, indices: Any, grid: Grid, distance: float, mask: Any) -> float:
    near, leaving = [], []
    for i, _ in steps_by_loops(indices, mask):
        for j in range(grid.num_nodes):
            if j != i:
                leaving.append(float(matrix[i, j]))
                if distances_of(grid)[i, j] <= distance + 1e-6:
                    near.append(float(matrix[i, j]))
    return math.fsum(near) / math.fsum(leaving) if math.fsum(leaving) > 0 else math.nan


def series(grid: Grid, seed: int, shape: tuple[int, int] = (3, 7)) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    indices, mask = rng.integers(grid.num_nodes, size=shape), rng.random(shape) < 0.8
    return torch.from_numpy(indices), torch.from_numpy(mask)


def chain(grid: Grid, seed: int) -> Any:
    return np.random.default_rng(seed).dirichlet(np.full(grid.num_nodes, 0.5), size=grid.num_nodes)


@given(grids(most=5), st.integers(0, 99), st.sampled_from(DISTANCES))
def test_the_share_of_moves_equals_its_definition(grid: Grid, seed: int, distance: float) -> None:
    indices, mask = series(grid, seed)
    everything = torch.ones_like(mask)
    expected = moves_by_loops(indices, grid, distance, everything)
    assert share_of_moves_within(indices, grid, distance) == pytest.approx(expected, rel=1e-14, nan_ok=True)
    expected = moves_by_loops(indices, grid, distance, mask)
    assert share_of_moves_within(indices, grid, distance, mask) == pytest.approx(expected, rel=1e-14, nan_ok=True)


@given(grids(most=5), st.integers(0, 99), st.sampled_from(DISTANCES))
def test_the_transition_mass_equals_its_definition(grid: Grid, seed: int, distance: float) -> None:
    (indices, mask), matrix = series(grid, seed), chain(grid, seed)
    expected = mass_by_loops(matrix, indices, grid, distance, mask)
    # Sums of at most a few hundred probabilities, in another order.
    result = transition_mass_within(matrix, indices, grid, distance, mask)
    assert result == pytest.approx(expected, rel=1e-12, abs=1e-15, nan_ok=True)


@pytest.mark.parametrize(
    ("grid", "distance", "near"),
    [
        (Grid(5, 5), 1.0, 4),
        (Grid(5, 5), math.sqrt(2), 8),
        (Grid(5, 5), 2.0, 12),
        (Grid(6, 6, "hexagonal"), 1.0, 6),
        (Grid(6, 6, "hexagonal"), math.sqrt(3), 12),
        (Grid(6, 6, "hexagonal"), 2.0, 18),
        (Grid(6, 6, "hexagonal", periodic=True), 2.0, 18),
        (Grid(1, 9), 2.0, 4),
    ],
    ids=str,
)
def test_a_uniform_chain_moves_to_each_node_equally_often(grid: Grid, distance: float, near: int) -> None:
    center = grid.num_nodes // 2 if grid.topology == "rectangular" else 2 * grid.cols + 2
    uniform = np.full((grid.num_nodes, grid.num_nodes), 1 / grid.num_nodes)
    mass = transition_mass_within(uniform, [[center, 0]], grid, distance)
    assert mass == pytest.approx(near / (grid.num_nodes - 1), rel=1e-12)
    moves = [[center, node] for node in range(grid.num_nodes)]
    assert share_of_moves_within(moves, grid, distance) == pytest.approx(near / (grid.num_nodes - 1), rel=1e-12)


@given(st.integers(0, 99))
def test_mass_of_a_chain_counted_on_the_series_is_their_share_of_moves(seed: int) -> None:
    grid = Grid(3, 4)
    indices, mask = series(grid, seed, (4, 9))
    counted = TransitionModel(12).fit_counts(indices, mask, pseudocount=0)
    for distance in (1.0, 2.0):
        expected = share_of_moves_within(indices, grid, distance, mask)
        # The rows of the model are rounded to float32.
        assert transition_mass_within(counted.rows, indices, grid, distance, mask) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["dense", "local"])
@pytest.mark.parametrize(
    "grid", [Grid(4, 5), Grid(4, 5, "hexagonal"), Grid(4, 6, "hexagonal", periodic=True), Grid(1, 9)], ids=str
)
def test_a_models_rows_may_replace_its_matrix(grid: Grid, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = TransitionModel(grid, kind=kind, radius=1 if kind == "local" else None)
    torch.nn.init.normal_(model.logits, generator=torch.Generator().manual_seed(0))
    indices, mask = series(grid, 0, (5, 6))
    expected = mass_by_loops(model.matrix().detach().double().numpy(), indices, grid, 2.0, mask)
    assert transition_mass_within(model.rows, indices, grid, 2.0, mask) == pytest.approx(expected, rel=1e-12)

    asked: list[int] = []

    def rows(nodes: Tensor) -> Tensor:
        asked.extend(nodes.tolist())
        assert len(nodes) <= 3
        return model.rows(nodes)

    monkeypatch.setattr("somvae_ext.evaluation.moves._TILE_VALUES", 3 * grid.num_nodes)
    assert transition_mass_within(rows, indices, grid, 2.0, mask) == pytest.approx(expected, rel=1e-12)
    assert asked == sorted({i for i, _ in steps_by_loops(indices, mask)})


def test_a_large_map_needs_no_table_of_all_pairs() -> None:
    grid = Grid(128, 128)
    model = TransitionModel(grid, kind="local", radius=2)
    indices = torch.arange(16_384).view(128, 128)[:4]  # along the rows
    assert share_of_moves_within(indices, grid, 1.0) == 1
    torch.nn.init.constant_(model.logits, -30.0)
    with torch.no_grad():
        model.logits[:, grid.window(2).center] = 0  # staying
        model.logits[:, grid.window(2).center + 1] = -1  # moving to the right
    assert transition_mass_within(model.rows, indices, grid, 1.0) == pytest.approx(1, abs=1e-9)


def test_the_share_grows_with_the_distance_up_to_one() -> None:
    grid = Grid(5, 6, "hexagonal")
    (indices, mask), matrix = series(grid, 3, (6, 8)), chain(grid, 3)
    for shares in (
        [share_of_moves_within(indices, grid, distance, mask) for distance in DISTANCES],
        [transition_mass_within(matrix, indices, grid, distance, mask) for distance in DISTANCES],
    ):
        assert shares == sorted(shares)
        assert (shares[0], shares[-1]) == (0, 1)


@pytest.mark.parametrize("indices", [[[2, 2, 2], [1, 1, 1]], [[0], [1]], np.zeros((0, 5), int), np.zeros((3, 0), int)])
def test_without_moves_the_share_is_nan(indices: Any) -> None:
    assert math.isnan(share_of_moves_within(indices, Grid(1, 3), 1.0))
    absorbing = np.eye(3)
    assert math.isnan(transition_mass_within(absorbing, indices, Grid(1, 3), 1.0))


def test_padding_splits_a_series_and_may_hold_anything() -> None:
    indices = [[0, 99, 2, 1], [-1, 0, 1, 2]]
    mask = [[True, False, True, True], [False, True, True, False]]
    assert share_of_moves_within(indices, Grid(1, 3), 1.0, mask) == 1  # 2 -> 1 and 0 -> 1
    assert transition_mass_within(np.full((3, 3), 1 / 3), indices, Grid(1, 3), 1.0, mask) == pytest.approx(0.5)


def test_nodes_and_probabilities_may_be_arrays_of_any_kind() -> None:
    grid, matrix, indices = Grid(2, 3), chain(Grid(2, 3), 0), np.array([[0, 1, 5, 5], [3, 2, 2, 0]])
    moves, mass = share_of_moves_within(indices, grid, 1.0), transition_mass_within(matrix, indices, grid, 1.0)
    for convert in (np.ndarray.tolist, np.int16, torch.from_numpy, torch.tensor):
        assert share_of_moves_within(convert(indices), grid, 1) == moves
        assert transition_mass_within(matrix, convert(indices), grid, 1) == mass
    for convert, rel in ((np.ndarray.tolist, 1e-15), (np.float32, 1e-6), (torch.from_numpy, 1e-15)):
        assert transition_mass_within(convert(matrix), indices, grid, 1.0) == pytest.approx(mass, rel=rel)
    learned = torch.nn.Parameter(torch.from_numpy(matrix))
    assert transition_mass_within(learned, indices, grid, 1.0) == mass


def test_invalid_series_of_nodes_are_refused() -> None:
    grid, matrix = Grid(1, 3), np.eye(3)
    with pytest.raises(ValueError, match=r"share_of_moves_within: indices must have shape \[B, T\], got \[2\]"):
        share_of_moves_within([0, 1], grid, 1.0)
    with pytest.raises(ValueError, match="share_of_moves_within: indices must hold values from 0 to 2, got 3"):
        share_of_moves_within([[0, 3]], grid, 1.0)
    with pytest.raises(ValueError, match=r"mask must have the shape of indices, \[1, 2\], got \[1, 1\]"):
        share_of_moves_within([[0, 1]], grid, 1.0, [[True]])
    with pytest.raises(
        ValueError, match="share_of_moves_within: distance must be a finite number of at least 0, got -1"
    ):
        share_of_moves_within([[0, 1]], grid, -1.0)
    with pytest.raises(ValueError, match="transition_mass_within: distance must be a finite number"):
        transition_mass_within(matrix, [[0, 1]], grid, math.inf)
    with pytest.raises(ValueError, match=r"transitions must have shape \[K, K\] = \[3, 3\], got \[2, 2\]"):
        transition_mass_within(np.eye(2), [[0, 1]], grid, 1.0)
    with pytest.raises(ValueError, match=r"transitions must give rows of shape \[M, K\] = \[1, 3\], got \[1, 2\]"):
        transition_mass_within(lambda nodes: torch.ones(len(nodes), 2), [[0, 1]], grid, 1.0)
