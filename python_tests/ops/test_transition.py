"""Lookups in a table of transition logits: log-probabilities, expected distances, dense and sparse gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
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
    check_gradient_of_logits(actual, expected, logits, prev, sparse_grad)


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
    check_gradient_of_logits(actual[0], expected["logits"], logits, prev, sparse_grad)
    for tensor, name in ((actual[1], "z"), (actual[2], "codebook")):
        assert tensor.dtype == logits.dtype
        assert_within(tensor, *expected[name], 1, logits.dtype)


def check_gradient_of_logits(
    actual: Tensor, rows: tuple[NDArray[np.float64], ...], logits: Tensor, prev: Tensor, sparse_grad: bool
) -> None:
    assert actual.dtype == logits.dtype
    assert actual.shape == logits.shape
    if sparse_grad:
        assert actual.layout == torch.sparse_coo
        assert (actual.sparse_dim(), actual.dense_dim()) == (1, 1)
        assert torch.equal(actual._indices()[0], prev)
        assert_within(actual._values(), *rows, 1, logits.dtype)
    else:
        assert actual.layout == torch.strided
        assert_within(actual, *oracle.scatter_rows(rows, as_index(prev), len(logits)), 1, logits.dtype)


def transitions(rows: int, units: int, device: torch.device, layout: str = "contiguous") -> tuple[Tensor, Tensor]:
    return (
        integers(rows, seed=2, below=units, device=device, layout=layout),
        integers(rows, seed=3, below=units, device=device, layout=layout),
    )


# ---- transition_log_prob ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "units", "dim"), SIZES)
def test_log_prob(
    ops: SimpleNamespace,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    units: int,
    dim: int,
    sparse_grad: bool,
) -> None:
    logits = normal(units, units, seed=1, dtype=dtype, device=device, scale=3.0)
    check_log_prob(ops, logits, *transitions(rows, units, device), sparse_grad=sparse_grad)


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


@pytest.mark.parametrize("scale", [100.0, 1e30])
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


def test_sparse_adam_steps_only_the_rows_that_were_read(ops: SimpleNamespace, device: torch.device) -> None:
    logits = torch.nn.Parameter(torch.zeros(4, 4, device=device))
    optimizer = torch.optim.SparseAdam([logits], lr=0.5)
    prev, cur = torch.tensor([2, 2], device=device), torch.tensor([3, 3], device=device)
    (-ops.transition_log_prob(logits, prev, cur, sparse_grad=True).sum()).backward()
    optimizer.step()
    assert torch.equal(logits[[0, 1, 3]], torch.zeros(3, 4, device=device))
    assert logits[2, 3] > 0 > logits[2, 0]


@given(rows=st.integers(0, 30), units=st.integers(1, 40), dtype=dtypes, layout=layouts, index_layout=index_layouts,
       grad_layout=index_layouts, sparse_grad=st.booleans(), scale=st.sampled_from([0.0, 1.0, 20.0]),
       seed=seeds)  # fmt: skip
def test_log_prob_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    units: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    grad_layout: str,
    sparse_grad: bool,
    scale: float,
    seed: int,
) -> None:
    logits = normal(units, units, seed=seed, dtype=dtype, device=device, layout=layout, scale=scale)
    prev, cur = (integers(rows, seed=seed + i, below=units, device=device, layout=index_layout) for i in (0, 1))
    check_log_prob(ops, logits, prev, cur, sparse_grad=sparse_grad, grad_layout=grad_layout)


# ---- expected_distance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse_grad", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "units", "dim"), SIZES)
def test_expected_distance(
    ops: SimpleNamespace,
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    units: int,
    dim: int,
    sparse_grad: bool,
) -> None:
    logits = normal(units, units, seed=1, dtype=dtype, device=device)
    prev, _ = transitions(rows, units, device)
    z = normal(rows, dim, seed=3, dtype=dtype, device=device)
    codebook = normal(units, dim, seed=4, dtype=dtype, device=device)
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


@given(rows=st.integers(0, 20), units=st.integers(1, 20), dim=st.integers(1, 12), dtype=dtypes, logits_layout=layouts,
       z_layout=layouts, codebook_layout=layouts, index_layout=index_layouts, grad_layout=index_layouts,
       sparse_grad=st.booleans(), seed=seeds)  # fmt: skip
def test_expected_distance_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    units: int,
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
    logits = normal(units, units, seed=seed, dtype=dtype, device=device, layout=logits_layout)
    prev = integers(rows, seed=seed, below=units, device=device, layout=index_layout)
    z = normal(rows, dim, seed=seed + 1, dtype=dtype, device=device, layout=z_layout)
    codebook = normal(units, dim, seed=seed + 2, dtype=dtype, device=device, layout=codebook_layout)
    check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=sparse_grad, grad_layout=grad_layout)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False)
@given(rows=st.integers(0, 100), units=st.integers(1, 300), dim=st.integers(1, 70), dtype=dtypes, layout=layouts,
       index_layout=index_layouts, sparse_grad=st.booleans(), seed=seeds)  # fmt: skip
def test_both_at_any_larger_shape(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    units: int,
    dim: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    sparse_grad: bool,
    seed: int,
) -> None:
    logits = normal(units, units, seed=seed, dtype=dtype, device=device, layout=layout, scale=3.0)
    prev, cur = (integers(rows, seed=seed + i, below=units, device=device, layout=index_layout) for i in (0, 1))
    z = normal(rows, dim, seed=seed + 2, dtype=dtype, device=device, layout=layout)
    codebook = normal(units, dim, seed=seed + 3, dtype=dtype, device=device, layout=layout)
    check_log_prob(ops, logits, prev, cur, sparse_grad=sparse_grad)
    check_expected_distance(ops, logits, prev, z, codebook, sparse_grad=sparse_grad)
