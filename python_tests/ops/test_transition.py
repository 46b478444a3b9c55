"""Lookups in a table of transition logits: log-probabilities, expected distances, both; dense and sparse gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from calls import assert_same_bits
from cases import (
    DTYPES,
    INDEX_LAYOUTS,
    LAYOUTS,
    as_array,
    as_index,
    dtypes,
    index_layouts,
    integers,
    layouts,
    normal,
    seeds,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rounding import assert_within, compute_dtype
from torch import Tensor

from somvae_ext import Grid
from somvae_ext import ops as native

SIZES = [(1, 1, 1), (5, 3, 2), (40, 9, 17), (3, 130, 33)]


def check_log_prob(
    ops: SimpleNamespace,
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    *,
    sparse_grad: bool = False,
    grad_layout: str = "contiguous",
) -> None:
    logits = logits.detach().requires_grad_()
    log_prob = ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse_grad)
    assert log_prob.dtype == compute_dtype(logits.dtype)
    data = as_array(logits), as_index(prev), as_index(cur)
    assert_within(log_prob, *oracle.transition_log_prob(*data), 1, logits.dtype)

    grad = normal(len(prev), seed=5, dtype=log_prob.dtype, device=logits.device, layout=grad_layout)
    (actual,) = torch.autograd.grad(log_prob, logits, grad)
    expected = oracle.transition_log_prob_gradient(*data, as_array(grad))["logits"]
    check_gradient_of_logits(ops, actual, expected, prev, sparse_grad)


def check_expected_distance(
    ops: SimpleNamespace,
    logits: Tensor,
    prev: Tensor,
    z: Tensor,
    codebook: Tensor,
    *,
    sparse_grad: bool = False,
    grad_layout: str = "contiguous",
) -> None:
    logits, z, codebook = (tensor.detach().requires_grad_() for tensor in (logits, z, codebook))
    expectation = ops.expected_distance(logits, prev, z, codebook, sparse_grad=sparse_grad)
    assert expectation.dtype == compute_dtype(logits.dtype)
    data = as_array(logits), as_index(prev), as_array(z), as_array(codebook)
    assert_within(expectation, *oracle.expected_distance(*data), 1, logits.dtype)

    grad = normal(len(prev), seed=5, dtype=expectation.dtype, device=logits.device, layout=grad_layout)
    actual = torch.autograd.grad(expectation, (logits, z, codebook), grad)
    expected = oracle.expected_distance_gradients(*data, as_array(grad))
    check_gradient_of_logits(ops, actual[0], expected["logits"], prev, sparse_grad)
    for tensor, name in ((actual[1], "z"), (actual[2], "codebook")):
        assert tensor.dtype == logits.dtype
        assert_within(tensor, *expected[name], 1, logits.dtype)


def check_losses(
    ops: SimpleNamespace,
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    z: Tensor,
    codebook: Tensor,
    *,
    sparse_grad: bool = False,
    grad_layout: str = "contiguous",
) -> None:
    logits, z, codebook = (tensor.detach().requires_grad_() for tensor in (logits, z, codebook))
    losses = ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse_grad)
    assert {loss.dtype for loss in losses} == {compute_dtype(logits.dtype)}
    table, i, j, rows, codes = as_array(logits), as_index(prev), as_index(cur), as_array(z), as_array(codebook)
    assert_within(losses.log_prob, *oracle.transition_log_prob(table, i, j), 1, logits.dtype)
    assert_within(losses.expected_distance, *oracle.expected_distance(table, i, rows, codes), 1, logits.dtype)

    grads = [
        normal(len(prev), seed=seed, dtype=loss.dtype, device=logits.device, layout=grad_layout)
        for seed, loss in enumerate(losses)
    ]
    actual = torch.autograd.grad(losses, (logits, z, codebook), grads)
    expected = oracle.transition_losses_gradients(table, i, j, rows, codes, *map(as_array, grads))
    check_gradient_of_logits(ops, actual[0], expected["logits"], prev, sparse_grad)
    for tensor, like, name in ((actual[1], z, "z"), (actual[2], codebook, "codebook")):
        assert tensor.dtype == like.dtype
        assert_within(tensor, *expected[name], 1, logits.dtype)


def check_gradient_of_logits(
    ops: SimpleNamespace, actual: Tensor, rows: tuple[NDArray[np.float64], ...], prev: Tensor, sparse_grad: bool
) -> None:
    """Checks the gradient of the logits; ``rows`` are the samples' parts of it and their error bounds, ``[N, K]``."""
    nodes = rows[0].shape[1]
    assert actual.shape == (nodes, nodes)
    if not sparse_grad:
        assert actual.layout == torch.strided
        assert_within(actual, *oracle.scatter_rows(rows, as_index(prev), nodes), 1, actual.dtype)
        return
    assert actual.layout == torch.sparse_coo
    assert (actual.sparse_dim(), actual.dense_dim()) == (1, 1)
    index, values = actual._indices()[0], actual._values()
    if not ops.native:  # one row per sample, like the gradient of an embedding
        assert torch.equal(index, prev)
        assert_within(values, *rows, 1, actual.dtype)
        return
    touched, group = prev.unique(return_inverse=True)
    assert torch.equal(index[: len(touched)], touched)
    assert actual.is_coalesced() == (not actual.is_cuda)
    assert len(index) == (len(prev) if actual.is_cuda else len(touched))
    assert not values[len(touched) :].any()
    expected = oracle.scatter_rows(rows, as_index(group), len(touched))
    assert_within(values[: len(touched)], *expected, 1, actual.dtype)


