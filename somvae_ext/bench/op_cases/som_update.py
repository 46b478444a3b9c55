from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.op_cases.case import Case, Cases, normal


def gaussian_axis(side: int, sigma: float, device: torch.device) -> Tensor:
    """Weights along an axis of a square map, float64 ``[side, side]``; those lost beside a node's own 1 are zero."""
    steps = torch.arange(side, dtype=torch.float64, device=device)
    return F.threshold(torch.exp(-(steps[:, None] - steps).square() / (2 * sigma**2)), 2.0**-53, 0.0)


def smoothed(axis: Tensor, values: Tensor) -> Tensor:
    """Values ``[K, J]`` of a square map, weighted along one axis and then along the other."""
    h = axis.to(values.dtype)
    side = len(h)
    along_rows = (h @ values.view(side, -1)).view(side, side, -1)
    return (h @ along_rows).view(len(values), -1)


def som_update_case(
    generator: torch.Generator, device: torch.device, side: int, d: int, sigma: float, separable: bool
) -> Case:
    """A batch-map update with a Gaussian. Plain torch runs in float32, its fastest dtype, and in float64, as the op."""
    k = side * side
    codebook, total = normal(generator, device, k, d), normal(generator, device, k, d)
    count = torch.randint(1, 100, (k,), generator=generator).to(device)
    axis = gaussian_axis(side, sigma, device)
    weights: Tensor | ops.AxisWeights = ops.AxisWeights(axis, axis[None, None]) if separable else torch.kron(axis, axis)

    def plain(dtype: torch.dtype) -> Tensor:
        num, den = (
            weights.to(dtype) @ values if isinstance(weights, Tensor) else smoothed(axis, values)
            for values in (total.to(dtype), count[:, None].to(dtype))
        )
        return torch.where(den > 0, num / den, codebook).to(codebook.dtype)

    return Case(
        "som_update",
        {"K": k, "D": d, "sigma": sigma, "separable": separable},
        (),
        {
            "somvae_ext": lambda: ops.som_update(codebook, total, count, weights),
            "torch": lambda: plain(torch.float32),
            "torch in float64": lambda: plain(torch.float64),
            "reference": lambda: ops.reference.som_update(codebook, total, count, weights),
        },
        work=2.0 * k * (2 * side if separable else k) * d,
        unit="GFLOP/s",
    )


CASES = {
    "som_update": Cases(
        som_update_case,
        quick=[(16, 32, 4.0, True), (16, 32, 4.0, False)],
        full=[(32, 64, 8.0, True), (128, 784, 32.0, True), (128, 784, 0.7, True), (64, 64, 16.0, False)],
    )
}
