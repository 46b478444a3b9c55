"""Terms of evidence lower bounds, for each sample, in nats.

Sections and appendices are those of Kingma and Welling 2013, arXiv 1312.6114. Results are float32 or float64. Lower
precisions, which occur under autocast, are cast to float32: they are too coarse for a sum over hundreds of pixels or
for an exponential.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """Computes -log p(x), the binary cross entropy -sum x log y + (1 - x) log(1 - y) with y = sigmoid(logits).

    It is finite for any finite logits.

    Args:
        logits: logits of the pixels, ``[N, ...]``.
        x: samples in [0, 1] of the same shape.

    Returns:
        ``[N]``.
    """
    error = F.binary_cross_entropy_with_logits(promote_to_float32(logits), promote_to_float32(x), reduction="none")
    return error.flatten(1).sum(dim=1)


def gaussian_nll(mean: Tensor, x: Tensor, std: float) -> Tensor:
    """Computes -log N(x; mean, std^2), summed over the last axis: |x - mean|^2 / (2 std^2) + P log(std sqrt(2 pi)).

    The second summand is a constant, 177.0 nats for 784 pixels and a standard deviation of 1/2.

    Args:
        mean: ``[..., P]``.
        x: ``[..., P]``, in a shape that broadcasts with that of ``mean``.
        std: standard deviation of each pixel.

    Returns:
        ``[...]``.
    """
    squares = (promote_to_float32(x) - promote_to_float32(mean)).square().sum(dim=-1)
    return squares / (2 * std**2) + mean.shape[-1] * math.log(std * math.sqrt(2 * math.pi))


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """Computes KL(N(mu, exp(logvar)) || N(0, 1)) = -1/2 sum(1 + logvar - mu^2 - exp(logvar)) (appendix B).

    Args:
        mu: means ``[..., D]``.
        logvar: logarithms of the variances ``[..., D]``.

    Returns:
        ``[...]``, at least 0 up to rounding: exp(logvar) - 1 is one function, expm1, so that nothing cancels near the
        prior.
    """
    mu, logvar = promote_to_float32(mu), promote_to_float32(logvar)
    return 0.5 * (mu.square() + torch.expm1(logvar) - logvar).sum(dim=-1)


def categorical_entropy(log_probs: Tensor) -> Tensor:
    """Computes the entropy H = -sum p log p, ``[...]``, of categorical distributions ``[..., C]``, with 0 log 0 = 0."""
    log_probs = promote_to_float32(log_probs)
    return -(log_probs.exp() * log_probs.clamp_min(torch.finfo(log_probs.dtype).min)).sum(dim=-1)


def categorical_kl(log_probs: Tensor) -> Tensor:
    """Computes KL(p || uniform) = log C - H, ``[...]``, of categorical distributions ``[..., C]``.

    See arXiv 1804.00104, A.2. It is 0 for a uniform distribution and log C for a one-hot one.
    """
    return math.log(log_probs.shape[-1]) - categorical_entropy(log_probs)


def batch_mean(terms: Tensor) -> Tensor:
    """Computes the mean over the samples, ``[N, ...]`` -> ``[...]``; 0 for an empty batch."""
    return terms.sum(dim=0) / max(1, len(terms))


def draw_gaussian(mu: Tensor, std: Tensor) -> Tensor:
    """Draws a sample from N(mu, std^2), differentiable in both: mu + std * noise (section 2.4)."""
    return mu + std * torch.randn_like(std)


def promote_to_float32(values: Tensor) -> Tensor:
    """Casts float16 and bfloat16 to float32; leaves float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
