"""The VAE with a continuous and a categorical latent variable: it clusters without labels.

Dupont, "Learning Disentangled Joint Continuous and Discrete Representations", NeurIPS 2018, arXiv 1804.00104; the
relaxation of the categorical variable is that of Jang et al., ICLR 2017, arXiv 1611.01144.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from somvae_ext.config_checks import Bounds, check_fields, check_integer, check_unused
from somvae_ext.exportable import exportable
from somvae_ext.models import elbo
from somvae_ext.models._arguments import draw_categories
from somvae_ext.models._config import Network, check_autoencoder
from somvae_ext.models.gaussian_autoencoder import Gaussian, GaussianAutoencoder
from somvae_ext.nn.full_precision import FullPrecisionBuffers, full_precision_dtype
from somvae_ext.nn.snapshot import snapshot

Objective = Literal["plain", "dupont", "entropy-capacity"]


@dataclasses.dataclass(frozen=True)
class GumbelVAEConfig:
    """Configuration of a :class:`GumbelVAE`.

    :meth:`plain`, :meth:`dupont`, :meth:`dupont_conv` and :meth:`with_entropy_capacity` return known settings.

    Args:
        input_shape: shape of one sample.
        num_categories: number of values C of the categorical latent variable.
        network, hidden_sizes, latent_dim: as in :class:`~somvae_ext.models.VAEConfig`. The three heads share the hidden
            layers.
        temperature: temperature of the relaxed categories, above 0: the lower, the closer to one-hot, and the noisier
            the gradient.
        objective: what is minimized, see :meth:`GumbelVAE.loss`.
        gamma: weight of the distances from the capacities. Objective ``"plain"`` has no capacities and uses neither
            this option nor those below.
        capacity_z, capacity_c: final capacities of the two variables, in nats per sample or, for
            ``"entropy-capacity"``, in nats per batch. With ``"dupont"`` the capacity of the categories is limited to
            log C nats per sample, the most that they can hold.
        capacity_ramp: number of steps or, for ``"entropy-capacity"``, of epochs in which the capacities rise from 0.

    Raises:
        ValueError: sizes below 1, a temperature that is not positive, a weight or capacity that is negative or not
            finite, an unknown name, options that the objective does not use, or, for ``"conv"``, images whose height or
            width is not a multiple of 16.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    num_categories: int = 10
    network: Network = "dense"
    hidden_sizes: tuple[int, ...] = (400,)
    latent_dim: int = 20
    temperature: float = 1.0
    objective: Objective = "plain"
    gamma: float = 30.0
    capacity_z: float = 5.0
    capacity_c: float = 5.0
    capacity_ramp: int = 25_000

    def __post_init__(self) -> None:
        check_fields(self, temperature=Bounds(above=0))
        check_autoencoder(self)
        if self.objective == "plain":
            reason = "objective must be 'dupont' or 'entropy-capacity'"
            check_unused(self, reason, "gamma", "capacity_z", "capacity_c", "capacity_ramp")

    @classmethod
    def plain(cls) -> GumbelVAEConfig:
        """Returns the plain evidence lower bound. On MNIST it learns to leave the categories unused."""
        return cls()

    @classmethod
    def dupont(cls) -> GumbelVAEConfig:
        """Returns the paper's objective (equation 7) on dense networks: gamma 30, capacities 5 nats, temperature 0.67.

        Capacities rise for 6,000 steps, half of 25 epochs of MNIST in batches of 128. With the paper's 25,000 steps
        such a training would end halfway up, just when the categories' capacity reaches log C; with a much steeper rise
        fewer categories find a class.
        """
        return cls(temperature=0.67, objective="dupont", capacity_ramp=6_000)

    @classmethod
    def dupont_conv(cls) -> GumbelVAEConfig:
        """Returns the paper's setting: its convolutional network for images of 32 x 32 pixels, 10 continuous values.

        Capacities rise for 25,000 steps.
        """
        return cls(
            (1, 32, 32), network="conv", hidden_sizes=(256,), latent_dim=10, temperature=0.67, objective="dupont"
        )

    @classmethod
    def with_entropy_capacity(cls) -> GumbelVAEConfig:
        """Returns ``"entropy-capacity"`` with weight 20 and capacities of 100 nats per batch after 40 epochs."""
        return cls(objective="entropy-capacity", gamma=20.0, capacity_z=100.0, capacity_c=100.0, capacity_ramp=40)


