"""Conversion of the arguments of plots of a map: values and codes of its nodes.

Every error is a ValueError that reads "<plot>: <argument> must <expectation>, got <what came>".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.grid import Grid


def as_node_values(plot: str, name: str, values: ArrayLike | Tensor, grid: Grid) -> NDArray[Any]:
    """Returns one value for each node, ``[K]``."""
    array = as_array(plot, name, values)
    if array.shape != (grid.num_nodes,):
        raise ValueError(
            f"{plot}: {name} must have shape [K] with a value for each of the grid's {grid.num_nodes} nodes, got "
            f"{list(array.shape)}"
        )
    return array


def as_counts(plot: str, name: str, values: ArrayLike | Tensor, grid: Grid) -> NDArray[np.float64]:
    """Returns a finite number of at least 0 for each node, ``[K]``."""
    array = as_node_values(plot, name, values, grid).astype(np.float64)
    if (wrong := np.flatnonzero(~(np.isfinite(array) & (array >= 0)))).size:
        raise ValueError(f"{plot}: {name} must be finite and not negative, got {array[wrong[0]]} at node {wrong[0]}")
    return array


def as_finite_codes(plot: str, codebook: ArrayLike | Tensor, grid: Grid) -> NDArray[np.float64]:
    """Returns one finite code for each node, ``[K, D]``."""
    array = as_array(plot, "codebook", codebook)
    if array.ndim != 2 or len(array) != grid.num_nodes or array.shape[1] == 0:
        raise ValueError(
            f"{plot}: codebook must have shape [K, D] with a code for each of the grid's {grid.num_nodes} nodes, got "
            f"{list(array.shape)}"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        node, feature = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{plot}: codebook must be finite, got {array[node, feature]} in feature {feature} of node {node}"
        )
    return array
