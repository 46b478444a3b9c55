"""A map's number of nodes and side lengths, estimated from the data before any training."""

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

_NODES_PER_ROOT = 5  # nodes per square root of the number of rows
_FEWEST_NODES = 2


class MapSize(NamedTuple):
    """Rows and columns of a map."""

    rows: int
    cols: int


def suggested_num_nodes(num_rows: int) -> int:
    """Returns 5 sqrt(N), rounded up, at most one node per row and at least two (Vesanto et al. 2000)."""
    return max(_FEWEST_NODES, min(math.ceil(_NODES_PER_ROOT * math.sqrt(num_rows)), num_rows))


def suggest_map_size(
    x: ArrayLike | Tensor,
    *,
    num_rows: int | None = None,
    topology: Topology = "rectangular",
    periodic: bool = False,
) -> MapSize:
    """Suggests a map size by the rule of the SOM Toolbox (Vesanto, Himberg, Alhoniemi and Parhankangas 2000).

    This is a rule of thumb that no training confirms; :func:`somvae_ext.estimators.tune_size` measures sizes.

    - The map has about 5 sqrt(N) nodes, but no more than there are rows, and at least 2.
    - Its sides are in the ratio of the square roots of the two largest eigenvalues of the covariance: the standard
      deviations along the two axes that span the codes with ``init="pca"``. The longer side is the width, along which
      that initialization lays the first axis. Hexagonal maps, whose rows are sqrt(3)/2 apart, get more rows.
    - If the first axis is so much longer that the second would get less than one node, the toolbox makes the map
      square. Here the map becomes a line, because a sheet over data on a line folds.
    - Data without any spread, whose codes would all be equal, get the smallest size: 1 x 2.

    Args:
        x: the rows ``[N, D]`` as the map will see them, scaled. NaN marks a missing value, which is replaced by the
            mean of its feature. At most 8,192 of the rows are used, evenly spaced.
        num_rows: N, if ``x`` holds only some of the rows.
        topology: topology of the grid.
        periodic: whether the map wraps around; a hexagonal one then gets an even number of rows.

    Returns:
        ``(rows, cols)``.

    Raises:
        ValueError: rows that are not numbers or have a wrong shape, no rows, infinity, a number of rows that is not an
            integer of at least 1, or an unknown topology.

    Example:
        >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([4.0, 1.0])
        >>> suggest_map_size(x)
        MapSize(rows=5, cols=20)
    """
    Grid(2, 2, topology, periodic)  # raises for an unknown topology
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
    """Standard deviations along the first two principal axes; the first is 0 if the rows differ by rounding alone."""
    mean = x.mean(dim=0)
    _, deviations = principal_components((x - mean) / math.sqrt(len(x)))
    first, second = deviations.tolist()
    vanishing = 4 * torch.finfo(x.dtype).eps * float(x.abs().max())
    return (first if first > vanishing else 0.0), second


def _sides(nodes: int, ratio: float, topology: Topology, *, is_even: bool) -> MapSize:
    """Sides with a given ratio of width to height and at most the given number of nodes."""
    spacing = math.sqrt(3) / 2 if topology == "hexagonal" else 1.0
    rows = max(1, round(math.sqrt(nodes / (ratio * spacing))))
    if is_even:
        rows = max(2, 2 * round(rows / 2))
    rows = min(rows, nodes)
    return MapSize(rows, max(1, nodes // rows))
