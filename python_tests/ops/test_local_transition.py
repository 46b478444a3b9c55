"""Local transition tables, with a window of nodes and a remainder, compared with the equivalent K x K table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from cases import (
    DTYPES,
    GRIDS,
    LAYOUTS,
    as_array,
    as_index,
    dtypes,
    grids,
    index_layouts,
    integers,
    layouts,
    normal,
    seeds,
)
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_within, compute_dtype
from torch import Tensor

from somvae_ext import Grid, build_info

EPS = torch.finfo(torch.float64).eps


def table(grid: Grid, radius: int, seed: int = 1, **options: object) -> Tensor:
    return normal(grid.num_nodes, len(grid.window(radius).mirror) + 1, seed=seed, **options)


def stored_epsilons(dtype: torch.dtype) -> float:
    """Returns the relative error of storing a result, in epsilons of the dtype in which it was computed."""
    return torch.finfo(dtype).eps / torch.finfo(compute_dtype(dtype)).eps


def check(
    ops: SimpleNamespace,
    grid: Grid,
    radius: int,
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    z: Tensor,
    codebook: Tensor,
    *,
    sparse_grad: bool = False,
    grad_layout: str = "contiguous",
) -> None:
    """Checks that values and all gradients equal those of the dense oracle.

    In addition to the dense bounds, the closed form of sums over all nodes has float64 roundings of the terms that it
    adds and subtracts: the squared distances to all codes, relative to their center.
    """
    logits, z, codebook = (tensor.detach().requires_grad_() for tensor in (logits, z, codebook))
    log_prob, expected = ops.local_transition_losses(
        logits, prev, cur, z, codebook, grid, radius, sparse_grad=sparse_grad
    )
    assert log_prob.dtype == expected.dtype == compute_dtype(logits.dtype)
    near = as_index(grid.window_nodes(radius, torch.arange(grid.num_nodes)))
    dense = oracle.dense_logits(as_array(logits), near)
    i, j, rows, codes = as_index(prev), as_index(cur), as_array(z), as_array(codebook)
    num_nodes, dim = codes.shape
    closed = (2 * (num_nodes + dim) + 16) * EPS / torch.finfo(compute_dtype(logits.dtype)).eps
    centered = codes - codes.mean(axis=0)
    shifted = rows - codes.mean(axis=0)
    # For each sample, the terms of the sum of squared distances to all codes.
    terms = 2 * num_nodes * np.square(shifted).sum(axis=1) + 2 * np.square(centered).sum()

    assert_within(log_prob, *oracle.transition_log_prob(dense, i, j), 1, logits.dtype)
    values, bounds = oracle.expected_distance(dense, i, rows, codes)
    assert_within(expected, values, bounds + closed * terms, 1, logits.dtype)

    grads = [
        normal(len(prev), seed=seed, dtype=log_prob.dtype, device=logits.device, layout=grad_layout) for seed in (5, 6)
    ]
    actual = torch.autograd.grad((log_prob, expected), (logits, z, codebook), grads)
    u, v = (as_array(grad) for grad in grads)
    of_prob = oracle.transition_log_prob_gradient(dense, i, j, u)["logits"]
    of_distance = oracle.expected_distance_gradients(dense, i, rows, codes, v)
    both = of_prob[0] + of_distance["logits"][0], of_prob[1] + of_distance["logits"][1]
    value, bound = oracle.local_gradient(both, i, near)
    bound[:, -1] += closed * np.abs(v) * terms
    assert actual[0].dtype == logits.dtype
    total = np.zeros((2, *logits.shape))
    for n, node in enumerate(i):
        total[:, node] += value[n], bound[n]
    if sparse_grad:
        assert actual[0].layout == torch.sparse_coo
        assert (actual[0].sparse_dim(), actual[0].dense_dim()) == (1, 1)
        # Uncoalesced rows are rounded to the logits' dtype one by one.
        nodes, rounded = actual[0]._indices()[0], actual[0]._values().double()
        added = logits.new_zeros(logits.shape, dtype=torch.float64)
        total[1] += as_array(added.index_add(0, nodes, rounded.abs())) * stored_epsilons(logits.dtype)
        assert_within(added.index_add(0, nodes, rounded), *total, 1, logits.dtype)
    else:
        assert_within(actual[0], *total, 1, logits.dtype)

    # Sums over all codes relative to the center replace sums of differences.
    spread = num_nodes * np.abs(shifted) + np.abs(centered).sum(axis=0)
    value, bound = of_distance["z"]
    assert_within(actual[1], value, bound + closed * np.abs(v)[:, None] * spread, 1, logits.dtype)
    value, bound = of_distance["codebook"]
    pull = np.abs(v).sum() * np.abs(centered) + (np.abs(v)[:, None] * np.abs(shifted)).sum(axis=0)
    assert_within(actual[2], value, bound + closed * 2 * pull, 1, logits.dtype)


def inputs(
    grid: Grid,
    radius: int,
    rows: int,
    dim: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    **options: float,
) -> tuple[Tensor, ...]:
    nodes = grid.num_nodes
    return (
        table(grid, radius, dtype=dtype, device=device),
        integers(rows, seed=2, below=nodes, device=device),
        integers(rows, seed=3, below=nodes, device=device),
        normal(rows, dim, seed=4, dtype=dtype, device=device, **options),
        normal(nodes, dim, seed=5, dtype=dtype, device=device, **options),
    )


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("radius", [0, 1, 2, 9])
@pytest.mark.parametrize("grid", [*GRIDS, Grid(6, 7, topology="hexagonal", periodic=True), Grid(9, 5)], ids=str)
def test_a_local_table_equals_its_dense_table(
    ops: SimpleNamespace, device: torch.device, grid: Grid, radius: int, dtype: torch.dtype, sparse_grad: bool
) -> None:
    check(ops, grid, radius, *inputs(grid, radius, 17, 5, device, dtype), sparse_grad=sparse_grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layouts(ops: SimpleNamespace, device: torch.device, layout: str) -> None:
    grid = Grid(4, 5)
    logits, z, codebook = (
        normal(*shape, seed=seed, device=device, layout=layout)
        for seed, shape in enumerate([(20, 10), (9, 6), (20, 6)], start=1)
    )
    for index_layout in ("strided", "one_value"):
        prev, cur = (integers(9, seed=seed, below=20, device=device, layout=index_layout) for seed in (2, 3))
        check(ops, grid, 1, logits, prev, cur, z, codebook, grad_layout="one_value")
        check(ops, grid, 1, logits, prev, cur, z, codebook, sparse_grad=True, grad_layout="strided")


def test_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(4, 3, topology="hexagonal")
    logits, prev, cur, z, codebook = inputs(grid, 1, 6, 2, device, torch.float64)

    def losses(logits: Tensor, z: Tensor, codebook: Tensor) -> tuple[Tensor, ...]:
        return tuple(ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1))

    assert torch.autograd.gradcheck(losses, [tensor.requires_grad_() for tensor in (logits, z, codebook)])


@pytest.mark.parametrize("wanted", ["logits", "z", "codebook"])
def test_gradient_of_one_input_alone(ops: SimpleNamespace, device: torch.device, wanted: str) -> None:
    grid = Grid(5, 4)
    names = ("logits", "prev", "cur", "z", "codebook")
    all_inputs = dict(zip(names, inputs(grid, 1, 6, 3, device), strict=True))

    def gradient(*differentiable: str) -> Tensor:
        tensors = {
            name: tensor.clone().requires_grad_(name in differentiable) if tensor.is_floating_point() else tensor
            for name, tensor in all_inputs.items()
        }
        sum(loss.sum() for loss in ops.local_transition_losses(**tensors, grid=grid, radius=1)).backward()
        return tensors[wanted].grad

    torch.testing.assert_close(gradient(wanted), gradient("logits", "z", "codebook"), rtol=0, atol=0)


def test_gradients_of_shared_rows_add_up(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(6, 6)
    logits, prev, *others = inputs(grid, 1, 60, 4, device)
    for sparse_grad in (False, True):
        check(ops, grid, 1, logits, prev % 2, *others, sparse_grad=sparse_grad)


def test_sparse_gradient_has_the_touched_rows_once(device: torch.device) -> None:
    from somvae_ext import ops

    grid = Grid(5, 5)
    logits, _, cur, z, codebook = inputs(grid, 1, 5, 2, device)
    prev = torch.tensor([7, 3, 7, 24, 3], device=device)
    logits.requires_grad_()
    log_prob, _ = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1, sparse_grad=True)
    (grad,) = torch.autograd.grad(log_prob.sum(), logits)
    assert grad.to_dense().any(dim=1).nonzero().flatten().tolist() == [3, 7, 24]
    if device.type == "cpu" and build_info()["native"]:  # otherwise rows may repeat
        assert grad.is_coalesced()
        assert grad.indices().tolist() == [[3, 7, 24]]


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_extreme_logits_stay_finite(ops: SimpleNamespace, device: torch.device, scale: float) -> None:
    grid = Grid(5, 6, periodic=True)
    logits, *others = inputs(grid, 1, 40, 3, device)
    logits = (scale * logits).requires_grad_()
    losses = ops.local_transition_losses(logits, *others, grid, 1)
    sum(loss.sum() for loss in losses).backward()
    assert all(loss.isfinite().all() for loss in losses)
    assert (losses.log_prob <= 0).all()
    assert (losses.expected_distance >= 0).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("code", [1e15, 6e17])
def test_a_large_code_of_probability_zero_keeps_the_results_finite(
    ops: SimpleNamespace, device: torch.device, code: float, dtype: torch.dtype
) -> None:
    grid = Grid(5, 6)
    logits, prev, cur, z, codebook = (
        tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in inputs(grid, 1, 20, 3, device)
    )
    codebook[14] = code
    logits[grid.window_nodes(1, torch.arange(30, device=device)).eq(14).nonzero().unbind(dim=1)] = -1e4
    losses = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1)
    assert all(loss.isfinite().all() for loss in losses)


@pytest.mark.parametrize(
    ("dtype", "name", "limit"),
    [(torch.float32, "codebook", 2.17e18), (torch.float64, "codebook", 1.58e153), (torch.float64, "z", 1.58e153)],
    ids=str,
)
def test_values_whose_sum_of_squares_overflows_are_refused(
    ops: SimpleNamespace, dtype: torch.dtype, name: str, limit: float
) -> None:
    grid = Grid(3, 3)  # 9 codes of one feature
    logits, prev, cur, z, codebook = inputs(grid, 1, 5, 1, torch.device("cpu"))
    values = {"logits": logits.to(dtype), "z": z.to(dtype), "codebook": codebook.to(dtype)}
    values[name][2] = 0.99 * limit
    assert all(
        loss.isfinite().all() for loss in ops.local_transition_losses(**values, prev=prev, cur=cur, grid=grid, radius=1)
    )
    values[name][2] = 1.01 * limit
    message = f"^local_transition_losses: {name} must hold values of at most .* in magnitude, whose squared distances"
    with pytest.raises(ValueError, match=message):
        ops.local_transition_losses(**values, prev=prev, cur=cur, grid=grid, radius=1)


def test_a_row_whose_square_overflows_float32_is_infinitely_far(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(3, 3)
    logits, prev, cur, z, codebook = inputs(grid, 1, 5, 3, device)
    expected = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1).expected_distance
    z[2] = -1e30
    result = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1).expected_distance
    assert result[2] == torch.inf
    rest = torch.tensor([0, 1, 3, 4], device=device)
    torch.testing.assert_close(result[rest], expected[rest])


def test_shared_offset_costs_no_accuracy(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(6, 7)
    check(ops, grid, 1, *inputs(grid, 1, 30, 8, device, offset=1e4))


def test_absent_slots_and_an_empty_remainder_are_ignored(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(2, 3)  # a window of radius 2 contains every node
    logits, prev, cur, z, codebook = inputs(grid, 2, 7, 3, device)
    near = grid.window_nodes(2, torch.arange(6, device=device))
    absent = torch.cat([near < 0, torch.ones(6, 1, dtype=torch.bool, device=device)], dim=1)
    changed = logits.masked_fill(absent, 1e6).requires_grad_()
    found = ops.local_transition_losses(changed, prev, cur, z, codebook, grid, 2)
    expected = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 2)
    assert torch.equal(found.log_prob, expected.log_prob)
    assert torch.equal(found.expected_distance, expected.expected_distance)
    sum(loss.sum() for loss in found).backward()
    assert not changed.grad[absent].any()


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_without_rows(ops: SimpleNamespace, device: torch.device, sparse_grad: bool) -> None:
    grid = Grid(3, 3)
    logits, z, codebook = (
        table(grid, 1, device=device),
        torch.empty(0, 4, device=device),
        normal(9, 4, seed=1, device=device),
    )
    leaves = [tensor.requires_grad_() for tensor in (logits, z, codebook)]
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    losses = ops.local_transition_losses(logits, nothing, nothing, z, codebook, grid, 1, sparse_grad=sparse_grad)
    sum(loss.sum() for loss in losses).backward()
    assert all(loss.shape == (0,) for loss in losses)
    assert all(not leaf.grad.to_dense().any() for leaf in leaves)


def test_without_features_the_log_probability_is_the_same(ops: SimpleNamespace, device: torch.device) -> None:
    grid = Grid(4, 4, topology="hexagonal", periodic=True)
    logits, prev, cur, z, codebook = inputs(grid, 1, 9, 3, device)
    bare = ops.local_transition_losses(logits, prev, cur, z[:, :0], codebook[:, :0], grid, 1)
    assert torch.equal(bare.log_prob, ops.local_transition_losses(logits, prev, cur, z, codebook, grid, 1).log_prob)
    assert not bare.expected_distance.any()


@given(grid=grids(), radius=st.integers(0, 5), rows=st.integers(0, 20), dim=st.integers(1, 70), dtype=dtypes,
       layout=layouts, index_layout=index_layouts, grad_layout=index_layouts, sparse_grad=st.booleans(),
       seed=seeds)  # fmt: skip
def test_any_grid_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    radius: int,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    grad_layout: str,
    sparse_grad: bool,
    seed: int,
) -> None:
    nodes = grid.num_nodes
    logits = table(grid, radius, seed, dtype=dtype, device=device, layout=layout)
    prev, cur = (integers(rows, seed=seed + i, below=nodes, device=device, layout=index_layout) for i in (1, 2))
    z = normal(rows, dim, seed=seed + 3, dtype=dtype, device=device, layout=layout)
    codebook = normal(nodes, dim, seed=seed + 4, dtype=dtype, device=device, layout=layout)
    check(ops, grid, radius, logits, prev, cur, z, codebook, sparse_grad=sparse_grad, grad_layout=grad_layout)
