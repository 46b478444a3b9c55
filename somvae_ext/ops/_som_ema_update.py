"""One step of a map whose codes follow exponential moving averages."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.ops import _arguments
from somvae_ext.ops._som_update import SMALLEST_NORMAL, AxisWeights, check_axis_weights, neighborhood_sum


def som_ema_update(
    codebook: Tensor,
    ema_counts: Tensor,
    ema_sums: Tensor,
    counts: Tensor,
    sums: Tensor,
    weights: AxisWeights,
    *,
    decay: float,
    least_share: float = 0.0,
) -> None:
    """Updates the moving averages of a map with a batch and sets its codes to the smoothed averages, in place.

    Let n and S be the counts and sums of the batch's rows that each node won (:func:`segment_sum`), N and m their
    moving averages, and h the weights::

        N[u] <- decay * N[u] + (1 - decay) * n[u]
        m[u] <- decay * m[u] + (1 - decay) * S[u]
        e[u] <- sum over nodes v of h[u, v] m[v] / sum over nodes v of h[u, v] N[v]

    This is the batch map (:func:`som_update`) on moving averages over batches, which VQ-VAE uses for codes without
    neighbors (van den Oord et al. 2017, appendix A.1). The averages themselves are not smoothed, so that h may change
    from step to step. A code stays as it is if its denominator is at most ``least_share`` times the mean of N or below
    the smallest normal number.

    Args:
        codebook: e, ``[K, D]``; float32, float64, float16 or bfloat16. Updated.
        ema_counts: N, ``[K]``; float32 or float64. Updated.
        ema_sums: m, ``[K, D]``, in the dtype of ``ema_counts``. Updated.
        counts: n, ``[K]``; int64, float32 or float64.
        sums: S, ``[K, D]``; float32 or float64. A node whose count or sum, cast to the averages' dtype, holds a NaN or
            an infinity counts as having won nothing, because an average would keep it forever.
        weights: h, for K = R * C nodes; float32 or float64. Ranges of weights that are exactly zero cost nothing.
        decay: share of the averages that a step keeps, from 0 to below 1.
        least_share: share of the mean of N, at least 0, that a code's denominator must exceed for the code to move.

    The averages are computed in their dtype, the sums over nodes in float64 as in :func:`som_update`, and the mean of N
    in float64 in a fixed order: the result does not depend on the number of threads. Not differentiable. Memory beyond
    the arguments is O(K) for each CPU thread and O(K D) on CUDA.

    Raises:
        ValueError: wrong rank, dtype, device or size, a number out of range, or an updated tensor that is not
            contiguous.

    Example:
        >>> import torch
        >>> codebook, ema_counts, ema_sums = torch.tensor([[0.0], [9.0]]), torch.ones(2), torch.tensor([[0.0], [9.0]])
        >>> counts, sums = torch.tensor([3, 0]), torch.tensor([[12.0], [0.0]])
        >>> alone = AxisWeights(torch.ones(1, 1), torch.eye(2)[None, None])
        >>> som_ema_update(codebook, ema_counts, ema_sums, counts, sums, alone, decay=0.5)
        >>> ema_counts.tolist(), ema_sums.flatten().tolist(), codebook.flatten().tolist()
        ([2.0, 0.5], [6.0, 4.5], [3.0, 9.0])
    """
    _arguments.check_tensors(
        "som_ema_update", codebook=codebook, ema_counts=ema_counts, ema_sums=ema_sums, counts=counts, sums=sums
    )
    if _native.available:
        torch.ops.somvae_ext.som_ema_update(codebook, ema_counts, ema_sums, counts, sums, *weights, decay, least_share)
    else:
        som_ema_update_reference(
            codebook, ema_counts, ema_sums, counts, sums, weights, decay=decay, least_share=least_share
        )


@torch.no_grad()
def som_ema_update_reference(
    codebook: Tensor,
    ema_counts: Tensor,
    ema_sums: Tensor,
    counts: Tensor,
    sums: Tensor,
    weights: AxisWeights,
    *,
    decay: float,
    least_share: float = 0.0,
) -> None:
    """Computes :func:`som_ema_update` in pure torch, with matrix products in float64."""
    _check(codebook, ema_counts, ema_sums, counts, sums, weights, decay, least_share)
    n, s = counts.to(ema_counts), sums.to(ema_sums)
    finite = n.isfinite() & s.isfinite().all(dim=1)
    ema_counts.mul_(decay).add_(n.where(finite, 0), alpha=1 - decay)
    ema_sums.mul_(decay).add_(s.where(finite[:, None], 0), alpha=1 - decay)
    num = neighborhood_sum(weights, ema_sums.double())  # (K, D)
    den = neighborhood_sum(weights, ema_counts.double()[:, None])  # (K, 1)
    has_mass = (den >= SMALLEST_NORMAL) & (den > least_share * ema_counts.double().mean())
    codebook.copy_(torch.where(has_mass, num / den, codebook.double()))


def _check(
    codebook: Tensor,
    ema_counts: Tensor,
    ema_sums: Tensor,
    counts: Tensor,
    sums: Tensor,
    weights: AxisWeights,
    decay: float,
    least_share: float,
) -> None:
    op = "som_ema_update"
    wide = (torch.float32, torch.float64)
    sizes: dict[str, int] = {}

    def check(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], symbols: str) -> None:
        _arguments.check_dtype(op, name, tensor, *dtypes)
        _arguments.check_device(op, name, tensor, "codebook", codebook)
        _arguments.check_shape(op, name, tensor, symbols, sizes)

    _arguments.check_floating(op, codebook=codebook)
    _arguments.check_shape(op, "codebook", codebook, "K D", sizes)
    check("ema_counts", ema_counts, wide, "K")
    check("ema_sums", ema_sums, (ema_counts.dtype,), "K D")
    for name, tensor in (("codebook", codebook), ("ema_counts", ema_counts), ("ema_sums", ema_sums)):
        if not tensor.is_contiguous():
            raise ValueError(
                f"{op}: {name} must be contiguous, for it is changed in place, got strides {list(tensor.stride())}"
            )
    check("counts", counts, (torch.int64, *wide), "K")
    check("sums", sums, wide, "K D")
    check_axis_weights(op, codebook, weights, sizes)
    if not 0 <= decay < 1:
        raise ValueError(f"{op}: decay must be from 0 to below 1, got {decay}")
    if not (least_share >= 0 and math.isfinite(least_share)):
        raise ValueError(f"{op}: least_share must be finite and at least 0, got {least_share}")
