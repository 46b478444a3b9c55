from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.bench.maps import rows_on_a_sheet, trained_codes
from somvae_ext.bench.op_cases.case import REFERENCE_ELEMENTS, Case, Cases, normal


def torch_winners(z: Tensor, codebook: Tensor) -> Tensor:
    """Argmin of |e|^2 / 2 - z.e for one block of rows at a time, so N x K scores are never held."""
    with torch.no_grad():
        half_norms = codebook.square().sum(dim=1) / 2
        index = torch.empty(len(z), dtype=torch.int64, device=z.device)
        block = 256 if z.device.type == "cpu" else 8192
        scores = torch.empty(block, len(codebook), dtype=z.dtype, device=z.device)
        for start in range(0, len(z), block):
            rows = z[start : start + block]
            torch.addmm(half_norms, rows, codebook.T, alpha=-1, out=scores[: len(rows)])
            index[start : start + block] = scores[: len(rows)].argmin(dim=1)
    return index


def torch_bmu(z: Tensor, codebook: Tensor) -> Tensor:
    return (z - codebook[torch_winners(z, codebook)]).square().sum(dim=1)


def bmu_case(generator: torch.Generator, device: torch.device, n: int, k: int, d: int) -> Case:
    z, codebook = normal(generator, device, n, d), normal(generator, device, k, d)
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda z, codebook: ops.bmu(z, codebook).distance,
        "torch": torch_bmu,
    }
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda z, codebook: ops.reference.bmu(z, codebook).distance
    return Case("bmu", {"N": n, "K": k, "D": d}, (z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


def bmu_index_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    """A search of a trained map. On CUDA, BMUIndex searches with ``ops.bmu``."""
    x = rows_on_a_sheet(n, d, device)
    codebook, grid = trained_codes(x, side), Grid(side, side)
    hint = ops.bmu(x, codebook).index
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda: ops.BMUIndex(codebook, grid).search(x, hint=hint).distance,
        "ops.bmu": lambda: ops.bmu(x, codebook).distance,
    }
    return Case("bmu_index", {"N": n, "K": side**2, "D": d}, (), contestants, 2.0 * n * side**2 * d, "GFLOP/s")


CASES = {
    "bmu": Cases(bmu_case, quick=[(2048, 1024, 32)], full=[(4096, 1024, 64), (16384, 4096, 64), (4096, 4096, 784)]),
    "bmu_index": Cases(bmu_index_case, quick=[(2048, 16, 16)], full=[(60000, 64, 50), (60000, 128, 50)]),
}
