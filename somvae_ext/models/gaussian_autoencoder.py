"""The base of the VAEs: a Gaussian posterior, and pixels in [0, 1] as Bernoulli probabilities."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from somvae_ext.exportable import exportable
from somvae_ext.models import elbo
from somvae_ext.models._arguments import check_sample_shape, check_targets, draw_prior
from somvae_ext.models._config import Network
from somvae_ext.models.networks import DenseDecoder, DenseEncoder, StridedConvDecoder, StridedConvEncoder
from somvae_ext.models.notebook import ShownInNotebooks


class AutoencoderConfig(Protocol):
    """The fields that :class:`GaussianAutoencoder` requires of a config."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""

    @property
    def network(self) -> Network:
        """``"dense"``, or ``"conv"`` with strided convolutions, see :mod:`somvae_ext.models.networks`."""

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """Widths of the encoder's hidden layers; the decoder has them in reverse."""

    @property
    def latent_dim(self) -> int:
        """Size D of the latent space."""


@exportable
class Gaussian(NamedTuple):
    """Posteriors q(z|x): means ``mu`` and logarithms of variances ``logvar``, each ``[N, D]``."""

    mu: Tensor
    logvar: Tensor


class GaussianAutoencoder(ShownInNotebooks, nn.Module):
    """Encoder with a shared hidden representation, heads of the Gaussian posterior, and decoder to logits of pixels.

    Args:
        config: sizes and networks.
        condition_size: size of the condition that the decoder receives in addition to a latent point.
    """

    batch_fields: ClassVar[tuple[str, ...]] = ("x",)
    unit_interval: ClassVar[bool] = True  # whether samples must lie in [0, 1]
    config: Any

    def __init__(self, config: AutoencoderConfig, condition_size: int = 0) -> None:
        super().__init__()
        self.config = config
        shape, sizes, code_size = config.input_shape, config.hidden_sizes, config.latent_dim + condition_size
        self.trunk: nn.Module
        self.decoder: nn.Module
        if config.network == "dense":
            self.trunk = DenseEncoder(shape, sizes[-1], sizes[:-1], latent_relu=True)
            self.decoder = DenseDecoder(code_size, shape, sizes[::-1], sigmoid=False)
        else:
            self.trunk = StridedConvEncoder(shape, *sizes)
            self.decoder = StridedConvDecoder(code_size, shape, *sizes)
        self.mu = nn.Linear(sizes[-1], config.latent_dim)
        self.logvar = nn.Linear(sizes[-1], config.latent_dim)

    def _encode_hidden(self, x: Tensor) -> Tensor:
        """The hidden representation ``[N, H]`` of samples ``[N, *input_shape]``."""
        check_sample_shape(type(self).__name__, x, self.config.input_shape)
        hidden: Tensor = self.trunk(x)
        return hidden

    def _posterior(self, hidden: Tensor) -> Gaussian:
        return Gaussian(elbo.promote_to_float32(self.mu(hidden)), elbo.promote_to_float32(self.logvar(hidden)))

    def _decode_logits(self, *codes: Tensor) -> Tensor:
        """Decodes the concatenated codes ``[N, ...]`` to logits ``[N, *input_shape]``.

        Posteriors, and so the points drawn from them, are at least float32; they are cast to the decoder's dtype.
        """
        logits: Tensor = self.decoder(torch.cat(codes, dim=1).to(self.mu.weight.dtype))
        return elbo.promote_to_float32(logits)

    def _elbo_terms(self, logits: Tensor, posterior: Gaussian, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction and KL of each sample, ``[N]``."""
        check_targets(type(self).__name__, x, self.config.input_shape, logits.shape[0])
        return elbo.bernoulli_nll(logits, x), elbo.gaussian_kl(*posterior)

    def _draw_prior(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        """Draws latent points ``[num_samples, D]`` from the prior."""
        return draw_prior(type(self).__name__, num_samples, self.config.latent_dim, generator).to(self.mu.weight)
