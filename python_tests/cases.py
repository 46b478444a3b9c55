"""Inputs of the tests of the ops: dtypes, memory layouts, grids, random tensors and Hypothesis strategies."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext import Grid

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]

LAYOUTS = ["contiguous", "transposed", "strided", "offset", "expanded_rows", "expanded_columns", "one_value"]
INDEX_LAYOUTS = ["contiguous", "strided", "one_value"]

GRIDS = [
    Grid(1, 1),
    Grid(1, 4),
    Grid(3, 4),
    Grid(2, 2, periodic=True),
    Grid(4, 3, periodic=True),
    Grid(3, 4, topology="hexagonal"),
    Grid(4, 3, topology="hexagonal", periodic=True),
]


def lay_out(values: Tensor, layout: str) -> Tensor:
    """Returns the same values in another memory layout; expanded layouts repeat some of them and drop the rest."""
    if layout == "transposed":
        return values.transpose(0, -1).contiguous().transpose(0, -1)
    if layout == "strided":
        wide = values.new_empty(*values.shape, 3)
        wide[..., 1] = values
        return wide[..., 1]
    if layout == "offset":
        padded = values.new_empty([size + 2 for size in values.shape])
        inner = padded[tuple(slice(1, -1) for _ in values.shape)]
        return inner.copy_(values)
    if layout == "expanded_rows":
        return values[:1].expand_as(values) if len(values) else values
    if layout == "expanded_columns":
        return values[..., :1].expand_as(values) if values.numel() else values
    if layout == "one_value":
        return values.flatten()[0].expand_as(values) if values.numel() else values
    assert layout == "contiguous"
    return values


def normal(
    *shape: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    layout: str = "contiguous",
    offset: float = 0.0,
    scale: float = 1.0,
) -> Tensor:
    """Draws normally distributed numbers, the same on every device."""
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return lay_out((offset + scale * values).to(device, dtype), layout)


def integers(
    *shape: int,
    seed: int,
    below: int,
    dtype: torch.dtype = torch.int64,
    device: torch.device | str = "cpu",
    layout: str = "contiguous",
) -> Tensor:
    """Draws integers from 0 to ``below`` - 1: node indices, or small data on which all arithmetic is exact."""
    values = torch.randint(below, shape, generator=torch.Generator().manual_seed(seed))
    return lay_out(values.to(device, dtype), layout)


def as_array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().to("cpu", torch.float64).numpy()


def as_index(tensor: Tensor) -> NDArray[np.int64]:
    return tensor.cpu().numpy()


dtypes = st.sampled_from(DTYPES)
layouts = st.sampled_from(LAYOUTS)
index_layouts = st.sampled_from(INDEX_LAYOUTS)
seeds = st.integers(0, 2**31 - 1)


@st.composite
def grids(draw: st.DrawFn, most: int = 6) -> Grid:
    topology = draw(st.sampled_from(["rectangular", "hexagonal"]))
    periodic = draw(st.booleans())
    rows, cols = draw(st.integers(1, most)), draw(st.integers(1, most))
    if periodic and topology == "hexagonal":
        rows += rows % 2
    return Grid(rows, cols, topology=topology, periodic=periodic)
