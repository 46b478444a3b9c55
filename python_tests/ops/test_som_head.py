"""The head of a map: winners, their codes, both losses, and which output has gradients for which input."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from calls import assert_same_bits
from cases import DTYPES, GRIDS, INDEX_LAYOUTS, LAYOUTS, as_array, as_index, dtypes, grids, layouts, normal, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_within, compute_dtype
from torch import Tensor

from somvae_ext import Grid

BORDERS = ["zero", "mask"]
OUTPUTS = ("quantized", "commitment", "som")


def check_head(
    ops: SimpleNamespace,
    z: Tensor,
    codebook: Tensor,
    grid: Grid,
    border: str,
    straight_through: bool,
    grad_layout: str = "contiguous",
    wanted: tuple[str, ...] = OUTPUTS,
) -> None:
    """Checks values, and the gradients of a loss that uses only the ``wanted`` outputs."""
    z, codebook = z.detach().requires_grad_(), codebook.detach().requires_grad_()
    head = ops.som_head(z, codebook, grid, border=border, straight_through=straight_through)
    # Bitwise equal to the parts, which have their own tests.
    assert not head.index.requires_grad
    assert_same_bits([head.index], [ops.bmu(z, codebook).index])
    assert_same_bits(head[1:3], ops.som_losses(z, codebook, head.index, grid, border=border))
    assert_same_bits([head.quantized], [codebook.detach()[head.index]])
    assert [x.dtype for x in head] == [z.dtype, compute_dtype(z.dtype), compute_dtype(z.dtype), torch.int64]

    grad = {
        name: normal(*output.shape, seed=seed, dtype=output.dtype, device=z.device, layout=grad_layout)
        for seed, (name, output) in enumerate(zip(OUTPUTS, head, strict=False))
    }
    table = oracle.neighbor_table(grid.rows, grid.cols, grid.topology, grid.periodic)
    weights = (as_array(grad[name]) * (name in wanted) for name in OUTPUTS)
    gradients = oracle.head_gradients(
        as_array(z), as_array(codebook), as_index(head.index), table, straight_through, *weights
    )
    outputs = [getattr(head, name) for name in wanted]
    moved = torch.autograd.grad(
        outputs, (z, codebook), [grad[name] for name in wanted], allow_unused=True, materialize_grads=True
    )
    # At most four roundings per term, then additions over rows and terms.
    for tensor, actual, (value, magnitude) in zip((z, codebook), moved, gradients.values(), strict=True):
        assert actual.dtype == tensor.dtype
        assert_within(actual, value, magnitude, len(z) + 8, z.dtype)


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_head(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    dtype: torch.dtype,
    border: str,
    straight_through: bool,
) -> None:
    z = normal(40, 5, seed=1, dtype=dtype, device=device)
    codebook = normal(grid.num_nodes, 5, seed=2, dtype=dtype, device=device)
    check_head(ops, z, codebook, grid, border, straight_through)


@pytest.mark.parametrize("codebook_layout", LAYOUTS)
@pytest.mark.parametrize("z_layout", LAYOUTS)
def test_memory_layouts(ops: SimpleNamespace, device: torch.device, z_layout: str, codebook_layout: str) -> None:
    z = normal(9, 5, seed=1, device=device, layout=z_layout)
    codebook = normal(12, 5, seed=2, device=device, layout=codebook_layout)
    for grad_layout, straight_through in itertools.product(INDEX_LAYOUTS, (False, True)):
        check_head(ops, z, codebook, Grid(3, 4), "zero", straight_through, grad_layout)


def test_few_rows_on_a_large_map_have_gradients_for_few_codes(ops: SimpleNamespace, device: torch.device) -> None:
    """The kernels' blocks have fewer features than the codes; nodes without gradient are before, between and after."""
    grid = Grid(20, 21, topology="hexagonal")
    z, codebook = normal(3, 131, seed=1, device=device), normal(420, 131, seed=2, device=device)
    check_head(ops, z, codebook, grid, "zero", straight_through=False)


# ---- gradients of single outputs and for single inputs ---------------------------------------------------------------


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize(
    "wanted", [subset for size in (1, 2) for subset in itertools.combinations(OUTPUTS, size)], ids=" and ".join
)
def test_any_subset_of_outputs_can_be_differentiated(
    ops: SimpleNamespace, device: torch.device, wanted: tuple[str, ...], straight_through: bool
) -> None:
    z, codebook = normal(30, 5, seed=1, device=device), normal(12, 5, seed=2, device=device)
    check_head(ops, z, codebook, Grid(3, 4), "mask", straight_through, wanted=wanted)