def transitions(rows: int, nodes: int, device: torch.device, layout: str = "contiguous") -> tuple[Tensor, Tensor]:
    return (
        integers(rows, seed=2, below=nodes, device=device, layout=layout),
        integers(rows, seed=3, below=nodes, device=device, layout=layout),
    )


def far_code(
    code: float, logit: float, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Makes inputs whose fifth code has the value ``code`` in every other feature and the given logit in every row."""
    logits = normal(7, 7, seed=seed, device=device, dtype=dtype)
    logits[:, 4] = logit
    codebook = normal(7, 9, seed=seed + 1, device=device, dtype=dtype)
    codebook[4, ::2] = code
    prev, cur = transitions(11, 7, device)
    return logits, prev, cur, normal(11, 9, seed=seed + 2, device=device, dtype=dtype), codebook


# ---- values whose squares overflow -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("logit", [-torch.inf, -1e4, -150.0])
@pytest.mark.parametrize("code", [3e18, 1e20, -3e38])
def test_a_code_whose_square_overflows_counts_by_its_probability(
    ops: SimpleNamespace, code: float, logit: float, dtype: torch.dtype, sparse_grad: bool
) -> None:
    inputs = far_code(code, logit, dtype, torch.device("cpu"))
    check_losses(ops, *inputs, sparse_grad=sparse_grad)
    logits, prev, _, z, codebook = inputs
    check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=sparse_grad)


@given(exponent=st.floats(0, 38.5), logit=st.floats(-400, 0), seed=seeds)
def test_results_are_finite_and_right_wherever_float64_results_are(
    ops: SimpleNamespace, exponent: float, logit: float, seed: int
) -> None:
    logits, prev, _, z, codebook = far_code(10.0**exponent, logit, torch.float32, torch.device("cpu"), seed % 1000)
    result = ops.expected_distance(logits, prev, z, codebook)
    table = logits.double().softmax(dim=1)
    exact = (table[prev] * (z.double()[:, None] - codebook.double()).square().sum(dim=2)).sum(dim=1)
    largest = torch.finfo(torch.float32).max
    torch.testing.assert_close(result[exact < largest].double(), exact[exact < largest], rtol=3e-5, atol=0)
    assert not result.isnan().any()


def test_a_row_whose_square_overflows_does_not_affect_the_others(ops: SimpleNamespace) -> None:
    logits, prev, cur, z, codebook = far_code(1.0, 0.0, torch.float32, torch.device("cpu"))
    z[3] = 1e30
    result = ops.transition_losses(logits, prev, cur, z, codebook)
    assert result.expected_distance[3] == torch.inf
    rest = [n for n in range(11) if n != 3]
    check_losses(ops, logits, prev[rest], cur[rest], z[rest], codebook)
    expected = ops.transition_losses(logits, prev[rest], cur[rest], z[rest], codebook)
    torch.testing.assert_close(result.expected_distance[rest], expected.expected_distance)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_nonfinite_row_does_not_change_the_bits_of_the_others(
    ops: SimpleNamespace, device: torch.device, value: float
) -> None:
    logits, prev, cur, z, codebook = far_code(1.0, 0.0, torch.float32, device)
    expected = ops.transition_losses(logits, prev, cur, z, codebook)
    z[3] = value
    result = ops.transition_losses(logits, prev, cur, z, codebook)
    rest = [n for n in range(11) if n != 3]
    assert not result.expected_distance[3].isfinite()
    assert_same_bits([loss[rest] for loss in result], [loss[rest] for loss in expected])


@pytest.mark.parametrize("name", ["z", "codebook"])
def test_values_whose_squares_overflow_float64_are_refused(ops: SimpleNamespace, name: str) -> None:
    logits, prev, cur, z, codebook = far_code(1.0, 0.0, torch.float64, torch.device("cpu"))
    limit = (torch.finfo(torch.float64).max / 8 / 9) ** 0.5
    {"z": z, "codebook": codebook}[name][2, 3] = -limit
    assert ops.transition_losses(logits, prev, cur, z, codebook).expected_distance.isfinite().all()
    {"z": z, "codebook": codebook}[name][2, 3] = -1.01 * limit
    message = (
        f"^transition_losses: {name} must hold values of at most 1.58.*e.153 in magnitude, whose squared distances"
    )
    with pytest.raises(ValueError, match=message):
        ops.transition_losses(logits, prev, cur, z, codebook)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["z", "codebook"])
def test_on_cuda_validate_refuses_values_whose_squares_overflow(name: str) -> None:
    logits, prev, cur, z, codebook = far_code(1.0, 0.0, torch.float32, torch.device("cuda"))
    {"z": z, "codebook": codebook}[name][2, 3] = 1e19
    with pytest.raises(ValueError, match=f"{name} must hold values of at most 2.1.*e.18 in magnitude.*got 1e.19"):
        native.transition_losses(logits, prev, cur, z, codebook, validate=True)
    with pytest.raises(ValueError, match=f"^expected_distance: {name} must hold values"):
        native.expected_distance(logits, prev, z, codebook, validate=True)


# ---- transition_losses -----------------------------------------------------------------------------------------------


def losses_inputs(
    rows: int,
    nodes: int,
    dim: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
    offset: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draws ``logits``, ``prev``, ``cur``, ``z`` and ``codebook``."""
    return (
        normal(nodes, nodes, seed=1, dtype=dtype, device=device, scale=scale),
        *transitions(rows, nodes, device),
        normal(rows, dim, seed=4, dtype=dtype, device=device, offset=offset),
        normal(nodes, dim, seed=5, dtype=dtype, device=device, offset=offset),
    )


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "nodes", "dim"), [*SIZES, (20, 16, 16), (7, 5, 300), (20, 1, 1), (37, 257, 1)])
def test_losses(
    ops: SimpleNamespace,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    nodes: int,
    dim: int,
    sparse_grad: bool,
) -> None:
    check_losses(ops, *losses_inputs(rows, nodes, dim, device, dtype), sparse_grad=sparse_grad)


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_losses_of_more_touched_rows_than_the_kernels_process_at_a_time(
    ops: SimpleNamespace, device: torch.device, sparse_grad: bool
) -> None:
    logits, _, cur, z, codebook = losses_inputs(420, 300, 33, device)
    everywhere = torch.arange(300, device=device).flip(0)
    prev = torch.cat([everywhere, integers(120, seed=6, below=300, device=device)])
    check_losses(ops, logits, prev, cur, z, codebook, sparse_grad=sparse_grad)


