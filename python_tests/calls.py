"""Every public op in every mode, as a function of one dictionary of tensors: for claims that all ops share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from cases import integers, normal
from rounding import compute_dtype
from torch import Tensor

from somvae_ext import Grid, ops

Tensors = dict[str, Tensor]

GRID = Grid(3, 4, topology="hexagonal")
RADIUS = 1  # of local transitions


class Call(NamedTuple):
    """``function`` takes a dictionary that holds ``inputs``; some of them, or none, are ``differentiable``."""

    function: Callable[[Tensors], tuple[Tensor, ...]]
    inputs: tuple[str, ...]
    differentiable: tuple[str, ...]


def make_calls(grid: Grid) -> dict[str, Call]:
    def bmu(k: int) -> Call:
        return Call(lambda t: tuple(ops.bmu(t["z"], t["codebook"], k)), ("z", "codebook"), ("z", "codebook"))

    def som_losses(border: ops.neighborhood.Border) -> Call:
        return Call(
            lambda t: tuple(ops.som_losses(t["z"], t["codebook"], t["index"], grid, border=border)),
            ("z", "codebook", "index"),
            ("z", "codebook"),
        )

    def som_head(border: ops.neighborhood.Border, straight_through: bool) -> Call:
        return Call(
            lambda t: tuple(
                ops.som_head(t["z"], t["codebook"], grid, border=border, straight_through=straight_through)
            ),
            ("z", "codebook"),
            ("z", "codebook"),
        )

    def transition_losses(sparse_grad: bool) -> Call:
        def function(t: Tensors) -> tuple[Tensor, ...]:
            return tuple(
                ops.transition_losses(
                    t["logits"], t["prev"], t["index"], t["z"], t["codebook"], sparse_grad=sparse_grad
                )
            )

        return Call(function, ("logits", "prev", "index", "z", "codebook"), ("logits", "z", "codebook"))

    def transition_log_prob(sparse_grad: bool) -> Call:
        return Call(
            lambda t: (ops.transition_log_prob(t["logits"], t["prev"], t["index"], sparse_grad=sparse_grad),),
            ("logits", "prev", "index"),
            ("logits",),
        )

    def expected_distance(sparse_grad: bool) -> Call:
        return Call(
            lambda t: (ops.expected_distance(t["logits"], t["prev"], t["z"], t["codebook"], sparse_grad=sparse_grad),),
            ("logits", "prev", "z", "codebook"),
            ("logits", "z", "codebook"),
        )

    def local_transition_losses(sparse_grad: bool) -> Call:
        return Call(
            lambda t: tuple(
                ops.local_transition_losses(
                    *(t[name] for name in ("local_logits", "prev", "index", "z", "codebook")),
                    grid, RADIUS, sparse_grad=sparse_grad,
                )
            ),
            ("local_logits", "prev", "index", "z", "codebook"),
            ("local_logits", "z", "codebook"),
        )  # fmt: skip

    def som_ema_update(t: Tensors) -> tuple[Tensor, ...]:
        """What it changes are copies, so that each run begins with the same inputs."""
        changed = tuple(t[name].detach().clone() for name in ("codebook", "ema_counts", "ema_sums"))
        weights = ops.AxisWeights(t["row_weights"], t["column_weights"])
        ops.som_ema_update(*changed, t["count"], t["total"], weights, decay=0.9, least_share=0.01)
        return changed

    return {
        "bmu": bmu(1),
        "bmu, two units": bmu(2),
        "som_gather": Call(
            lambda t: (ops.som_gather(t["codebook"], t["index"], grid),), ("codebook", "index"), ("codebook",)
        ),
        "som_losses, zero border": som_losses("zero"),
        "som_losses, masked border": som_losses("mask"),
        "som_head": som_head("zero", straight_through=False),
        "som_head, straight-through, masked border": som_head("mask", straight_through=True),
        "segment_sum": Call(
            lambda t: tuple(ops.segment_sum(t["z"], t["index"], grid.num_nodes)), ("z", "index"), ("z",)
        ),
        "som_update": Call(
            lambda t: (ops.som_update(t["codebook"], t["total"], t["count"], t["weights"]),),
            ("codebook", "total", "count", "weights"),
            (),
        ),
        "som_update, along the axes, by a rate": Call(
            lambda t: (
                ops.som_update(
                    t["codebook"],
                    t["total"],
                    t["count"],
                    ops.AxisWeights(t["row_weights"], t["column_weights"]),
                    rate=0.01,
                ),
            ),
            ("codebook", "total", "count", "row_weights", "column_weights"),
            (),
        ),
        "som_ema_update": Call(
            som_ema_update,
            ("codebook", "ema_counts", "ema_sums", "total", "count", "row_weights", "column_weights"),
            (),
        ),
        "transition_losses": transition_losses(sparse_grad=False),
        "transition_losses, sparse": transition_losses(sparse_grad=True),
        "transition_log_prob": transition_log_prob(sparse_grad=False),
        "transition_log_prob, sparse": transition_log_prob(sparse_grad=True),
        "expected_distance": expected_distance(sparse_grad=False),
        "expected_distance, sparse": expected_distance(sparse_grad=True),
        "local_transition_losses": local_transition_losses(sparse_grad=False),
        "local_transition_losses, sparse": local_transition_losses(sparse_grad=True),
    }


CALLS = make_calls(GRID)
DIFFERENTIABLE_CALLS = {name: call for name, call in CALLS.items() if call.differentiable}


def make_inputs(
    rows: int = 10,
    dim: int = 5,
    grid: Grid = GRID,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensors:
    units = grid.num_nodes
    return {
        "z": normal(rows, dim, seed=1, dtype=dtype, device=device),
        "codebook": normal(units, dim, seed=2, dtype=dtype, device=device),
        "logits": normal(units, units, seed=3, dtype=dtype, device=device),
        "local_logits": normal(units, len(grid.window(RADIUS).mirror) + 1, seed=6, dtype=dtype, device=device),
        "index": integers(rows, seed=4, below=units, device=device),
        "prev": integers(rows, seed=5, below=units, device=device),
        "total": normal(units, dim, seed=7, dtype=compute_dtype(dtype), device=device),
        "count": integers(units, seed=8, below=9, device=device),
        "ema_counts": normal(units, seed=12, dtype=compute_dtype(dtype), device=device).abs(),
        "ema_sums": normal(units, dim, seed=13, dtype=compute_dtype(dtype), device=device),
        "weights": normal(units, units, seed=9, dtype=torch.float64, device=device).abs(),
        "row_weights": normal(grid.rows, grid.rows, seed=10, dtype=torch.float64, device=device).abs(),
        "column_weights": normal(2, 2, grid.cols, grid.cols, seed=11, dtype=torch.float64, device=device).abs(),
    }


def run(
    function: Callable[..., tuple[Tensor, ...]], inputs: dict[Any, Tensor], differentiable: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs, and the gradients of their randomly weighted sum."""
    leaves = {name: inputs[name].detach().requires_grad_() for name in differentiable}
    outputs = function({**inputs, **leaves})
    floating = [output for output in outputs if output.requires_grad]
    weights = [
        normal(*output.shape, seed=seed, dtype=output.dtype, device=output.device)
        for seed, output in enumerate(floating)
    ]
    grads = torch.autograd.grad(floating, list(leaves.values()), weights) if leaves else ()
    return [output.detach() for output in outputs], list(grads)


def assert_same_bits(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """Equal layouts, dtypes and values; a sparse tensor's rows in the same order."""
    for a, b in zip(first, second, strict=True):
        assert a.layout == b.layout
        if a.layout == torch.sparse_coo:
            assert_same_bits([a._indices(), a._values()], [b._indices(), b._values()])
        else:
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
