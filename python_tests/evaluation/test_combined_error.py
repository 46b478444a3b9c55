"""The combined error, compared with examples by hand and with Floyd and Warshall's algorithm in float64."""

from __future__ import annotations

import math
from typing import Any

import map_oracle
import numpy as np
import pytest
import torch
from cases import grids, normal, seeds
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext import Grid
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import combined_error, quantization_error
from somvae_ext.som import Metric, map_paths

REACH = {4: 1.0, 6: 1.0, 8: math.sqrt(2)}  # distance on the grid to the farthest neighbor, by connectivity
EPS = np.finfo(np.float64).eps


def expected(x: Any, codebook: Any, grid: Grid, connectivity: int, metric: str = "euclidean") -> float:
    on_grid = map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic)
    return map_oracle.combined_error(x.numpy(), codebook.numpy(), on_grid, REACH[connectivity], metric).mean()


def test_a_fold_adds_the_length_of_its_path() -> None:
    codes = torch.tensor([[0.0], [2.0], [1.0]])  # a line of nodes that turns back
    assert combined_error(torch.tensor([[0.25]]), codes, Grid(1, 3)) == 0.25 + 2 + 1
    assert combined_error(torch.tensor([[1.75]]), codes, Grid(1, 3)) == 0.25 + 1


def test_the_path_is_the_shortest_between_codes_and_not_on_the_grid() -> None:
    # From node 0 to node 2, two edges along the row pass a distant code; the four edges via the other row are shorter.
    codes = torch.tensor([[0.0, 0.0], [9.0, 9.0], [0.5, 0.0], [0.0, 1.0], [0.25, 1.0], [0.5, 1.0]])
    assert combined_error(torch.zeros(1, 2), codes, Grid(2, 3), connectivity=4) == 1 + 0.25 + 0.25 + 1


def test_the_grid_determines_which_nodes_share_an_edge() -> None:
    corners = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    x = torch.zeros(1, 2)
    assert combined_error(x, corners, Grid(2, 2), connectivity=8) == pytest.approx(math.sqrt(2))
    assert combined_error(x, corners, Grid(2, 2), connectivity=4) == pytest.approx(5 + math.sqrt(17))
    ends = torch.tensor([[0.0], [5.0], [6.0], [1.0]])
    assert combined_error(torch.zeros(1, 1), ends, Grid(1, 4)) == 5 + 1 + 5
    assert combined_error(torch.zeros(1, 1), ends, Grid(1, 4, periodic=True)) == 1


@given(grids().filter(lambda grid: grid.num_nodes > 1), st.integers(1, 4), seeds, st.booleans())
def test_the_error_agrees_with_all_paths_by_floyd_and_warshall(grid: Grid, dim: int, seed: int, corners: bool) -> None:
    x, codes = (normal(n, dim, seed=seed + n, dtype=torch.float64) for n in (30, grid.num_nodes))
    connectivity = grid.connectivities[-1 if corners else 0]
    error = combined_error(x, codes, grid, connectivity=connectivity)
    # A path adds up at most K edges, each the root of a sum of D squares.
    tolerance = (grid.num_nodes + dim + 4) * EPS
    if not (grid.periodic and min(grid.rows, grid.cols) <= 2):  # where the oracle's copies of a node overlap
        assert error == pytest.approx(expected(x, codes, grid, connectivity), rel=tolerance)
    assert error >= quantization_error(x, codes)


@pytest.mark.parametrize("metric", ["cosine", "manhattan", "chebyshev"])
@pytest.mark.parametrize("grid", [Grid(3, 4), Grid(4, 3, "hexagonal"), Grid(4, 4, "hexagonal", periodic=True)])
def test_paths_are_measured_in_the_maps_metric(metric: Any, grid: Grid) -> None:
    x, codes = (normal(n, 3, seed=n, dtype=torch.float64) for n in (40, grid.num_nodes))
    connectivity = grid.connectivities[-1]
    assert combined_error(x, codes, grid, metric) == pytest.approx(
        expected(x, codes, grid, connectivity, metric), rel=1e-7
    )

    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a - b).abs().sum(dim=-1)

    assert combined_error(x, codes, grid, function) == pytest.approx(combined_error(x, codes, grid, "manhattan"))


def test_weights_of_features_count_in_paths_too() -> None:
    codes = torch.tensor([[0.0, 0.0], [2.0, 7.0], [1.0, 0.0]])
    weighted = Metric("euclidean", feature_weights=torch.tensor([1.0, 0.0]))
    assert combined_error(torch.tensor([[0.25, 3.0]]), codes, Grid(1, 3), weighted) == 3.25


