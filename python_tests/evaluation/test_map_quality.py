"""Quantization and topographic error: examples by hand, and a float64 brute force."""

from __future__ import annotations

from typing import Any

import map_oracle
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import pairwise_distances

from somvae_ext import Grid
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import distortion, quantization_error, topographic_error, trustworthiness

EPS = torch.finfo(torch.float32).eps

# A ladder: the codes lie on a line in the order of the nodes.
LADDER = torch.arange(5.0)[:, None]


def test_distances_are_not_squared() -> None:
    x, codebook = torch.tensor([[3.0, 4.0], [10.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [10.0, 1.0]])
    assert quantization_error(x, codebook) == (5 + 1 + 0) / 3


def test_a_map_in_order_has_no_topographic_error() -> None:
    x = torch.linspace(-1, 5, 50)[:, None]
    assert topographic_error(x, LADDER, Grid(1, 5)) == 0
    assert topographic_error(x, LADDER, Grid(5, 1)) == 0


def test_a_fold_in_the_map_counts() -> None:
    codebook = torch.tensor([[0.0], [1.0], [3.0], [2.0]])  # nodes 2 and 3 have changed places
    x = torch.tensor([[0.1], [1.6], [1.9], [2.6]])  # best and second best: 0 and 1, twice 3 and 1, 2 and 3
    assert topographic_error(x, codebook, Grid(1, 4)) == 2 / 4


def test_who_is_a_neighbour_is_the_grids_affair() -> None:
    corners = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    x = torch.tensor([[0.4, 0.4]])  # best 0, second best 3: they share a corner only
    assert topographic_error(x, corners, Grid(2, 2)) == 1
    ends = torch.tensor([[0.0], [5.0], [6.0], [1.0]])  # best and second best are at the two ends
    assert topographic_error(torch.tensor([[0.4]]), ends, Grid(1, 4)) == 1
    assert topographic_error(torch.tensor([[0.4]]), ends, Grid(1, 4, periodic=True)) == 0


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_random_maps_agree_with_a_brute_force(topology: str) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = Grid(4, 5, topology)  # type: ignore[arg-type]
    x, codebook = torch.randn(300, 8, generator=generator), torch.randn(20, 8, generator=generator)
    distance = pairwise_distances(x.double().numpy(), codebook.double().numpy())
    order = distance.argsort(axis=1)[:, :2]
    nodes = grid.coordinates().numpy()
    apart = np.linalg.norm(nodes[order[:, 0]] - nodes[order[:, 1]], axis=1)
    assert topographic_error(x, codebook, grid) == pytest.approx((apart > 1 + 1e-9).mean())
    # A sum of D squared differences is off by at most (D + 2) eps; the root halves that.
    assert quantization_error(x, codebook) == pytest.approx(distance.min(axis=1).mean(), rel=(8 + 2) * EPS)


@given(st.permutations(range(6)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    x = torch.tensor([[0.2], [3.3], [1.4], [-2.0], [4.9], [2.6]])
    codebook = LADDER[[0, 2, 1, 4, 3]]
    assert quantization_error(x[order], codebook) == pytest.approx(quantization_error(x, codebook))
    assert topographic_error(x[order], codebook, Grid(1, 5)) == pytest.approx(
        topographic_error(x, codebook, Grid(1, 5))
    )


def test_parameters_that_ask_for_gradients_are_taken() -> None:
    codebook = torch.nn.Parameter(LADDER.clone())
    assert quantization_error(LADDER, codebook) == 0
    assert topographic_error(LADDER + 0.1, codebook, Grid(1, 5)) == 0


def test_what_cannot_be_measured_is_refused() -> None:
    empty = torch.zeros(0, 1)
    with pytest.raises(ValueError, match=r"quantization_error: x must hold at least one row, got shape \[0, 1\]"):
        quantization_error(empty, LADDER)
    with pytest.raises(ValueError, match=r"topographic_error: x must hold at least one row, got shape \[0, 1\]"):
        topographic_error(empty, LADDER, Grid(1, 5))
    with pytest.raises(ValueError, match="grid must have at least 2 nodes, got 1 x 1"):
        topographic_error(LADDER, LADDER[:1], Grid(1, 1))
    with pytest.raises(ValueError, match="codebook must hold a code for each of the grid's 6 nodes, got 5"):
        topographic_error(LADDER, LADDER, Grid(2, 3))


# ---- other metrics, distortion, trustworthiness ----------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["cosine", "manhattan", "chebyshev"])
def test_errors_are_in_the_metric_that_is_asked_for(metric: Any) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codebook = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    distances = map_oracle.distances(metric, x.numpy(), codebook.numpy())
    assert quantization_error(x, codebook, metric) == pytest.approx(distances.min(axis=1).mean(), rel=1e-7)
    two = distances.argsort(axis=1)
    apart = map_oracle.grid_distances(3, 4)[two[:, 0], two[:, 1]] > 1.5
    corner = np.isclose(map_oracle.grid_distances(3, 4)[two[:, 0], two[:, 1]], 2**0.5)
    assert topographic_error(x, codebook, Grid(3, 4), metric) == pytest.approx((apart | corner).mean())


@pytest.mark.parametrize("neighborhood", ["gaussian", "bubble"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_distortion_is_the_sum_of_its_definition(neighborhood: str, offset: float) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + offset
    codebook = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + offset
    squared = map_oracle.distances("euclidean", x.numpy(), codebook.numpy()) ** 2
    h = map_oracle.neighborhood(neighborhood, map_oracle.grid_distances(3, 4, "hexagonal"), 1.2)
    expected = (h[squared.argmin(axis=1)] * squared).sum() / 40
    assert distortion(x, codebook, Grid(3, 4, "hexagonal"), 1.2, neighborhood) == pytest.approx(expected, rel=1e-9)


def test_the_batch_rule_lowers_the_distortion() -> None:
    x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    som = SOM(5, 5, sigma_initial=1.0, sigma_final=1.0, n_epochs=15).fit(x)
    start = SOM(5, 5, sigma_initial=1.0, sigma_final=1.0, n_epochs=1).fit(x)
    before, after = (distortion(x, torch.as_tensor(m.codebook_), Grid(5, 5), 1.0) for m in (start, som))
    assert after < before


def test_trustworthiness_is_one_where_the_map_is_the_data_and_lower_where_it_is_shuffled() -> None:
    grid = Grid(6, 6, "hexagonal")
    x, index = grid.coordinates(), torch.arange(36)
    assert trustworthiness(x, index, grid) > 0.99  # equal distances are ranked one way or the other
    shuffled = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    assert trustworthiness(x, shuffled, grid) < 0.7


def test_what_has_no_trustworthiness_is_refused() -> None:
    x, index = torch.ones(36, 2), torch.arange(36)
    with pytest.raises(ValueError, match="grid must not be periodic"):
        trustworthiness(x, index, Grid(6, 6, periodic=True))
    with pytest.raises(ValueError, match=r"index must have shape \[N\] = \[36\], got \[35\]"):
        trustworthiness(x, index[1:], Grid(6, 6))
    with pytest.raises(ValueError, match="num_neighbors must be at least 1 and below N / 2, got 18"):
        trustworthiness(x, index, Grid(6, 6), num_neighbors=18)
    with pytest.raises(ValueError, match="codebook must hold a code for each of the grid's 36 nodes, got 35"):
        distortion(x, x[1:], Grid(6, 6), 1.0)
