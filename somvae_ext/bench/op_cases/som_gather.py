from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.bench.op_cases.case import Case, Cases, nodes, normal


def torch_gather(codebook: Tensor, index: Tensor, neighbors: Tensor) -> Tensor:
    """Gathers from a codebook with an appended row of zeros, to which absent neighbors point."""
    nodes = torch.cat([index[:, None], neighbors[index]], dim=1)
    return F.embedding(nodes.where(nodes >= 0, len(codebook)), F.pad(codebook, (0, 0, 0, 1)))


def som_gather_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    codebook, index = normal(generator, device, grid.num_nodes, d), nodes(generator, device, n, grid.num_nodes)
    neighbors = grid.neighbors(device)
    return Case(
        "som_gather",
        {"N": n, "K": grid.num_nodes, "D": d},
        (codebook,),
        {
            "somvae_ext": lambda codebook: ops.som_gather(codebook, index, grid),
            "torch": lambda codebook: torch_gather(codebook, index, neighbors),
            "reference": lambda codebook: ops.reference.som_gather(codebook, index, grid),
        },
        work=2.0 * n * (1 + grid.num_slots) * d * codebook.element_size(),  # every code read and written
        unit="GB/s",
    )


CASES = {"som_gather": Cases(som_gather_case, quick=[(2048, 32, 32)], full=[(8192, 32, 64), (65536, 64, 64)])}
