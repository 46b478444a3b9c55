"""Subnormal numbers, common in trained maps: kernels flush them to zero; exact scores and the caller's mode do not."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import oracle
import pytest
import torch
from cases import as_array, normal
from flushing import caller_flushes
from torch import Tensor

import somvae_ext
from somvae_ext import Grid, ops
from somvae_ext.optim import RowAdam

GRID = Grid(6, 8)
ROWS = 100
CALLERS = [False, True] if somvae_ext.build_info()["native"] else [False]
"""Whether the caller flushes subnormals. In pure torch, that flushes exact scores, too, so only False is tested."""
LARGEST_SUBNORMAL = float(np.nextafter(np.finfo(np.float32).smallest_normal, np.float32(0)))


def mostly_subnormal(rows: int, dim: int, seed: int) -> Tensor:
    """Draws rows that differ only in subnormal features; all other features are equal."""
    x = normal(rows, dim, seed=seed, scale=1e-39)
    x[:, ::4] = 0.5
    return x


def search(z: Tensor, codebook: Tensor) -> None:
    ops.bmu(z, codebook, 2)
    ops.BMUIndex(codebook, GRID).search(z)


def losses(z: Tensor, codebook: Tensor) -> None:
    head = ops.som_head(z.clone().requires_grad_(), codebook.clone().requires_grad_(), GRID)
    (head.commitment + head.som).sum().backward()


def transitions(z: Tensor, codebook: Tensor) -> None:
    logits = normal(GRID.num_nodes, GRID.num_nodes, seed=3).requires_grad_()
    nodes = torch.arange(ROWS) % GRID.num_nodes
    terms = ops.transition_losses(logits, nodes, nodes, z, codebook)
    (terms.expected_distance - terms.log_prob).sum().backward()


def update(z: Tensor, codebook: Tensor) -> None:
    sums = ops.segment_sum(z, torch.arange(ROWS) % GRID.num_nodes, GRID.num_nodes)
    ops.som_update(codebook, sums.sum, sums.count, torch.eye(GRID.num_nodes, dtype=torch.float64))


def row_steps(z: Tensor, codebook: Tensor) -> None:
    table = torch.nn.Parameter(codebook.clone())
    table.grad = torch.sparse_coo_tensor(
        torch.arange(8)[None], z[:8], table.shape, is_coalesced=True, check_invariants=True
    )
    RowAdam([table]).step()


@pytest.mark.parametrize("flush", CALLERS)
@pytest.mark.parametrize("call", [search, losses, transitions, update, row_steps], ids=lambda call: call.__name__)
def test_the_callers_mode_is_restored(call: Callable[[Tensor, Tensor], None], flush: bool) -> None:
    z, codebook = mostly_subnormal(ROWS, 20, seed=1), mostly_subnormal(GRID.num_nodes, 20, seed=2)
    with caller_flushes(flush) as flushed:
        call(z, codebook)
        halves = torch.full((64,), LARGEST_SUBNORMAL) * 0.5
        assert (halves == 0).tolist() == [flushed] * 64


@pytest.mark.parametrize("flush", CALLERS)
@pytest.mark.parametrize("dim", [4, 20, 300])
@pytest.mark.parametrize("k", [1, 2])
def test_subnormal_features_determine_the_winner(k: int, dim: int, flush: bool) -> None:
    z, codebook = mostly_subnormal(ROWS, dim, seed=1), mostly_subnormal(GRID.num_nodes, dim, seed=2)
    expected, winners = oracle.best_codes(oracle.scores(as_array(z), as_array(codebook)), k)
    with caller_flushes(flush):
        for found in (ops.bmu(z, codebook, k), ops.BMUIndex(codebook, GRID).search(z, k)):
            np.testing.assert_array_equal(found.index.reshape(ROWS, k).numpy(), winners)
            np.testing.assert_array_equal(found.distance.reshape(ROWS, k).numpy(), expected.astype(np.float32))


@pytest.mark.parametrize("flush", CALLERS)
def test_a_subnormal_distance_is_not_zero(flush: bool) -> None:
    z, codebook = torch.full((3, 2), 1e-20), torch.full((70, 2), 2e-20)
    with caller_flushes(flush):
        distance = ops.bmu(z, codebook).distance
    np.testing.assert_array_equal(distance.numpy(), np.float32(2 * np.float64(np.float32(1e-20)) ** 2).repeat(3))


@pytest.mark.parametrize("flush", CALLERS)
def test_other_kernels_treat_subnormals_as_zero(flush: bool) -> None:
    """Flushing makes the other kernels fast on Intel's processors."""
    x = torch.full((10, 5), LARGEST_SUBNORMAL)
    native = somvae_ext.build_info()["native"] and platform.machine() == "x86_64"
    with caller_flushes(flush) as flushed:
        sums = ops.segment_sum(x, torch.zeros(10, dtype=torch.int64), 1).sum
    assert (sums == 0).all() == (native or flushed)