def test_losses_on_more_codes_than_16_shares_of_the_kernels(ops: SimpleNamespace, device: torch.device) -> None:
    nodes = 16 * 256 + 19
    logits = normal(1, nodes, seed=1, device=device).expand(nodes, nodes)
    prev, cur = transitions(5, nodes, device)
    z, codebook = normal(5, 3, seed=4, device=device), normal(nodes, 3, seed=5, device=device)
    check_losses(ops, logits, prev, cur, z, codebook, sparse_grad=True)


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("distinct", [1, 3, 40])
def test_losses_of_rows_that_share_their_logits(
    ops: SimpleNamespace, device: torch.device, distinct: int, sparse_grad: bool
) -> None:
    logits, _, cur, z, codebook = losses_inputs(40, 40, 7, device, scale=3.0)
    shuffled = torch.randperm(40, generator=torch.Generator().manual_seed(0)).to(device)
    check_losses(ops, logits, shuffled % distinct, cur, z, codebook, sparse_grad=sparse_grad)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_losses_memory_layouts(ops: SimpleNamespace, device: torch.device, layout: str) -> None:
    for i, index_layout in enumerate(INDEX_LAYOUTS):
        layouts_of_all = [layout, "contiguous", "transposed", "strided"]
        shapes = {"logits": (7, 7), "z": (9, 5), "codebook": (7, 5)}
        tensors = [
            normal(*shape, seed=seed, device=device, layout=layouts_of_all[(i + seed) % 4])
            for seed, shape in enumerate(shapes.values())
        ]
        indices = transitions(9, 7, device, index_layout)
        for grad_layout, sparse_grad in (("strided", True), ("one_value", False)):
            check_losses(ops, tensors[0], *indices, *tensors[1:], sparse_grad=sparse_grad, grad_layout=grad_layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_losses_of_large_logits_and_forbidden_transitions(
    ops: SimpleNamespace, device: torch.device, sparse_grad: bool, dtype: torch.dtype
) -> None:
    logits, prev, cur, z, codebook = losses_inputs(60, 37, 5, device, dtype, scale=1e4)
    logits[:, ::5] = -torch.inf
    cur = torch.where(cur % 5 == 0, cur + 1, cur)
    logits[0] = 0
    logits[0, 3] = logits[0, 20] = 1e4  # a tie for the maximum
    check_losses(ops, logits, prev, cur, z, codebook, sparse_grad=sparse_grad)


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_offset_that_rows_and_codes_share_costs_the_losses_no_accuracy(
    ops: SimpleNamespace, device: torch.device, sparse_grad: bool
) -> None:
    check_losses(ops, *losses_inputs(50, 33, 19, device, offset=1e3), sparse_grad=sparse_grad)


def test_losses_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    logits, prev, cur, z, codebook = losses_inputs(9, 5, 3, device, torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (logits, z, codebook)]
    assert torch.autograd.gradcheck(
        lambda table, *others: tuple(ops.transition_losses(table, prev, cur, *others)), leaves
    )


@pytest.mark.parametrize("wanted", ["logits", "z", "codebook"])
def test_losses_gradient_of_one_input_alone(ops: SimpleNamespace, device: torch.device, wanted: str) -> None:
    names = ("logits", "prev", "cur", "z", "codebook")
    inputs = dict(zip(names, losses_inputs(30, 20, 6, device), strict=True))
    leaves = {name: inputs[name].clone().requires_grad_() for name in ("logits", "z", "codebook")}
    torch.stack(ops.transition_losses(**{**inputs, **leaves})).sum().backward()
    inputs[wanted].requires_grad_()
    torch.stack(ops.transition_losses(**inputs)).sum().backward()
    assert_same_bits([inputs[wanted].grad], [leaves[wanted].grad])


def test_gradient_of_one_loss_alone(ops: SimpleNamespace, device: torch.device) -> None:
    logits, prev, cur, z, codebook = losses_inputs(30, 20, 6, device, torch.float64)
    leaves = [tensor.requires_grad_() for tensor in (logits, z, codebook)]
    losses = ops.transition_losses(logits, prev, cur, z, codebook)
    (of_log_prob,) = torch.autograd.grad(losses.log_prob.sum(), logits, retain_graph=True)
    ones = np.ones(30)
    data = as_array(logits), as_index(prev), as_index(cur)
    expected = oracle.transition_log_prob_gradient(*data, ones)["logits"]
    check_gradient_of_logits(ops, of_log_prob, expected, prev, sparse_grad=False)
    of_expectation = torch.autograd.grad(losses.expected_distance.sum(), leaves)
    expected = oracle.expected_distance_gradients(*data[:2], as_array(z), as_array(codebook), ones)
    check_gradient_of_logits(ops, of_expectation[0], expected["logits"], prev, sparse_grad=False)


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_losses_without_rows(ops: SimpleNamespace, device: torch.device, sparse_grad: bool) -> None:
    logits, prev, cur, z, codebook = losses_inputs(0, 4, 3, device)
    leaves = [tensor.requires_grad_() for tensor in (logits, z, codebook)]
    losses = ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse_grad)
    assert [loss.shape for loss in losses] == [(0,), (0,)]
    for grad, leaf in zip(torch.autograd.grad(torch.stack(losses).sum(), leaves), leaves, strict=True):
        assert grad.shape == leaf.shape
        assert not grad.to_dense().any()


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_losses_without_codes(ops: SimpleNamespace, device: torch.device, sparse_grad: bool) -> None:
    leaves = [torch.zeros(shape, device=device, requires_grad=True) for shape in ((0, 0), (0, 3), (0, 3))]
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    losses = ops.transition_losses(leaves[0], nothing, nothing, *leaves[1:], sparse_grad=sparse_grad)
    grads = torch.autograd.grad(torch.stack(losses).sum(), leaves)
    assert [grad.shape for grad in grads] == [leaf.shape for leaf in leaves]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "nodes", "dim"), [(1, 1, 1), (40, 9, 17), (21, 130, 3), (70, 300, 20)])
