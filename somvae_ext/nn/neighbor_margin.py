"""A loss that makes the second best node of an encoding a neighbor of the best."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid


def neighbor_margin(z: Tensor, codebook: Tensor, index: Tensor, grid: Grid) -> Tensor:
    """Computes how much farther the nearest neighbor of an encoding's node is than the second best node::

        1/D * (min over the neighbors n of w of |z - e_n|^2 - |z - e_s|^2)

    where w is the nearest and s the second nearest code; codes receive no gradient. The margin is 0 exactly where the
    encoding has no topographic error: its mean is to that error what a hinge loss is to a classification error.

    Args:
        z: encodings, floating ``[M, D]``.
        codebook: codes ``[K, D]``, in the dtype of ``z``.
        index: nodes w of the encodings, int64 ``[M]``.
        grid: the grid of the K nodes.

    Returns:
        ``[M]``, at least 0, in float32 or float64; zeros on a grid of one node, which has no neighbors.
    """
    codes = codebook.detach()
    if grid.num_nodes == 1:
        return (0 * z).sum(dim=1)
    is_present = grid.neighbors(z.device)[index] >= 0  # (M, S)
    wide = torch.promote_types(z.dtype, torch.float32)
    rows = z.to(wide)
    neighbor_distance = (rows[:, None] - ops.som_gather(codes, index, grid)[:, 1:].to(wide)).square().sum(dim=2)
    two_best = ops.bmu(z.detach(), codes, k=2).index
    # Among equally near codes, the search may return another one than w first.
    second_node = torch.where(two_best[:, 0] == index, two_best[:, 1], two_best[:, 0])
    second_distance = (rows - codes[second_node].to(wide)).square().sum(dim=1)
    margin = neighbor_distance.masked_fill(~is_present, torch.inf).amin(dim=1) - second_distance
    return margin.clamp_min(0) / z.shape[1]
