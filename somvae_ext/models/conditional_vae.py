"""The conditional VAE: a VAE whose decoder receives the class.

Sohn et al., "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS 2015, in the
simplest form: the encoder does not see the class.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext.config_checks import check_fields
from somvae_ext.models import elbo
from somvae_ext.models._arguments import check_labels, draw_categories
from somvae_ext.models._config import Network, check_autoencoder
from somvae_ext.models.gaussian_autoencoder import Gaussian, GaussianAutoencoder
from somvae_ext.models.vae import VAELosses, VAEOutput, VAETerms


@dataclasses.dataclass(frozen=True)
class ConditionalVAEConfig:
    """Configuration of a :class:`ConditionalVAE`.

    Args:
        input_shape: shape of one sample.
        num_classes: number of classes.
        network, hidden_sizes, latent_dim: as in :class:`~somvae_ext.models.VAEConfig`.
        beta: weight of the KL divergence. With 10, the latent space encodes little but what the class does not
            determine: style.

    Raises:
        ValueError: sizes below 1, a weight that is negative or not finite, an unknown network, or, for ``"conv"``,
            images whose height or width is not a multiple of 16.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    num_classes: int = 10
    network: Network = "dense"
    hidden_sizes: tuple[int, ...] = (400,)
    latent_dim: int = 20
    beta: float = 10.0

    def __post_init__(self) -> None:
        check_fields(self)
        check_autoencoder(self)


class ConditionalVAE(GaussianAutoencoder):
    """VAE for samples in [0, 1] whose decoder receives the class of each sample.

    Args:
        config: sizes and weight.

    Example:
        >>> import torch
        >>> model = ConditionalVAE(ConditionalVAEConfig(input_shape=(1, 8, 8)))
        >>> x, label = torch.rand(5, 1, 8, 8), torch.tensor([3, 1, 4, 1, 5])
        >>> losses = model.loss(model(x, label), x)
        >>> losses.total.backward()
        >>> model.sample(2, category=7).shape, model.sample_each_category(8).shape
        (torch.Size([2, 1, 8, 8]), torch.Size([10, 8, 1, 8, 8]))
    """

    name: ClassVar[str] = "conditional-vae"
    config_type: ClassVar[type] = ConditionalVAEConfig
    batch_fields: ClassVar[tuple[str, ...]] = ("x", "label")
    config: ConditionalVAEConfig

    def __init__(self, config: ConditionalVAEConfig) -> None:
        super().__init__(config, condition_size=config.num_classes)

    @property
    def num_categories(self) -> int:
        """Number of categories that :meth:`sample` can choose from: the classes."""
        return self.config.num_classes

    def encode(self, x: Tensor) -> Gaussian:
        """Computes the posteriors of samples ``[N, *input_shape]``, whatever their classes."""
        return self._posterior(self._encode_hidden(x))

    def decode(self, z: Tensor, label: Tensor) -> Tensor:
        """Decodes latent points ``[N, D]`` and classes, int64 ``[N]``, to samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: labels of another shape, dtype or range.
        """
        return self._append_class(z, label).sigmoid()

    def forward(self, x: Tensor, label: Tensor | None = None) -> VAEOutput:
        """Encodes samples, draws a latent point for each, in evaluation mode too, and decodes it with the class.

        Args:
            x: samples ``[N, *input_shape]``.
            label: their classes, int64 ``[N]``.

        Raises:
            ValueError: samples of another shape, no labels, or labels of another shape, dtype or range.
        """
        if label is None:
            raise ValueError("ConditionalVAE: label must be given, the class of each sample, got none")
        mu, logvar = self.encode(x)
        z = elbo.draw_gaussian(mu, (0.5 * logvar).exp())
        return VAEOutput(self._append_class(z, label), mu, logvar, z)

    def terms(self, output: VAEOutput, x: Tensor, label: Tensor | None = None) -> VAETerms:
        """Computes the loss terms as :meth:`VAE.terms <somvae_ext.models.VAE.terms>` does; the label is ignored."""
        return VAETerms(*self._elbo_terms(output.logits, Gaussian(output.mu, output.logvar), x))

    def loss(self, output: VAEOutput, x: Tensor, label: Tensor | None = None) -> VAELosses:
        """Computes the means of :meth:`terms` and total = reconstruction + beta * kl.

        Args:
            output: result of ``forward(x, label)``.
            x: samples ``[N, *input_shape]`` in [0, 1].
            label: accepted, so that a whole batch can be passed, and ignored: ``output`` depends on it already.

        Raises:
            ValueError: samples outside [0, 1], or NaN.
        """
        reconstruction, kl = (elbo.batch_mean(term) for term in self.terms(output, x))
        return VAELosses(reconstruction + self.config.beta * kl, reconstruction, kl)

    @torch.no_grad()
    def reconstruct(self, x: Tensor, label: Tensor) -> Tensor:
        """Reconstructs samples from the means of their posteriors and their classes, in the shape of ``x``."""
        return self.decode(self.encode(x).mu, label)

    @torch.no_grad()
    def sample(
        self, num_samples: int, *, category: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws samples ``[num_samples, *input_shape]`` from the prior.

        Args:
            num_samples: number of samples, at least 1.
            category: class of all samples; by default one is drawn uniformly for each.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1, or a class out of range.
        """
        z = self._draw_prior(num_samples, generator)
        label = draw_categories("ConditionalVAE", num_samples, category, self.num_categories, generator)
        return self.decode(z, label.to(z.device))

    @torch.no_grad()
    def sample_each_category(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Decodes the same latent points as each class, ``[classes, num_samples, *input_shape]``.

        Args:
            num_samples: number of latent points, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        z = self._draw_prior(num_samples, generator)
        label = torch.arange(self.num_categories, device=z.device).repeat_interleave(num_samples)
        return self.decode(z.repeat(self.num_categories, 1), label).unflatten(0, (-1, num_samples))

    def _append_class(self, z: Tensor, label: Tensor) -> Tensor:
        check_labels("ConditionalVAE", label, z.shape[0], self.config.num_classes)
        return self._decode_logits(z, F.one_hot(label, self.config.num_classes).to(z.dtype))
