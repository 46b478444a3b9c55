"""How far decoded samples are from the samples, as means over their values."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Output = Literal["sigmoid", "linear"]
Reconstruction = Literal["mse", "bce"]


def reconstruction_error(kind: Reconstruction, decoded: Tensor, x: Tensor, dims: int) -> Tensor:
    """The error of each sample, a mean over its values.

    Args:
        kind: ``"mse"``, the mean squared error, or ``"bce"``, the mean binary cross entropy -x log(y) - (1 - x) log(1 -
            y) with y the sigmoid of what was decoded, computed from these logits and so finite for any of them.
        decoded: samples, or their logits, ``[..., *input_shape]``.
        x: the samples, in the same shape; for ``"bce"`` as :func:`cross_entropy_target` gives them.
        dims: number of dimensions of one sample.

    Returns:
        ``[...]``.
    """
    if kind == "bce":
        error = F.binary_cross_entropy_with_logits(decoded, x, reduction="none")
    else:
        error = (x - decoded).square()
    return error.mean(dim=tuple(range(-dims, 0)))


def cross_entropy_target(x: Tensor, name: str) -> Tensor:
    """Samples clamped to [0, 1], beyond which the cross entropy has no minimum: noise, or scaling by other data, may
    bring values a little outside.

    Raises:
        ValueError: a value outside [-0.5, 1.5], see :func:`check_cross_entropy_range`.
    """
    check_cross_entropy_range(x, name)
    return x.clamp(0, 1)


def check_cross_entropy_range(x: Tensor, name: str) -> None:
    """Refuses samples that are clearly not scaled to [0, 1]; ``name`` is what the message calls them.

    Raises:
        ValueError: a value outside [-0.5, 1.5].
    """
    if ((x < -0.5) | (x > 1.5)).any():
        low, high = (float(bound) for bound in torch.aminmax(x))
        raise ValueError(
            f"{name} must be scaled to [0, 1] for reconstruction 'bce', where at most noise may leave it, "
            f"got values from {low:.6g} to {high:.6g}; scale it, or use 'mse'"
        )
