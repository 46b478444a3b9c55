from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.bench.op_cases.case import REFERENCE_ELEMENTS, Case, Cases, nodes, normal


def torch_local_transition(
    logits: Tensor, z: Tensor, codebook: Tensor, prev: Tensor, cur: Tensor, grid: Grid, radius: int
) -> Tensor:
    """Expected distance minus log-probability. Codes of each row's window are gathered; the others enter by moments."""
    window = grid.window_nodes(radius, prev)
    mask, num_outside = window >= 0, (grid.num_nodes - (window >= 0).sum(dim=1)).clamp_min(1)
    log_probs = F.log_softmax(F.embedding(prev, logits).masked_fill(F.pad(~mask, (0, 1)), -torch.inf), dim=1)
    probs = log_probs.exp()
    distances = (z[:, None] - F.embedding(window.clamp_min(0), codebook)).square().sum(dim=2) * mask
    squares, sums = codebook.square().sum(), codebook.sum(dim=0)
    all_distances = grid.num_nodes * z.square().sum(dim=1) - 2 * z @ sums + squares
    mean_outside = (all_distances - distances.sum(dim=1)) / num_outside
    expected = (probs[:, :-1] * distances).sum(dim=1) + probs[:, -1] * mean_outside
    is_cur = (window == cur[:, None]) & mask
    log_prob_inside = (log_probs[:, :-1].masked_fill(~is_cur, 0)).sum(dim=1)
    return expected - torch.where(is_cur.any(dim=1), log_prob_inside, log_probs[:, -1] - num_outside.log())


def local_transition_losses_case(
    generator: torch.Generator, device: torch.device, n: int, side: int, radius: int, d: int
) -> Case:
    grid = Grid(side, side)
    slots, k = len(grid.window(radius).mirror), grid.num_nodes
    logits, z, codebook = (normal(generator, device, *shape) for shape in ((k, slots + 1), (n, d), (k, d)))
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)

    def fused(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, radius, sparse_grad=True)
        return losses.expected_distance - losses.log_prob

    def plain(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        return torch_local_transition(logits, z, codebook, prev, cur, grid, radius)

    def reference(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.reference.local_transition_losses(logits, prev, cur, z, codebook, grid, radius, sparse_grad=True)
        return losses.expected_distance - losses.log_prob

    contestants = {"somvae_ext": fused, "torch": plain}
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = reference
    size = {"N": n, "K": k, "W": slots, "D": d}
    return Case("local_transition_losses", size, (logits, z, codebook), contestants, 2.0 * n * slots * d, "GFLOP/s")


CASES = {
    "local_transition_losses": Cases(
        local_transition_losses_case,
        quick=[(64, 16, 4, 32)],
        full=[(256, 64, 8, 64), (256, 256, 8, 64), (4096, 256, 8, 64)],
    )
}
