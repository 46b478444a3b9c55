"""Detection of collapse: a map, or another clustering, that puts nearly all samples into a few of its nodes."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array

COLLAPSED_BELOW = 0.1
"""A map counts as collapsed below this :func:`share_of_perplexity`.

Maps with the default training, of 2 x 2 nodes up to one node per row, stay well above it on many kinds of data:
tables of scikit-learn, noise of 100 and 500 dimensions, blobs as tight as 1e-5 of their distances, counts, rows that
mostly repeat, log-normal and Cauchy distributed features. Maps with a neighborhood that stays as wide as the map, or
with a single epoch from random codes, fall below it.
"""


def share_of_perplexity(perplexity: float, num_nodes: int, num_distinct: float) -> float:
    """Returns the number of nodes in use beyond the first as a share of its maximum: (P - 1) / (min(K, M) - 1).

    Args:
        perplexity: P, the effective number of nodes in use, see :func:`~somvae_ext.evaluation.perplexity`.
        num_nodes: number of nodes K.
        num_distinct: M, the effective number of distinct samples, see :func:`distinct_rows`. On any map, equal samples
            share a node.

    Returns:
        The share, from about 0 to 1; 1 if no more than a single node can be in use.

    Example:
        >>> share_of_perplexity(perplexity=2.0, num_nodes=101, num_distinct=1000)
        0.01
    """
    most = min(num_nodes, num_distinct)
    return (perplexity - 1) / (most - 1) if most > 1 + 1e-9 else 1.0


def has_collapsed(perplexity: float, num_nodes: int, num_distinct: float) -> bool:
    """Returns whether so few nodes are in use that the map shows next to nothing, see :data:`COLLAPSED_BELOW`."""
    return share_of_perplexity(perplexity, num_nodes, num_distinct) < COLLAPSED_BELOW


def distinct_rows(x: ArrayLike | Tensor) -> float:
    """Returns the effective number of distinct rows, exp(-sum_m p_m log p_m), where p_m are the shares of equal rows.

    Args:
        x: rows ``[N, D]``, at least one; missing values (NaN) are equal to each other.

    Raises:
        ValueError: a wrong shape.

    Example:
        >>> distinct_rows([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0], [3.0, 4.0]])
        2.0
    """
    rows = as_array("distinct_rows", "x", x)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"distinct_rows: x must hold rows [N, D], at least one, got shape {list(rows.shape)}")
    # Compared by their bytes, which is much faster than column by column; adding 0 turns -0 into 0.
    rows = np.ascontiguousarray(rows + np.zeros(1, rows.dtype))
    _, count = np.unique(rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0], return_counts=True)
    return torch.special.entr(torch.from_numpy(count / len(rows))).sum().exp().item()
