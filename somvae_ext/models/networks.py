"""Encoders and decoders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn


class DenseEncoder(nn.Sequential):
    """Flatten, then linear layers with ReLU between them: ``[N, *input_shape]`` -> ``[N, latent_dim]``.

    With its default sizes and ``latent_relu=True`` this is the dense encoder of the published SOM-VAE code, whose ReLU
    follows the last layer too.

    Args:
        input_shape: shape of one sample.
        latent_dim: size of an encoding D.
        hidden_sizes: widths of the hidden layers.
        latent_relu: end with a ReLU, so that encodings are never negative.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        hidden_sizes: Sequence[int] = (256, 128),
        *,
        latent_relu: bool = False,
    ) -> None:
        layers = [nn.Flatten(), *_linear_stack([math.prod(input_shape), *hidden_sizes, latent_dim])]
        super().__init__(*layers, *([nn.ReLU()] if latent_relu else []))


class DenseDecoder(nn.Module):
    """Linear layers with ReLU between them, then a sigmoid: ``[N, latent_dim]`` -> ``[N, *input_shape]`` in (0, 1).

    Args:
        latent_dim: size of an encoding D.
        input_shape: shape of one sample.
        hidden_sizes: widths of the hidden layers, from the latent side; the mirror image of the encoder's.
    """

    def __init__(self, latent_dim: int, input_shape: Sequence[int], hidden_sizes: Sequence[int] = (128, 256)) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        sizes = [latent_dim, *hidden_sizes, math.prod(input_shape)]
        self.layers = nn.Sequential(*_linear_stack(sizes), nn.Sigmoid())

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.layers(z)
        return x.view(-1, *self.input_shape)


def _linear_stack(sizes: Sequence[int]) -> Iterator[nn.Module]:
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if layer:
            yield nn.ReLU()
        yield nn.Linear(fan_in, fan_out)
