"""A loss that makes the second best node of an encoding a neighbour of the best."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid


def neighbor_margin(z: Tensor, codebook: Tensor, index: Tensor, grid: Grid) -> Tensor:
    """How much farther the nearest neighbour of an encoding's node is than the second best node::

        1/D * (min over the neighbours n of w of |z - e_n|^2 - |z - e_s|^2)

    with w the nearest and s the second nearest code, which are constants to the gradient. It is 0 exactly where the
    sample has no topographic error: its mean is to that error what a hinge loss is to errors of classes.

    Args:
        z: encodings, floating ``[M, D]``.
        codebook: codes ``[K, D]``, of the dtype of ``z``.
        index: their nodes w, int64 ``[M]``.
        grid: of the K nodes.

    Returns:
        ``[M]``, at least 0, in float32 or float64; zeros where a node has no neighbours.
    """
    codes = codebook.detach()
    if grid.num_nodes == 1:
        return (0 * z).sum(dim=1)
    is_present = grid.neighbors(z.device)[index] >= 0  # (M, S)
    wide = torch.promote_types(z.dtype, torch.float32)
    rows = z.to(wide)
    neighbor_distance = (rows[:, None] - ops.som_gather(codes, index, grid)[:, 1:].to(wide)).square().sum(dim=2)
    two_best = ops.bmu(z.detach(), codes, k=2).index
    # Where codes are equally near, the first of the search may be another than w.
    second_node = torch.where(two_best[:, 0] == index, two_best[:, 1], two_best[:, 0])
    second_distance = (rows - codes[second_node].to(wide)).square().sum(dim=1)
    margin = neighbor_distance.masked_fill(~is_present, torch.inf).amin(dim=1) - second_distance
    return margin.clamp_min(0) / z.shape[1]
