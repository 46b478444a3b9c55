"""Best matching unit: the winner is right, its distance is accurate, and the gradient is that of the distance."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
import torch
from cases import DTYPES, LAYOUTS, as_array, as_index, dtypes, integers, layouts, normal, seeds
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_within, compute_dtype
from sklearn.datasets import load_digits
from torch import Tensor

NAN, INF = float("nan"), float("inf")


def check_winners(z: Tensor, codebook: Tensor, distance: Tensor, index: Tensor) -> None:
    """Checks that winners and distances are those of float64 scores."""
    k = index.shape[1] if index.dim() == 2 else 1
    expected, winners = oracle.best_codes(oracle.scores(as_array(z), as_array(codebook)), k)
    np.testing.assert_array_equal(as_index(index).reshape(len(z), k), winners)
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float64 if z.dtype == torch.float64 else np.float32)
    assert distance.dtype == compute_dtype(z.dtype)
    np.testing.assert_array_equal(distance.detach().cpu().numpy().reshape(len(z), k), rounded)


def check_gradients(ops: SimpleNamespace, z: Tensor, codebook: Tensor, k: int, grad_layout: str, seed: int = 0) -> None:
    z, codebook = z.detach().requires_grad_(), codebook.detach().requires_grad_()
    distance, index = ops.bmu(z, codebook, k)
    grad = normal(*distance.shape, seed=seed, dtype=distance.dtype, device=z.device, layout=grad_layout)
    grads = torch.autograd.grad(distance, (z, codebook), grad)
    winners = as_index(index).reshape(len(z), k)
    expected = oracle.bmu_gradients(as_array(z), as_array(codebook), winners, as_array(grad).reshape(len(z), k))
    for tensor, actual, (value, magnitude) in zip((z, codebook), grads, expected.values(), strict=True):
        assert actual.dtype == tensor.dtype
        assert_within(actual, value, magnitude, len(z) * k + 4, z.dtype)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "codes", "dim"), [(1, 2, 1), (7, 5, 3), (33, 40, 17), (65, 129, 64)])
def test_winner_and_distance(
    ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, rows: int, codes: int, dim: int, k: int
) -> None:
    z = normal(rows, dim, seed=1, dtype=dtype, device=device)
    codebook = normal(codes, dim, seed=2, dtype=dtype, device=device)
    distance, index = ops.bmu(z, codebook, k)
    assert distance.shape == index.shape == ((rows,) if k == 1 else (rows, 2))
    assert distance.dtype == compute_dtype(dtype)
    assert index.dtype == torch.int64
    check_winners(z, codebook, distance, index)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("rows", "codes", "dim"), [(1, 2, 1), (7, 5, 3), (65, 129, 64)])
def test_gradient(
    ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, rows: int, codes: int, dim: int, k: int
) -> None:
    z = normal(rows, dim, seed=1, dtype=dtype, device=device)
    codebook = normal(codes, dim, seed=2, dtype=dtype, device=device)
    check_gradients(ops, z, codebook, k, "contiguous")


@pytest.mark.parametrize("k", [1, 2])
def test_gradcheck(ops: SimpleNamespace, device: torch.device, k: int) -> None:
    z = normal(6, 3, seed=1, dtype=torch.float64, device=device).requires_grad_()
    codebook = normal(5, 3, seed=2, dtype=torch.float64, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: ops.bmu(*inputs, k).distance, (z, codebook))


def test_index_is_not_differentiable(ops: SimpleNamespace, device: torch.device) -> None:
    z = normal(4, 3, seed=1, device=device).requires_grad_()
    distance, index = ops.bmu(z, normal(5, 3, seed=2, device=device))
    assert distance.requires_grad
    assert not index.requires_grad


@pytest.mark.parametrize("wanted", ["z", "codebook"])
def test_gradient_of_one_input_alone(ops: SimpleNamespace, device: torch.device, wanted: str) -> None:
    inputs = {"z": normal(9, 3, seed=1, device=device), "codebook": normal(5, 3, seed=2, device=device)}
    both = [tensor.clone().requires_grad_() for tensor in inputs.values()]
    ops.bmu(*both).distance.sum().backward()
    inputs[wanted].requires_grad_()
    ops.bmu(**inputs).distance.sum().backward()
    torch.testing.assert_close(inputs[wanted].grad, both[wanted == "codebook"].grad, rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_ties_go_to_the_smallest_index(ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, k: int) -> None:
    z = integers(200, 2, seed=1, below=4, dtype=dtype, device=device)
    codebook = integers(70, 2, seed=2, below=4, dtype=dtype, device=device)
    distance, index = ops.bmu(z, codebook, k)
    true, winners = oracle.best_codes(oracle.squared_distances(as_array(z), as_array(codebook)), k)
    np.testing.assert_array_equal(as_index(index).reshape(-1, k), winners)
    np.testing.assert_array_equal(as_array(distance).reshape(-1, k), true)


SPECIAL_CODEBOOKS = {
    "a NaN code never wins": [[0.0, NAN], [3.0, 3.0], [NAN, NAN], [1.0, 1.0]],
    "a NaN first code loses to an infinite one": [[NAN, 0.0], [INF, 0.0], [INF, 0.0], [INF, 0.0]],
    "an infinite code loses to a finite one": [[-INF, 0.0], [INF, INF], [5.0, 5.0], [0.0, INF]],
    "one code alone can win": [[NAN, 0.0], [NAN, 0.0], [1.0, 2.0], [NAN, 0.0]],
    "the first code alone can win": [[1.0, 2.0], [NAN, 0.0], [0.0, NAN], [NAN, 0.0]],
    "no code can win": [[NAN, 0.0], [NAN, 0.0], [0.0, NAN], [NAN, 0.0]],
    "only ordinary codes": [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],
    "squares overflow": [[1e30, 0.0], [-1e30, 1e30], [1e30, 1e30], [1e30, 0.0]],
}


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("codes", SPECIAL_CODEBOOKS.values(), ids=SPECIAL_CODEBOOKS)
def test_rows_and_codes_that_are_not_finite(
    ops: SimpleNamespace, device: torch.device, codes: list[list[float]], k: int
) -> None:
    # The rows: ordinary, with a NaN, with an infinity (equally far from every finite code), and with both.
    z = torch.tensor([[1.0, 1.0], [NAN, 1.0], [INF, 1.0], [INF, NAN], [2.0, 2.0]], device=device)
    codebook = torch.tensor(codes, device=device)
    distance, index = ops.bmu(z, codebook, k)
    # Integers, so distances are exact, except for squares that overflow float32.
    true = oracle.squared_distances(as_array(z), as_array(codebook))
    expected, winners = oracle.best_codes(true, k)
    expected[expected > torch.finfo(torch.float32).max] = INF
    np.testing.assert_array_equal(as_index(index).reshape(-1, k), winners)
    np.testing.assert_array_equal(as_array(distance).reshape(-1, k), expected)


def test_nan_row_does_not_change_the_other_rows_gradients(ops: SimpleNamespace, device: torch.device) -> None:
    z = normal(6, 3, seed=1, device=device)
    codebook = normal(5, 3, seed=2, device=device)
    clean = z.clone().requires_grad_()
    ops.bmu(clean, codebook).distance.sum().backward()
    z[2] = NAN
    z.requires_grad_()
    ops.bmu(z, codebook).distance.sum().backward()
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(z.grad[others], clean.grad[others], rtol=0, atol=0)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("offset", [1e3, 1e4])
def test_shared_offset_costs_no_accuracy(ops: SimpleNamespace, device: torch.device, offset: float, k: int) -> None:
    z = normal(200, 16, seed=1, device=device, offset=offset)
    codebook = normal(150, 16, seed=2, device=device, offset=offset)
    check_winners(z, codebook, *ops.bmu(z, codebook, k))
    check_gradients(ops, z, codebook, k, "contiguous")


@pytest.mark.parametrize("scale", [1e-18, 1e18])
def test_scale_costs_no_accuracy(ops: SimpleNamespace, device: torch.device, scale: float) -> None:
    z = normal(50, 5, seed=1, device=device, scale=scale)
    codebook = normal(40, 5, seed=2, device=device, scale=scale)
    check_winners(z, codebook, *ops.bmu(z, codebook))


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1e-22, 1e19, 1e25, 1e37])
def test_squares_beyond_float32(ops: SimpleNamespace, scale: float) -> None:
    """The float32 distance underflows or overflows, but the order of the codes is that of float64 scores."""
    z, codebook = normal(50, 7, seed=1, scale=scale), normal(140, 7, seed=2, scale=scale)
    for k in (1, 2):
        check_winners(z, codebook, *ops.bmu(z, codebook, k))


def spiked(rows: int, dim: int, feature: int, jump: float, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Returns rows near one code each, except in one feature: there all codes are 0 and all rows are ``jump``."""
    codebook = normal(rows, dim, seed=seed)
    z = codebook + 0.1 * normal(rows, dim, seed=seed + 1)
    codebook[:, feature], z[:, feature] = 0.0, jump
    return z.to(dtype), codebook.to(dtype)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("jump", [1e2, -3e4, 1e7])
