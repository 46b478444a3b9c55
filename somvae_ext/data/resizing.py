"""Resizes still images."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from somvae_ext.config_checks import check_integer


def resize(images: Tensor, size: int) -> Tensor:
    """Resizes images to ``size`` x ``size`` pixels by bilinear interpolation.

    The result is antialiased: if images shrink, each pixel is a mean over all pixels that it covers, as in Pillow and
    torchvision.

    Args:
        images: floating point ``[N, C, H, W]``.
        size: number of pixels on each side, at least 1.

    Returns:
        ``[N, C, size, size]``. The values of an image stay within the range that they had.

    Raises:
        ValueError: images of another shape or dtype, or a size below 1.

    Example:
        >>> import torch
        >>> resize(torch.rand(5, 1, 28, 28), 32).shape
        torch.Size([5, 1, 32, 32])
    """
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(
            f"resize: images must be floating point of shape [N, C, H, W], got {images.dtype} of shape "
            f"{list(images.shape)}"
        )
    size = check_integer("resize", "size", size)
    if images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    # Weights add up to 1 only up to rounding, and a loss may refuse values beyond [0, 1].
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return resized.clamp_(low, high)
