"""The warning about a map that has collapsed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.evaluation import NodeUsage, distinct_rows, has_collapsed


def describe_collapse(hits: NDArray[np.int64], x: ArrayLike | Tensor) -> str | None:
    """Describes a map that puts nearly all rows into a few nodes, in a clause for a warning; None if it does not.

    Args:
        hits: number of rows that each node won, int64 ``[K]``.
        x: a sample of the rows ``[S, D]``, spread over all of the data.
    """
    usage = NodeUsage(len(hits))
    usage.counts = torch.from_numpy(hits)
    if not has_collapsed(usage.perplexity, len(hits), distinct_rows(x)):
        return None
    share = hits.max() / hits.sum()
    return (
        f"the map has collapsed: its rows are spread as over {usage.perplexity:.1f} of {len(hits)} nodes (perplexity), "
        f"{share:.0%} of them in one"
    )
