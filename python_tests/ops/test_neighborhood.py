"""Ops on the winner and its grid neighbors, and sums by winner."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from cases import (
    DTYPES,
    GRIDS,
    INDEX_LAYOUTS,
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
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rounding import assert_within, compute_dtype
from torch import Tensor

from somvae_ext import Grid

BORDERS = ["zero", "mask"]


def table_of(grid: Grid) -> NDArray[np.int64]:
    return oracle.neighbor_table(grid.rows, grid.cols, grid.topology, grid.periodic)


def check_gather(ops: SimpleNamespace, codebook: Tensor, index: Tensor, grid: Grid, grad_layout: str) -> None:
    codebook = codebook.detach().requires_grad_()
    out = ops.som_gather(codebook, index, grid)
    assert out.dtype == codebook.dtype
    expected = oracle.gather(as_array(codebook), as_index(index), table_of(grid))
    np.testing.assert_array_equal(as_array(out), expected)

    grad = normal(*out.shape, seed=5, dtype=out.dtype, device=out.device, layout=grad_layout)
    (actual,) = torch.autograd.grad(out, codebook, grad)
    assert actual.dtype == codebook.dtype
    gradients = oracle.gather_gradient(as_array(codebook), as_index(index), table_of(grid), as_array(grad))
    assert_within(actual, *gradients["codebook"], len(index) + 1, codebook.dtype)


def check_losses(
    ops: SimpleNamespace,
    z: Tensor,
    codebook: Tensor,
    index: Tensor,
    grid: Grid,
    border: str,
    grad_layout: str = "contiguous",
) -> None:
    z, codebook = z.detach().requires_grad_(), codebook.detach().requires_grad_()
    losses = ops.som_losses(z, codebook, index, grid, border=border)
    data = as_array(z), as_array(codebook), as_index(index), table_of(grid)
    for actual, expected in zip(losses, oracle.losses(*data, border), strict=True):
        assert actual.dtype == compute_dtype(z.dtype)
        assert_within(actual, expected, expected, (1 + grid.num_slots) * z.shape[1] + 2, z.dtype)

    grad = [
        normal(len(z), seed=seed, dtype=loss.dtype, device=z.device, layout=grad_layout)
        for seed, loss in enumerate(losses)
    ]
    gradients = oracle.losses_gradients(*data, *map(as_array, grad))
    for tensor, actual, (value, magnitude) in zip(
        (z, codebook), torch.autograd.grad(losses, (z, codebook), grad), gradients.values(), strict=True
    ):
        assert actual.dtype == tensor.dtype
        assert_within(actual, value, magnitude, len(z) + 6, z.dtype)


def check_segment_sum(ops: SimpleNamespace, x: Tensor, index: Tensor, num_segments: int, grad_layout: str) -> None:
    x = x.detach().requires_grad_()
    total, count = ops.segment_sum(x, index, num_segments)
    (value, magnitude), counts = oracle.segment_sum(as_array(x), as_index(index), num_segments)
    assert total.dtype == compute_dtype(x.dtype)
    assert count.dtype == torch.int64
    np.testing.assert_array_equal(as_index(count), counts)
    # Sums are computed in float64, also for float64 data, and rounded once.
    added = len(x) * torch.finfo(torch.float64).eps * magnitude
    assert_within(total, value, np.abs(value) + added / torch.finfo(total.dtype).eps, 1, x.dtype)

    grad = normal(*total.shape, seed=7, dtype=total.dtype, device=x.device, layout=grad_layout)
    (actual,) = torch.autograd.grad(total, x, grad)
    assert torch.equal(actual, grad[index].to(x.dtype))


# ---- som_gather ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_gather(ops: SimpleNamespace, device: torch.device, grid: Grid, dtype: torch.dtype) -> None:
    codebook = normal(grid.num_nodes, 5, seed=1, dtype=dtype, device=device)
    index = integers(40, seed=2, below=grid.num_nodes, device=device)
    check_gather(ops, codebook, index, grid, "contiguous")


@pytest.mark.parametrize("index_layout", INDEX_LAYOUTS)
@pytest.mark.parametrize("codebook_layout", LAYOUTS)
def test_gather_memory_layouts(
    ops: SimpleNamespace, device: torch.device, codebook_layout: str, index_layout: str
) -> None:
    grid = Grid(3, 4)
    codebook = normal(12, 5, seed=1, device=device, layout=codebook_layout)
    index = integers(9, seed=2, below=12, device=device, layout=index_layout)
    for grad_layout in ("transposed", "strided", "one_value"):
        check_gather(ops, codebook, index, grid, grad_layout)


def test_gather_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    codebook = normal(12, 2, seed=1, dtype=torch.float64, device=device).requires_grad_()
    index = integers(7, seed=2, below=12, device=device)
    assert torch.autograd.gradcheck(lambda codes: ops.som_gather(codes, index, Grid(3, 4)), codebook)


def test_gather_without_rows(ops: SimpleNamespace, device: torch.device) -> None:
    codebook = normal(6, 2, seed=1, device=device).requires_grad_()
    out = ops.som_gather(codebook, torch.empty(0, dtype=torch.int64, device=device), Grid(2, 3))
    assert out.shape == (0, 5, 2)
    out.sum().backward()
    assert torch.equal(codebook.grad, torch.zeros_like(codebook))


def test_absent_neighbors_are_zeros_even_beside_a_nan_code(ops: SimpleNamespace, device: torch.device) -> None:
    codebook = torch.tensor([[float("nan")], [1.0], [2.0]], device=device)
    out = ops.som_gather(codebook, torch.tensor([2], device=device), Grid(1, 3))
    assert out.flatten().tolist() == [2.0, 0.0, 0.0, 0.0, 1.0]


@given(grid=grids(), rows=st.integers(0, 30), dim=st.integers(1, 9), dtype=dtypes, layout=layouts,
       index_layout=index_layouts, grad_layout=layouts, seed=seeds)  # fmt: skip
def test_gather_of_any_grid_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    grad_layout: str,
    seed: int,
) -> None:
    codebook = normal(grid.num_nodes, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    index = integers(rows, seed=seed, below=grid.num_nodes, device=device, layout=index_layout)
    check_gather(ops, codebook, index, grid, grad_layout)


# ---- som_losses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_losses(ops: SimpleNamespace, device: torch.device, grid: Grid, dtype: torch.dtype, border: str) -> None:
    z = normal(40, 5, seed=1, dtype=dtype, device=device)
    codebook = normal(grid.num_nodes, 5, seed=2, dtype=dtype, device=device)
    index = integers(40, seed=3, below=grid.num_nodes, device=device)
    check_losses(ops, z, codebook, index, grid, border)


@pytest.mark.parametrize("codebook_layout", LAYOUTS)
@pytest.mark.parametrize("z_layout", LAYOUTS)
def test_losses_memory_layouts(ops: SimpleNamespace, device: torch.device, z_layout: str, codebook_layout: str) -> None:
    z = normal(9, 5, seed=1, device=device, layout=z_layout)
    codebook = normal(12, 5, seed=2, device=device, layout=codebook_layout)
    for index_layout in INDEX_LAYOUTS:
        index = integers(9, seed=3, below=12, device=device, layout=index_layout)
        for grad_layout in ("strided", "one_value"):
            check_losses(ops, z, codebook, index, Grid(3, 4), "zero", grad_layout)


@pytest.mark.parametrize("border", BORDERS)
def test_losses_gradcheck(ops: SimpleNamespace, device: torch.device, border: str) -> None:
    """z is not checked for the SOM loss, whose gradient deliberately differs from its derivative there."""
    grid, index = Grid(3, 4), integers(7, seed=3, below=12, device=device)
    z = normal(7, 2, seed=1, dtype=torch.float64, device=device)
    codebook = normal(12, 2, seed=2, dtype=torch.float64, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda codes: tuple(ops.som_losses(z, codes, index, grid, border=border)), codebook)
    z.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda *both: ops.som_losses(*both, index, grid, border=border).commitment, (z, codebook)
    )


def test_som_loss_has_no_gradient_for_z(ops: SimpleNamespace, device: torch.device) -> None:
    z = normal(7, 2, seed=1, device=device).requires_grad_()
    codebook = normal(12, 2, seed=2, device=device).requires_grad_()
    ops.som_losses(z, codebook, integers(7, seed=3, below=12, device=device), Grid(3, 4)).som.sum().backward()
    assert z.grad is None or not z.grad.any()
    assert codebook.grad.any()


@pytest.mark.parametrize("loss", ["commitment", "som"])
def test_one_loss_alone_can_be_differentiated(ops: SimpleNamespace, device: torch.device, loss: str) -> None:
    z, index = normal(7, 2, seed=1, device=device), integers(7, seed=3, below=12, device=device)
    codebook = normal(12, 2, seed=2, device=device).requires_grad_()
    getattr(ops.som_losses(z, codebook, index, Grid(3, 4)), loss).sum().backward()
    weights = np.ones(7) * (loss == "commitment"), np.ones(7) * (loss == "som")
    expected = oracle.losses_gradients(as_array(z), as_array(codebook), as_index(index), table_of(Grid(3, 4)), *weights)
    assert_within(codebook.grad, *expected["codebook"], 7 + 6, z.dtype)


@pytest.mark.parametrize("border", BORDERS)
def test_losses_without_rows(ops: SimpleNamespace, device: torch.device, border: str) -> None:
    z = torch.empty(0, 2, device=device, requires_grad=True)
    codebook = normal(6, 2, seed=1, device=device).requires_grad_()
    index = torch.empty(0, dtype=torch.int64, device=device)
    commitment, som = ops.som_losses(z, codebook, index, Grid(2, 3), border=border)
    assert commitment.shape == som.shape == (0,)
    (commitment.sum() + som.sum()).backward()
    assert z.grad.shape == (0, 2)
    assert torch.equal(codebook.grad, torch.zeros_like(codebook))


def test_shared_offset_costs_no_accuracy(ops: SimpleNamespace, device: torch.device) -> None:
    """The grid is a torus: an absent neighbor would add the large square of z."""
    grid = Grid(4, 4, periodic=True)
    z = normal(30, 8, seed=1, device=device, offset=1e4)
    codebook = normal(16, 8, seed=2, device=device, offset=1e4)
    check_losses(ops, z, codebook, integers(30, seed=3, below=16, device=device), grid, "zero")


@given(grid=grids(), rows=st.integers(0, 30), dim=st.integers(1, 9), dtype=dtypes, border=st.sampled_from(BORDERS),
       z_layout=layouts, codebook_layout=layouts, index_layout=index_layouts, grad_layout=index_layouts,
       seed=seeds)  # fmt: skip
def test_losses_of_any_grid_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    border: str,
    z_layout: str,
    codebook_layout: str,
    index_layout: str,
    grad_layout: str,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=z_layout)
    codebook = normal(grid.num_nodes, dim, seed=seed + 1, dtype=dtype, device=device, layout=codebook_layout)
    index = integers(rows, seed=seed, below=grid.num_nodes, device=device, layout=index_layout)
    check_losses(ops, z, codebook, index, grid, border, grad_layout)


# ---- segment_sum -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("rows", "segments", "dim"),
    [(1, 1, 1), (7, 12, 3), (500, 9, 17), (50_000, 5, 3), (3000, 70_000, 17)],  # in chunks; sums larger than a cache
)
def test_segment_sum(
    ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, rows: int, segments: int, dim: int
) -> None:
    x = normal(rows, dim, seed=1, dtype=dtype, device=device)
    check_segment_sum(ops, x, integers(rows, seed=2, below=segments, device=device), segments, "contiguous")


def test_segment_sum_does_not_lose_small_terms_to_cancellation(ops: SimpleNamespace, device: torch.device) -> None:
    x = torch.tensor([[1e8], [1.0], [-1e8], [1.0]], device=device)
    total, _ = ops.segment_sum(x, torch.zeros(4, dtype=torch.int64, device=device), 1)
    assert total.item() == 2.0


def test_segment_sum_of_millions_of_rows_is_rounded_once(ops: SimpleNamespace, device: torch.device) -> None:
    """Five million float64 additions have a relative error below 1e-9; rounding to float32 has one of 6e-8."""
    rows = 5_000_000
    x = torch.rand(rows, 1, generator=torch.Generator().manual_seed(1))
    total, count = ops.segment_sum(x.to(device), torch.zeros(rows, dtype=torch.int64, device=device), 1)
    exact = math.fsum(x[:, 0].tolist())
    added, rounded = rows * torch.finfo(torch.float64).eps, torch.finfo(torch.float32).eps / 2
    assert count.item() == rows
    assert abs(total.item() - exact) <= (added + rounded + added * rounded) * exact


@pytest.mark.parametrize("index_layout", INDEX_LAYOUTS)
@pytest.mark.parametrize("x_layout", LAYOUTS)
def test_segment_sum_memory_layouts(
    ops: SimpleNamespace, device: torch.device, x_layout: str, index_layout: str
) -> None:
    x = normal(9, 5, seed=1, device=device, layout=x_layout)
    index = integers(9, seed=2, below=4, device=device, layout=index_layout)
    for grad_layout in ("transposed", "strided", "one_value"):
        check_segment_sum(ops, x, index, 4, grad_layout)


def test_segment_sum_gradcheck(ops: SimpleNamespace, device: torch.device) -> None:
    x = normal(7, 2, seed=1, dtype=torch.float64, device=device).requires_grad_()
    index = integers(7, seed=2, below=4, device=device)
    assert torch.autograd.gradcheck(lambda rows: ops.segment_sum(rows, index, 4).sum, x)


def test_segment_sum_without_rows(ops: SimpleNamespace, device: torch.device) -> None:
    x = torch.empty(0, 2, device=device, requires_grad=True)
    total, count = ops.segment_sum(x, torch.empty(0, dtype=torch.int64, device=device), 3)
    assert torch.equal(total, torch.zeros(3, 2, device=device))
    assert count.tolist() == [0, 0, 0]
    total.sum().backward()
    assert x.grad.shape == (0, 2)


@given(segments=st.integers(1, 40), rows=st.integers(0, 60), dim=st.integers(1, 20), dtype=dtypes, layout=layouts,
       index_layout=index_layouts, grad_layout=layouts, seed=seeds)  # fmt: skip
def test_segment_sum_of_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    segments: int,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    layout: str,
    index_layout: str,
    grad_layout: str,
    seed: int,
) -> None:
    x = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    index = integers(rows, seed=seed, below=segments, device=device, layout=index_layout)
    check_segment_sum(ops, x, index, segments, grad_layout)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False)
@given(grid=grids(most=16), rows=st.integers(0, 200), dim=st.integers(1, 70), dtype=dtypes,
       border=st.sampled_from(BORDERS), layout=layouts, index_layout=index_layouts, seed=seeds)  # fmt: skip
def test_all_three_ops_at_any_larger_shape(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    border: str,
    layout: str,
    index_layout: str,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    codebook = normal(grid.num_nodes, dim, seed=seed + 1, dtype=dtype, device=device, layout=layout)
    index = integers(rows, seed=seed, below=grid.num_nodes, device=device, layout=index_layout)
    check_gather(ops, codebook, index, grid, layout)
    check_losses(ops, z, codebook, index, grid, border, index_layout)
    check_segment_sum(ops, z, index, grid.num_nodes, layout)