@pytest.mark.parametrize("dim", [16, 64, 300, 1024])
def test_a_feature_that_dwarfs_the_others(
    ops: SimpleNamespace, device: torch.device, dim: int, jump: float, k: int
) -> None:
    for feature in (0, dim // 2, dim - 1):
        z, codebook = (values.to(device) for values in spiked(100, dim, feature, jump, torch.float32))
        distance, index = ops.bmu(z, codebook, k)
        assert torch.equal(index.view(100, k)[:, 0].cpu(), torch.arange(100))
        check_winners(z, codebook, distance, index)


@given(
    rows=st.integers(1, 40),
    dim=st.integers(1, 40),
    feature=st.integers(0, 39),
    jump=st.sampled_from([-99.0, 3e4, 6e4, -1e7, 1e9, 1e12, 1e25, INF, NAN]),
    repeats=st.integers(1, 3),
    rounded=st.booleans(),
    k=st.sampled_from([1, 2]),
    dtype=dtypes,
    seed=seeds,
)
def test_any_feature_that_dwarfs_the_others(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    dim: int,
    feature: int,
    jump: float,
    repeats: int,
    rounded: bool,
    k: int,
    dtype: torch.dtype,
    seed: int,
) -> None:
    """Includes repeated codes, and integers, which give many ties."""
    z, codebook = spiked(rows, dim, feature % dim, jump, torch.float32, seed)
    z, codebook = (z.round(), codebook.round()) if rounded else (z, codebook)
    codebook = torch.cat([codebook] * (repeats + k - 1))
    z, codebook = z.to(device, dtype), codebook.to(device, dtype)
    check_winners(z, codebook, *ops.bmu(z, codebook, k))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("after", [1, 200, 1000])
def test_equal_codes_before_the_winner(ops: SimpleNamespace, device: torch.device, after: int, k: int) -> None:
    """Like codes that were never used: many equal codes are the nearest until the search reaches the winner."""
    codebook = normal(2000, 20, seed=1, device=device)
    codebook[:50] = 0
    z = 0.1 * normal(30, 20, seed=2, device=device)
    z[:15] += codebook[50 + after - 1]
    check_winners(z, codebook, *ops.bmu(z, codebook, k))


def test_few_rows_and_many_codes_on_several_threads(ops: SimpleNamespace) -> None:
    """Threads share the codes: the winner and codes equal to it may be in different shares."""
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    z, codebook = spiked(200, 32, 5, 1e7, torch.float32)
    codebook = torch.cat([normal(3000, 32, seed=3), codebook, codebook, normal(2000, 32, seed=4)])
    codebook[:, 5] = 0
    found = ops.bmu(z, codebook, 2)
    torch.set_num_threads(threads)
    assert torch.equal(found.index[:, 0], 3000 + torch.arange(200))
    check_winners(z, codebook, *found)


def test_more_features_than_the_bound_holds_for(ops: SimpleNamespace, device: torch.device) -> None:
    z, codebook = (normal(count, 2**21 + 1, seed=count, device=device) for count in (2, 20))
    z[1] = codebook[7]
    check_winners(z, codebook, *ops.bmu(z, codebook))


def test_distances_next_to_the_largest_number(ops: SimpleNamespace, device: torch.device) -> None:
    """The sum of float32 squares is infinite, but the rounded score may be finite."""
    z = 2.0**64 * (1 - 2.0**-24 * torch.randint(0, 8, (200, 1), generator=torch.Generator().manual_seed(0)).float())
    z, codebook = z.expand(200, 4).to(device) / 2, torch.zeros(1, 4, device=device)
    check_winners(z, codebook, *ops.bmu(z, codebook))


def test_whole_numbers(ops: SimpleNamespace, device: torch.device) -> None:
    """Rounded pixels and codes give exact sums in any order, and ties."""
    pixels = torch.from_numpy(load_digits().data).round()
    codes = pixels[:1200].view(300, 4, 64).mean(dim=1).round()
    true = (pixels[:, None] - codes).square().sum(dim=2)
    distance, index = ops.bmu(pixels.float().to(device), codes.float().to(device))
    assert torch.equal(index.cpu(), torch.from_numpy(true.numpy().argmin(axis=1)))
    assert torch.equal(distance.cpu().double(), true.amin(dim=1))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("codes", [2, 16, 17, 100, 300, 2100])
@pytest.mark.parametrize("dim", [1, 3, 300])
def test_more_equal_codes_than_are_listed(
    ops: SimpleNamespace, device: torch.device, codes: int, dim: int, k: int
) -> None:
    """All codes are equal, all but the last, or every other one."""
    z = normal(20, dim, seed=1, device=device)
    for different in (slice(0), slice(codes - 1, codes), slice(0, None, 2)):
        codebook = normal(1, dim, seed=2, device=device).repeat(codes, 1)
        codebook[different] = z[:1]
        check_winners(z, codebook, *ops.bmu(z, codebook, k))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("codebook_layout", LAYOUTS)
@pytest.mark.parametrize("z_layout", LAYOUTS)
def test_memory_layouts(
    ops: SimpleNamespace, device: torch.device, z_layout: str, codebook_layout: str, k: int
) -> None:
    z = normal(10, 6, seed=1, device=device, layout=z_layout)
    codebook = normal(9, 6, seed=2, device=device, layout=codebook_layout)
    check_winners(z, codebook, *ops.bmu(z, codebook, k))
    check_gradients(ops, z, codebook, k, "one_value")
    check_gradients(ops, z, codebook, k, "strided")


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_rows(ops: SimpleNamespace, device: torch.device, dtype: torch.dtype, k: int) -> None:
    z = torch.empty(0, 3, dtype=dtype, device=device, requires_grad=True)
    codebook = normal(5, 3, seed=2, dtype=dtype, device=device).requires_grad_()
    distance, index = ops.bmu(z, codebook, k)
    assert distance.shape == index.shape == ((0,) if k == 1 else (0, 2))
    assert distance.dtype == compute_dtype(dtype)
    distance.sum().backward()
    assert z.grad.shape == (0, 3)
    assert torch.equal(codebook.grad, torch.zeros_like(codebook))


def test_one_code_and_one_feature(ops: SimpleNamespace, device: torch.device) -> None:
    z = torch.tensor([[1.0], [-2.0]], device=device)
    distance, index = ops.bmu(z, torch.tensor([[3.0]], device=device))
    assert distance.tolist() == [4.0, 25.0]
    assert index.tolist() == [0, 0]


def test_many_codes(ops: SimpleNamespace, device: torch.device) -> None:
    z = normal(40, 7, seed=1, device=device)
    codebook = normal(5003, 7, seed=2, device=device)
    check_winners(z, codebook, *ops.bmu(z, codebook, 2))


def test_best_of_two_is_the_best(ops: SimpleNamespace, device: torch.device) -> None:
    z, codebook = normal(100, 11, seed=1, device=device), normal(60, 11, seed=2, device=device)
    one, two = ops.bmu(z, codebook), ops.bmu(z, codebook, 2)
    assert torch.equal(one.index, two.index[:, 0])
    torch.testing.assert_close(one.distance, two.distance[:, 0], rtol=0, atol=0)
    assert (two.distance[:, 0] <= two.distance[:, 1]).all()


@given(
    rows=st.integers(0, 40),
    codes=st.integers(2, 40),
    dim=st.integers(1, 20),
    k=st.sampled_from([1, 2]),
    dtype=dtypes,
    z_layout=layouts,
    codebook_layout=layouts,
    grad_layout=layouts,
    seed=seeds,
)
def test_any_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    codes: int,
    dim: int,
    k: int,
    dtype: torch.dtype,
    z_layout: str,
    codebook_layout: str,
    grad_layout: str,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=z_layout)
    codebook = normal(codes, dim, seed=seed + 1, dtype=dtype, device=device, layout=codebook_layout)
    check_winners(z, codebook, *ops.bmu(z, codebook, k))
    check_gradients(ops, z, codebook, k, grad_layout, seed)


@pytest.mark.slow
@settings(max_examples=400, derandomize=False)
@given(
    rows=st.integers(0, 300),
    codes=st.integers(2, 700),
    dim=st.integers(1, 130),
    k=st.sampled_from([1, 2]),
    dtype=dtypes,
    z_layout=layouts,
    codebook_layout=layouts,
    grad_layout=layouts,
    offset=st.sampled_from([0.0, 100.0, 1e4]),
    seed=seeds,
)
def test_any_larger_shape_and_layout(
    ops: SimpleNamespace,
    device: torch.device,
    rows: int,
    codes: int,
    dim: int,
    k: int,
    dtype: torch.dtype,
    z_layout: str,
    codebook_layout: str,
    grad_layout: str,
    offset: float,
    seed: int,
) -> None:
    z = normal(rows, dim, seed=seed, dtype=dtype, device=device, layout=z_layout, offset=offset)
    codebook = normal(codes, dim, seed=seed + 1, dtype=dtype, device=device, layout=codebook_layout, offset=offset)
    check_winners(z, codebook, *ops.bmu(z, codebook, k))
    check_gradients(ops, z, codebook, k, grad_layout, seed)
