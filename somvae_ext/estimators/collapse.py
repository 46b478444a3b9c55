"""What is to be said of a map that has collapsed."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.evaluation import NodeUsage, distinct_rows, has_collapsed


def describe_collapse(hits: NDArray[np.int64], x: ArrayLike | Tensor) -> str | None:
    """A clause about a map that puts nearly all rows into a few nodes; None of others.

    Args:
        hits: rows that each node won, int64 ``[K]``.
        x: some of the rows ``[S, D]``, from all over the data.
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