@given(seeds)
def test_the_blocks_and_the_reach_of_the_search_do_not_change_the_result(seed: int) -> None:
    grid = Grid(5, 6)
    codes = normal(30, 2, seed=seed, dtype=torch.float64)
    start, end = torch.arange(30).repeat_interleave(30), torch.arange(30).repeat(30)
    whole = map_paths.path_lengths(codes, grid, Metric(), start, end)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(map_paths, "_BLOCK_VALUES", 4 * 30)
        patch.setattr(map_paths, "_REACHES", (0.0, 0.1, 1.0))
        assert map_paths.path_lengths(codes, grid, Metric(), start, end).equal(whole)
    on_grid = map_oracle.grid_distances(5, 6)
    edges = np.where(on_grid < 1.5, map_oracle.distances("euclidean", codes.numpy(), codes.numpy()), np.inf)
    np.testing.assert_allclose(whole.view(30, 30), map_oracle.shortest_paths(edges), rtol=40 * EPS)


def test_edges_between_equal_codes_have_length_zero() -> None:
    codes = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
    assert combined_error(torch.tensor([[3.0]]), codes, Grid(1, 4)) == 2
    shared = torch.tensor([[0.0], [4.0], [4.0], [0.5]])  # an edge of length 0 is still an edge
    assert combined_error(torch.tensor([[0.0]]), shared, Grid(1, 4)) == 4 + 0 + 3.5


def test_the_estimator_measures_its_map_with_gaps_and_weights() -> None:
    x = np.random.default_rng(0).random((200, 4)).astype(np.float32)
    som = SOM(5, 6, random_state=0).fit(x)
    assert som.combined_error(x) == pytest.approx(combined_error(x, som.codebook_, som.grid_), rel=1e-6)
    assert som.combined_error(x, connectivity=4) == pytest.approx(
        combined_error(x, som.codebook_, som.grid_, connectivity=4), rel=1e-6
    )
    assert som.score(x) == -som.combined_error(x)
    weight = np.repeat([0.0, 2.0], 100)
    assert som.score(x, sample_weight=weight) == pytest.approx(som.score(x[100:]))
    gaps = np.where(np.random.default_rng(1).random(x.shape) < 0.1, np.nan, x)
    with_gaps = SOM(5, 6, missing="ignore", random_state=0).fit(gaps)
    errors = map_oracle.combined_error(gaps, with_gaps.codebook_, map_oracle.grid_distances(5, 6), REACH[8])
    assert with_gaps.combined_error(gaps) == pytest.approx(errors.mean(), rel=1e-5)


def test_a_search_over_sizes_does_not_take_the_largest_map() -> None:
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    x = StandardScaler().fit_transform(load_breast_cancer().data).astype(np.float32)
    sizes = {"n_rows": [3, 7, 20], "n_cols": [7]}
    by_default = GridSearchCV(SOM(random_state=0), sizes, cv=3).fit(x)
    assert by_default.best_params_["n_rows"] == 7
    by_fit = GridSearchCV(
        SOM(random_state=0), sizes, cv=3, scoring=lambda som, X, y=None: -som.quantization_error(X)
    ).fit(x)
    assert by_fit.best_params_["n_rows"] == 20


def test_a_map_of_one_node_is_scored_by_its_fit_and_has_no_combined_error() -> None:
    x = np.random.default_rng(0).random((50, 3))
    som = SOM(1, 1).fit(x)
    assert som.score(x) == -som.quantization_error(x)
    with pytest.raises(ValueError, match="SOM: the map must have at least 2 nodes for a combined error, got 1"):
        som.combined_error(x)
    with pytest.raises(ValueError, match=r"combined_error: grid must have at least 2 nodes, .* got 1 x 1; take quanti"):
        combined_error(x, som.codebook_, som.grid_)


def test_data_without_a_combined_error_are_refused() -> None:
    x, codes = torch.zeros(3, 2), torch.zeros(6, 2)
    with pytest.raises(ValueError, match="codebook must hold a code for each of the grid's 4 nodes, got 6"):
        combined_error(x, codes, Grid(2, 2))
    with pytest.raises(ValueError, match="combined_error: codebook must hold finite values, got NaN or infinity"):
        combined_error(x, codes.index_fill(0, torch.tensor([1]), torch.nan), Grid(2, 3))
    with pytest.raises(ValueError, match="connectivity must be 4 or 8 on a rectangular grid, got 6"):
        combined_error(x, codes, Grid(2, 3), connectivity=6)
    with pytest.raises(ValueError, match="connectivity must be 6 on a hexagonal grid, got 8"):
        SOM(2, 3, topology="hexagonal").fit(x + torch.rand(3, 2)).combined_error(x, connectivity=8)
    assert math.isnan(combined_error(torch.tensor([[torch.nan, 0.0]]), codes, Grid(2, 3)))
