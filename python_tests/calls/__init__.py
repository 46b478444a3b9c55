"""Every op in every mode as a function of one dictionary of tensors, for claims that all ops share.

Each op of csrc/ops.txt has a module of the same name here, which says how the op is called:

- ``calls(grid)``: a :class:`Call` for each mode of each public function, named after the function;
- ``native_arguments(tensors, grid)``: lists of arguments for each of its functions in ``torch.ops.somvae_ext``;
- ``tensors(sizes)``: tensors that only this op takes, in addition to those of ``call.py``; optional;
- ``VALID``: valid arguments of each public function for K = 6 codes on a 2 x 3 grid, D = 4 features and N = 5 rows,
  where a tuple stands for zeros of that shape and a list for an index; and
- ``WRONG_SHAPES``: a function, an argument, a wrong value for it, and the shape that the error asks for.

The last two are for ops whose tensors are indices or floating-point of one dtype; other ops test their errors
themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import normal
from torch import Tensor

from calls.call import Call, Sizes, Tensors, shared_tensors
from somvae_ext import Grid

OPS = (Path(__file__).parents[2] / "csrc" / "ops.txt").read_text().split()
GRID = Grid(3, 4, topology="hexagonal")

_MODULES = [importlib.import_module(f"calls.{op}") for op in OPS]
VALID: dict[str, dict[str, object]] = {}
WRONG_SHAPES: list[tuple[str, str, object, str]] = []
for _module in _MODULES:
    VALID |= getattr(_module, "VALID", {})
    WRONG_SHAPES += getattr(_module, "WRONG_SHAPES", [])


def make_calls(grid: Grid) -> dict[str, Call]:
    return {name: call for module in _MODULES for name, call in module.calls(grid).items()}


CALLS = make_calls(GRID)
DIFFERENTIABLE_CALLS = {name: call for name, call in CALLS.items() if call.differentiable}


def make_inputs(
    rows: int = 10,
    dim: int = 5,
    grid: Grid = GRID,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensors:
    """Makes the tensors that the calls take."""
    sizes = Sizes(rows, dim, grid, dtype, device)
    inputs = shared_tensors(sizes)
    for module in _MODULES:
        if hasattr(module, "tensors"):
            inputs |= module.tensors(sizes)
    return inputs


def native_arguments(
    rows: int = 7,
    grid: Grid = GRID,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> dict[str, list[tuple[object, ...]]]:
    """Returns the arguments of each registered op in each of its modes."""
    tensors = make_inputs(rows, grid=grid, dtype=dtype, device=device)
    return {op: lists for module in _MODULES for op, lists in module.native_arguments(tensors, grid).items()}


def run(
    function: Callable[..., tuple[Tensor, ...]], inputs: dict[Any, Tensor], differentiable: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns the outputs of a call, and the gradients of their randomly weighted sum."""
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
    """Asserts equal layouts, dtypes and values; rows of sparse tensors must be in the same order, too."""
    for a, b in zip(first, second, strict=True):
        assert a.layout == b.layout
        if a.layout == torch.sparse_coo:
            assert_same_bits([a._indices(), a._values()], [b._indices(), b._values()])
        else:
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
