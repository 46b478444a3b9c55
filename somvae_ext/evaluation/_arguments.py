"""Conversion of the arguments of map metrics: rows and codes, a distance, and a number of neighbors."""

from __future__ import annotations

from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_common_floats, as_floats
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.som import Distance, Metric, MetricName


def as_rows_and_codes(function: str, x: ArrayLike | Tensor, codebook: ArrayLike | Tensor) -> tuple[Tensor, Tensor]:
    """Returns rows ``[N, D]`` and codes ``[K, D]``, detached, of one floating dtype and on one device."""
    rows, codes = as_common_floats(function, x=x, codebook=codebook)
    if rows.dim() > 0 and len(rows) == 0:
        raise ValueError(f"{function}: x must hold at least one row, got shape {list(rows.shape)}")
    if rows.dim() != 2 or codes.dim() != 2 or rows.shape[1] != codes.shape[1]:
        raise ValueError(
            f"{function}: x and codebook must have shapes [N, D] and [K, D], got {list(rows.shape)} and "
            f"{list(codes.shape)}"
        )
    return rows, codes


def as_rows_and_codes_of_grid(
    function: str, x: ArrayLike | Tensor, codebook: ArrayLike | Tensor, grid: Grid
) -> tuple[Tensor, Tensor]:
    """Returns the same as :func:`as_rows_and_codes`, and checks that there is a code for each node."""
    rows, codes = as_rows_and_codes(function, x, codebook)
    if len(codes) != grid.num_nodes:
        raise ValueError(
            f"{function}: codebook must hold a code for each of the grid's {grid.num_nodes} nodes, got {len(codes)}"
        )
    return rows, codes


def as_codes_of_grid(function: str, codebook: ArrayLike | Tensor, grid: Grid) -> Tensor:
    """Returns codes ``[K, D]``, detached and floating, one for each node."""
    codes = as_floats(function, "codebook", codebook)
    if codes.dim() != 2 or len(codes) != grid.num_nodes:
        raise ValueError(
            f"{function}: codebook must have shape [K, D] with a code for each of the grid's {grid.num_nodes} nodes, "
            f"got {list(codes.shape)}"
        )
    return codes


def as_metric(metric: MetricName | Distance | Metric) -> Metric:
    return metric if isinstance(metric, Metric) else Metric(metric)


def as_connectivity(grid: Grid, connectivity: Connectivity | None) -> Connectivity:
    """Returns the connectivity, by default the largest: 8 on rectangles, as in other libraries, 6 on hexagons."""
    return grid.connectivities[-1] if connectivity is None else connectivity
