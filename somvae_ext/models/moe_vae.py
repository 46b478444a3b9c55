"""The mixture of VAE experts: a sample's cluster is the expert that explains it.

Jacobs et al., "Adaptive Mixtures of Local Experts", Neural Computation 1991, with VAEs as experts and a balancing term
(Shazeer et al. 2017, arXiv 1701.06538, section 4).
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from somvae_ext.config_checks import Bounds, check_fields
from somvae_ext.exportable import exportable
from somvae_ext.models import elbo
from somvae_ext.models._arguments import check_sample_shape, check_targets, draw_categories, draw_prior
from somvae_ext.models.notebook import ShownInNotebooks

_VARIANCE_FLOOR = 1e-5
_BALANCE_BATCH = 100  # batch size that `balance` refers to


@dataclasses.dataclass(frozen=True)
class MoEVAEConfig:
    """Configuration of a :class:`MoEVAE`.

    Args:
        input_shape: shape of one sample.
        num_experts: number of experts E.
        hidden_size: width of the one hidden layer of each expert's encoder and decoder, and of the manager.
        latent_dim: size D of each expert's latent space.
        std: standard deviation of a pixel around its reconstruction.
        balance: weight of the balancing term, the variance over the experts of the number of samples that each receives
            from a batch. The variance grows with the square of the batch size and is therefore scaled to a batch of
            100, whatever the size. (Its random part is larger in smaller batches all the same.) With 0 one expert soon
            takes all samples.

    Raises:
        ValueError: sizes below 1, a standard deviation that is not positive, or a weight that is negative or not
            finite.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    num_experts: int = 10
    hidden_size: int = 128
    latent_dim: int = 20
    std: float = 0.5
    balance: float = 0.1

    def __post_init__(self) -> None:
        check_fields(self, std=Bounds(above=0))


@exportable
class ExpertPosteriors(NamedTuple):
    """The manager's ``log_probs`` ``[N, E]``, and ``mu`` and ``logvar`` ``[E, N, D]`` of the experts' posteriors."""

    log_probs: Tensor
    mu: Tensor
    logvar: Tensor


@exportable
class MoEVAEOutput(NamedTuple):
    """Result of a forward pass.

    The manager's ``log_probs`` ``[N, E]``; the experts' ``reconstructions`` ``[E, N, *input_shape]``; ``mu`` and
    ``logvar`` ``[E, N, D]`` of their posteriors; and ``indices``, int64 ``[N]``, the most probable experts.
    """

    log_probs: Tensor
    reconstructions: Tensor
    mu: Tensor
    logvar: Tensor
    indices: Tensor


@exportable
class MoEVAETerms(NamedTuple):
    """The terms of each sample, ``[N]``, in nats: those of the experts, weighted by the manager's probabilities."""

    reconstruction: Tensor
    kl: Tensor


