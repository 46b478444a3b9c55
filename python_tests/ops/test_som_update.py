"""som_update: new codes from the sums of the rows that nodes won, weighted by a neighborhood."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from cases import DTYPES, LAYOUTS, as_array, dtypes, integers, layouts, normal, seeds
from hypothesis import given
from hypothesis import strategies as st
from map_weights import axis_weights, full_weights, positive
from rounding import assert_within, compute_dtype
from torch import Tensor

from somvae_ext.ops import AxisWeights

WIDE = [torch.float32, torch.float64]
RATES = [None, 0.03]

# Fractions of nonzero weights. Zeros may be anywhere in a target's range, at its ends or within it.
KEEP_WEIGHTS = [0.0, 0.3, 1.0]


def check(
    ops: SimpleNamespace,
    codebook: Tensor,
    total: Tensor,
    count: Tensor,
    weights: Tensor | AxisWeights,
    rate: float | None = None,
) -> Tensor:
    actual = ops.som_update(codebook, total, count, weights, rate=rate)
    assert (actual.shape, actual.dtype, actual.device) == (codebook.shape, codebook.dtype, codebook.device)
    value, error = oracle.som_update(*map(as_array, (codebook, total, count)), full_weights(weights), rate)
    # Codes are computed in float64, also for float64 inputs, and rounded once.
    magnitude = np.abs(value) + error / torch.finfo(compute_dtype(codebook.dtype)).eps
    assert_within(actual, value, magnitude, 1, codebook.dtype)
    return actual


# ---- against the definition ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("total_dtype", WIDE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dense_weights(
    ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, total_dtype: torch.dtype, rate: float | None
) -> None:
    codebook = normal(13, 5, seed=1, dtype=dtype, device=device)
    total = normal(20, 5, seed=2, dtype=total_dtype, device=device)
    count = integers(20, seed=3, below=9, device=device)
    check(ops, codebook, total, count, positive(13, 20, seed=4, keep=0.5, device=device), rate)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("total_dtype", WIDE, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("phases", [1, 2])
def test_weights_along_the_axes(
    ops: SimpleNamespace,
    device: torch.device,
    phases: int,
    dtype: torch.dtype,
    total_dtype: torch.dtype,
    rate: float | None,
) -> None:
    codebook = normal(5 * 11, 7, seed=1, dtype=dtype, device=device)
    total = normal(5 * 11, 7, seed=2, dtype=total_dtype, device=device)
    count = integers(5 * 11, seed=3, below=9, device=device)
    check(ops, codebook, total, count, axis_weights(5, 11, phases, seed=4, keep=0.5, device=device), rate)


def counts(form: str, nodes: int, dim: int, seed: int, device: torch.device) -> Tensor:
    """Draws counts in which some nodes have won nothing."""
    shape = (nodes, dim) if form.endswith("each") else (nodes,)
    count = integers(*shape, seed=seed, below=4, device=device)
    return count if form.startswith("int64") else count.to(getattr(torch, form.split()[0])) * 0.7


COUNT_FORMS = ["int64", "float32", "float64", "int64 of each", "float32 of each", "float64 of each"]


@given(
    nodes=st.integers(1, 300),
    targets=st.integers(1, 70),
    dim=st.integers(1, 130),
    dtype=dtypes,
    total_dtype=st.sampled_from(WIDE),
    count_form=st.sampled_from(COUNT_FORMS),
    keep=st.sampled_from(KEEP_WEIGHTS),
    rate=st.sampled_from(RATES),
    layout=layouts,
    seed=seeds,
)
def test_any_dense_weights(
    ops: SimpleNamespace,
    device: torch.device,
    nodes: int,
    targets: int,
    dim: int,
    dtype: torch.dtype,
    total_dtype: torch.dtype,
    count_form: str,
    keep: float,
    rate: float | None,
    layout: str,
    seed: int,
) -> None:
    codebook = normal(targets, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    total = normal(nodes, dim, seed=seed + 1, dtype=total_dtype, device=device, layout=layout)
    count = counts(count_form, nodes, dim, seed + 2, device)
    check(ops, codebook, total, count, positive(targets, nodes, seed=seed + 3, keep=keep, device=device), rate)


@given(
    rows=st.integers(1, 19),
    cols=st.integers(1, 19),
    phases=st.sampled_from([1, 2]),
    dim=st.integers(1, 60),
    dtype=dtypes,
    total_dtype=st.sampled_from(WIDE),
    count_form=st.sampled_from(COUNT_FORMS),
    keep=st.sampled_from(KEEP_WEIGHTS),
    rate=st.sampled_from(RATES),
    layout=layouts,
    seed=seeds,
)
def test_any_weights_along_the_axes(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    cols: int,
    phases: int,
    dim: int,
    dtype: torch.dtype,
    total_dtype: torch.dtype,
    count_form: str,
    keep: float,
    rate: float | None,
    layout: str,
    seed: int,
) -> None:
    nodes = rows * cols
    codebook = normal(nodes, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    total = normal(nodes, dim, seed=seed + 1, dtype=total_dtype, device=device, layout=layout)
    count = counts(count_form, nodes, dim, seed + 2, device)
    check(ops, codebook, total, count, axis_weights(rows, cols, phases, seed + 3, keep, device), rate)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts_of_the_weights(ops: SimpleNamespace, device: torch.device, layout: str) -> None:
    codebook, total = normal(12, 5, seed=1, device=device), normal(12, 5, seed=2, device=device)
    count = integers(12, seed=3, below=9, device=device)
    check(ops, codebook, total, count, positive(12, 12, seed=4, device=device, layout=layout))
    rows = positive(3, 3, seed=5, device=device, layout=layout)
    columns = positive(2, 2, 4, 4, seed=6, device=device, layout=layout)
    check(ops, codebook, total, count, AxisWeights(rows, columns))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_weights_in_single_precision(ops: SimpleNamespace, device: torch.device, dtype: torch.dtype) -> None:
    codebook, total = normal(12, 5, seed=1, device=device), normal(12, 5, seed=2, device=device)
    count = integers(12, seed=3, below=9, device=device)
    check(ops, codebook, total, count, positive(12, 12, seed=4, device=device).to(dtype))
    rows, columns = axis_weights(3, 4, 2, seed=4, device=device)
    check(ops, codebook, total, count, AxisWeights(rows.to(dtype), columns.to(dtype)))


@pytest.mark.parametrize(("rows", "cols"), [(1, 6), (6, 1), (5, 4), (4, 7)])
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_a_gaussian_separates(ops: SimpleNamespace, device: torch.device, topology: str, rows: int, cols: int) -> None:
    """The Gaussian is a function of distances in the plane; hexagonal grids with an odd number of rows are included."""
    sigma = 1.3
    points = oracle.coordinates(rows, cols, topology)
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    dense = torch.from_numpy(np.exp(-squares / (2 * sigma**2))).to(device)

    def gaussian(distance: Tensor) -> Tensor:
        return torch.exp(-distance.square() / (2 * sigma**2)).to(device)

    phases = 2 if topology == "hexagonal" else 1
    height = math.sqrt(3) / 2 if topology == "hexagonal" else 1.0
    y = height * torch.arange(rows, dtype=torch.float64)
    x = torch.arange(cols, dtype=torch.float64) + 0.5 * torch.arange(phases, dtype=torch.float64)[:, None]  # (P, C)
    separable = AxisWeights(gaussian(y[:, None] - y), gaussian(x[None, :, :, None] - x[:, None, None, :]))

    codebook = normal(rows * cols, 3, seed=1, dtype=torch.float64, device=device)
    total = normal(rows * cols, 3, seed=2, dtype=torch.float64, device=device)
    count = integers(rows * cols, seed=3, below=9, device=device) + 1
    for rate in RATES:
        one, other = (ops.som_update(codebook, total, count, h, rate=rate) for h in (dense, separable))
        # Both are within their error of the exact result of the dense weights. An exponential has an error of one or
        # two units in the last place times its exponent, which is at most 36 / 3.38.
        data = map(as_array, (codebook, total, count, dense))
        value, error = oracle.som_update(*data, rate)
        np.testing.assert_array_less(np.abs(as_array(one) - value), error + 1e-300)
        np.testing.assert_array_less(np.abs(as_array(other) - value), 2 * error)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_online_rule_of_a_mini_batch(ops: SimpleNamespace, device: torch.device, alpha: float) -> None:
    """Compares with W_v += alpha * mean over b of theta(u_b, v) (x_b - W_v), computed row by row."""
    nodes, batch, dim = 6, 10, 3
    x, codebook = normal(batch, dim, seed=1, dtype=torch.float64), normal(nodes, dim, seed=2, dtype=torch.float64)
    theta, winner = positive(nodes, nodes, seed=3), integers(batch, seed=4, below=nodes)
    expected = codebook.clone()
    for node in range(nodes):
        for row, best in zip(x, winner, strict=True):
            expected[node] += alpha / batch * theta[node, best] * (row - codebook[node])
    total = torch.zeros(nodes, dim, dtype=torch.float64).index_add(0, winner, x)
    count = torch.bincount(winner, minlength=nodes)
    moved = ops.som_update(*(t.to(device) for t in (codebook, total, count, theta)), rate=alpha / batch)
    # At most batch + nodes + 4 roundings of numbers below 30.
    torch.testing.assert_close(moved.cpu(), expected, rtol=0, atol=(batch + nodes + 4) * 2.0**-52 * 30)


# ---- counts ----------------------------------------------------------------------------------------------------------


def test_a_count_for_each_feature(ops: SimpleNamespace, device: torch.device) -> None:
    """If all values of a feature were missing, that feature of the code stays."""
    codebook = torch.tensor([[7.0, 8.0]], device=device)
    total, count = torch.tensor([[6.0, 0.0]], device=device), torch.tensor([[3, 0]], device=device)
    weights = torch.ones(1, 1, device=device)
    assert ops.som_update(codebook, total, count, weights).tolist() == [[2.0, 8.0]]
    assert ops.som_update(codebook, total, count, weights, rate=0.5).tolist() == [[-0.5, 8.0]]


@pytest.mark.parametrize("count", [2**24 + 1, 2**40 + 1])
def test_large_counts_are_exact(ops: SimpleNamespace, device: torch.device, count: int) -> None:
    counted = torch.tensor([count], device=device)
    total = 3.0 * counted.double()[:, None]
    codebook = torch.zeros(1, 1, dtype=torch.float64, device=device)
    weights = AxisWeights(torch.ones(1, 1, device=device), torch.ones(1, 1, 1, 1, device=device))
    for neighborhood in (torch.ones(1, 1, device=device), weights):
        assert ops.som_update(codebook, total, counted, neighborhood).item() == 3.0


@pytest.mark.parametrize("rate", RATES)
def test_a_large_offset_costs_no_digits(ops: SimpleNamespace, device: torch.device, rate: float | None) -> None:
    """Float32 codes are the rounded exact result; the rounding errors in float64 are far smaller."""
    codebook = normal(100, 4, seed=1, offset=1e4, device=device)
    count = integers(100, seed=2, below=1000, device=device) + 1
    total = count[:, None] * normal(100, 4, seed=3, dtype=torch.float64, offset=1e4, device=device)
    rate = None if rate is None else rate / 5e4
    weights = axis_weights(10, 10, 1, seed=4, device=device)
    moved = ops.som_update(codebook, total, count, weights, rate=rate)
    value, _ = oracle.som_update(*map(as_array, (codebook, total, count)), full_weights(weights), rate)
    np.testing.assert_array_less(np.abs(as_array(moved) - value), 0.5001 * np.spacing(np.float32(1e4)))


# ---- weights of zero -------------------------------------------------------------------------------------------------


def test_a_code_that_no_row_reaches_stays(ops: SimpleNamespace, device: torch.device) -> None:
    codebook, total = normal(6, 3, seed=1, device=device), normal(6, 3, seed=2, device=device)
    count = torch.ones(6, dtype=torch.int64, device=device)
    weights = torch.zeros(6, 6, device=device)
    weights[1, 2] = 1
    weights[4, 3], count[3] = 1, 0  # node 4 is reached only by node 3, which has no rows
    for rate in RATES:
        moved = ops.som_update(codebook, total * (count > 0)[:, None], count, weights, rate=rate)
        stay = [0, 2, 3, 4, 5]
        assert torch.equal(moved[stay], codebook[stay])
        assert not torch.equal(moved[1], codebook[1])
    axes = AxisWeights(torch.zeros(2, 2, device=device), torch.ones(1, 1, 3, 3, device=device))
    assert torch.equal(ops.som_update(codebook, total, count, axes), codebook)


def test_a_subnormal_sum_of_weights_counts_as_zero(ops: SimpleNamespace, device: torch.device) -> None:
    """(3 * 5e-324) / (2 * 5e-324) would not be 1.5, because 5e-324 has no significant digits."""
    codebook, total = torch.tensor([[7.0], [7.0]], device=device), torch.tensor([[3.0], [3.0]], device=device)
    count = torch.tensor([2, 2], device=device)
    weights = torch.tensor([[5e-324, 0.0], [0.0, 1e-307]], dtype=torch.float64, device=device)
    assert ops.som_update(codebook, total, count, weights).tolist() == [[7.0], [1.5]]


@pytest.mark.parametrize("spoiler", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("dense", [True, False])
def test_nonfinite_values_affect_only_codes_that_give_them_weight(
    ops: SimpleNamespace, device: torch.device, dense: bool, rate: float | None, spoiler: float
) -> None:
    rows, cols, dim = 9, 10, 30
    axes = axis_weights(rows, cols, 2, seed=1, keep=0.5, device=device)
    full = torch.from_numpy(full_weights(axes)).to(device)
    codebook = normal(rows * cols, dim, seed=2, device=device)
    total = normal(rows * cols, dim, seed=3, device=device)
    count = integers(rows * cols, seed=4, below=9, device=device) + 1
    weights = full if dense else axes
    clean = ops.som_update(codebook, total, count, weights, rate=rate)
    total[37, 5] = spoiler
    moved = ops.som_update(codebook, total, count, weights, rate=rate)
    spoiled = torch.zeros_like(moved, dtype=torch.bool)
    spoiled[:, 5] = full[:, 37] != 0
    assert 0 < spoiled.sum() < rows * cols
    assert torch.equal(moved.isfinite(), ~spoiled)
    assert torch.equal(moved[~spoiled], clean[~spoiled])


# ---- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("targets", "nodes", "dim"), [(0, 3, 2), (3, 0, 2), (3, 3, 0), (1, 1, 1)])
def test_empty_and_single_sizes(ops: SimpleNamespace, device: torch.device, targets: int, nodes: int, dim: int) -> None:
    codebook = normal(targets, dim, seed=1, device=device)
    count = torch.ones(nodes, dtype=torch.int64, device=device)
    total, weights = torch.ones(nodes, dim, device=device), torch.ones(targets, nodes, device=device)
    check(ops, codebook, total, count, weights)
    if targets == nodes:
        axes = AxisWeights(torch.ones(1, 1, device=device), torch.ones(1, 1, nodes, nodes, device=device))
        check(ops, codebook, total, count, axes)


def test_a_map_whose_full_weights_would_not_fit_into_memory(ops: SimpleNamespace, device: torch.device) -> None:
    """The full weights of 90,000 nodes would take 65 GB."""
    side = 300
    codebook = torch.zeros(side * side, 1, device=device)
    count = torch.zeros(side * side, dtype=torch.int64, device=device)
    count[0] = count[-1] = 1
    total = count[:, None].float()
    ramp = torch.arange(1.0, side + 1, dtype=torch.float64, device=device)
    weights = AxisWeights(ramp[:, None] * ramp, (ramp[:, None] * ramp)[None, None])
    moved = ops.som_update(codebook, total * 5, count, weights)
    assert torch.equal(moved, torch.full_like(moved, 5))


def test_arguments_are_not_modified(ops: SimpleNamespace, device: torch.device) -> None:
    tensors = [normal(4, 3, seed=1, device=device), normal(4, 3, seed=2, device=device)]
    tensors += [torch.ones(4, dtype=torch.int64, device=device), positive(4, 4, seed=3, device=device)]
    before = [tensor.clone() for tensor in tensors]
    ops.som_update(*tensors, rate=0.5)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


# ---- errors ----------------------------------------------------------------------------------------------------------

# For K = 6 nodes on a 2 x 3 grid and D = 4 features.
SHAPES = {
    "codebook": (6, 4),
    "total": (6, 4),
    "count": (6,),
    "weights": (6, 6),
    "rows": (2, 2),
    "columns": (1, 1, 3, 3),
}

WRONG_SHAPES = [
    ("codebook", (6,), "have shape [K, D], got [6]"),
    ("total", (5, 4), "have shape [K, D] with K = 6, D = 4, got [5, 4]"),
    ("total", (6, 3), "have shape [K, D] with K = 6, D = 4, got [6, 3]"),
    ("count", (5,), "have shape [K] with K = 6, got [5]"),
    ("count", (6, 3), "have shape [K, D] with K = 6, D = 4, got [6, 3]"),
    ("count", (), "have shape [K] with K = 6, got []"),
    ("rows", (2, 3), "have shape [R, R], got [2, 3]"),
    ("columns", (3, 3), "have shape [P, P, C, C], got [3, 3]"),
    ("columns", (1, 2, 3, 3), "have shape [P, P, C, C], got [1, 2, 3, 3]"),
    ("columns", (3, 3, 3, 3), "have 1 or 2 phases, got 3"),
    ("columns", (0, 0, 3, 3), "have 1 or 2 phases, got 0"),
]


def update(ops: SimpleNamespace, device: torch.device, rate: float | None = None, **wrong: Tensor) -> Tensor:
    tensors = {name: wrong.get(name, torch.zeros(shape, device=device)) for name, shape in SHAPES.items()}
    axes = AxisWeights(tensors["rows"], tensors["columns"])
    weights = tensors["weights"] if "weights" in wrong else axes
    return ops.som_update(tensors["codebook"], tensors["total"], tensors["count"], weights, rate=rate)


@pytest.mark.parametrize(("name", "shape", "sentence"), WRONG_SHAPES)
def test_shape(ops: SimpleNamespace, device: torch.device, name: str, shape: tuple[int, ...], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"som_update: {name} must {sentence}")):
        update(ops, device, **{name: torch.zeros(shape, device=device)})


def test_shape_of_dense_weights(ops: SimpleNamespace, device: torch.device) -> None:
    with pytest.raises(ValueError, match=r"^som_update: weights must have shape \[M, K\] with M = 6, K = 6, got \[6\]"):
        update(ops, device, weights=torch.zeros(6, device=device))
    with pytest.raises(
        ValueError, match=r"^som_update: weights must have shape \[M, K\] with M = 6, K = 6, got \[5, 6"
    ):
        update(ops, device, weights=torch.zeros(5, 6, device=device))


def test_codebook_of_another_grid(ops: SimpleNamespace, device: torch.device) -> None:
    sentence = "codebook must have a row for each node of the grid of rows and columns, 9, got 6"
    with pytest.raises(ValueError, match=f"^som_update: {sentence}"):
        update(ops, device, rows=torch.zeros(3, 3, device=device))


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("codebook", torch.int64, "float32, float64, float16 or bfloat16, got int64"),
        ("total", torch.float16, "float32 or float64, got float16"),
        ("total", torch.int64, "float32 or float64, got int64"),
        ("count", torch.bfloat16, "int64, float32 or float64, got bfloat16"),
        ("count", torch.int32, "int64, float32 or float64, got int32"),
        ("weights", torch.float16, "float32 or float64, got float16"),
        ("rows", torch.bool, "float32 or float64, got bool"),
        ("columns", torch.complex64, "float32 or float64, got complex64"),
    ],
)
def test_dtype(ops: SimpleNamespace, device: torch.device, name: str, dtype: torch.dtype, expected: str) -> None:
    with pytest.raises(ValueError, match=f"^som_update: {name} must be of dtype {expected}"):
        update(ops, device, **{name: torch.zeros(SHAPES[name], dtype=dtype, device=device)})


@pytest.mark.parametrize("name", ["total", "count", "weights", "rows", "columns"])
def test_device(ops: SimpleNamespace, device: torch.device, name: str) -> None:
    with pytest.raises(
        ValueError, match=f"^som_update: {name} must be on the device of codebook, {device}.*, got meta"
    ):
        update(ops, device, **{name: torch.zeros(SHAPES[name], device="meta")})


@pytest.mark.parametrize("rate", [math.nan, math.inf, -math.inf])
def test_rate(ops: SimpleNamespace, device: torch.device, rate: float) -> None:
    with pytest.raises(ValueError, match=f"^som_update: rate must be finite, got {rate}"):
        update(ops, device, rate=rate)
