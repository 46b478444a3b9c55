"""Tests of the norm and clipping of dense and sparse gradients, against torch's functions on dense ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from somvae_ext.training.gradients import clip_gradients, gradient_norm


def parameters(sparse: bool) -> list[nn.Parameter]:
    """Returns a layer without gradient, a layer with one, and a table with row gradients, one row twice."""
    generator = torch.Generator().manual_seed(0)
    idle, layer, table = (nn.Parameter(torch.zeros(size)) for size in ((3,), (4, 2), (6, 5)))
    layer.grad = torch.randn(4, 2, generator=generator)
    values = torch.randn(3, 5, generator=generator)
    rows = torch.sparse_coo_tensor(torch.tensor([[4, 1, 4]]), values, (6, 5), check_invariants=True)
    table.grad = rows if sparse else rows.to_dense()
    return [idle, layer, table]


def dense(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient.to_dense()


@pytest.mark.parametrize("max_norm", [0.1, 2.0, 1e3])
def test_clipping_matches_torch_on_dense_gradients(max_norm: float) -> None:
    ours, theirs = parameters(sparse=True), parameters(sparse=False)
    norm = clip_gradients(ours, max_norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm).item()
    assert norm == pytest.approx(expected, rel=1e-6)
    for a, b in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(dense(a.grad), dense(b.grad), rtol=1e-5, atol=0)  # torch divides by the norm + 1e-6
    assert ours[0].grad is None
    assert ours[2].grad is not None
    assert ours[2].grad.is_coalesced()


def test_gradients_within_the_limit_are_unchanged() -> None:
    clipped, untouched = parameters(sparse=False), parameters(sparse=False)
    clip_gradients(clipped, 1e3)
    assert all(dense(a.grad).equal(dense(b.grad)) for a, b in zip(clipped[1:], untouched[1:], strict=True))


def test_the_norm_does_not_change_sparse_gradients() -> None:
    ours = parameters(sparse=True)
    table = ours[2].grad
    assert table is not None
    squares = table._values().square().sum() + dense(ours[1].grad).square().sum()
    assert gradient_norm(ours) == pytest.approx(squares.sqrt().item(), rel=1e-6)
    assert ours[2].grad is table
    assert not table.is_coalesced()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["dense", "sparse"])
def test_gradients_that_are_not_finite_make_the_norm_so_and_are_not_clipped(where: str, bad: float) -> None:
    ours = parameters(sparse=True)
    for parameter in ours[1:]:
        assert parameter.grad is not None
        if parameter.grad.is_sparse is (where == "sparse"):
            (parameter.grad._values() if parameter.grad.is_sparse else parameter.grad).view(-1)[0] = bad
    assert not math.isfinite(gradient_norm(ours))
    before = [dense(parameter.grad).clone() for parameter in ours[1:]]
    assert not math.isfinite(clip_gradients(ours, 0.1))
    for parameter, gradient in zip(ours[1:], before, strict=True):
        torch.testing.assert_close(dense(parameter.grad), gradient, rtol=0, atol=0, equal_nan=True)


def test_without_gradients_the_norm_is_zero() -> None:
    idle = nn.Parameter(torch.zeros(3))
    assert gradient_norm([idle]) == clip_gradients([idle], 1.0) == 0.0
