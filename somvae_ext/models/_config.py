"""Checks that the configs of the Gaussian autoencoders share, beyond those of single fields."""

from __future__ import annotations

from typing import Any, Literal

from somvae_ext.models.networks import strided_conv_shape

Network = Literal["dense", "conv"]


def check_autoencoder(config: Any) -> None:
    """Checks that the networks of a ``GaussianAutoencoder`` suit the samples.

    Raises:
        ValueError: for ``"conv"``, images whose height or width is not a multiple of 16, or several hidden sizes.
    """
    if config.network == "conv":
        strided_conv_shape(type(config).__name__, config.input_shape)
        if len(config.hidden_sizes) > 1:
            raise ValueError(
                f"{type(config).__name__}: hidden_sizes must be one width for network 'conv', got "
                f"{list(config.hidden_sizes)}"
            )