@exportable
class JointPosterior(NamedTuple):
    """Posteriors q(z|x) q(c|x): ``mu`` and ``logvar`` ``[N, D]``, and ``log_probs`` ``[N, C]`` of the categories."""

    mu: Tensor
    logvar: Tensor
    log_probs: Tensor


@exportable
class GumbelVAEOutput(NamedTuple):
    """Result of a forward pass.

    ``logits`` of the pixels ``[N, *input_shape]``; ``mu`` and ``logvar`` ``[N, D]`` and ``log_probs`` ``[N, C]`` of the
    posteriors; the points ``z`` ``[N, D]`` and the relaxed categories ``y`` ``[N, C]`` drawn from them; and
    ``indices``, int64 ``[N]``, the most probable categories.
    """

    logits: Tensor
    mu: Tensor
    logvar: Tensor
    log_probs: Tensor
    z: Tensor
    y: Tensor
    indices: Tensor


@exportable
class GumbelVAETerms(NamedTuple):
    """The terms of each sample, ``[N]``, in nats."""

    reconstruction: Tensor
    kl_z: Tensor
    kl_c: Tensor


@exportable
class GumbelVAELosses(NamedTuple):
    """The ``total`` and its terms: scalars, in nats per sample."""

    total: Tensor
    reconstruction: Tensor
    kl_z: Tensor
    kl_c: Tensor


