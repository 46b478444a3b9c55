"""Conversion of rows and columns of a map, as ``transform`` returns them, back to nodes."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_integers
from somvae_ext.grid import Grid


def nodes_at(owner: str, name: str, places: ArrayLike | Tensor, grid: Grid, shape: str = "[N, 2]") -> Tensor:
    """Returns the nodes, int64 ``[...]``, at rows and columns ``[..., 2]``.

    Args:
        owner: name of the caller, for error messages.
        name: name of the argument, for error messages.
        places: rows and columns, integers, an array-like or a tensor on any device.
        grid: the map's grid.
        shape: expected shape of ``places``, such as ``"[N, 2]"`` or ``"[B, T, 2]"``.

    Raises:
        ValueError: a wrong shape, values that are not integers, or a place outside the grid.
    """
    integers = as_integers(owner, name, places)
    if integers.dim() != shape.count(",") + 1 or integers.shape[-1] != 2:
        raise ValueError(
            f"{owner}: {name} must hold rows and columns of the map in an array {shape}, got shape "
            f"{list(integers.shape)}"
        )
    row, col = integers.unbind(dim=-1)
    is_outside = (row < 0) | (row >= grid.rows) | (col < 0) | (col >= grid.cols)
    if is_outside.any():
        first = [int(value) for value in integers[is_outside][0]]
        raise ValueError(
            f"{owner}: {name} must hold rows from 0 to {grid.rows - 1} and columns from 0 to {grid.cols - 1}, got "
            f"{first}"
        )
    return row * grid.cols + col
