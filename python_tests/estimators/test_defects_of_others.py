"""Defects found in other libraries of self-organizing maps, one test for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import children
import map_oracle
import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from somvae_ext import Grid, nn
from somvae_ext.estimators import SOM
from somvae_ext.ops import BestMatch
from somvae_ext.som import Metric, WinnerSearch
from somvae_ext.som.neighborhoods import axis_weights

ROOT = Path(__file__).parents[2]
X = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)

MEMORY = """
import resource, sys
import numpy as np
from somvae_ext.estimators import SOM

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

x = np.random.default_rng(0).random((100_000, 2), dtype=np.float32)
SOM(32, 32, n_epochs=1).fit(x[:100]).quantization_error(x[:100])
before = peak()
som = SOM(32, 32, n_epochs=1, metric=sys.argv[1]).fit(x)
som.quantization_error(x), som.topographic_error(x)
print(peak() - before)
"""


def test_chebyshev_takes_absolute_values() -> None:
    """minisom takes the largest signed difference, so a large negative one counts as small."""
    assert Metric("chebyshev").pairwise(torch.tensor([[0.0, 0.0]]), torch.tensor([[-5.0, 1.0]])).tolist() == [[5.0]]


def test_the_quantization_error_is_in_the_maps_metric() -> None:
    """minisom's quantization error is Euclidean whatever the metric."""
    som = SOM(3, 3, metric="manhattan", n_epochs=3).fit(X)
    expected = map_oracle.distances("manhattan", X.astype(float), som.codebook_.astype(float)).min(axis=1).mean()
    assert som.quantization_error_ == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("periodic", [False, True])
def test_all_six_neighbors_of_a_hexagon_are_at_distance_one(periodic: bool) -> None:
    """somoclu truncates coordinates, which gives .866 and 1.323; xpysom's hexagons are not equilateral."""
    grid = Grid(6, 5, "hexagonal", periodic)
    neighbors = grid.neighbors()
    node, slot = (neighbors >= 0).nonzero(as_tuple=True)
    distance = grid.distance(node, neighbors[node, slot])
    torch.testing.assert_close(distance, torch.ones_like(distance), rtol=1e-12, atol=0)
    assert (neighbors >= 0).sum(dim=1).max() == 6
    distances, rows, columns = grid.axis_distances()  # the neighborhood weights are computed from these
    (row, col), (other_row, other_col) = grid.row_col(node), grid.row_col(neighbors[node, slot])
    along_columns = distances[columns[other_row % 2, row % 2, col, other_col]]
    along = along_columns.square() + distances[rows[row, other_row]].square()
    torch.testing.assert_close(along, torch.ones_like(along), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
def test_one_epoch_gives_a_finite_codebook(schedule: str) -> None:
    """somoclu's linear cooling divides by zero; fastsom's fit(1) crashes."""
    assert np.isfinite(SOM(4, 3, n_epochs=1, sigma_schedule=schedule).fit(X).codebook_).all()
    loader = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=50)
    online = SOM(4, 3, algorithm="minibatch", n_epochs=1, sigma_schedule=schedule).fit(loader)
    assert np.isfinite(online.codebook_).all()


def test_a_missing_library_causes_a_warning() -> None:
    """somoclu installs and imports without its extension and gives no warning."""
    hidden = "import sys; sys.modules['somvae_ext._C'] = None; from somvae_ext.estimators import SOM"
    result = children.run("-c", hidden, imported=children.TORCH)
    assert "RuntimeWarning: somvae_ext: the compiled library, built with torch " in result.stderr


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
def test_neither_training_nor_errors_store_all_distances(metric: str) -> None:
    """xpysom's errors store the whole N x K matrix, 400 MB here."""
    result = children.run("-c", MEMORY, metric)
    assert result.returncode == 0, result.stderr
    # The other metrics hold three tiles of 64 MiB (distances, those without NaN, those without the winner) and a mask.
    # The fused search takes less.
    assert int(result.stdout) < 300e6


def test_nan_is_refused_or_left_out_and_never_learned() -> None:
    """xpysom's codebook silently becomes NaN."""
    x = X.copy()
    x[7, 1] = np.nan
    with pytest.raises(ValueError, match="got NaN in row 7, column 1"):
        SOM(3, 3).fit(x)
    assert np.isfinite(SOM(3, 3, missing="ignore").fit(x).codebook_).all()


def test_negative_similarities_are_distinguished() -> None:
    """torchsom clamps the cosine at zero, so all codes that point away from a row tie."""
    codebook = torch.tensor([[-1.0, 0.0], [-1.0, 1.0], [-1.0, 0.1]])
    found = WinnerSearch(codebook, Grid(1, 3), Metric("cosine")).search(torch.tensor([[1.0, 0.0]]))
    assert found.index.tolist() == [1]
    assert found.distance.item() == pytest.approx(1 + 0.5**0.5, rel=1e-6)


def test_quality_is_measured_once_per_epoch_by_the_search_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchsom measures the quality for every batch, and its default batches have five rows."""
    searches = []
    search = WinnerSearch.search

    def counted(self: WinnerSearch, x: Tensor, *rest: Any, **named: Any) -> BestMatch:
        searches.append(len(x))
        return search(self, x, *rest, **named)

    monkeypatch.setattr(WinnerSearch, "search", counted)
    som = SOM(3, 3, n_epochs=4, compute_labels=False).fit(X)
    assert searches == [300] * 4
    assert all("quantization_error" in record for record in som.history_)


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize(("rows", "cols"), [(4, 7), (6, 3), (2, 5)])
def test_distances_on_a_torus_that_is_not_square_are_right(topology: str, rows: int, cols: int) -> None:
    """quicksom's distances are wrong on such a torus."""
    grid = Grid(rows, cols, topology, periodic=True)  # type: ignore[arg-type]
    nodes = torch.arange(grid.num_nodes)
    expected = map_oracle.grid_distances(rows, cols, topology, periodic=True)
    np.testing.assert_allclose(grid.distance(nodes[:, None], nodes), expected, rtol=1e-12, atol=1e-12)
    weights = axis_weights(grid, "gaussian", 1.0)
    assert weights is not None
    assert weights.rows.shape == (rows, rows)
    assert weights.columns.shape[2:] == (cols, cols)


def test_manhattan_is_the_sum_of_absolute_differences() -> None:
    """susi's Manhattan distance is wrong."""
    assert Metric("manhattan").pairwise(torch.tensor([[1.0, -2.0]]), torch.tensor([[4.0, 2.0]])).tolist() == [[7.0]]


def test_the_codes_are_part_of_a_layers_state() -> None:
    """fastsom's codes are not, so they are lost when a model is saved."""
    layer = nn.SOM(2, 3, dim=4)
    other = nn.SOM(2, 3, dim=4)
    other.load_state_dict(layer.state_dict())
    assert other.codebook.equal(layer.codebook)


def test_maps_that_are_not_square_keep_rows_and_columns_apart() -> None:
    """fastsom confuses the indices. Here each row is won by its own node, so its row and column are known."""
    grid = Grid(3, 5)
    layer = nn.SOM(3, 5, dim=15)
    layer.codebook.copy_(torch.eye(15))
    assert layer(torch.eye(15)).tolist() == [[node // 5, node % 5] for node in range(15)]
    som = SOM(3, 5, init=np.eye(15), sigma_initial=0.1, sigma_final=0.1, n_epochs=1).fit(np.eye(15))
    np.testing.assert_array_equal(som.transform(np.eye(15)), np.stack([np.arange(15) // 5, np.arange(15) % 5], axis=1))
    assert grid == som.grid_