@pytest.mark.parametrize(
    ("output", "straight_through", "moves_z", "moves_codebook"),
    [
        ("quantized", False, False, True),
        ("quantized", True, True, False),
        ("commitment", False, True, True),
        ("som", False, False, True),
    ],
)
def test_inputs_that_an_output_does_not_affect_get_no_gradient_at_all(
    ops: SimpleNamespace,
    device: torch.device,
    output: str,
    straight_through: bool,
    moves_z: bool,
    moves_codebook: bool,
) -> None:
    """The gradient is None, not zeros: it takes no memory, and an optimizer skips the parameter."""
    z, codebook = normal(7, 3, seed=1, device=device), normal(12, 3, seed=2, device=device)
    head = ops.som_head(z.requires_grad_(), codebook.requires_grad_(), Grid(3, 4), straight_through=straight_through)
    getattr(head, output).sum().backward()
    assert (z.grad is not None) == moves_z
    assert (codebook.grad is not None) == moves_codebook


@pytest.mark.parametrize(("output", "reach"), [("quantized", 0), ("commitment", 0), ("som", 1)])
def test_an_output_has_gradients_only_for_codes_within_its_reach(
    ops: SimpleNamespace, device: torch.device, output: str, reach: int
) -> None:
    grid = Grid(5, 5)
    codebook = normal(25, 3, seed=2, device=device).requires_grad_()
    z = (codebook.detach()[12] + 0.01).expand(4, 3)
    head = ops.som_head(z, codebook, grid)
    assert head.index.tolist() == [12] * 4
    getattr(head, output).sum().backward()
    assert codebook.grad is not None
    moved = codebook.grad.cpu().any(dim=1)
    assert torch.equal(moved, grid.distance(torch.arange(25), torch.tensor(12)) <= reach)


def test_the_gradient_goes_straight_through_unchanged(ops: SimpleNamespace, device: torch.device) -> None:
    z, codebook = normal(7, 3, seed=1, device=device), normal(12, 3, seed=2, device=device)
    grad = normal(7, 3, seed=3, device=device)
    quantized = ops.som_head(z.requires_grad_(), codebook, Grid(3, 4), straight_through=True).quantized
    (actual,) = torch.autograd.grad(quantized, z, grad)
    assert_same_bits([actual], [grad])


@pytest.mark.parametrize("name", ["z", "codebook"])
def test_one_input_alone_can_require_a_gradient(ops: SimpleNamespace, device: torch.device, name: str) -> None:
    inputs = {"z": normal(7, 3, seed=1, device=device), "codebook": normal(12, 3, seed=2, device=device)}

    def gradient(*required: str) -> Tensor:
        leaves = {key: value.detach().requires_grad_(key in required) for key, value in inputs.items()}
        head = ops.som_head(**leaves, grid=Grid(3, 4))
        sum(output.sum() for output in head[:3]).backward()
        assert leaves[name].grad is not None
        return leaves[name].grad

    assert_same_bits([gradient(name)], [gradient("z", "codebook")])


@pytest.mark.parametrize("border", BORDERS)
def test_gradcheck(ops: SimpleNamespace, device: torch.device, border: str) -> None:
    """z is not checked for som and quantized, whose gradients deliberately differ from their derivatives."""
    grid = Grid(3, 4)
    z = normal(7, 2, seed=1, dtype=torch.float64, device=device)
    codebook = normal(12, 2, seed=2, dtype=torch.float64, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda codes: tuple(ops.som_head(z, codes, grid, border=border))[:3], codebook)
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda *both: ops.som_head(*both, grid, border=border).commitment, (z, codebook))


# ---- edge cases ------------------------------------------------------------------------------------------------------


def test_without_rows(ops: SimpleNamespace, device: torch.device) -> None:
    z = torch.empty(0, 2, device=device, requires_grad=True)
    codebook = normal(6, 2, seed=1, device=device).requires_grad_()
    head = ops.som_head(z, codebook, Grid(2, 3))
    assert [tuple(output.shape) for output in head] == [(0, 2), (0,), (0,), (0,)]
    sum(output.sum() for output in head[:3]).backward()
    assert z.grad is not None
    assert codebook.grad is not None
    assert z.grad.shape == (0, 2)
    assert torch.equal(codebook.grad, torch.zeros_like(codebook))