def test_both_losses_equal_those_of_the_ops_for_one_loss(
    ops: SimpleNamespace, dtype: torch.dtype, rows: int, nodes: int, dim: int
) -> None:
    """On the CPU they are bitwise equal; elsewhere up to rounding, which the tests above bound."""
    logits, prev, cur, z, codebook = losses_inputs(rows, nodes, dim, torch.device("cpu"), dtype, scale=30.0)
    losses = ops.transition_losses(logits, prev, cur, z, codebook)
    log_prob = ops.transition_log_prob(logits, prev, cur)
    assert_same_bits([losses.log_prob], [log_prob])
    if ops.native:  # the torch version of expected_distance alone takes no logarithm
        assert_same_bits([losses.expected_distance], [ops.expected_distance(logits, prev, z, codebook)])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rows", [40, 4200])
def test_rows_of_a_sparse_gradient_are_those_of_the_dense_one(
    ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, rows: int
) -> None:
    """The other gradients do not depend on the layout."""
    if not ops.native:  # it has one row per sample, and summing several rows would round differently
        dtype, rows = torch.float64, 1
    logits, prev, cur, z, codebook = losses_inputs(rows, 50, 5, device, dtype, scale=3.0)
    leaves = [tensor.requires_grad_() for tensor in (logits, z, codebook)]

    def gradients(sparse_grad: bool) -> tuple[Tensor, ...]:
        losses = ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse_grad)
        weights = [normal(rows, seed=seed, dtype=loss.dtype, device=device) for seed, loss in enumerate(losses)]
        return torch.autograd.grad(losses, leaves, weights)

    (sparse, *others), (dense, *expected) = gradients(sparse_grad=True), gradients(sparse_grad=False)
    touched = prev.unique()
    assert_same_bits([sparse._values()[: len(touched)]], [dense[touched]])
    assert_same_bits([sparse.to_dense()], [dense])
    assert_same_bits(others, expected)


