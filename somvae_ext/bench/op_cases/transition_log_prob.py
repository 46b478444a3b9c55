from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.op_cases.case import Case, Cases, nodes, normal


def torch_transition(logits: Tensor, prev: Tensor, cur: Tensor) -> Tensor:
    return F.log_softmax(logits[prev], dim=1).gather(1, cur[:, None]).squeeze(1)


def transition_case(generator: torch.Generator, device: torch.device, n: int, k: int, sparse: bool) -> Case:
    logits = normal(generator, device, k, k)
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)
    return Case(
        "transition_log_prob",
        {"N": n, "K": k, "sparse_grad": sparse},
        (logits,),
        {
            "somvae_ext": lambda logits: ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse),
            "torch": lambda logits: torch_transition(logits, prev, cur),
            "reference": lambda logits: ops.reference.transition_log_prob(logits, prev, cur, sparse_grad=sparse),
        },
        work=1.0 * n * k * logits.element_size(),
        unit="GB/s",
    )


CASES = {
    "transition_log_prob": Cases(
        transition_case, quick=[(512, 256, False), (512, 256, True)], full=[(2048, 1024, False), (512, 4096, True)]
    )
}
