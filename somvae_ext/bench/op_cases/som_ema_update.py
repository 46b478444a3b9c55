from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.op_cases.case import Case, Cases, normal
from somvae_ext.bench.op_cases.som_update import gaussian_axis, smoothed


def som_ema_update_case(generator: torch.Generator, device: torch.device, side: int, d: int, sigma: float) -> Case:
    """An update of an ordered map. Plain torch smooths in float32, its fastest dtype, and in float64, as the op."""
    k, decay = side * side, 0.99
    sums = normal(generator, device, k, d)
    counts = torch.randint(0, 9, (k,), generator=generator).to(device)
    axis = gaussian_axis(side, sigma, device)
    weights = ops.AxisWeights(axis, axis[None, None])

    def state() -> tuple[Tensor, Tensor, Tensor]:
        return sums.clone(), torch.ones(k, device=device), sums.clone()

    states = {name: state() for name in ("somvae_ext", "torch", "torch in float64", "reference")}

    def plain(dtype: torch.dtype, codebook: Tensor, ema_counts: Tensor, ema_sums: Tensor) -> Tensor:
        ema_counts.lerp_(counts.to(ema_counts), 1 - decay)
        ema_sums.lerp_(sums, 1 - decay)
        num, den = (smoothed(axis, average.to(dtype)) for average in (ema_sums, ema_counts[:, None]))
        reached = den > 1e-3 * ema_counts.mean()
        return codebook.copy_(torch.where(reached, num / den, codebook))

    return Case(
        "som_ema_update",
        {"K": k, "D": d, "sigma": sigma},
        (),
        {
            "somvae_ext": lambda: ops.som_ema_update(
                *states["somvae_ext"], counts, sums, weights, decay=decay, least_share=1e-3
            ),
            "torch": lambda: plain(torch.float32, *states["torch"]),
            "torch in float64": lambda: plain(torch.float64, *states["torch in float64"]),
            "reference": lambda: ops.reference.som_ema_update(
                *states["reference"], counts, sums, weights, decay=decay, least_share=1e-3
            ),
        },
        work=2.0 * k * (2 * side) * d,
        unit="GFLOP/s",
    )


CASES = {
    "som_ema_update": Cases(
        som_ema_update_case,
        quick=[(16, 32, 4.0)],
        full=[(8, 64, 0.7), (32, 64, 16.0), (32, 64, 0.7), (128, 64, 64.0), (128, 64, 0.7)],
    )
}
