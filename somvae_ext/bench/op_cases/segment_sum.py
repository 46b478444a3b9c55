from __future__ import annotations

import torch

from somvae_ext import ops
from somvae_ext.bench.op_cases.case import Case, Cases, nodes, normal


def segment_sum_case(generator: torch.Generator, device: torch.device, n: int, k: int, d: int) -> Case:
    x, index = normal(generator, device, n, d), nodes(generator, device, n, k)
    return Case(
        "segment_sum",
        {"N": n, "K": k, "D": d},
        (x,),
        {
            "somvae_ext": lambda x: ops.segment_sum(x, index, k).sum,
            "torch": lambda x: torch.zeros(k, d, device=device).index_add(0, index, x),
            "reference": lambda x: ops.reference.segment_sum(x, index, k).sum,
        },
        work=1.0 * (n + k) * d * x.element_size(),
        unit="GB/s",
    )


CASES = {
    "segment_sum": Cases(
        segment_sum_case,
        quick=[(2048, 1024, 32)],
        full=[(65536, 4096, 64), (65536, 256, 784), (1_000_000, 65536, 2), (1_000_000, 64, 16), (16384, 65536, 16)],
    )
}