def test_accumulated_sparse_gradient_has_one_row_per_touched_node(ops: SimpleNamespace) -> None:
    """``backward()`` drops the flag ``is_coalesced``, but the rows are still unique."""
    if not ops.native:
        return
    logits, _, cur, z, codebook = losses_inputs(30, 20, 6, torch.device("cpu"))
    prev = integers(30, seed=7, below=4) * 5
    logits.requires_grad_()
    torch.stack(ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=True)).sum().backward()
    assert logits.grad._indices().tolist() == [[0, 5, 10, 15]]
    (grad,) = torch.autograd.grad(
        torch.stack(ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=True)).sum(), logits
    )
    assert grad.is_coalesced()
    assert_same_bits([grad.values()], [logits.grad._values()])


def test_expected_distance_of_certain_transitions_is_that_to_their_codes(
    ops: SimpleNamespace, device: torch.device
) -> None:
    logits = torch.full((3, 3), -torch.inf, device=device).fill_diagonal_(1e30)
    codebook = torch.tensor([[7.0], [8.0], [5.0]], device=device)
    nodes = torch.tensor([2, 0, 2], device=device)
    losses = ops.transition_losses(logits, nodes, nodes, torch.ones(3, 1, device=device), codebook)
    assert losses.log_prob.tolist() == [0, 0, 0]
    assert losses.expected_distance.tolist() == [16, 36, 16]


@given(rows=st.integers(0, 40), nodes=st.integers(1, 40), distinct=st.integers(1, 40), dim=st.integers(1, 20),
       dtype=dtypes, logits_layout=layouts, z_layout=layouts, codebook_layout=layouts, index_layout=index_layouts,
       grad_layout=index_layouts, sparse_grad=st.booleans(), scale=st.sampled_from([0.0, 1.0, 20.0, 1e4]),
       offset=st.sampled_from([0.0, 1e3]), seed=seeds)  # fmt: skip
def test_losses_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    nodes: int,
    distinct: int,
    dim: int,
    dtype: torch.dtype,
    logits_layout: str,
    z_layout: str,
    codebook_layout: str,
    index_layout: str,
    grad_layout: str,
    sparse_grad: bool,
    scale: float,
    offset: float,
    seed: int,
) -> None:
    if dtype == torch.float16:
        scale = min(scale, 20.0)  # larger logits overflow float16
    logits = normal(nodes, nodes, seed=seed, dtype=dtype, device=device, layout=logits_layout, scale=scale)
    prev = integers(rows, seed=seed, below=min(distinct, nodes), device=device, layout=index_layout)
    cur = integers(rows, seed=seed + 1, below=nodes, device=device, layout=index_layout)
    z = normal(rows, dim, seed=seed + 1, dtype=dtype, device=device, layout=z_layout, offset=offset)
    codebook = normal(nodes, dim, seed=seed + 2, dtype=dtype, device=device, layout=codebook_layout, offset=offset)
    check_losses(ops, logits, prev, cur, z, codebook, sparse_grad=sparse_grad, grad_layout=grad_layout)


# ---- training with the losses ----------------------------------------------------------------------------------------


def negative_losses(ops: SimpleNamespace, inputs: dict[str, Tensor], sparse_grad: bool) -> Tensor:
    losses = ops.transition_losses(**inputs, sparse_grad=sparse_grad)
    return losses.expected_distance.mean() - losses.log_prob.mean()


