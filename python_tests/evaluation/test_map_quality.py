"""Quantization and topographic error, compared with examples by hand and with brute force in float64."""

from __future__ import annotations

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
from sklearn.metrics import pairwise_distances

from somvae_ext import Grid
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import distortion, quantization_error, topographic_error, trustworthiness
from somvae_ext.som import Metric

EPS = torch.finfo(torch.float32).eps
REACH = {4: 1.0, 6: 1.0, 8: math.sqrt(2)}  # distance on the grid to the farthest neighbor, by connectivity

# The codes lie on a line in the order of the nodes.
LADDER = torch.arange(5.0)[:, None]


def test_distances_are_not_squared() -> None:
    x, codebook = torch.tensor([[3.0, 4.0], [10.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [10.0, 1.0]])
    assert quantization_error(x, codebook) == (5 + 1 + 0) / 3


def test_a_map_in_order_has_no_topographic_error() -> None:
    x = torch.linspace(-1, 5, 50)[:, None]
    assert topographic_error(x, LADDER, Grid(1, 5)) == 0
    assert topographic_error(x, LADDER, Grid(5, 1)) == 0


def test_a_fold_in_the_map_counts() -> None:
    codebook = torch.tensor([[0.0], [1.0], [3.0], [2.0]])  # nodes 2 and 3 are swapped
    x = torch.tensor([[0.1], [1.6], [1.9], [2.6]])  # best and second best: 0 and 1, twice 3 and 1, 2 and 3
    assert topographic_error(x, codebook, Grid(1, 4)) == 2 / 4


def test_the_grid_determines_which_nodes_are_neighbors() -> None:
    corners = torch.tensor([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    x = torch.tensor([[0.4, 0.4]])  # best 0, second best 3, which only share a corner
    assert topographic_error(x, corners, Grid(2, 2), connectivity=4) == 1
    assert topographic_error(x, corners, Grid(2, 2), connectivity=8) == 0
    ends = torch.tensor([[0.0], [5.0], [6.0], [1.0]])  # best and second best are the two ends of the row
    assert topographic_error(torch.tensor([[0.4]]), ends, Grid(1, 4)) == 1
    assert topographic_error(torch.tensor([[0.4]]), ends, Grid(1, 4, periodic=True)) == 0


@pytest.mark.parametrize(("topology", "connectivity"), [("rectangular", 4), ("rectangular", 8), ("hexagonal", 6)])
def test_random_maps_agree_with_a_brute_force(topology: Any, connectivity: Any) -> None:
    generator = torch.Generator().manual_seed(0)
    grid = Grid(4, 5, topology)
    x, codebook = torch.randn(300, 8, generator=generator), torch.randn(20, 8, generator=generator)
    distance = pairwise_distances(x.double().numpy(), codebook.double().numpy())
    order = distance.argsort(axis=1)[:, :2]
    nodes = grid.coordinates().numpy()
    apart = np.linalg.norm(nodes[order[:, 0]] - nodes[order[:, 1]], axis=1)
    expected = (apart > REACH[connectivity] + 1e-9).mean()
    assert topographic_error(x, codebook, grid, connectivity=connectivity) == pytest.approx(expected)
    if connectivity != 4:
        assert topographic_error(x, codebook, grid) == pytest.approx(expected)
    # A sum of D squared differences has a relative error of at most (D + 2) eps; the root halves it.
    assert quantization_error(x, codebook) == pytest.approx(distance.min(axis=1).mean(), rel=(8 + 2) * EPS)


@given(st.permutations(range(6)))
def test_the_order_of_the_rows_does_not_matter(order: list[int]) -> None:
    x = torch.tensor([[0.2], [3.3], [1.4], [-2.0], [4.9], [2.6]])
    codebook = LADDER[[0, 2, 1, 4, 3]]
    assert quantization_error(x[order], codebook) == pytest.approx(quantization_error(x, codebook))
    assert topographic_error(x[order], codebook, Grid(1, 5)) == pytest.approx(
        topographic_error(x, codebook, Grid(1, 5))
    )


def test_parameters_that_require_gradients_are_accepted() -> None:
    codebook = torch.nn.Parameter(LADDER.clone())
    assert quantization_error(LADDER, codebook) == 0
    assert topographic_error(LADDER + 0.1, codebook, Grid(1, 5)) == 0


def test_invalid_data_are_refused() -> None:
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
def test_errors_use_the_requested_metric(metric: Any) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codebook = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    distances = map_oracle.distances(metric, x.numpy(), codebook.numpy())
    assert quantization_error(x, codebook, metric) == pytest.approx(distances.min(axis=1).mean(), rel=1e-7)
    two = distances.argsort(axis=1)
    apart = map_oracle.grid_distances(3, 4)[two[:, 0], two[:, 1]] > 1.5
    corner = np.isclose(map_oracle.grid_distances(3, 4)[two[:, 0], two[:, 1]], 2**0.5)
    assert topographic_error(x, codebook, Grid(3, 4), metric, connectivity=4) == pytest.approx((apart | corner).mean())
    assert topographic_error(x, codebook, Grid(3, 4), metric, connectivity=8) == pytest.approx(apart.mean())


@pytest.mark.parametrize("neighborhood", ["gaussian", "bubble"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_distortion_equals_its_definition(neighborhood: str, offset: float) -> None:
    x = torch.randn(40, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + offset
    codebook = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + offset
    squared = map_oracle.distances("euclidean", x.numpy(), codebook.numpy()) ** 2
    h = map_oracle.neighborhood(neighborhood, map_oracle.grid_distances(3, 4, "hexagonal"), 1.2)
    expected = (h[squared.argmin(axis=1)] * squared).sum() / 40
    assert distortion(x, codebook, Grid(3, 4, "hexagonal"), 1.2, neighborhood) == pytest.approx(expected, rel=1e-9)


def manhattan(x: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return (x - codes).abs().sum(dim=2)


WEIGHTS = torch.tensor([1.0, 4.0, 0.0])


@pytest.mark.parametrize("neighborhood", ["gaussian", "bubble", lambda d, s: 1 / (1 + d / s)])
@pytest.mark.parametrize(
    ("metric", "name", "weights"),
    [
        ("cosine", "cosine", None),
        ("manhattan", "manhattan", None),
        (Metric("chebyshev", feature_weights=WEIGHTS), "chebyshev", WEIGHTS.numpy()),
        (Metric("euclidean", feature_weights=WEIGHTS), "euclidean", WEIGHTS.numpy()),
        (manhattan, "manhattan", None),
    ],
)
def test_distortion_uses_the_requested_metric(
    metric: Any, name: str, weights: Any, neighborhood: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("somvae_ext.evaluation.map_quality._TILE_VALUES", 12 * 7)  # 7 rows per tile
    x, codebook = np.random.default_rng(0).normal(size=(40, 3)), np.random.default_rng(1).normal(size=(12, 3))
    squared = map_oracle.distances(name, x, codebook, weights) ** 2
    on_grid = map_oracle.grid_distances(3, 4)
    h = (
        map_oracle.neighborhood(neighborhood, on_grid, 1.2)
        if isinstance(neighborhood, str)
        else neighborhood(on_grid, 1.2)
    )
    expected = (h[squared.argmin(axis=1)] * squared).sum() / 40
    assert distortion(x, codebook, Grid(3, 4), 1.2, neighborhood, metric) == pytest.approx(expected, rel=1e-9)


def test_distortion_of_nan_rows_is_nan() -> None:
    x = [[math.nan, 1.0]]
    assert all(math.isnan(distortion(x, np.eye(2), Grid(1, 2), 1.0, metric=name)) for name in ("euclidean", "cosine"))  # type: ignore[arg-type]


def test_the_batch_rule_lowers_the_distortion() -> None:
    x = torch.rand(400, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    som = SOM(5, 5, sigma_initial=1.0, sigma_final=1.0, n_epochs=15).fit(x)
    start = SOM(5, 5, sigma_initial=1.0, sigma_final=1.0, n_epochs=1).fit(x)
    before, after = (distortion(x, torch.as_tensor(m.codebook_), Grid(5, 5), 1.0) for m in (start, som))
    assert after < before


def test_trustworthiness_is_one_for_a_perfect_map_and_lower_for_a_shuffled_one() -> None:
    grid = Grid(6, 6, "hexagonal")
    x, index = grid.coordinates(), torch.arange(36)
    assert trustworthiness(x, index, grid) > 0.99  # below 1 because ties may be ranked either way
    shuffled = torch.randperm(36, generator=torch.Generator().manual_seed(0))
    assert trustworthiness(x, shuffled, grid) < 0.7


def test_trustworthiness_uses_the_requested_metric() -> None:
    grid = Grid(6, 6)
    angle = np.sort(np.random.default_rng(1).uniform(0, 1.5, 36))
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    index = np.arange(36) // 6 * 6  # in the order of angles
    scaled = rows * np.random.default_rng(0).uniform(1, 100, size=(36, 1))
    turned = trustworthiness(scaled, index, grid, metric="cosine")
    assert (
        turned
        == trustworthiness(rows, index, grid, metric="cosine")
        == pytest.approx(trustworthiness(rows, index, grid), abs=0.02)
    )
    assert trustworthiness(scaled, index, grid) < turned - 0.05


def test_data_without_a_trustworthiness_are_refused() -> None:
    x, index = torch.ones(36, 2), torch.arange(36)
    with pytest.raises(ValueError, match="grid must not be periodic"):
        trustworthiness(x, index, Grid(6, 6, periodic=True))
    with pytest.raises(ValueError, match=r"index must have shape \[N\] = \[36\], got \[35\]"):
        trustworthiness(x, index[1:], Grid(6, 6))
    with pytest.raises(ValueError, match="num_neighbors must be below N / 2 = 18, got 18"):
        trustworthiness(x, index, Grid(6, 6), num_neighbors=18)
    with pytest.raises(ValueError, match="index must hold values from 0 to 35, got -1"):
        trustworthiness(x, index - 1, Grid(6, 6))
    with pytest.raises(ValueError, match="index must be integers, got float32"):
        trustworthiness(x, index.float(), Grid(6, 6))
    with pytest.raises(ValueError, match=r"x must hold finite rows \[N, D\], got NaN or infinity"):
        trustworthiness(x * math.nan, index, Grid(6, 6))
    with pytest.raises(ValueError, match="codebook must hold a code for each of the grid's 36 nodes, got 35"):
        distortion(x, x[1:], Grid(6, 6), 1.0)


# ---- neighbors -------------------------------------------------------------------------------------------------------


@given(grids(most=5), st.integers(0, 99))
def test_neighbors_are_those_within_reach_on_the_grid(grid: Grid, seed: int) -> None:
    if grid.num_nodes < 2:
        return
    rng = np.random.default_rng(seed)
    x, codebook = rng.normal(size=(30, 2)), rng.normal(size=(grid.num_nodes, 2))
    best, second = map_oracle.distances("euclidean", x, codebook).argsort(axis=1)[:, :2].T
    apart = map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic)[best, second]
    errors = []
    for connectivity in grid.connectivities:
        expected = (apart > REACH[connectivity] + 1e-9).mean()
        errors.append(topographic_error(x, codebook, grid, connectivity=connectivity))
        assert errors[-1] == pytest.approx(expected)
    assert errors == sorted(errors, reverse=True)
    assert topographic_error(x, codebook, grid) == errors[-1]


@pytest.mark.parametrize("connectivity", [0, 6, 4.0, True, "8"])
def test_other_connectivities_are_refused(connectivity: Any) -> None:
    with pytest.raises(ValueError, match=f"connectivity must be 4 or 8 on a rectangular grid, got {connectivity!r}"):
        topographic_error(LADDER, LADDER, Grid(1, 5), connectivity=connectivity)
    with pytest.raises(ValueError, match="connectivity must be 6 on a hexagonal grid, got 8"):
        topographic_error(LADDER, LADDER, Grid(1, 5, "hexagonal"), connectivity=8)


# ---- arrays of any kind ----------------------------------------------------------------------------------------------

X = np.random.default_rng(0).integers(-9, 9, size=(40, 3))  # exact in float16, too
CODES = np.random.default_rng(1).integers(-9, 9, size=(6, 3)) + 0.5

KINDS = {
    "numpy": np.asarray,
    "float32": np.float32,
    "longdouble": np.longdouble,
    "objects": lambda values: np.asarray(values, dtype=object),
    "Fortran order": np.asfortranarray,
    "big endian": lambda values: np.asarray(values, dtype=">f8"),
    "list": np.ndarray.tolist,
    "tuple": lambda values: tuple(map(tuple, values.tolist())),
    "pandas": pd.DataFrame,
    "nullable pandas": lambda values: pd.DataFrame(values).convert_dtypes(),
    "torch": torch.from_numpy,
    "torch float32": lambda values: torch.tensor(values, dtype=torch.float32),
    "torch float16": lambda values: torch.tensor(values, dtype=torch.float16),
    "torch bfloat16": lambda values: torch.tensor(values, dtype=torch.bfloat16),
    "parameter": lambda values: torch.nn.Parameter(torch.tensor(values, dtype=torch.float32)),
}


@pytest.mark.parametrize("codes_as", KINDS)
@pytest.mark.parametrize("x_as", KINDS)
def test_rows_and_codes_of_different_kinds_are_converted_to_a_common_dtype(x_as: str, codes_as: str) -> None:
    x, codes, grid = KINDS[x_as](X), KINDS[codes_as](CODES), Grid(2, 3)
    distance = np.linalg.norm(X[:, None] - CODES, axis=2)
    narrow = {"torch float16", "torch bfloat16"} & {x_as, codes_as}
    # The distance has the common dtype, which has few digits if both are 16-bit types.
    rtol = 2**-8 if narrow == {x_as, codes_as} else 1e-6
    assert quantization_error(x, codes) == pytest.approx(distance.min(axis=1).mean(), rel=rtol)
    expected = topographic_error(torch.from_numpy(X).double(), torch.from_numpy(CODES), grid)
    assert topographic_error(x, codes, grid) == pytest.approx(expected, abs=1e-12)
    h = map_oracle.neighborhood("gaussian", map_oracle.grid_distances(2, 3), 1.0)
    total = (h[distance.argmin(axis=1)] * distance**2).sum() / 40
    assert distortion(x, codes, grid, 1.0) == pytest.approx(total, rel=1e-9)


def test_tensors_of_the_same_dtype_are_not_converted(device: torch.device) -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).to(device)
    codebook = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).to(device)
    single = quantization_error(x, codebook)
    assert single == quantization_error(x.cpu(), codebook.cpu())
    assert single != quantization_error(x.double(), codebook.double())  # each row's distance is rounded to float32
    assert quantization_error(x.cpu().numpy(), codebook) == quantization_error(x, codebook.cpu().numpy()) == single
    error = topographic_error(x, codebook, Grid(2, 3))
    assert topographic_error(x.cpu().numpy(), codebook, Grid(2, 3)) == error


@pytest.mark.cuda
def test_tensors_on_two_devices_are_refused() -> None:
    with pytest.raises(ValueError, match="x and codebook must be on the same device, got cuda:0 and cpu"):
        quantization_error(LADDER.cuda(), LADDER)


def test_the_estimators_results_can_be_passed_directly() -> None:
    x = np.random.default_rng(0).random((200, 3))
    som = SOM(4, 5, metric="manhattan", random_state=0, n_epochs=5).fit(x)
    assert quantization_error(x, som.codebook_, "manhattan") == pytest.approx(som.quantization_error_)
    assert distortion(x, som.codebook_, som.grid_, 1.0, metric="manhattan") > 0
    assert trustworthiness(x, som.labels_, som.grid_) > 0.8


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([["a", "b"]], "x must hold real numbers, got strings"),
        ([[1j, 2]], "x must hold real numbers, got complex128"),
        (torch.ones(1, 2, dtype=torch.complex64), "x must hold real numbers, got torch.complex64"),
        ([[1, 2], [3]], "x must be an array, got list: "),
        (torch.eye(2).to_sparse(), "x must be dense, got a tensor of layout sparse_coo"),
        (np.ma.array(np.eye(2), mask=np.eye(2)), "x must not be masked, got 2 masked of 4 values"),
        ([1.0, 2.0], r"x and codebook must have shapes \[N, D\] and \[K, D\], got \[2\] and \[2, 2\]"),
        ([[1.0]], r"x and codebook must have shapes \[N, D\] and \[K, D\], got \[1, 1\] and \[2, 2\]"),
        (1.0, r"x and codebook must have shapes \[N, D\] and \[K, D\], got \[\] and \[2, 2\]"),
    ],
)
@pytest.mark.parametrize(
    "function",
    [
        quantization_error,
        lambda x, codes: topographic_error(x, codes, Grid(1, 2)),
        lambda x, codes: distortion(x, codes, Grid(1, 2), 1.0),
    ],
    ids=["quantization_error", "topographic_error", "distortion"],
)
def test_data_that_are_not_rows_of_numbers_are_refused(function: Any, x: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^\w+: {message}"):
        function(x, np.eye(2))
