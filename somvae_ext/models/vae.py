"""The variational autoencoder.

Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv 1312.6114.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from somvae_ext.config_checks import check_fields
from somvae_ext.exportable import exportable
from somvae_ext.models import elbo
from somvae_ext.models._config import Network, check_autoencoder
from somvae_ext.models.gaussian_autoencoder import Gaussian, GaussianAutoencoder


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """Configuration of a :class:`VAE`.

    Args:
        input_shape: shape of one sample.
        network: ``"dense"``, or ``"conv"`` with strided convolutions, see :mod:`somvae_ext.models.networks`.
        hidden_sizes: widths of the dense encoder's hidden layers; the decoder has them in reverse. For ``"conv"``, the
            single width of the layer between the convolutions and the latent space.
        latent_dim: size D of the latent space.
        beta: weight of the KL divergence (Higgins et al., "beta-VAE", ICLR 2017, equation 4).

    Raises:
        ValueError: sizes below 1, a weight that is negative or not finite, an unknown network, or, for ``"conv"``,
            images whose height or width is not a multiple of 16.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    network: Network = "dense"
    hidden_sizes: tuple[int, ...] = (400,)
    latent_dim: int = 20
    beta: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_autoencoder(self)


@exportable
class VAEOutput(NamedTuple):
    """Result of a forward pass.

    ``logits`` of the pixels ``[N, *input_shape]``, ``mu`` and ``logvar`` of the posteriors and the points ``z`` drawn
    from them, each ``[N, D]``.
    """

    logits: Tensor
    mu: Tensor
    logvar: Tensor
    z: Tensor


@exportable
class VAETerms(NamedTuple):
    """The terms of each sample, ``[N]``, in nats, before weighting."""

    reconstruction: Tensor
    kl: Tensor


@exportable
class VAELosses(NamedTuple):
    """The weighted ``total`` and its terms before weighting: scalars, in nats per sample."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


class VAE(GaussianAutoencoder):
    """Variational autoencoder for samples in [0, 1].

    Args:
        config: sizes and weight.

    Example:
        >>> import torch
        >>> model = VAE(VAEConfig(input_shape=(1, 8, 8)))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> losses = model.loss(model(x), x)
        >>> losses.total.backward()
        >>> model.sample(3).shape
        torch.Size([3, 1, 8, 8])
    """

    name: ClassVar[str] = "vae"
    config_type: ClassVar[type] = VAEConfig
    config: VAEConfig

    def __init__(self, config: VAEConfig) -> None:
        super().__init__(config)

    def encode(self, x: Tensor) -> Gaussian:
        """Computes the posteriors of samples ``[N, *input_shape]``."""
        return self._posterior(self._encode_hidden(x))

    def decode(self, z: Tensor) -> Tensor:
        """Decodes latent points ``[N, D]`` to samples ``[N, *input_shape]`` in [0, 1]."""
        return self._decode_logits(z).sigmoid()

    def forward(self, x: Tensor) -> VAEOutput:
        """Encodes samples, draws a latent point for each, in evaluation mode too, and decodes it.

        Args:
            x: samples ``[N, *input_shape]``.

        Raises:
            ValueError: samples of another shape.
        """
        mu, logvar = self.encode(x)
        z = elbo.draw_gaussian(mu, (0.5 * logvar).exp())
        return VAEOutput(self._decode_logits(z), mu, logvar, z)

    def terms(self, output: VAEOutput, x: Tensor) -> VAETerms:
        """Computes the loss terms of each sample.

        ``reconstruction`` is the binary cross entropy summed over the pixels, an estimate of E_q[-log p(x|z)] by one z,
        and ``kl`` the divergence KL(q(z|x) || N(0, 1)).

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1] or NaN, of another shape, or not as many as in the output.
        """
        return VAETerms(*self._elbo_terms(output.logits, Gaussian(output.mu, output.logvar), x))

    def loss(self, output: VAEOutput, x: Tensor) -> VAELosses:
        """Computes the means of :meth:`terms` and total = reconstruction + beta * kl, the negative ELBO if beta is 1.

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1], or NaN.
        """
        reconstruction, kl = (elbo.batch_mean(term) for term in self.terms(output, x))
        return VAELosses(reconstruction + self.config.beta * kl, reconstruction, kl)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructs samples from the means of their posteriors, in the shape of ``x``."""
        return self.decode(self.encode(x).mu)

    @torch.no_grad()
    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws samples ``[num_samples, *input_shape]`` from the prior.

        Args:
            num_samples: number of samples, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        return self.decode(self._draw_prior(num_samples, generator))
