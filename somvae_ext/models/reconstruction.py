"""The reconstruction error between decoded samples and samples, a mean over their values."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from somvae_ext.models._arguments import check_finite, check_range

Output = Literal["sigmoid", "linear"]
Reconstruction = Literal["mse", "bce"]


def reconstruction_error(kind: Reconstruction, decoded: Tensor, x: Tensor, dims: int) -> Tensor:
    """Computes the error of each sample, a mean over its values.

    Args:
        kind: ``"mse"``, the mean squared error, or ``"bce"``, the mean binary cross entropy
            -x log(y) - (1 - x) log(1 - y), where y is the sigmoid of the decoded logits. It is computed from the
            logits, and so finite for any of them.
        decoded: decoded samples, or their logits for ``"bce"``, ``[..., *input_shape]``.
        x: the samples, in the same shape, as :func:`reconstruction_target` returns them.
        dims: number of dimensions of one sample.

    Returns:
        ``[...]``.
    """
    if kind == "bce":
        error = F.binary_cross_entropy_with_logits(decoded, x, reduction="none")
    else:
        error = (x - decoded).square()
    return error.mean(dim=tuple(range(-dims, 0)))


def reconstruction_target(kind: Reconstruction, x: Tensor, name: str) -> Tensor:
    """Returns the samples that decoded ones are compared with.

    For ``"bce"`` samples are clamped to [0, 1], outside which the cross entropy has no minimum: noise, or a scaling
    fitted to other data, may move values slightly outside. For ``"mse"`` they stay as they are.

    Args:
        kind: as for :func:`reconstruction_error`.
        x: samples of any shape.
        name: name of x in the message.

    Raises:
        ValueError: for ``"bce"``, a value outside [-0.5, 1.5]; NaN, and for ``"mse"`` infinity, except in a training
            loop, which reports them itself.
    """
    if kind == "bce":
        check_cross_entropy_range(x, name, allow_nan=False)
        return x.clamp(0, 1)
    check_finite(name, x)
    return x


def check_cross_entropy_range(x: Tensor, name: str, *, allow_nan: bool = True) -> None:
    """Refuses samples that are clearly not scaled to [0, 1].

    Args:
        x: values of any shape.
        name: name of x in the message.
        allow_nan: whether NaN passes, which the padding of series may be.

    Raises:
        ValueError: a value outside [-0.5, 1.5], or NaN where it is not allowed.
    """
    must = "be scaled to [0, 1] for reconstruction 'bce', where at most noise may leave it"
    check_range(name, x, -0.5, 1.5, must=must, advice="scale it, or use 'mse'", allow_nan=allow_nan)
