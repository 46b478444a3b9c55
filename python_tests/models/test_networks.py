"""The networks: numbers of parameters, sizes and ranges."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from somvae_ext.models import (
    SOMVAE,
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    SOMVAEConfig,
    UnpaddedConvDecoder,
    UnpaddedConvEncoder,
)
from somvae_ext.models.networks import SmallConvDecoder, SmallConvEncoder


def scalars(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_published_model_has_the_published_number_of_parameters() -> None:
    model = SOMVAE(SOMVAEConfig.published())
    assert scalars(model) == 5_600_834
    assert model.config.network == "conv"
    encoder = 256 * 16 + 256 + 256 * 256 * 16 + 256 + 12544 * 64 + 64
    assert scalars(model.encoder) == encoder


def test_the_smaller_published_setting_has_its_number_of_parameters() -> None:
    model = SOMVAE(SOMVAEConfig.unpadded_conv())
    assert scalars(model) == 1_291_746
    assert (model.config.alpha, model.config.beta, model.config.gamma, model.config.tau) == (1.0, 0.9, 1.8, 1.4)


def test_the_small_convolutions_have_their_number_of_parameters() -> None:
    shape = (1, 28, 28)
    first, second = 8 * 1 * 16 + 8, 16 * 8 * 16 + 16
    assert scalars(SmallConvEncoder(shape, 64)) == first + second + 784 * 64 + 64
    first, second = 16 * 8 * 16 + 8, 8 * 1 * 16 + 1
    assert scalars(SmallConvDecoder(64, shape)) == 64 * 784 + 784 + first + second


@pytest.mark.parametrize(
    "preset", [SOMVAEConfig.published(), SOMVAEConfig.unpadded_conv()], ids=["published", "unpadded-conv"]
)
def test_every_parameter_of_a_preset_learns(preset: SOMVAEConfig) -> None:
    torch.manual_seed(0)
    model, x = SOMVAE(preset), torch.rand(1, 2, 1, 28, 28)
    output = model(x)
    assert output.reconstruction_q.shape == x.shape
    model.loss(output, x).total.backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("encoder", "decoder", "shapes"),
    [
        (ConvEncoder, ConvDecoder, [(1, 28, 28), (3, 8, 12), (1, 4, 4)]),
        (UnpaddedConvEncoder, UnpaddedConvDecoder, [(1, 28, 28), (3, 17, 32)]),
        (SmallConvEncoder, SmallConvDecoder, [(1, 28, 28), (1, 16, 16), (3, 17, 23), (2, 18, 31)]),
    ],
)
def test_convolutions_accept_images_of_other_sizes(
    encoder: type[nn.Module], decoder: type[nn.Module], shapes: list[tuple[int, ...]]
) -> None:
    for shape in shapes:
        for rows in (0, 1, 2):
            z = encoder(shape, 5)(torch.rand(rows, *shape))
            assert z.shape == (rows, 5)
            x = decoder(5, shape)(z)
            assert x.shape == (rows, *shape)
            assert ((x > 0) & (x < 1)).all()


def test_padding_of_the_published_convolutions_is_tensorflows() -> None:
    """A 4 x 4 convolution that keeps the size is padded by one pixel before and two after."""
    pad, conv, *_ = ConvEncoder((1, 4, 4), 2)
    with torch.no_grad():
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[:, :, 1, 1] = 1  # row 1, column 1 of the kernel is aligned with the output pixel
    x = torch.rand(1, 1, 4, 4)
    assert conv(pad(x))[:, :1].equal(x)


@pytest.mark.parametrize("decoder", [DenseDecoder, ConvDecoder, UnpaddedConvDecoder, SmallConvDecoder])
def test_without_the_sigmoid_decoders_return_logits(decoder: type[nn.Module]) -> None:
    shape, z = (1, 20, 20), torch.randn(3, 5)
    with_sigmoid, without = decoder(5, shape), decoder(5, shape, sigmoid=False)
    without.load_state_dict(with_sigmoid.state_dict())
    assert without(z).sigmoid().equal(with_sigmoid(z))


@pytest.mark.parametrize(
    ("output", "reconstruction", "last"),
    [("sigmoid", "mse", nn.Sigmoid), ("linear", "mse", nn.Linear), ("sigmoid", "bce", nn.Linear)],
)
def test_decoders_end_as_the_config_says(output: str, reconstruction: str, last: type[nn.Module]) -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(3,), latent_dim=2, output=output, reconstruction=reconstruction))
    assert isinstance(model.decoder_q.layers[-1], last)
    assert isinstance(model.decoder_e.layers[-1], last)


def test_encodings_of_the_small_convolutions_may_be_negative() -> None:
    torch.manual_seed(0)
    assert (SmallConvEncoder((1, 16, 16), 8)(torch.rand(20, 1, 16, 16)) < 0).any()


def test_identity_networks_leave_samples_as_they_are() -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(2, 3), latent_dim=6, network="identity"))
    x = torch.randn(5, 2, 3)
    assert model.encode(x).equal(x.flatten(1))
    assert model.decode(model.encode(x)).equal(x)
    assert [name for name, _ in model.named_parameters()] == ["quantizer.codebook"]


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        ("conv", (28, 28), r"ConvEncoder: input_shape must be that of an image \(C, H, W\), got \(28, 28\)"),
        ("conv", (1, 28, 30), r"height and width of input_shape must be multiples of 4 .*, got \(1, 28, 30\)"),
        ("unpadded-conv", (9,), r"UnpaddedConvEncoder: input_shape must be that of an image \(C, H, W\), got \(9,\)"),
        ("unpadded-conv", (1, 16, 28), r"height and width of input_shape must be at least 17, .*, got \(1, 16, 28\)"),
    ],
)
def test_images_of_impossible_sizes_are_refused(network: str, shape: tuple[int, ...], message: str) -> None:
    config = dataclasses.replace(SOMVAEConfig(), network=network, input_shape=shape)
    with pytest.raises(ValueError, match=message):
        SOMVAE(config)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((28, 28), r"input_shape must be that of an image \(C, H, W\), got \(28, 28\)"),
        ((1, 15, 28), r"height and width of input_shape must be at least 16 .*, got \(1, 15, 28\); bring"),
        ((1, 28, 15), r"height and width of input_shape must be at least 16 .*, got \(1, 28, 15\); bring"),
    ],
)
def test_the_small_convolutions_refuse_images_of_impossible_sizes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"^SmallConvEncoder: {message}"):
        SmallConvEncoder(shape, 4)
    with pytest.raises(ValueError, match=f"^SmallConvDecoder: {message}"):
        SmallConvDecoder(4, shape)