def test_sparse_adam_and_adam_agree_where_every_row_is_visited(ops: SimpleNamespace, device: torch.device) -> None:
    """The optimizers add ``eps`` at different places, so it is tiny here.

    A step of either changes a logit by at most ``lr``, with at most 20 roundings of the step and of the logit, and both
    get the same gradients.
    """
    steps, nodes = 20, 6
    logits, prev, cur, z, codebook = losses_inputs(4 * nodes, nodes, 3, device, torch.float64)
    prev = torch.arange(4 * nodes, device=device) % nodes
    lazy, eager = (logits.clone().requires_grad_() for _ in range(2))
    sparse, dense = torch.optim.SparseAdam([lazy], lr=0.05, eps=1e-200), torch.optim.Adam([eager], lr=0.05, eps=1e-200)
    for _ in range(steps):
        inputs = {"logits": lazy, "prev": prev, "cur": cur, "z": z, "codebook": codebook}
        (lazy.grad,) = torch.autograd.grad(negative_losses(ops, inputs, sparse_grad=True), lazy)
        (eager.grad,) = torch.autograd.grad(negative_losses(ops, inputs, sparse_grad=False), lazy)
        sparse.step()
        dense.step()
    assert not torch.equal(lazy, logits)
    eps, largest = torch.finfo(torch.float64).eps, logits.abs().max().item() + steps * 0.05
    torch.testing.assert_close(lazy, eager, rtol=0, atol=steps * 20 * eps * largest)


def test_a_thousand_steps_at_learning_rate_1_stay_finite(ops: SimpleNamespace, device: torch.device) -> None:
    nodes = 12
    logits, _, _, _, codebook = losses_inputs(0, nodes, 4, device)
    logits = torch.where(logits > 0, 1e4, -1e4)
    logits[3] = -torch.inf
    logits[3, 5] = 0
    leaves = [logits.requires_grad_(), codebook.requires_grad_()]
    optimizers = [torch.optim.SparseAdam(leaves[:1], lr=1.0), torch.optim.Adam(leaves[1:], lr=1.0)]
    generator = torch.Generator().manual_seed(0)
    for _ in range(1000):
        prev, cur = torch.randint(nodes, (2, 16), generator=generator).to(device)
        cur = torch.where(prev == 3, 5, cur)
        inputs = {"prev": prev, "cur": cur, "z": torch.randn(16, 4, generator=generator).to(device)}
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = negative_losses(ops, {**inputs, "logits": logits, "codebook": codebook}, sparse_grad=True)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        assert loss.isfinite()
    assert codebook.isfinite().all()
    assert not logits.isnan().any()
    assert torch.equal(
        logits == -torch.inf, (torch.arange(nodes) == 3)[:, None].to(device) & (torch.arange(nodes) != 5).to(device)
    )


# ---- transition_log_prob ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "nodes", "dim"), SIZES)
def test_log_prob(
    ops: SimpleNamespace,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    nodes: int,
    dim: int,
    sparse_grad: bool,
) -> None:
    logits = normal(nodes, nodes, seed=1, dtype=dtype, device=device, scale=3.0)
    check_log_prob(ops, logits, *transitions(rows, nodes, device), sparse_grad=sparse_grad)


@pytest.mark.parametrize("index_layout", INDEX_LAYOUTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_log_prob_memory_layouts(ops: SimpleNamespace, device: torch.device, layout: str, index_layout: str) -> None:
    logits = normal(7, 7, seed=1, device=device, layout=layout)
    prev, cur = transitions(9, 7, device, index_layout)
    for grad_layout in ("strided", "one_value"):
        for sparse_grad in (False, True):
            check_log_prob(ops, logits, prev, cur, sparse_grad=sparse_grad, grad_layout=grad_layout)


def test_log_prob_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    logits = normal(5, 5, seed=1, dtype=torch.float64, device=device).requires_grad_()
    prev, cur = transitions(9, 5, device)
    assert torch.autograd.gradcheck(lambda table: ops.transition_log_prob(table, prev, cur), logits)


@pytest.mark.parametrize("scale", [100.0, 1e30, 5e37])
def test_log_prob_of_extreme_logits_is_finite(ops: SimpleNamespace, device: torch.device, scale: float) -> None:
    logits = normal(6, 6, seed=1, device=device, scale=scale).requires_grad_()
    log_prob = ops.transition_log_prob(logits, *transitions(20, 6, device))
    log_prob.sum().backward()
    assert log_prob.isfinite().all()
    assert (log_prob <= 0).all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["forbidden first", "forbidden last"])
