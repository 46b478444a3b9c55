"""Soft assignments, compared with their definitions, one encoding and node at a time, in float64."""

from __future__ import annotations

import math

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn.neighbor_margin import neighbor_margin
from somvae_ext.nn.soft_assignment import hardening_loss, log_soft_assignment, sharpened_assignment, soft_som_loss

GRIDS = [Grid(3, 4), Grid(4, 3, "hexagonal"), Grid(4, 4, periodic=True), Grid(2, 1, periodic=True), Grid(1, 1)]
EPS32 = torch.finfo(torch.float32).eps


def drawn(rows: int, codes: int, dim: int, seed: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        scale * torch.randn(rows, dim, dtype=torch.float64, generator=generator),
        scale * torch.randn(codes, dim, dtype=torch.float64, generator=generator),
    )


def shares(z: Tensor, codebook: Tensor) -> list[list[float]]:
    result = []
    for row in z.tolist():
        kernel = [1 / (1 + math.dist(row, code) ** 2) for code in codebook.tolist()]
        result.append([value / math.fsum(kernel) for value in kernel])
    return result


@given(
    rows=st.integers(1, 6),
    codes=st.integers(1, 9),
    dim=st.integers(1, 5),
    seed=st.integers(0, 99),
    scale=st.sampled_from([1e-3, 1.0, 50.0]),
    offset=st.sampled_from([0.0, 1e4]),
)
def test_shares_are_students_t(rows: int, codes: int, dim: int, seed: int, scale: float, offset: float) -> None:
    z, codebook = drawn(rows, codes, dim, seed, scale)
    z, codebook = (z + offset).float(), (codebook + offset).float()  # the oracle gets the same rounded numbers
    got = log_soft_assignment(z, codebook)
    assert got.dtype == torch.float32
    expected = torch.tensor(shares(z.double(), codebook.double()), dtype=torch.float64).log()
    # |z|^2 - 2 z.e + |e|^2 relative to the codes' mean takes D + 6 roundings of terms up to the square of the largest
    # distance from the mean, and one rounding of the offset in each coordinate. log1p does not amplify them.
    center = codebook.double().mean(dim=0)
    radius = max((z.double() - center).norm(dim=1).max().item(), (codebook.double() - center).norm(dim=1).max().item())
    shift = EPS32 * offset * math.sqrt(dim)
    atol = (dim + 6) * EPS32 * 4 * radius**2 + 4 * radius * shift + 32 * EPS32
    torch.testing.assert_close(got.double(), expected, rtol=8 * EPS32, atol=2 * atol)


def test_16_bit_inputs_give_float32_shares_and_a_code_equal_to_an_encoding_has_a_gradient() -> None:
    z = torch.tensor([[1.0, 2.0]], requires_grad=True)
    got = log_soft_assignment(z, z.detach().clone().bfloat16())
    assert got.dtype == torch.float32
    got.sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_targets_are_squares_divided_by_frequencies() -> None:
    z, codebook = drawn(7, 5, 3, seed=0)
    s = shares(z, codebook)
    frequency = [math.fsum(row[j] for row in s) for j in range(5)]
    expected = []
    for row in s:
        sharp = [value**2 / f for value, f in zip(row, frequency, strict=True)]
        expected.append([value / math.fsum(sharp) for value in sharp])
    log_s = log_soft_assignment(z, codebook)
    got = sharpened_assignment(log_s.requires_grad_(), log_s.detach().exp().sum(dim=0))
    assert not got.requires_grad
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(hardening_loss(log_s, log_s.detach().exp()), torch.zeros(7).double(), atol=1e-12, rtol=0)


def test_a_distant_node_and_a_target_of_zero_give_finite_results() -> None:
    z, codebook = torch.zeros(2, 1), torch.tensor([[0.0], [1e19]])
    log_s = log_soft_assignment(z, codebook)
    targets = sharpened_assignment(log_s, log_s.exp().sum(dim=0))
    assert targets.isfinite().all()
    assert hardening_loss(log_s, torch.tensor([[1.0, 0.0]]).expand(2, 2)).isfinite().all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_soft_som_loss_pulls_the_neighbors_of_likely_nodes(grid: Grid) -> None:
    z, codebook = drawn(4, grid.num_nodes, 3, seed=1)
    table = oracle.neighbor_table(grid.rows, grid.cols, grid.topology, grid.periodic)
    expected = [
        -math.fsum(row[j] * math.log(row[n]) for j in range(grid.num_nodes) for n in table[j] if n >= 0)
        for row in shares(z, codebook)
    ]
    got = soft_som_loss(log_soft_assignment(z, codebook), grid)
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_the_margin_is_zero_exactly_without_a_topographic_error(grid: Grid) -> None:
    z, codebook = drawn(40, grid.num_nodes, 2, seed=2)
    table = oracle.neighbor_table(grid.rows, grid.cols, grid.topology, grid.periodic)
    distance = torch.cdist(z, codebook).square()
    index = distance.argmin(dim=1)
    got = neighbor_margin(z, codebook, index, grid)
    for row, margin in enumerate(got.tolist()):
        winner = int(index[row])
        order = distance[row].argsort().tolist()
        near = [distance[row, n].item() for n in table[winner] if n >= 0]
        if not near:
            assert margin == 0
            continue
        assert margin == pytest.approx((min(near) - distance[row, order[1]].item()) / 2, abs=1e-12)
        assert (margin == 0) == (order[1] in table[winner])


def test_the_margin_has_gradients_only_for_the_encodings() -> None:
    z, codebook = (part.requires_grad_() for part in drawn(40, 12, 2, seed=2))
    neighbor_margin(z, codebook, torch.cdist(z, codebook).argmin(dim=1), Grid(3, 4)).sum().backward()
    assert z.grad is not None
    assert z.grad.abs().max() > 0
    assert codebook.grad is None