@exportable
class MoEVAELosses(NamedTuple):
    """The weighted ``total`` and its terms before weighting: scalars, ``reconstruction`` and ``kl`` in nats per sample.

    ``balance`` is the variance over the experts of the number of samples that each receives from a batch of 100.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    balance: Tensor


class MoEVAE(ShownInNotebooks, nn.Module):
    """Mixture of VAEs for samples in [0, 1], with a manager that assigns samples to them.

    All experts are computed at once, by batched matrix products.

    Args:
        config: sizes and weight.

    Example:
        >>> import torch
        >>> model = MoEVAE(MoEVAEConfig(input_shape=(1, 8, 8)))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> losses = model.loss(model(x), x)
        >>> losses.total.backward()
        >>> model.assign(x).shape, model.sample_each_category(1).shape
        (torch.Size([5]), torch.Size([10, 1, 1, 8, 8]))
    """

    name: ClassVar[str] = "moe-vae"
    config_type: ClassVar[type] = MoEVAEConfig
    batch_fields: ClassVar[tuple[str, ...]] = ("x",)
    unit_interval: ClassVar[bool] = True  # whether samples must lie in [0, 1]

    def __init__(self, config: MoEVAEConfig) -> None:
        super().__init__()
        self.config = config
        pixels, experts, hidden = math.prod(config.input_shape), config.num_experts, config.hidden_size
        self.manager = nn.Sequential(nn.Linear(pixels, hidden), nn.Sigmoid(), nn.Linear(hidden, experts))
        # All experts see the same samples, so their first layers are fused into one.
        self.encoder_hidden = nn.Linear(pixels, experts * hidden)
        self.posterior = ExpertLinear(experts, hidden, 2 * config.latent_dim)
        self.decoder = nn.Sequential(
            ExpertLinear(experts, config.latent_dim, hidden),
            nn.Sigmoid(),
            ExpertLinear(experts, hidden, pixels),
            nn.Sigmoid(),
        )

    @property
    def num_categories(self) -> int:
        """Number of categories that :meth:`sample` can choose from: the experts."""
        return self.config.num_experts

    @property
    def num_clusters(self) -> int:
        """Number of clusters that :meth:`assign` can return: the experts."""
        return self.config.num_experts

    def encode(self, x: Tensor) -> ExpertPosteriors:
        """Computes the manager's probabilities and the experts' posteriors of samples ``[N, *input_shape]``."""
        config = self.config
        check_sample_shape("MoEVAE", x, config.input_shape)
        flat = x.flatten(1)
        log_probs = elbo.promote_to_float32(self.manager(flat)).log_softmax(dim=1)
        hidden = self.encoder_hidden(flat).sigmoid().unflatten(1, (config.num_experts, config.hidden_size))
        mu, logvar = elbo.promote_to_float32(self.posterior(hidden.transpose(0, 1))).chunk(2, dim=2)
        return ExpertPosteriors(log_probs, mu, logvar)

    def decode(self, z: Tensor) -> Tensor:
        """Decodes the latent points of each expert, ``[E, N, D]`` -> ``[E, N, *input_shape]``.

        Points that are the same for all experts may be given as ``[N, D]``.
        """
        if z.dim() == 2:
            z = z.expand(self.config.num_experts, *z.shape)
        # Posteriors, and so the points drawn from them, are at least float32; cast them to the decoder's dtype.
        x: Tensor = elbo.promote_to_float32(self.decoder(z.to(self.encoder_hidden.weight.dtype)))
        return x.unflatten(2, self.config.input_shape)

    def forward(self, x: Tensor) -> MoEVAEOutput:
        """Encodes with every expert, draws a point from each posterior, in evaluation mode too, and decodes the points.

        Args:
            x: samples ``[N, *input_shape]``.

        Raises:
            ValueError: samples of another shape.
        """
        log_probs, mu, logvar = self.encode(x)
        z = elbo.draw_gaussian(mu, (logvar.exp() + _VARIANCE_FLOOR).sqrt())
        return MoEVAEOutput(log_probs, self.decode(z), mu, logvar, log_probs.argmax(dim=1))

    def terms(self, output: MoEVAEOutput, x: Tensor) -> MoEVAETerms:
        """Computes the loss terms of each sample: sums over the experts i of p_i(x) times the expert's term.

        An expert's reconstruction term is -log N(x; its reconstruction, std^2), summed over the pixels, including the
        constant of the density (177.0 nats for 784 pixels and a standard deviation of 1/2). Its KL term is
        KL(N(mu, exp(logvar) + 1e-5) || N(0, 1)).

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1] or NaN, of another shape, or not as many as in the output.
        """
        check_targets("MoEVAE", x, self.config.input_shape, output.log_probs.shape[0])
        probs = output.log_probs.exp()
        nll = elbo.gaussian_nll(output.reconstructions.flatten(2), x.flatten(1), self.config.std)
        kl = elbo.gaussian_kl(output.mu, (output.logvar.exp() + _VARIANCE_FLOOR).log())
        return MoEVAETerms((probs * nll.T).sum(dim=1), (probs * kl.T).sum(dim=1))

    def loss(self, output: MoEVAEOutput, x: Tensor) -> MoEVAELosses:
        """Computes the means of :meth:`terms` over the batch of N samples, and::

            balance = variance over the experts i (population) of 100/N sum_b p_i(x_b)
            total   = reconstruction + kl + config.balance * balance

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]`` in [0, 1].

        Raises:
            ValueError: samples outside [0, 1], or NaN.
        """
        reconstruction, kl = (elbo.batch_mean(term) for term in self.terms(output, x))
        importance = _BALANCE_BATCH * elbo.batch_mean(output.log_probs.exp())
        balance = importance.var(correction=0)
        return MoEVAELosses(reconstruction + kl + self.config.balance * balance, reconstruction, kl, balance)

    @torch.no_grad()
    def assign(self, x: Tensor) -> Tensor:
        """Finds the most probable expert of each sample, int64 ``[N]``."""
        return self.encode(x).log_probs.argmax(dim=1)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructs samples from the means of the experts' posteriors, in the shape of ``x``.

        The experts' outputs are averaged, weighted by the manager's probabilities.
        """
        log_probs, mu, _ = self.encode(x)
        decoded = self.decode(mu)
        share = log_probs.exp().T.reshape(*decoded.shape[:2], *(1 for _ in self.config.input_shape))
        return (share * decoded).sum(dim=0)

    @torch.no_grad()
    def sample(
        self, num_samples: int, *, category: int | None = None, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draws samples ``[num_samples, *input_shape]`` from the prior.

        Args:
            num_samples: number of samples, at least 1.
            category: expert that decodes all samples; by default one is drawn uniformly for each.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1, or an expert out of range.
        """
        z = self._draw_prior(num_samples, generator)
        expert = draw_categories("MoEVAE", num_samples, category, self.num_categories, generator).to(z.device)
        return self.decode(z)[expert, torch.arange(num_samples, device=z.device)]

    @torch.no_grad()
    def sample_each_category(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Decodes the same latent points by each expert, ``[E, num_samples, *input_shape]``.

        Args:
            num_samples: number of latent points, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        return self.decode(self._draw_prior(num_samples, generator))

    def _draw_prior(self, num_samples: int, generator: torch.Generator | None) -> Tensor:
        return draw_prior("MoEVAE", num_samples, self.config.latent_dim, generator).to(self.encoder_hidden.weight)


class ExpertLinear(nn.Module):
    """A linear layer for each expert, in one batched product: ``[E, N, in_features]`` -> ``[E, N, out_features]``.

    Each is initialized as :class:`torch.nn.Linear` is, uniformly in +-1/sqrt(in_features).

    Args:
        num_experts: number of experts E.
        in_features, out_features: as in :class:`torch.nn.Linear`.
    """

    def __init__(self, num_experts: int, in_features: int, out_features: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(num_experts, in_features, out_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_experts, 1, out_features).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)