def test_forbidden_transitions_have_probability_zero(
    ops: SimpleNamespace, device: torch.device, order: tuple[int, int]
) -> None:
    logits = torch.tensor([[-torch.inf, 0.0], [0.0, 0.0]], device=device)[:, order].requires_grad_()
    prev, allowed = torch.tensor([0], device=device), torch.tensor([order.index(1)], device=device)
    log_prob = ops.transition_log_prob(logits, prev, allowed)
    log_prob.sum().backward()
    assert log_prob.item() == 0.0
    assert not logits.grad.any()
    assert ops.transition_log_prob(logits, prev, 1 - allowed).item() == -torch.inf


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_log_prob_without_rows(ops: SimpleNamespace, device: torch.device, sparse_grad: bool) -> None:
    logits = normal(4, 4, seed=1, device=device).requires_grad_()
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    log_prob = ops.transition_log_prob(logits, nothing, nothing, sparse_grad=sparse_grad)
    assert log_prob.shape == (0,)
    log_prob.sum().backward()
    assert torch.equal(logits.grad.to_dense(), torch.zeros(4, 4, device=device))


def test_sparse_adam_changes_only_the_rows_that_were_read(ops: SimpleNamespace, device: torch.device) -> None:
    logits = torch.nn.Parameter(torch.zeros(4, 4, device=device))
    optimizer = torch.optim.SparseAdam([logits], lr=0.5)
    prev, cur = torch.tensor([2, 2], device=device), torch.tensor([3, 3], device=device)
    (-ops.transition_log_prob(logits, prev, cur, sparse_grad=True).sum()).backward()
    optimizer.step()
    assert torch.equal(logits[[0, 1, 3]], torch.zeros(3, 4, device=device))
    assert logits[2, 3] > 0 > logits[2, 0]


@given(rows=st.integers(0, 30), nodes=st.integers(1, 40), dtype=dtypes, layout=layouts, index_layout=index_layouts,
       grad_layout=index_layouts, sparse_grad=st.booleans(), scale=st.sampled_from([0.0, 1.0, 20.0]),
       seed=seeds)  # fmt: skip
def test_log_prob_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    nodes: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    grad_layout: str,
    sparse_grad: bool,
    scale: float,
    seed: int,
) -> None:
    logits = normal(nodes, nodes, seed=seed, dtype=dtype, device=device, layout=layout, scale=scale)
    prev, cur = (integers(rows, seed=seed + i, below=nodes, device=device, layout=index_layout) for i in (0, 1))
    check_log_prob(ops, logits, prev, cur, sparse_grad=sparse_grad, grad_layout=grad_layout)


# ---- expected_distance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "nodes", "dim"), SIZES)
def test_expected_distance(
    ops: SimpleNamespace,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    nodes: int,
    dim: int,
    sparse_grad: bool,
) -> None:
    logits = normal(nodes, nodes, seed=1, dtype=dtype, device=device)
    prev, _ = transitions(rows, nodes, device)
    z = normal(rows, dim, seed=3, dtype=dtype, device=device)
    codebook = normal(nodes, dim, seed=4, dtype=dtype, device=device)
    check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=sparse_grad)


@pytest.mark.parametrize("logits_layout", LAYOUTS)
@pytest.mark.parametrize("z_layout", LAYOUTS)
def test_expected_distance_memory_layouts(
    ops: SimpleNamespace, device: torch.device, z_layout: str, logits_layout: str
) -> None:
    logits = normal(7, 7, seed=1, device=device, layout=logits_layout)
    z = normal(9, 5, seed=3, device=device, layout=z_layout)
    for codebook_layout, index_layout in (("contiguous", "strided"), ("transposed", "one_value")):
        codebook = normal(7, 5, seed=4, device=device, layout=codebook_layout)
        prev, _ = transitions(9, 7, device, index_layout)
        check_expected_distance(ops, logits, prev, z, codebook, grad_layout="one_value")
        check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=True, grad_layout="strided")


def test_expected_distance_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    prev, _ = transitions(6, 5, device)
    shapes = [(5, 5), (6, 2), (5, 2)]
    logits, z, codebook = (
        normal(*shape, seed=seed, dtype=torch.float64, device=device).requires_grad_()
        for seed, shape in enumerate(shapes)
    )
    assert torch.autograd.gradcheck(
        lambda table, rows, codes: ops.expected_distance(table, prev, rows, codes), (logits, z, codebook)
    )


@pytest.mark.parametrize("wanted", ["logits", "z", "codebook"])
def test_expected_distance_gradient_of_one_input_alone(ops: SimpleNamespace, device: torch.device, wanted: str) -> None:
    prev, _ = transitions(6, 5, device)
    inputs = {name: normal(*shape, seed=seed, device=device) for seed, (name, shape) in enumerate(
        {"logits": (5, 5), "z": (6, 2), "codebook": (5, 2)}.items())}  # fmt: skip
    all_of_them = {name: tensor.clone().requires_grad_() for name, tensor in inputs.items()}
    ops.expected_distance(prev=prev, **all_of_them).sum().backward()
    inputs[wanted].requires_grad_()
    ops.expected_distance(prev=prev, **inputs).sum().backward()
    torch.testing.assert_close(inputs[wanted].grad, all_of_them[wanted].grad, rtol=0, atol=0)


