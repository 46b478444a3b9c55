"""Tests of the distances and the search for the nearest codes in every metric."""

from __future__ import annotations

import map_oracle
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import nan_euclidean_distances
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.som import Metric, WinnerSearch

NAMES = ["euclidean", "cosine", "manhattan", "chebyshev", "minkowski"]
EPS = torch.finfo(torch.float64).eps
# Rounding of a distance over at most 8 features of size up to 4: of the terms, their sum, and a cube root.
BOUND = {"rtol": 64 * EPS, "atol": 64 * EPS * 4}


def draw(rows: int, dim: int, seed: int, gaps: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, dim, dtype=torch.float64, generator=generator)
    missing = torch.rand(rows, dim, generator=generator) < gaps
    missing[:, int(torch.randint(dim, (1,), generator=generator))] = False  # each row keeps a value
    return x.masked_fill(missing, torch.nan)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(1, 8), st.integers(0, 999))


@pytest.mark.parametrize("gaps", [0.0, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", NAMES)
@given(shape=SHAPES)
def test_distances_and_winners_match_the_definition(
    name: str, weighted: bool, gaps: float, shape: tuple[int, int, int, int, int]
) -> None:
    n, rows, cols, dim, seed = shape
    x, codebook = draw(n, dim, seed, gaps), draw(rows * cols, dim, seed + 1)
    weights = torch.rand(dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    metric = Metric(name, p=3.0, feature_weights=weights if weighted else None)  # type: ignore[arg-type]
    expected = torch.from_numpy(
        map_oracle.distances(name, x.numpy(), codebook.numpy(), weights.numpy() if weighted else None, p=3.0)
    )
    torch.testing.assert_close(metric.pairwise(x, codebook), expected, **BOUND)
    search = WinnerSearch(codebook, Grid(rows, cols), metric)
    distance, index = search.search(x, has_gaps=gaps > 0)
    torch.testing.assert_close(expected.gather(1, index[:, None])[:, 0], expected.amin(dim=1), **BOUND)
    # The fused search computes squared differences, so the cosine distances of nearly parallel vectors keep half of
    # their digits.
    slack = {"rtol": 0, "atol": 1e-8} if name == "cosine" else BOUND
    torch.testing.assert_close(distance, expected.amin(dim=1), **slack)


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize("name", NAMES)
def test_the_two_nearest_codes_are_sorted(name: str, gaps: float) -> None:
    x, codebook = draw(50, 6, 0, gaps), draw(12, 6, 1)
    metric = Metric(name, p=3.0)  # type: ignore[arg-type]
    found = WinnerSearch(codebook, Grid(3, 4), metric).search(x, k=2, has_gaps=gaps > 0)
    nearest = torch.from_numpy(map_oracle.distances(name, x.numpy(), codebook.numpy(), p=3.0)).sort(dim=1)
    assert found.index.equal(nearest.indices[:, :2])
    torch.testing.assert_close(found.distance, nearest.values[:, :2], rtol=1e-7, atol=1e-8)


def test_missing_values_are_treated_as_scikit_learn_does() -> None:
    x, codebook = draw(30, 5, 0, 0.4), draw(6, 5, 1)
    expected = nan_euclidean_distances(x.numpy(), codebook.numpy())
    # scikit-learn expands the squares and so loses half of the digits.
    np.testing.assert_allclose(Metric().pairwise(x, codebook), expected, rtol=1e-6)


def test_cosine_ignores_the_length_of_vectors_even_where_squares_would_overflow() -> None:
    codebook = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[3e30, 1e30], [1e-30, 3e-30]])
    found = WinnerSearch(codebook, Grid(1, 2), Metric("cosine")).search(x)
    assert found.index.tolist() == [0, 1]
    torch.testing.assert_close(found.distance, torch.full((2,), 1 - 3 / 10**0.5), rtol=1e-5, atol=0)


def test_zero_vectors_have_cosine_distance_1_and_zero_codes_never_win() -> None:
    codebook = torch.tensor([[0.0, 0.0], [-1.0, 0.0], [-1.0, 0.1]])
    found = WinnerSearch(codebook, Grid(1, 3), Metric("cosine")).search(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    assert found.index.tolist()[0] == 2  # a zero code never wins, even where all others point away
    assert found.distance[1].item() == 1.0


def test_features_of_weight_zero_are_ignored() -> None:
    x, codebook = draw(40, 3, 0).float(), draw(9, 3, 1).float()
    noisy, other = x.clone(), codebook.clone()
    noisy[:, 1], other[:, 1] = 1e3 * noisy[:, 1], -1e3
    for name in NAMES:
        metric = Metric(name, 3.0, torch.tensor([1.0, 0.0, 2.0]))  # type: ignore[arg-type]
        plain = WinnerSearch(codebook, Grid(3, 3), metric).search(x)
        assert plain.index.equal(WinnerSearch(other, Grid(3, 3), metric).search(noisy).index), name


def test_a_metric_function_gets_broadcastable_tensors_and_determines_the_winners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = []

    def canberra(x: Tensor, codebook: Tensor) -> Tensor:
        shapes.append((tuple(x.shape), tuple(codebook.shape)))
        return ((x - codebook).abs() / (x.abs() + codebook.abs())).sum(dim=-1)

    monkeypatch.setattr("somvae_ext.som.metrics._TILE_VALUES", 60)
    x, codebook = draw(7, 5, 0), draw(4, 5, 1)
    expected = (x[:, None] - codebook).abs().div(x[:, None].abs() + codebook.abs()).sum(dim=2).min(dim=1)
    found = WinnerSearch(codebook, Grid(2, 2), Metric(canberra)).search(x)
    assert found.index.equal(expected.indices)
    assert found.distance.equal(expected.values)
    assert shapes == [((3, 1, 5), (1, 4, 5)), ((3, 1, 5), (1, 4, 5)), ((1, 1, 5), (1, 4, 5))]


def test_a_large_exponent_stays_accurate_for_small_differences() -> None:
    x, codebook = (0.01 * draw(40, 4, seed).float() for seed in (0, 1))
    metric = Metric("minkowski", p=60.0)
    exact = map_oracle.distances("minkowski", x.double().numpy(), codebook.double().numpy(), p=60.0)
    np.testing.assert_allclose(metric.pairwise(x, codebook), exact, rtol=1e-5)
    found = WinnerSearch(codebook, Grid(5, 8), metric).search(x)
    np.testing.assert_allclose(found.distance, exact.min(axis=1), rtol=1e-5)


def test_a_metric_function_may_return_integers() -> None:
    x, codebook = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, 2.0, 1.0], [1.0, 2.0, 0.0]])

    def hamming(rows: Tensor, codes: Tensor) -> Tensor:
        return (rows != codes).sum(dim=-1)

    found = WinnerSearch(codebook, Grid(1, 2), Metric(hamming)).search(x)
    assert (found.index.item(), found.distance.item()) == (1, 1.0)


