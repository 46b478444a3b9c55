"""Convolutional networks whose latent space is a grid, as in van den Oord et al. 2017 (arXiv 1711.00937, section 4.1).

The paper's networks have 256 channels in all layers, these have 64.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from somvae_ext.models.networks import conv_shape

_CHANNELS = 64
_BLOCKS = 2


class ResidualEncoder(nn.Sequential):
    """A residual encoder: ``[N, C, H, W]`` -> ``[N, latent_dim, H / 4, W / 4]``.

    Two 4 x 4 convolutions of stride 2 to 64 channels with ReLU between them; two residual blocks of ReLU, a 3 x 3
    convolution, ReLU and a 1 x 1 convolution; then ReLU and a 1 x 1 convolution to the latent space.

    Args:
        input_shape: shape of one image (C, H, W), H and W multiples of 4.
        latent_dim: size D of an encoding.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int) -> None:
        channels, _, _ = conv_shape("ResidualEncoder", input_shape)
        super().__init__(
            nn.Conv2d(channels, _CHANNELS, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 4, stride=2, padding=1),
            *(_ResidualBlock() for _ in range(_BLOCKS)),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, latent_dim, 1),
        )


class ResidualDecoder(nn.Sequential):
    """A residual decoder: ``[N, latent_dim, H / 4, W / 4]`` -> ``[N, C, H, W]``.

    A 3 x 3 convolution to 64 channels, two residual blocks as in :class:`ResidualEncoder`, and two transposed 4 x 4
    convolutions of stride 2 with ReLU before each.

    Args:
        latent_dim: size D of an encoding.
        input_shape: shape of one image (C, H, W), H and W multiples of 4.
        sigmoid: whether to end with a sigmoid, so that values lie in (0, 1).

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, latent_dim: int, input_shape: Sequence[int], *, sigmoid: bool = True) -> None:
        channels, _, _ = conv_shape("ResidualDecoder", input_shape)
        super().__init__(
            nn.Conv2d(latent_dim, _CHANNELS, 3, padding=1),
            *(_ResidualBlock() for _ in range(_BLOCKS)),
            nn.ReLU(),
            nn.ConvTranspose2d(_CHANNELS, _CHANNELS, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(_CHANNELS, channels, 4, stride=2, padding=1),
            *([nn.Sigmoid()] if sigmoid else []),
        )


class _ResidualBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(_CHANNELS, _CHANNELS, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.change(x)
        return changed