def test_shared_offset_costs_no_accuracy(ops: SimpleNamespace, device: torch.device) -> None:
    prev, _ = transitions(30, 16, device)
    logits = normal(16, 16, seed=1, device=device)
    z = normal(30, 8, seed=3, device=device, offset=1e4)
    codebook = normal(16, 8, seed=4, device=device, offset=1e4)
    check_expected_distance(ops, logits, prev, z, codebook)


def test_expected_distance_of_a_certain_transition_is_the_distance(ops: SimpleNamespace, device: torch.device) -> None:
    logits = torch.tensor([[-torch.inf, -torch.inf, 1e30]] * 3, device=device)
    codebook = torch.tensor([[7.0], [8.0], [5.0]], device=device)
    z = torch.tensor([[1.0]], device=device)
    assert ops.expected_distance(logits, torch.tensor([1], device=device), z, codebook).item() == 16.0


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
def test_expected_distance_without_rows(ops: SimpleNamespace, device: torch.device, sparse_grad: bool) -> None:
    logits = normal(4, 4, seed=1, device=device).requires_grad_()
    z = torch.empty(0, 3, device=device, requires_grad=True)
    codebook = normal(4, 3, seed=4, device=device).requires_grad_()
    nothing = torch.empty(0, dtype=torch.int64, device=device)
    expectation = ops.expected_distance(logits, nothing, z, codebook, sparse_grad=sparse_grad)
    assert expectation.shape == (0,)
    expectation.sum().backward()
    assert z.grad.shape == (0, 3)
    assert torch.equal(logits.grad.to_dense(), torch.zeros(4, 4, device=device))
    assert torch.equal(codebook.grad, torch.zeros(4, 3, device=device))


@given(rows=st.integers(0, 20), nodes=st.integers(1, 20), dim=st.integers(1, 12), dtype=dtypes, logits_layout=layouts,
       z_layout=layouts, codebook_layout=layouts, index_layout=index_layouts, grad_layout=index_layouts,
       sparse_grad=st.booleans(), seed=seeds)  # fmt: skip
def test_expected_distance_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    nodes: int,
    dim: int,
    dtype: torch.dtype,
    logits_layout: str,
    z_layout: str,
    codebook_layout: str,
    index_layout: str,
    grad_layout: str,
    sparse_grad: bool,
    seed: int,
) -> None:
    logits = normal(nodes, nodes, seed=seed, dtype=dtype, device=device, layout=logits_layout)
    prev = integers(rows, seed=seed, below=nodes, device=device, layout=index_layout)
    z = normal(rows, dim, seed=seed + 1, dtype=dtype, device=device, layout=z_layout)
    codebook = normal(nodes, dim, seed=seed + 2, dtype=dtype, device=device, layout=codebook_layout)
    check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=sparse_grad, grad_layout=grad_layout)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False)
@given(rows=st.integers(0, 100), nodes=st.integers(1, 300), dim=st.integers(1, 70), dtype=dtypes, layout=layouts,
       index_layout=index_layouts, sparse_grad=st.booleans(), seed=seeds)  # fmt: skip
def test_losses_of_any_larger_shape(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    nodes: int,
    dim: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    sparse_grad: bool,
    seed: int,
) -> None:
    logits = normal(nodes, nodes, seed=seed, dtype=dtype, device=device, layout=layout, scale=3.0)
    prev, cur = (integers(rows, seed=seed + i, below=nodes, device=device, layout=index_layout) for i in (0, 1))
    z = normal(rows, dim, seed=seed + 2, dtype=dtype, device=device, layout=layout)
    codebook = normal(nodes, dim, seed=seed + 3, dtype=dtype, device=device, layout=layout)
    check_losses(ops, logits, prev, cur, z, codebook, sparse_grad=sparse_grad)


@pytest.mark.parametrize("kind", ["dense", "local"])
def test_no_rows_give_a_broken_codebook_no_gradient(device: torch.device, kind: str) -> None:
    grid, nothing = Grid(3, 3), torch.zeros(0, dtype=torch.int64, device=device)
    codebook = torch.full((9, 2), torch.nan, device=device, requires_grad=True)
    z = torch.zeros(0, 2, device=device)
    if kind == "dense":
        losses = native.transition_losses(torch.zeros(9, 9, device=device), nothing, nothing, z, codebook)
    else:
        logits = torch.zeros(9, 10, device=device)
        losses = native.local_transition_losses(logits, nothing, nothing, z, codebook, grid, 1)
    losses.expected_distance.sum().backward()
    assert codebook.grad is not None
    assert not codebook.grad.any()