@pytest.mark.parametrize("straight_through", [False, True])
def test_a_row_with_a_nan_has_unit_0_and_nan_losses(
    ops: SimpleNamespace, device: torch.device, straight_through: bool
) -> None:
    z, codebook = normal(4, 2, seed=1, device=device), normal(12, 2, seed=2, device=device)
    healthy = ops.som_head(z, codebook, Grid(3, 4), straight_through=straight_through)
    broken = z.clone()
    broken[1, 0] = float("nan")
    head = ops.som_head(broken, codebook, Grid(3, 4), straight_through=straight_through)
    assert head.index[1] == 0
    assert head.commitment[1].isnan()
    assert head.som[1].isnan()
    assert torch.equal(head.quantized[1], codebook[0])
    others = [0, 2, 3]
    assert_same_bits([output[others] for output in head], [output[others] for output in healthy])


def test_a_nan_row_affects_no_gradient_of_the_quantized_output(ops: SimpleNamespace, device: torch.device) -> None:
    z = torch.full((3, 2), float("nan"), device=device).requires_grad_()
    codebook = normal(12, 2, seed=2, device=device).requires_grad_()
    ops.som_head(z, codebook, Grid(3, 4)).quantized.sum().backward()
    ops.som_head(z, codebook, Grid(3, 4), straight_through=True).quantized.sum().backward()
    assert codebook.grad is not None
    assert codebook.grad.tolist() == [[3.0, 3.0], *[[0.0, 0.0]] * 11]
    assert z.grad is not None
    assert torch.equal(z.grad, torch.ones_like(z))


@pytest.mark.parametrize("size", [1e8, float("inf")])
def test_straight_through_gives_the_code_however_large_the_row(
    ops: SimpleNamespace, device: torch.device, size: float
) -> None:
    codebook = normal(12, 1, seed=2, device=device)
    head = ops.som_head(torch.full((2, 1), size, device=device), codebook, Grid(3, 4), straight_through=True)
    assert_same_bits([head.quantized], [codebook[head.index]])


def test_shared_offset_costs_no_accuracy(ops: SimpleNamespace, device: torch.device) -> None:
    """The grid is a torus: an absent neighbor would add the large square of z."""
    z = normal(30, 8, seed=1, device=device, offset=1e4)
    codebook = normal(16, 8, seed=2, device=device, offset=1e4)
    check_head(ops, z, codebook, Grid(4, 4, periodic=True), "zero", straight_through=False)


@given(grid=grids(), rows=st.integers(0, 30), dim=st.integers(1, 9), dtype=dtypes, border=st.sampled_from(BORDERS),
       straight_through=st.booleans(), z_layout=layouts, codebook_layout=layouts,
       grad_layout=st.sampled_from(INDEX_LAYOUTS), seed=seeds)  # fmt: skip
def test_any_grid_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    border: str,
    straight_through: bool,
    z_layout: str,
    codebook_layout: str,
    grad_layout: str,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=z_layout)
    codebook = normal(grid.num_nodes, dim, seed=seed + 1, dtype=dtype, device=device, layout=codebook_layout)
    check_head(ops, z, codebook, grid, border, straight_through, grad_layout)


@pytest.mark.slow
@settings(max_examples=200, derandomize=False)
@given(grid=grids(most=16), rows=st.integers(0, 200), dim=st.integers(1, 140), dtype=dtypes,
       border=st.sampled_from(BORDERS), straight_through=st.booleans(), layout=layouts, seed=seeds)  # fmt: skip
def test_any_larger_shape(
    ops: SimpleNamespace,
    device: torch.device,
    grid: Grid,
    rows: int,
    dim: int,
    dtype: torch.dtype,
    border: str,
    straight_through: bool,
    layout: str,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=layout)
    codebook = normal(grid.num_nodes, dim, seed=seed + 1, dtype=dtype, device=device, layout=layout)
    check_head(ops, z, codebook, grid, border, straight_through)


def test_values_against_the_oracle(ops: SimpleNamespace, device: torch.device) -> None:
    """Independent of the other ops: the winner is the nearest code, and the losses are those of the paper."""
    grid = Grid(3, 4, topology="hexagonal")
    z, codebook = normal(40, 5, seed=1, device=device), normal(12, 5, seed=2, device=device)
    head = ops.som_head(z, codebook, grid)
    data = as_array(z), as_array(codebook)
    distance, index = oracle.best_codes(oracle.squared_distances(*data), 1)
    np.testing.assert_array_equal(as_index(head.index), index[:, 0])
    np.testing.assert_array_equal(as_array(head.quantized), data[1][index[:, 0]])
    table = oracle.neighbor_table(3, 4, "hexagonal", False)
    commitment, som = oracle.losses(*data, index[:, 0], table, "zero")
    assert_within(head.commitment, commitment, distance[:, 0], 5 + 2, z.dtype)
    assert_within(head.som, som, som, (1 + grid.num_slots) * 5 + 2, z.dtype)
