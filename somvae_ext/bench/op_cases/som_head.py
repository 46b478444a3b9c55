from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.bench.op_cases.bmu import torch_winners
from somvae_ext.bench.op_cases.case import REFERENCE_ELEMENTS, Case, Cases, nodes, normal
from somvae_ext.bench.op_cases.som_gather import torch_gather


def torch_losses(z: Tensor, codebook: Tensor, index: Tensor, neighbors: Tensor) -> Tensor:
    codes = torch_gather(codebook, index, neighbors)
    commitment = (z - codes[:, 0]).square().sum(dim=1)
    return commitment + (z.detach()[:, None] - codes).square().sum(dim=(1, 2))


def torch_head(z: Tensor, codebook: Tensor, neighbors: Tensor) -> Tensor:
    index = torch_winners(z, codebook)
    return F.embedding(index, codebook).sum(dim=1) + torch_losses(z, codebook, index, neighbors)


def som_losses_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    z, codebook = normal(generator, device, n, d), normal(generator, device, grid.num_nodes, d)
    index, neighbors = nodes(generator, device, n, grid.num_nodes), grid.neighbors(device)

    def total(losses: ops.SOMLosses) -> Tensor:
        return losses.commitment + losses.som

    return Case(
        "som_losses",
        {"N": n, "K": grid.num_nodes, "D": d},
        (z, codebook),
        {
            "somvae_ext": lambda z, codebook: total(ops.som_losses(z, codebook, index, grid)),
            "torch": lambda z, codebook: torch_losses(z, codebook, index, neighbors),
            "reference": lambda z, codebook: total(ops.reference.som_losses(z, codebook, index, grid)),
        },
        work=1.0 * n * (2 + grid.num_slots) * d * z.element_size(),  # z and every code read
        unit="GB/s",
    )


def som_head_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    z, codebook = normal(generator, device, n, d), normal(generator, device, grid.num_nodes, d)
    neighbors = grid.neighbors(device)

    def total(head: ops.SOMHead) -> Tensor:
        return head.quantized.sum(dim=1) + head.commitment + head.som

    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda z, codebook: total(ops.som_head(z, codebook, grid)),
        "torch": lambda z, codebook: torch_head(z, codebook, neighbors),
    }
    if n * grid.num_nodes * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda z, codebook: total(ops.reference.som_head(z, codebook, grid))
    size = {"N": n, "K": grid.num_nodes, "D": d}
    return Case("som_head", size, (z, codebook), contestants, 2.0 * n * grid.num_nodes * d, "GFLOP/s")


CASES = {
    "som_losses": Cases(som_losses_case, quick=[(2048, 32, 32)], full=[(8192, 32, 64), (65536, 64, 64)]),
    "som_head": Cases(som_head_case, quick=[(256, 16, 32)], full=[(256, 8, 64), (256, 64, 64), (4096, 128, 64)]),
}
