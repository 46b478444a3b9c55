"""The running variance of a SOM-VAE's encodings, which scales the weights of its loss terms after a warm-up."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext.nn.quantizer import finite_row_mask
from somvae_ext.nn.snapshot import snapshot

VARIANCE_WITHOUT_WARM_UP = 0.05**2
"""Variance of encodings that are trained without a warm-up, for which weights alpha of order 1 are meant.

After a warm-up the variance is about 3, and such a weight would pull all encodings together.
"""

_RATE = 1 - 0.99


def moments(z: Tensor, mask: Tensor | None) -> Tensor:
    """Computes number, sums and sums of squares of the real and finite encodings ``[..., D]``, float64 ``[1 + 2D]``.

    In float64 the variance of float32 encodings survives the difference of squares, whatever their mean.
    """
    rows = z.reshape(-1, z.shape[-1]).double()
    is_counted = finite_row_mask(rows) if mask is None else finite_row_mask(rows) & mask.flatten()
    rows = torch.where(is_counted[:, None], rows, 0)
    return torch.cat([is_counted.sum()[None], rows.sum(dim=0), rows.square().sum(dim=0)])


def variance_scale(variance: Tensor) -> Tensor:
    """Computes 0.05^2 / max(0.05^2, v) from the running variance v, a scalar."""
    # A copy of v, because the backward pass may run after the next update.
    return VARIANCE_WITHOUT_WARM_UP / snapshot(variance).clamp_min(VARIANCE_WITHOUT_WARM_UP)


def update_running_variance(variance: Tensor, moments: Tensor, rate: float = _RATE) -> None:
    """Updates v <- (1 - rate) v + rate s^2 in place, without waiting for the device.

    Args:
        variance: v, a scalar. It stays unchanged if there are fewer than two encodings or its dtype cannot hold s^2.
        moments: :func:`moments` of the encodings; s^2 is their variance, averaged over the features.
        rate: weight of s^2; with 1, v becomes s^2.
    """
    dim = len(moments) // 2
    n, sums, squares = moments.split([1, dim, dim])
    batch_variance = ((squares - sums * sums / n) / (n - 1)).mean().clamp_min(0).to(variance)
    is_defined = (n[0] > 1) & batch_variance.isfinite()
    variance.copy_(torch.where(is_defined, variance.lerp(batch_variance, rate), variance))
