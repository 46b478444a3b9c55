"""Constructors of the parts of a SOM-VAE that its config names."""

from __future__ import annotations

from torch import nn

from somvae_ext.models.networks import (
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    SmallConvDecoder,
    SmallConvEncoder,
    UnpaddedConvDecoder,
    UnpaddedConvEncoder,
)
from somvae_ext.models.somvae_config import SOMVAEConfig
from somvae_ext.nn import CausalWindow, TransitionModel


def make_transitions(config: SOMVAEConfig) -> TransitionModel:
    """Creates the transition model, whatever gamma and tau."""
    radius = config.transition_radius if config.transitions == "local" else None
    rows = config.updates_transition_rows
    return TransitionModel(config.grid, kind=config.transitions, radius=radius, sparse_grad=rows)


def make_encoder(config: SOMVAEConfig) -> nn.Module:
    """Creates an encoder from ``[N, *input_shape]`` to ``[N, D]``."""
    shape, dim = config.input_shape, config.latent_dim
    if config.network == "dense":
        return DenseEncoder(shape, dim, config.hidden_sizes, latent_relu=config.latent_relu)
    if config.network == "conv":
        return ConvEncoder(shape, dim)
    if config.network == "small-conv":
        return SmallConvEncoder(shape, dim)
    return UnpaddedConvEncoder(shape, dim) if config.network == "unpadded-conv" else nn.Flatten()


def make_window(config: SOMVAEConfig) -> CausalWindow | None:
    """Creates the layer by which encodings see earlier frames; None if each frame is encoded alone."""
    return None if config.window == 1 else CausalWindow(config.latent_dim, config.window)


def make_decoder(config: SOMVAEConfig) -> nn.Module:
    """Creates a decoder from ``[N, D]`` to ``[N, *input_shape]``, to logits if the reconstruction loss is ``"bce"``."""
    shape, dim = config.input_shape, config.latent_dim
    # With "bce" the loss needs logits, and SOMVAE.decode applies the sigmoid.
    sigmoid = config.output == "sigmoid" and config.reconstruction == "mse"
    if config.network == "dense":
        return DenseDecoder(dim, shape, config.hidden_sizes[::-1], sigmoid=sigmoid)
    if config.network == "conv":
        return ConvDecoder(dim, shape, sigmoid=sigmoid)
    if config.network == "small-conv":
        return SmallConvDecoder(dim, shape, sigmoid=sigmoid)
    if config.network == "unpadded-conv":
        return UnpaddedConvDecoder(dim, shape, sigmoid=sigmoid)
    return nn.Unflatten(1, shape)
