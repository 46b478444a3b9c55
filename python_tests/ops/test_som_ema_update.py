"""In-place update of the moving averages of what nodes win, and of the codes computed from them."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import oracle
import pytest
import torch
from cases import DTYPES, as_array, dtypes, integers, layouts, normal, seeds
from hypothesis import given
from hypothesis import strategies as st
from map_weights import axis_weights, full_weights
from rounding import assert_within, compute_dtype, gamma
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.ops import AxisWeights
from somvae_ext.som.neighborhoods import axis_weights as neighborhood_weights

WIDE = [torch.float32, torch.float64]
COUNTS = [torch.int64, *WIDE]
DECAYS = [0.0, 0.9]
GRIDS = [
    Grid(1, 1),
    Grid(1, 9),
    Grid(9, 1),
    Grid(5, 11),
    Grid(5, 11, periodic=True),
    Grid(7, 4, topology="hexagonal"),
    Grid(6, 5, topology="hexagonal", periodic=True),
]


class Map(NamedTuple):
    """The tensors that the op changes."""

    codebook: Tensor
    ema_counts: Tensor
    ema_sums: Tensor

    def clone(self) -> Map:
        return Map(*(tensor.clone() for tensor in self))


class Statistics(NamedTuple):
    counts: Tensor
    sums: Tensor


def random_map(
    nodes: int,
    dim: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    average: torch.dtype = torch.float32,
) -> Map:
    return Map(
        normal(nodes, dim, seed=seed, dtype=dtype, device=device),
        normal(nodes, seed=seed + 1, dtype=average, device=device).abs(),
        normal(nodes, dim, seed=seed + 2, dtype=average, device=device),
    )


def random_statistics(
    nodes: int,
    dim: int,
    seed: int,
    device: torch.device,
    count: torch.dtype = torch.int64,
    sums: torch.dtype = torch.float32,
    layout: str = "contiguous",
) -> Statistics:
    """Draws statistics in which some nodes have won nothing."""
    counts = integers(nodes, seed=seed, below=4, device=device, layout=layout).to(count)
    return Statistics(counts, normal(nodes, dim, seed=seed + 1, dtype=sums, device=device, layout=layout))


def check(
    ops: SimpleNamespace,
    before: Map,
    statistics: Statistics,
    weights: AxisWeights,
    decay: float,
    least_share: float,
    finite: Tensor | None = None,
) -> Map:
    """Checks the averages against the statistics of ``finite`` nodes, and the codes against the updated averages."""
    after = before.clone()
    ops.som_ema_update(*after, *statistics, weights, decay=decay, least_share=least_share)
    for old, value, new in zip(before[1:], statistics, after[1:], strict=True):
        old, value = as_array(old), as_array(value.to(new.dtype))
        if finite is not None:
            value[~finite.cpu().numpy()] = 0
        # The roundings are those of decay, 1 - decay, two products and their sum.
        assert_within(new, decay * old + (1 - decay) * value, np.abs(old) + np.abs(value), 4, new.dtype)

    # The codes are computed from the updated averages themselves, so these add no error.
    codes, n, m = as_array(before.codebook), as_array(after.ema_counts), as_array(after.ema_sums)
    full = full_weights(weights)
    value, error = oracle.som_update(codes, m, n, full, None)
    count, least = full @ n, least_share * n.mean()
    rounding = gamma(len(n) + 2, torch.float64)
    assert (np.abs(count - least) > rounding * (full @ n + least)).all() or not n.any()  # no tie that rounding decides
    moved = (count > least)[:, None]
    value, error = np.where(moved, value, codes), np.where(moved, error, 0)
    magnitude = np.abs(value) + error / torch.finfo(compute_dtype(before.codebook.dtype)).eps
    assert_within(after.codebook, value, magnitude, 1, before.codebook.dtype)
    assert torch.equal(after.codebook[~moved[:, 0]], before.codebook[~moved[:, 0]])
    return after


def gaussian(grid: Grid, sigma: float, device: torch.device) -> AxisWeights:
    weights = neighborhood_weights(grid, "gaussian", sigma, device, negligible=2.0**-53)
    assert weights is not None
    return weights


# ---- against the definition ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("sum_dtype", WIDE, ids=str)
@pytest.mark.parametrize("average", WIDE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("phases", [1, 2])
def test_dtypes(
    ops: SimpleNamespace,
    device: torch.device,
    phases: int,
    dtype: torch.dtype,
    average: torch.dtype,
    sum_dtype: torch.dtype,
    decay: float,
) -> None:
    before = random_map(5 * 11, 7, 1, device, dtype, average)
    statistics = random_statistics(5 * 11, 7, 5, device, sums=sum_dtype)
    check(ops, before, statistics, axis_weights(5, 11, phases, seed=9, keep=0.5, device=device), decay, 0.5)


@pytest.mark.parametrize("dim", [1, 3, 70])
@pytest.mark.parametrize("sigma", [0.3, 0.7, 5.0])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_grids(ops: SimpleNamespace, device: torch.device, grid: Grid, sigma: float, dim: int) -> None:
    before = random_map(grid.num_nodes, dim, 1, device)
    statistics = random_statistics(grid.num_nodes, dim, 5, device)
    check(ops, before, statistics, gaussian(grid, sigma, device), 0.9, 0.3)


@given(
    rows=st.integers(1, 40),
    cols=st.integers(1, 19),
    phases=st.sampled_from([1, 2]),
    dim=st.integers(1, 60),
    dtype=dtypes,
    average=st.sampled_from(WIDE),
    count_dtype=st.sampled_from(COUNTS),
    keep=st.sampled_from([0.05, 0.3, 1.0]),
    decay=st.sampled_from(DECAYS),
    layout=layouts,
    seed=seeds,
)
def test_any_map(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    cols: int,
    phases: int,
    dim: int,
    dtype: torch.dtype,
    average: torch.dtype,
    count_dtype: torch.dtype,
    keep: float,
    decay: float,
    layout: str,
    seed: int,
) -> None:
    nodes = rows * cols
    before = random_map(nodes, dim, seed, device, dtype, average)
    statistics = random_statistics(nodes, dim, seed + 3, device, count_dtype, layout=layout)
    check(ops, before, statistics, axis_weights(rows, cols, phases, seed + 5, keep, device), decay, 0.4321)


def test_a_narrow_neighborhood_on_a_large_map(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(70, 33, topology="hexagonal")
    before = random_map(grid.num_nodes, 5, 1, device)
    check(ops, before, random_statistics(grid.num_nodes, 5, 5, device), gaussian(grid, 0.7, device), 0.9, 0.1)


# ---- the rule --------------------------------------------------------------------------------------------------------


def tiny(device: torch.device) -> tuple[Map, AxisWeights]:
    """Returns a row of three nodes, and weights without a neighborhood."""
    codebook = torch.tensor([[7.0], [8.0], [9.0]], device=device)
    alone = AxisWeights(torch.ones(1, 1, device=device), torch.eye(3, device=device)[None, None])
    return Map(codebook, torch.ones(3, device=device), codebook.clone()), alone


def test_without_decay_codes_are_the_means_of_the_batch(ops: SimpleNamespace, device: torch.device) -> None:
    state, alone = tiny(device)
    counts, sums = torch.tensor([2, 4, 0], device=device), torch.tensor([[3.0], [10.0], [0.0]], device=device)
    ops.som_ema_update(*state, counts, sums, alone, decay=0.0)
    assert state.codebook.tolist() == [[1.5], [2.5], [9.0]]  # the last node has won nothing, so its code stays
    assert state.ema_counts.tolist() == [2, 4, 0]
    assert torch.equal(state.ema_sums, sums)


def test_a_code_moves_only_if_its_count_exceeds_a_share_of_the_mean(ops: SimpleNamespace, device: torch.device) -> None:
    state, alone = tiny(device)
    counts, sums = torch.tensor([1, 2, 3], device=device), torch.zeros(3, 1, device=device)
    ops.som_ema_update(*state, counts, sums, alone, decay=0.0, least_share=1.0)
    assert state.codebook.tolist() == [[7.0], [8.0], [0.0]]  # a count must exceed the mean, 2


def test_a_subnormal_count_moves_nothing(ops: SimpleNamespace, device: torch.device) -> None:
    codebook = torch.ones(1, 1, device=device)
    averages = torch.ones(1, dtype=torch.float64, device=device), torch.ones(1, 1, dtype=torch.float64, device=device)
    counts = torch.tensor([1e-310], dtype=torch.float64, device=device)
    weights = AxisWeights(torch.ones(1, 1, device=device), torch.ones(1, 1, 1, 1, device=device))
    ops.som_ema_update(codebook, *averages, counts, 3 * counts[:, None], weights, decay=0.0)
    assert codebook.item() == 1.0


@pytest.mark.parametrize("spoiler", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("decay", DECAYS)
def test_a_node_whose_statistics_are_not_finite_has_won_nothing(
    ops: SimpleNamespace, device: torch.device, decay: float, spoiler: float
) -> None:
    grid = Grid(5, 6)
    before = random_map(30, 40, 1, device)
    counts, sums = random_statistics(30, 40, 5, device, count=torch.float32)
    sums[3, 0] = sums[7, 39] = counts[11] = spoiler
    finite = torch.ones(30, dtype=torch.bool, device=device)
    finite[[3, 7, 11]] = False
    after = check(ops, before, Statistics(counts, sums), gaussian(grid, 0.7, device), decay, 1e-3, finite)
    assert all(tensor.isfinite().all() for tensor in after)


def test_a_sum_that_overflows_the_averages_has_won_nothing(ops: SimpleNamespace, device: torch.device) -> None:
    state, alone = tiny(device)
    sums = torch.tensor([[1e39], [4.0], [6.0]], dtype=torch.float64, device=device)
    ops.som_ema_update(*state, torch.tensor([2, 2, 2], device=device), sums, alone, decay=0.5)
    assert state.ema_sums.tolist() == [[3.5], [6.0], [7.5]]
    assert state.ema_counts.tolist() == [0.5, 1.5, 1.5]


def test_opposite_extremes_do_not_overflow(ops: SimpleNamespace, device: torch.device) -> None:
    state, alone = tiny(device)
    state.ema_sums.fill_(-3e38)
    sums = torch.full((3, 1), 3e38, device=device)
    ops.som_ema_update(*state, torch.ones(3, dtype=torch.int64, device=device), sums, alone, decay=0.5)
    assert state.ema_sums.tolist() == [[0.0]] * 3


def test_statistics_and_weights_are_not_modified(ops: SimpleNamespace, device: torch.device) -> None:
    before = random_map(12, 5, 1, device)
    inputs = [*random_statistics(12, 5, 5, device), *axis_weights(3, 4, 2, seed=9, device=device)]
    copies = [tensor.clone() for tensor in inputs]
    ops.som_ema_update(*before, *inputs[:2], AxisWeights(*inputs[2:]), decay=0.9)
    assert all(torch.equal(a, b) for a, b in zip(inputs, copies, strict=True))


def test_a_saved_tensor_that_has_changed_is_noticed(ops: SimpleNamespace, device: torch.device) -> None:
    state, alone = tiny(device)
    x = torch.ones(3, 1, device=device, requires_grad=True)
    loss = (x * state.codebook).sum()
    counts, sums = torch.ones(3, dtype=torch.int64, device=device), torch.ones(3, 1, device=device)
    ops.som_ema_update(*state, counts, sums, alone, decay=0.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# ---- sizes and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "cols", "dim"), [(0, 3, 2), (3, 0, 2), (3, 3, 0), (1, 1, 1)])
def test_empty_and_single_sizes(ops: SimpleNamespace, device: torch.device, rows: int, cols: int, dim: int) -> None:
    state = random_map(rows * cols, dim, 1, device)
    statistics = random_statistics(rows * cols, dim, 5, device)
    weights = AxisWeights(torch.ones(rows, rows, device=device), torch.ones(1, 1, cols, cols, device=device))
    expected = 0.5 * state.ema_counts + 0.5 * statistics.counts
    ops.som_ema_update(*state, *statistics, weights, decay=0.5)
    torch.testing.assert_close(state.ema_counts, expected)


# For K = 6 nodes on a 2 x 3 grid and D = 4 features.
SHAPES = {
    "codebook": (6, 4),
    "ema_counts": (6,),
    "ema_sums": (6, 4),
    "counts": (6,),
    "sums": (6, 4),
    "rows": (2, 2),
    "columns": (1, 1, 3, 3),
}


def update(
    ops: SimpleNamespace, device: torch.device, decay: float = 0.9, least_share: float = 0.0, **wrong: Tensor
) -> None:
    tensors = {name: wrong.get(name, torch.zeros(shape, device=device)) for name, shape in SHAPES.items()}
    weights = AxisWeights(tensors.pop("rows"), tensors.pop("columns"))
    ops.som_ema_update(*tensors.values(), weights, decay=decay, least_share=least_share)


@pytest.mark.parametrize(
    ("name", "shape", "sentence"),
    [
        ("codebook", (6,), "have shape [K, D], got [6]"),
        ("ema_counts", (6, 1), "have shape [K] with K = 6, got [6, 1]"),
        ("ema_sums", (6, 3), "have shape [K, D] with K = 6, D = 4, got [6, 3]"),
        ("counts", (5,), "have shape [K] with K = 6, got [5]"),
        ("sums", (5, 4), "have shape [K, D] with K = 6, D = 4, got [5, 4]"),
        ("rows", (2, 3), "have shape [R, R], got [2, 3]"),
        ("columns", (3, 3), "have shape [P, P, C, C], got [3, 3]"),
        ("columns", (3, 3, 3, 3), "have 1 or 2 phases, got 3"),
    ],
)
def test_shape(ops: SimpleNamespace, device: torch.device, name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"som_ema_update: {name} must {sentence}")):
        update(ops, device, **{name: torch.zeros(shape, device=device)})


def test_codebook_of_another_grid(ops: SimpleNamespace, device: torch.device) -> None:
    sentence = "codebook must have a row for each node of the grid of rows and columns, 9, got 6"
    with pytest.raises(ValueError, match=f"^som_ema_update: {sentence}"):
        update(ops, device, rows=torch.zeros(3, 3, device=device))


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("codebook", torch.int64, "float32, float64, float16 or bfloat16, got int64"),
        ("ema_counts", torch.float16, "float32 or float64, got float16"),
        ("ema_sums", torch.float64, "float32, got float64"),
        ("counts", torch.int32, "int64, float32 or float64, got int32"),
        ("sums", torch.bfloat16, "float32 or float64, got bfloat16"),
        ("rows", torch.bool, "float32 or float64, got bool"),
        ("columns", torch.float16, "float32 or float64, got float16"),
    ],
)
def test_dtype(ops: SimpleNamespace, device: torch.device, name: str, dtype: torch.dtype, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^som_ema_update: {name} must be of dtype {expected}"):
        update(ops, device, **{name: torch.zeros(SHAPES[name], dtype=dtype, device=device)})


@pytest.mark.parametrize("name", ["ema_counts", "ema_sums", "counts", "sums", "rows", "columns"])
def test_device(ops: SimpleNamespace, device: torch.device, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"^som_ema_update: {name} must be on the device of codebook, {device}.*, got meta"
    ):
        update(ops, device, **{name: torch.zeros(SHAPES[name], device="meta")})


@pytest.mark.parametrize("name", ["codebook", "ema_counts", "ema_sums"])
def test_tensors_changed_in_place_must_be_contiguous(ops: SimpleNamespace, device: torch.device, name: str) -> None:
    strided = torch.zeros(*SHAPES[name], 2, device=device)[..., 0]
    with pytest.raises(
        ValueError, match=f"^som_ema_update: {name} must be contiguous, for it is changed in place, got strides"
    ):
        update(ops, device, **{name: strided})


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_decay(ops: SimpleNamespace, device: torch.device, decay: float) -> None:
    with pytest.raises(ValueError, match=f"^som_ema_update: decay must be from 0 to below 1, got {decay}"):
        update(ops, device, decay=decay)


@pytest.mark.parametrize("least_share", [-0.1, math.inf, math.nan])
def test_least_share(ops: SimpleNamespace, device: torch.device, least_share: float) -> None:
    with pytest.raises(
        ValueError, match=f"^som_ema_update: least_share must be finite and at least 0, got {least_share}"
    ):
        update(ops, device, least_share=least_share)
