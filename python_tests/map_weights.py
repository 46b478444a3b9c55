"""Random neighborhood weights between the nodes of a map."""

from __future__ import annotations

import numpy as np
import torch
from cases import as_array, integers, normal
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.ops import AxisWeights


def positive(*shape: int, seed: int, keep: float = 1.0, **options: object) -> Tensor:
    """Draws random nonnegative weights; a fraction ``keep`` of them is not zero."""
    weights = normal(*shape, seed=seed, dtype=torch.float64, **options).abs()
    return weights * (integers(*shape, seed=seed + 1, below=1000).to(weights.device) < 1000 * keep)


def axis_weights(
    rows: int, cols: int, phases: int, seed: int, keep: float = 1.0, device: torch.device | str = "cpu"
) -> AxisWeights:
    return AxisWeights(
        positive(rows, rows, seed=seed, keep=keep, device=device),
        positive(phases, phases, cols, cols, seed=seed + 2, keep=keep, device=device),
    )


def full_weights(weights: Tensor | AxisWeights) -> NDArray[np.float64]:
    """Returns the full matrix of weights, ``[M, K]``, by the definition of :class:`AxisWeights`."""
    if isinstance(weights, Tensor):
        return as_array(weights)
    rows, columns = as_array(weights.rows), as_array(weights.columns)
    phases, n_rows, n_cols = len(columns), len(rows), columns.shape[2]
    full = np.empty((n_rows, n_cols, n_rows, n_cols))
    for target in range(n_rows):
        for source in range(n_rows):
            full[target, :, source, :] = rows[target, source] * columns[source % phases, target % phases]
    return full.reshape(n_rows * n_cols, n_rows * n_cols)
