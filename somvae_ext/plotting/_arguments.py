"""What the pictures of a map are made of: numbers from numpy, or from torch on any device.

Every error is a ValueError that reads "<plot>: <argument> must <expectation>, got <what came>".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.grid import Grid


def as_array(values: ArrayLike | Tensor) -> NDArray[Any]:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()  # numpy has no bfloat16
    return np.asarray(values)


def values_of_nodes(plot: str, name: str, values: ArrayLike | Tensor, grid: Grid) -> NDArray[Any]:
    """One value for each node, ``[K]``."""
    array = as_array(values)
    if array.shape != (grid.num_nodes,):
        raise ValueError(
            f"{plot}: {name} must have shape [K] with a value for each of the grid's {grid.num_nodes} nodes, got "
            f"{list(array.shape)}"
        )
    return array


def codes_of_nodes(plot: str, codebook: ArrayLike | Tensor, grid: Grid) -> NDArray[np.float64]:
    """One finite code for each node, ``[K, D]``."""
    array = as_array(codebook)
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
