"""How many nodes a map of some data may have, and how long its sides, before anything has been trained."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_floats, as_real_numbers
from somvae_ext.config_checks import check_integer
from somvae_ext.grid import Grid, Topology
from somvae_ext.som.initialization import fill_missing, init_sample_size, principal_components
from somvae_ext.som.rows import evenly_spaced_rows

_NODES_PER_ROOT = 5  # of the number of rows
_FEWEST_NODES = 2


class MapSize(NamedTuple):
    """Rows and columns of a map."""

    rows: int
    cols: int


def suggested_num_nodes(num_rows: int) -> int:
    """5 sqrt(N), rounded up, at most one node for each row, and at least two (Vesanto et al. 2000)."""
    return max(_FEWEST_NODES, min(math.ceil(_NODES_PER_ROOT * math.sqrt(num_rows)), num_rows))


def suggest_map_size(
    x: ArrayLike | Tensor,
    *,
    num_rows: int | None = None,
    topology: Topology = "rectangular",
    periodic: bool = False,
) -> MapSize:
    """The size that the SOM Toolbox gives a map (Vesanto, Himberg, Alhoniemi and Parhankangas 2000).

    A rule of thumb, which no training has confirmed; :func:`somvae_ext.estimators.tune_size` measures sizes.

    - The map has about 5 sqrt(N) nodes, but not more than rows, and at least 2.
    - Its sides are in the ratio of the square roots of the two largest eigenvalues of the covariance: the standard
      deviations along the two axes that ``init="pca"`` spans it between. The longer side is the one of the columns,
      along which that start lays the first axis. On hexagons, whose rows lie sqrt(3)/2 apart, there are more rows.
    - The toolbox makes a map square where the first axis is so much longer that the second would get less than a node;
      here it becomes a line, because a sheet over data on a line folds.
    - Of data without any spread, whose codes would all be the same, the size is the smallest: 1 x 2.

    Args:
        x: the rows as the map shall see them, scaled, ``[N, D]``; NaN where a value is missing, which counts as the
            mean of its feature. Of many rows some are looked at, at most 8,192, spread evenly.
        num_rows: N, where ``x`` holds only some of the rows.
        topology: of the grid.
        periodic: whether the map wraps around; of hexagons it then gets an even number of rows.

    Returns:
        ``(rows, cols)``.

    Raises:
        ValueError: what is not numbers or has another shape, no rows, infinity, a number of rows that is not an integer
            of at least 1, or an unknown topology.

    Example:
        >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 1.0])
        >>> suggest_map_size(x)
        MapSize(rows=5, cols=20)
    """
    Grid(2, 2, topology, periodic)  # refuses what is none
    rows = as_real_numbers("suggest_map_size", "x", x)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"suggest_map_size: x must have shape [N, D] with at least one row and column, got {list(rows.shape)}"
        )
    num_rows = len(rows) if num_rows is None else check_integer("suggest_map_size", "num_rows", num_rows)
    sample = evenly_spaced_rows(len(rows), init_sample_size("pca", 1, rows.shape[1]))
    chosen = rows[sample.to(rows.device)] if isinstance(rows, Tensor) else rows[sample.numpy()]
    values = as_floats("suggest_map_size", "x", chosen).double()
    if values.isinf().any():
        raise ValueError("suggest_map_size: x must hold finite values or NaN, got infinity")
    first, second = _principal_deviations(fill_missing(values, None))
    if first == 0:
        nodes, ratio = _FEWEST_NODES, float(_FEWEST_NODES)
    else:
        nodes = suggested_num_nodes(num_rows)
        ratio = min(first / max(second, first / nodes), float(nodes))
    return _sides(nodes, ratio, topology, is_even=periodic and topology == "hexagonal")


def _principal_deviations(x: Tensor) -> tuple[float, float]:
    """Standard deviations along the first two principal axes; 0 where rounding alone parts the rows."""
    mean = x.mean(dim=0)
    _, deviations = principal_components((x - mean) / math.sqrt(len(x)))
    first, second = deviations.tolist()
    vanishing = 4 * torch.finfo(x.dtype).eps * float(x.abs().max())
    return (first if first > vanishing else 0.0), second


def _sides(nodes: int, ratio: float, topology: Topology, *, is_even: bool) -> MapSize:
    """Sides in a ratio, width by height, of at most so many nodes."""
    spacing = math.sqrt(3) / 2 if topology == "hexagonal" else 1.0
    rows = max(1, round(math.sqrt(nodes / (ratio * spacing))))
    if is_even:
        rows = max(2, 2 * round(rows / 2))
    rows = min(rows, nodes)
    return MapSize(rows, max(1, nodes // rows))
