from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.op_cases.case import REFERENCE_ELEMENTS, Case, Cases, nodes, normal
from somvae_ext.bench.op_cases.transition_log_prob import torch_transition


def torch_expected_distance(logits: Tensor, z: Tensor, codebook: Tensor, prev: Tensor) -> Tensor:
    distances = torch.cdist(z, codebook).square()
    return (F.softmax(logits[prev], dim=1) * distances).sum(dim=1)


def transition_losses_case(
    generator: torch.Generator, device: torch.device, n: int, k: int, d: int, sparse: bool
) -> Case:
    logits, z, codebook = (normal(generator, device, *shape) for shape in ((k, k), (n, d), (k, d)))
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)

    def fused(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse)
        return losses.expected_distance - losses.log_prob

    def plain(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        expectation = torch_expected_distance(logits, z, codebook, prev)
        return expectation - torch_transition(logits, prev, cur)

    def reference(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.reference.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse)
        return losses.expected_distance - losses.log_prob

    contestants = {"somvae_ext": fused, "torch": plain}
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = reference
    size = {"N": n, "K": k, "D": d, "sparse_grad": sparse}
    return Case("transition_losses", size, (logits, z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


def expected_distance_case(
    generator: torch.Generator, device: torch.device, n: int, k: int, d: int, sparse: bool
) -> Case:
    logits, prev = normal(generator, device, k, k), nodes(generator, device, n, k)
    z, codebook = normal(generator, device, n, d), normal(generator, device, k, d)
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda logits, z, codebook: ops.expected_distance(logits, prev, z, codebook, sparse_grad=sparse),
        "torch": lambda logits, z, codebook: torch_expected_distance(logits, z, codebook, prev),
    }
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda logits, z, codebook: ops.reference.expected_distance(
            logits, prev, z, codebook, sparse_grad=sparse
        )
    size = {"N": n, "K": k, "D": d, "sparse_grad": sparse}
    return Case("expected_distance", size, (logits, z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


SIZES = {"quick": [(512, 256, 32, True)], "full": [(2048, 1024, 64, False), (512, 4096, 64, True)]}
CASES = {
    "transition_losses": Cases(transition_losses_case, **SIZES),
    "expected_distance": Cases(expected_distance_case, **SIZES),
}