def test_rows_with_gaps_find_their_winner_despite_a_shared_offset() -> None:
    x, codebook = (draw(200, 6, 0, 0.3) + 1e6).float(), (draw(20, 6, 1) + 1e6).float()
    index = WinnerSearch(codebook, Grid(4, 5), Metric()).search(x, has_gaps=True).index
    exact = torch.from_numpy(map_oracle.distances("euclidean", x.double().numpy(), codebook.double().numpy()))
    # The spacing of float32 numbers at 1e6 is 1/16, so there are ties; any of the nearest codes is accepted.
    torch.testing.assert_close(exact.gather(1, index[:, None])[:, 0], exact.amin(dim=1), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"distance": "euclid"}, "metric must be one of 'euclidean', .*, got 'euclid'"),
        ({"distance": 3}, "metric must be a name or a function, got 3"),
        ({"p": 0.5}, "p must be from 1 to 64, got 0.5"),
        ({"feature_weights": torch.tensor([1.0, -1.0])}, r"feature_weights must hold .* at least 0"),
        (
            {"feature_weights": torch.tensor([1.0, 1e9])},
            r"feature_weights must be 0 or from 1e-06 to 1e\+06",
        ),
        ({"feature_weights": torch.zeros(2)}, r"feature_weights must hold .* not all of them 0"),
        ({"distance": torch.cdist, "feature_weights": torch.ones(2)}, "feature_weights must be None where the metric"),
    ],
)
def test_invalid_metrics_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Metric(**arguments)  # type: ignore[arg-type]


def test_weights_for_another_number_of_features_are_refused() -> None:
    with pytest.raises(ValueError, match="feature_weights must hold one number for each of the 3 features, got 2"):
        Metric(feature_weights=torch.ones(2)).pairwise(torch.ones(1, 3), torch.ones(1, 3))


def test_a_metric_function_with_missing_values_is_refused() -> None:
    def squared(x: Tensor, codebook: Tensor) -> Tensor:
        return (x - codebook).square().sum(dim=-1)

    x = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(ValueError, match="a metric that is a function cannot leave out missing values"):
        WinnerSearch(torch.ones(1, 2), Grid(1, 1), Metric(squared)).search(x, has_gaps=True)
    with pytest.raises(ValueError, match="a metric that is a function cannot leave out missing values"):
        Metric(squared).pairwise(x, torch.ones(1, 2))