class GumbelVAE(FullPrecisionBuffers, GaussianAutoencoder):
    """VAE for samples in [0, 1] with a continuous latent variable z and a categorical one c.

    Args:
        config: sizes, temperature and objective.

    Attributes:
        capacity_z, capacity_c: buffers, the current capacities, scalars, see :meth:`set_progress`.

    Example:
        >>> import torch
        >>> model = GumbelVAE(GumbelVAEConfig(input_shape=(1, 8, 8)))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> losses = model.loss(model(x), x)
        >>> losses.total.backward()
        >>> model.assign(x).shape, model.sample_each_category(8).shape
        (torch.Size([5]), torch.Size([10, 8, 1, 8, 8]))
    """

    name: ClassVar[str] = "gumbel-vae"
    config_type: ClassVar[type] = GumbelVAEConfig
    config: GumbelVAEConfig
    capacity_z: Tensor
    capacity_c: Tensor
    full_precision_buffers: ClassVar[tuple[str, ...]] = ("capacity_z", "capacity_c")

    def __init__(self, config: GumbelVAEConfig) -> None:
        super().__init__(config, condition_size=config.num_categories)
        self.categories = nn.Linear(self.mu.in_features, config.num_categories)
        # Tensors, not numbers: a compiled loss would be recompiled for each number.
        self.register_buffer("capacity_z", torch.zeros((), dtype=full_precision_dtype()))
        self.register_buffer("capacity_c", torch.zeros((), dtype=full_precision_dtype()))

    @property
    def num_categories(self) -> int:
        """Number of categories that :meth:`sample` can choose from."""
        return self.config.num_categories

    @property
    def num_clusters(self) -> int:
        """Number of clusters that :meth:`assign` can return: the categories."""
        return self.config.num_categories

    def set_progress(self, step: int, epoch: int) -> None:
        """Sets the capacities of a step. They reach their final values at the end of ``config.capacity_ramp``.

        Before the first call they are 0.

        Args:
            step: number of the step, from 1. With objective ``"dupont"`` the capacities rise with it.
            epoch: number of the step's epoch, from 1. With ``"entropy-capacity"`` the capacities rise with it.

        Raises:
            ValueError: numbers that are not integers of at least 1.
        """
        step = check_integer("GumbelVAE.set_progress", "step", step)
        epoch = check_integer("GumbelVAE.set_progress", "epoch", epoch)
        config = self.config
        share = min(1.0, (epoch if config.objective == "entropy-capacity" else step) / config.capacity_ramp)
        self.capacity_z.fill_(share * config.capacity_z)
        end = config.capacity_c
        if config.objective == "dupont":
            self.capacity_c.fill_(min(share * end, math.log(config.num_categories)))
        else:
            self.capacity_c.fill_(share * end)

    def encode(self, x: Tensor) -> JointPosterior:
        """Computes the posteriors of samples ``[N, *input_shape]``."""
        hidden = self._encode_hidden(x)
        log_probs = elbo.promote_to_float32(self.categories(hidden)).log_softmax(dim=1)
        return JointPosterior(*self._posterior(hidden), log_probs)

    def decode(self, z: Tensor, y: Tensor) -> Tensor:
        """Decodes latent points ``[N, D]`` and categories ``[N, C]``, one-hot or relaxed.

        Returns:
            Samples ``[N, *input_shape]`` in [0, 1].
        """
        return self._decode_logits(z, y).sigmoid()

    def forward(self, x: Tensor) -> GumbelVAEOutput:
        """Encodes samples, draws a latent point and a relaxed category for each, and decodes, in evaluation mode too.

        Args:
            x: samples ``[N, *input_shape]``.

        Raises:
            ValueError: samples of another shape.
        """
        mu, logvar, log_probs = self.encode(x)
        z = elbo.draw_gaussian(mu, (0.5 * logvar).exp())
        y = F.gumbel_softmax(log_probs, tau=self.config.temperature)
        return GumbelVAEOutput(self._decode_logits(z, y), mu, logvar, log_probs, z, y, log_probs.argmax(dim=1))

    def terms(self, output: GumbelVAEOutput, x: Tensor) -> GumbelVAETerms:
        """Computes the loss terms of each sample.

        ``reconstruction`` is the binary cross entropy summed over the pixels, ``kl_z`` the divergence
        KL(q(z|x) || N(0, 1)), and ``kl_c`` that of the categories from the uniform distribution, log C - H(q(c|x)),
        computed from q itself and not from its relaxation.

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1], or NaN.
        """
        reconstruction, kl_z = self._elbo_terms(output.logits, Gaussian(output.mu, output.logvar), x)
        return GumbelVAETerms(reconstruction, kl_z, elbo.categorical_kl(output.log_probs))

    def loss(self, output: GumbelVAEOutput, x: Tensor) -> GumbelVAELosses:
        """Computes the means of :meth:`terms` over the batch of N samples, and the total of ``config.objective``::

            plain              reconstruction + kl_z + kl_c
            dupont             reconstruction + gamma |kl_z - C_z| + gamma |kl_c - C_c|       (arXiv 1804.00104, eq. 7)
            entropy-capacity   reconstruction + gamma |kl_z - C_z / N| + gamma |H - C_c / N|,  H = log C - kl_c

        The capacities C are those that :meth:`set_progress` set. ``"entropy-capacity"`` counts them in nats per batch
        and compares C_c with the entropy H of the categories, where the paper compares it with their divergence: a
        small C_c favors confident assignments.

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1], or NaN.
        """
        config = self.config
        reconstruction, kl_z, kl_c = (elbo.batch_mean(term) for term in self.terms(output, x))
        if config.objective == "plain":
            total = reconstruction + kl_z + kl_c
        else:
            # A compiled backward pass may read the capacities after the next step has changed them.
            capacity_z, capacity_c = snapshot(self.capacity_z), snapshot(self.capacity_c)
            if config.objective == "dupont":
                excess = (kl_z - capacity_z).abs() + (kl_c - capacity_c).abs()
            else:
                n = max(1, len(x))
                entropy = math.log(config.num_categories) - kl_c
                excess = (kl_z - capacity_z / n).abs() + (entropy - capacity_c / n).abs()
            total = reconstruction + config.gamma * excess
        return GumbelVAELosses(total, reconstruction, kl_z, kl_c)

    @torch.no_grad()
    def assign(self, x: Tensor) -> Tensor:
        """Finds the most probable category of each sample, int64 ``[N]``."""
        return self.encode(x).log_probs.argmax(dim=1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructs samples from the means and most probable categories of their posteriors, in the shape of x."""
        mu, _, log_probs = self.encode(x)
        return self.decode(mu, self._one_hot(log_probs.argmax(dim=1)))

    @torch.no_grad()
    def sample(
        self, num_samples: int, *, category: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws samples ``[num_samples, *input_shape]`` from the prior.

        Args:
            num_samples: number of samples, at least 1.
            category: category of all samples; by default one is drawn uniformly for each.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1, or a category out of range.
        """
        z = self._draw_prior(num_samples, generator)
        return self.decode(
            z, self._one_hot(draw_categories("GumbelVAE", num_samples, category, self.num_categories, generator))
        )

    @torch.no_grad()
    def sample_each_category(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Decodes the same latent points with each category, ``[C, num_samples, *input_shape]``.

        Args:
            num_samples: number of latent points, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        z = self._draw_prior(num_samples, generator)
        category = self._one_hot(torch.arange(self.num_categories).repeat_interleave(num_samples))
        return self.decode(z.repeat(self.num_categories, 1), category).unflatten(0, (-1, num_samples))

    def _one_hot(self, category: Tensor) -> Tensor:
        return F.one_hot(category.to(self.mu.weight.device), self.num_categories).to(self.mu.weight.dtype)
