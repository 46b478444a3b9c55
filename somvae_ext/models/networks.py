"""Encoders and decoders."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

# Channels of the hidden layers.
_CONV_CHANNELS = 256
_UNPADDED_CHANNELS = (32, 128)
_STRIDED_CHANNELS = (32, 32, 64, 64)
_SMALL_CHANNELS = (8, 16)
SMALL_CONV_MIN_SIDE = 16  # pixels
# Frames that go through a network at once if no gradient is needed: a convolution on 28 x 28 pixels holds over a
# megabyte for each.
FRAMES_AT_ONCE = 256


class DenseEncoder(nn.Sequential):
    """Flatten, then linear layers with ReLU between them: ``[N, *input_shape]`` -> ``[N, latent_dim]``.

    With its default sizes and ``latent_relu=True`` this is the dense encoder of the published SOM-VAE code, whose ReLU
    follows the last layer too.

    Args:
        input_shape: shape of one sample.
        latent_dim: size D of an encoding.
        hidden_sizes: widths of the hidden layers.
        latent_relu: whether to end with a ReLU, so that encodings are never negative.
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
    """Linear layers with ReLU between them: ``[N, latent_dim]`` -> ``[N, *input_shape]``.

    Args:
        latent_dim: size D of an encoding.
        input_shape: shape of one sample.
        hidden_sizes: widths of the hidden layers, from the latent side; the mirror image of the encoder's.
        sigmoid: whether to end with a sigmoid, so that values lie in (0, 1).
    """

    def __init__(
        self,
        latent_dim: int,
        input_shape: Sequence[int],
        hidden_sizes: Sequence[int] = (128, 256),
        *,
        sigmoid: bool = True,
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        sizes = [latent_dim, *hidden_sizes, math.prod(input_shape)]
        self.layers = nn.Sequential(*_linear_stack(sizes), *([nn.Sigmoid()] if sigmoid else []))

    def forward(self, z: Tensor) -> Tensor:
        x: Tensor = self.layers(z)
        return x.view(-1, *self.input_shape)


class ConvEncoder(nn.Sequential):
    """The convolutional encoder of the published SOM-VAE code: ``[N, C, H, W]`` -> ``[N, latent_dim]``.

    Two blocks of a 4 x 4 convolution to 256 channels that keeps height and width, ReLU and 2 x 2 max pooling; then one
    linear layer.

    Args:
        input_shape: shape of one image (C, H, W), H and W multiples of 4.
        latent_dim: size D of an encoding.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int) -> None:
        channels, height, width = conv_shape("ConvEncoder", input_shape)
        super().__init__(
            *_same_conv(channels, _CONV_CHANNELS),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *_same_conv(_CONV_CHANNELS, _CONV_CHANNELS),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(_CONV_CHANNELS * height // 4 * width // 4, latent_dim),
        )


class ConvDecoder(nn.Sequential):
    """The convolutional decoder of the published SOM-VAE code: ``[N, latent_dim]`` -> ``[N, C, H, W]``.

    A linear layer to 256 channels of a quarter of the height and width; then two blocks of upsampling by 2 and a 4 x 4
    convolution that keeps the size, with ReLU between the blocks.

    Args:
        latent_dim: size D of an encoding.
        input_shape: shape of one image (C, H, W), H and W multiples of 4.
        sigmoid: whether to end with a sigmoid, so that values lie in (0, 1).

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, latent_dim: int, input_shape: Sequence[int], *, sigmoid: bool = True) -> None:
        channels, height, width = conv_shape("ConvDecoder", input_shape)
        super().__init__(
            nn.Linear(latent_dim, _CONV_CHANNELS * height // 4 * width // 4),
            nn.Unflatten(1, (_CONV_CHANNELS, height // 4, width // 4)),
            nn.Upsample(scale_factor=2),
            *_same_conv(_CONV_CHANNELS, _CONV_CHANNELS),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
            *_same_conv(_CONV_CHANNELS, channels),
            *([nn.Sigmoid()] if sigmoid else []),
        )


class UnpaddedConvEncoder(nn.Sequential):
    """A convolutional encoder without padding: ``[N, C, H, W]`` -> ``[N, latent_dim]``.

    4 x 4 convolutions without padding to 32 and then 128 channels, each with ReLU and 2 x 2 max pooling; then one
    linear layer. At 28 x 28 the last pooling leaves 4 x 4.

    Args:
        input_shape: shape of one image (C, H, W), H and W at least 17.
        latent_dim: size D of an encoding.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int) -> None:
        channels, *size = _image_shape("UnpaddedConvEncoder", input_shape)
        first, second = _UNPADDED_CHANNELS
        super().__init__(
            nn.Conv2d(channels, first, 4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, 4),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * math.prod(_unpadded_size("UnpaddedConvEncoder", input_shape, size)), latent_dim),
        )


class UnpaddedConvDecoder(nn.Sequential):
    """The decoder that goes with :class:`UnpaddedConvEncoder`: ``[N, latent_dim]`` -> ``[N, C, H, W]``.

    A linear layer to 128 channels of the size of the encoder's last pooling; upsampling by 2, a 4 x 4 convolution
    without padding and ReLU; upsampling to the image's size, a 3 x 3 convolution that keeps the size and ReLU; then a
    1 x 1 convolution to the image's channels.

    Args:
        latent_dim: size D of an encoding.
        input_shape: shape of one image (C, H, W), H and W at least 17.
        sigmoid: whether to end with a sigmoid, so that values lie in (0, 1).

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, latent_dim: int, input_shape: Sequence[int], *, sigmoid: bool = True) -> None:
        channels, *size = _image_shape("UnpaddedConvDecoder", input_shape)
        inner = _unpadded_size("UnpaddedConvDecoder", input_shape, size)
        width = _UNPADDED_CHANNELS[-1]
        super().__init__(
            nn.Linear(latent_dim, width * math.prod(inner)),
            nn.Unflatten(1, (width, *inner)),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(width, width, 4),
            nn.ReLU(),
            nn.Upsample(size=tuple(size)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, channels, 1),
            *([nn.Sigmoid()] if sigmoid else []),
        )


class StridedConvEncoder(nn.Sequential):
    """The convolutional encoder of the joint VAE (Dupont 2018, arXiv 1804.00104): ``[N, C, H, W]`` -> ``[N, H']``.

    4 x 4 convolutions of stride 2 to 32, 32, 64 and 64 channels, then one linear layer, each with ReLU. (The code
    published with the paper omits the second convolution for images of 32 x 32.)

    Args:
        input_shape: shape of one image (C, H, W), H and W multiples of 16.
        hidden_size: width H' of the linear layer.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, input_shape: Sequence[int], hidden_size: int = 256) -> None:
        channels, inner = strided_conv_shape("StridedConvEncoder", input_shape)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((channels, *_STRIDED_CHANNELS)):
            layers += [nn.Conv2d(fan_in, fan_out, 4, stride=2, padding=1), nn.ReLU()]
        super().__init__(*layers, nn.Flatten(), nn.Linear(math.prod(inner), hidden_size), nn.ReLU())


class StridedConvDecoder(nn.Sequential):
    """The mirror image of :class:`StridedConvEncoder`: ``[N, code_size]`` -> logits ``[N, C, H, W]``.

    Linear layers to H' and to 64 channels of a sixteenth of the height and width, then transposed 4 x 4 convolutions of
    stride 2; ReLU between all layers.

    Args:
        code_size: size of the input, a latent point and what is concatenated with it.
        input_shape: shape of one image (C, H, W), H and W multiples of 16.
        hidden_size: width H' of the first linear layer.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, code_size: int, input_shape: Sequence[int], hidden_size: int = 256) -> None:
        channels, inner = strided_conv_shape("StridedConvDecoder", input_shape)
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise((*_STRIDED_CHANNELS[::-1], channels)):
            layers += [nn.ReLU(), nn.ConvTranspose2d(fan_in, fan_out, 4, stride=2, padding=1)]
        super().__init__(
            nn.Linear(code_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, math.prod(inner)),
            nn.Unflatten(1, inner),
            *layers,
        )


class SmallConvEncoder(nn.Sequential):
    """A small convolutional encoder, quick on a CPU: ``[N, C, H, W]`` -> ``[N, latent_dim]``.

    Two 4 x 4 convolutions of stride 2 and padding 1, to 8 and then 16 channels, each with ReLU; then one linear layer
    without an activation. Each convolution halves height and width, rounding down.

    Args:
        input_shape: shape of one image (C, H, W), H and W at least 16.
        latent_dim: size D of an encoding.

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, input_shape: Sequence[int], latent_dim: int) -> None:
        channels, height, width = _small_shape("SmallConvEncoder", input_shape)
        first, second = _SMALL_CHANNELS
        super().__init__(
            nn.Conv2d(channels, first, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), latent_dim),
        )


class SmallConvDecoder(nn.Sequential):
    """The mirror image of :class:`SmallConvEncoder`: ``[N, latent_dim]`` -> ``[N, C, H, W]``.

    A linear layer to 16 channels of a quarter of the height and width, then two transposed 4 x 4 convolutions of stride
    2 and padding 1, to 8 channels and to the image's; ReLU between all layers.

    Args:
        latent_dim: size D of an encoding.
        input_shape: shape of one image (C, H, W), H and W at least 16.
        sigmoid: whether to end with a sigmoid, so that values lie in (0, 1).

    Raises:
        ValueError: images of another shape.
    """

    def __init__(self, latent_dim: int, input_shape: Sequence[int], *, sigmoid: bool = True) -> None:
        channels, height, width = _small_shape("SmallConvDecoder", input_shape)
        first, second = _SMALL_CHANNELS
        inner = (second, height // 4, width // 4)
        # Halving rounds down, so that 2n and 2n + 1 have the same half: output_padding adds the odd row or column.
        half_is_odd = (height // 2 % 2, width // 2 % 2)
        is_odd = (height % 2, width % 2)
        super().__init__(
            nn.Linear(latent_dim, math.prod(inner)),
            nn.ReLU(),
            nn.Unflatten(1, inner),
            nn.ConvTranspose2d(second, first, 4, stride=2, padding=1, output_padding=half_is_odd),
            nn.ReLU(),
            nn.ConvTranspose2d(first, channels, 4, stride=2, padding=1, output_padding=is_odd),
            *([nn.Sigmoid()] if sigmoid else []),
        )


def _linear_stack(sizes: Sequence[int]) -> Iterator[nn.Module]:
    for layer, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        if layer:
            yield nn.ReLU()
        yield nn.Linear(fan_in, fan_out)


def _same_conv(channels_in: int, channels_out: int) -> tuple[nn.Module, nn.Module]:
    """A 4 x 4 convolution that keeps the size, padded as TensorFlow does: one before, two after."""
    return nn.ZeroPad2d((1, 2, 1, 2)), nn.Conv2d(channels_in, channels_out, 4)


def _image_shape(network: str, input_shape: Sequence[int]) -> Sequence[int]:
    if len(input_shape) != 3:
        raise ValueError(f"{network}: input_shape must be that of an image (C, H, W), got {tuple(input_shape)}")
    return input_shape


def conv_shape(network: str, input_shape: Sequence[int]) -> Sequence[int]:
    """Returns the shape of an image, after checking that its height and width can be halved twice."""
    _, height, width = _image_shape(network, input_shape)
    if height % 4 or width % 4:
        raise ValueError(
            f"{network}: height and width of input_shape must be multiples of 4 (they are halved twice), "
            f"got {tuple(input_shape)}"
        )
    return input_shape


def strided_conv_shape(network: str, input_shape: Sequence[int]) -> tuple[int, tuple[int, int, int]]:
    """Returns the channels of an image, and the shape (C, H, W) after the strided convolutions."""
    channels, height, width = _image_shape(network, input_shape)
    if height % 16 or width % 16:
        raise ValueError(
            f"{network}: height and width of input_shape must be multiples of 16 (strided convolutions halve them four "
            f"times), got {tuple(input_shape)}; bring images to another size, such as image_size=32"
        )
    return channels, (_STRIDED_CHANNELS[-1], height // 16, width // 16)


def _unpadded_size(network: str, input_shape: Sequence[int], size: Sequence[int]) -> list[int]:
    """Returns the height and width after two unpadded 4 x 4 convolutions and poolings."""
    inner = [((length - 3) // 2 - 3) // 2 for length in size]
    if min(inner) < 2:  # doubled, it must hold the decoder's 4 x 4 window
        raise ValueError(
            f"{network}: height and width of input_shape must be at least 17, which two unpadded 4 x 4 convolutions "
            f"and poolings need, got {tuple(input_shape)}"
        )
    return inner


def _small_shape(network: str, input_shape: Sequence[int]) -> Sequence[int]:
    """Returns the shape of an image, after checking that two strided convolutions leave at least 4 x 4 pixels."""
    _, height, width = _image_shape(network, input_shape)
    if min(height, width) < SMALL_CONV_MIN_SIDE:
        raise ValueError(
            f"{network}: height and width of input_shape must be at least {SMALL_CONV_MIN_SIDE} (strided convolutions "
            f"halve them twice), got {tuple(input_shape)}; bring images to another size, such as image_size=32"
        )
    return input_shape
