"""The description of a call of an op, and the tensors that several ops take."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from cases import integers, normal
from rounding import compute_dtype
from torch import Tensor

from somvae_ext import Grid

Tensors = dict[str, Tensor]


class Call(NamedTuple):
    """A ``function`` of a dictionary that holds ``inputs``, of which those in ``differentiable`` get gradients."""

    function: Callable[[Tensors], tuple[Tensor, ...]]
    inputs: tuple[str, ...]
    differentiable: tuple[str, ...]
    min_codes: int = 1


class Sizes(NamedTuple):
    """Sizes and dtype of the tensors of a call."""

    rows: int
    dim: int
    grid: Grid
    dtype: torch.dtype
    device: torch.device | str


def shared_tensors(sizes: Sizes) -> Tensors:
    """Makes the tensors that several ops take, under the names that the calls use."""
    rows, dim, grid, dtype, device = sizes
    nodes = grid.num_nodes
    return {
        "z": normal(rows, dim, seed=1, dtype=dtype, device=device),
        "codebook": normal(nodes, dim, seed=2, dtype=dtype, device=device),
        "logits": normal(nodes, nodes, seed=3, dtype=dtype, device=device),
        "index": integers(rows, seed=4, below=nodes, device=device),
        "prev": integers(rows, seed=5, below=nodes, device=device),
        "total": normal(nodes, dim, seed=7, dtype=compute_dtype(dtype), device=device),
        "count": integers(nodes, seed=8, below=9, device=device),
        "row_weights": normal(grid.rows, grid.rows, seed=10, dtype=torch.float64, device=device).abs(),
        "column_weights": normal(2, 2, grid.cols, grid.cols, seed=11, dtype=torch.float64, device=device).abs(),
    }
