"""VQ-VAE: an autoencoder whose latent space is quantized by an unordered codebook.

Van den Oord et al., "Neural Discrete Representation Learning", NeurIPS 2017, arXiv 1711.00937.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from somvae_ext.exportable import exportable
from somvae_ext.models._arguments import check_sample_shape, draw_codes
from somvae_ext.models.networks import DenseDecoder, DenseEncoder
from somvae_ext.models.notebook import ShownInNotebooks
from somvae_ext.models.reconstruction import reconstruction_error, reconstruction_target
from somvae_ext.models.residual_networks import ResidualDecoder, ResidualEncoder
from somvae_ext.models.vqvae_config import VQVAEConfig
from somvae_ext.nn import VectorQuantizer

_BATCH_SAMPLES = 256  # encoded at once to initialize the codebook, which limits the memory of a convolution


@exportable
class VQVAEOutput(NamedTuple):
    """Result of a forward pass.

    ``reconstruction`` ``[N, *input_shape]`` is decoded from the codes: samples or, if the reconstruction loss is
    ``"bce"``, their logits. ``z_e`` ``[N, D]``, or ``[N, D, h, w]`` with convolutional networks, are the encodings,
    ``z_q`` in the same shape their nearest codes, ``indices``, int64 ``[N]`` or ``[N, h, w]``, the rows of these codes
    in the codebook, and ``codebook`` and ``commitment``, in the shape of ``indices``, the losses of each encoding.
    """

    reconstruction: Tensor
    z_e: Tensor
    z_q: Tensor
    indices: Tensor
    codebook: Tensor
    commitment: Tensor


@exportable
class VQVAETerms(NamedTuple):
    """The terms of the loss of each sample, ``[N]``, before weighting."""

    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor


@exportable
class VQVAELosses(NamedTuple):
    """The weighted ``total`` and its terms before weighting: scalars, means over the samples."""

    total: Tensor
    reconstruction: Tensor
    codebook: Tensor
    commitment: Tensor


class VQVAE(ShownInNotebooks, nn.Module):
    """VQ-VAE for samples ``[N, *input_shape]``.

    With dense networks a sample has one code, its cluster. With convolutional networks it has a grid of h x w codes,
    h = H / 4 and w = W / 4.

    Args:
        config: sizes, weight and modes.

    Attributes:
        quantizer: the codebook, a :class:`~somvae_ext.nn.VectorQuantizer`. If ``config.codebook_update`` is ``"ema"``
            it does not learn from the loss: after each forward pass, before or after the backward pass, call
            ``quantizer.update_codebook(*quantizer.statistics(output.z_e, output.indices))``.

    Example:
        >>> import torch
        >>> model = VQVAE(VQVAEConfig(input_shape=(1, 8, 8), num_codes=16, latent_dim=8))
        >>> x = torch.rand(5, 1, 8, 8)
        >>> losses = model.loss(model(x), x)
        >>> losses.total.backward()
        >>> model.assign(x).shape
        torch.Size([5])
        >>> VQVAE(VQVAEConfig(input_shape=(1, 8, 8), network="conv")).assign(x).shape
        torch.Size([5, 2, 2])
    """

    name: ClassVar[str] = "vqvae"
    config_type: ClassVar[type] = VQVAEConfig
    batch_fields: ClassVar[tuple[str, ...]] = ("x",)
    unit_interval: ClassVar[bool] = False  # whether samples must lie in [0, 1]

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__()
        self.config = config
        shape, dim = config.input_shape, config.latent_dim
        # With "bce" the loss needs logits, and VQVAE.decode applies the sigmoid.
        sigmoid = config.output == "sigmoid" and config.reconstruction == "mse"
        self.encoder: nn.Module
        self.decoder: nn.Module
        if config.network == "dense":
            self.encoder = DenseEncoder(shape, dim, config.hidden_sizes)
            self.decoder = DenseDecoder(dim, shape, config.hidden_sizes[::-1], sigmoid=sigmoid)
        else:
            self.encoder = ResidualEncoder(shape, dim)
            self.decoder = ResidualDecoder(dim, shape, sigmoid=sigmoid)
        self.quantizer = VectorQuantizer(
            config.num_codes,
            dim,
            update=config.codebook_update,
            decay=config.decay,
            channel_first=config.network == "conv",
        )

    @property
    def num_clusters(self) -> int:
        """Number of clusters that :meth:`assign` can return: the codes K."""
        return self.config.num_codes

    @property
    def codes_per_sample(self) -> int:
        """Number of codes per sample; a single one is the sample's cluster."""
        return self.config.codes_per_sample

    def encode(self, x: Tensor) -> Tensor:
        """Computes the encodings z_e, ``[N, D]`` or ``[N, D, h, w]``, of samples ``[N, *input_shape]``."""
        check_sample_shape("VQVAE", x, self.config.input_shape)
        z: Tensor = self.encoder(x)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Decodes codes ``[N, D]`` or ``[N, D, h, w]`` to samples ``[N, *input_shape]``."""
        x: Tensor = self.decoder(z)
        return x.sigmoid() if self.config.reconstruction == "bce" else x

    def forward(self, x: Tensor) -> VQVAEOutput:
        """Encodes, quantizes and decodes, without ever moving a code.

        Args:
            x: samples ``[N, *input_shape]``.

        Raises:
            ValueError: samples of another shape.
        """
        z_e = self.encode(x)
        z_q, indices, losses = self.quantizer(z_e)
        return VQVAEOutput(self.decoder(z_q), z_e, z_q, indices, losses.codebook, losses.commitment)

    def terms(self, output: VQVAEOutput, x: Tensor) -> VQVAETerms:
        """Computes the loss terms of each sample (equation 3).

        They are means over all pixels, latent values and codes of a sample, where the paper writes sums of squared
        norms; sg is stop-gradient::

            reconstruction = mean (x - decoder(z_q))^2    moves decoder and, copied from z_q to z_e, encoder
            codebook       = mean (sg[z_e] - e)^2         moves codes; with "ema" nothing
            commitment     = mean (z_e - sg[e])^2         moves encoder

        With ``reconstruction="bce"`` the reconstruction is the binary cross entropy with the decoder's sigmoid,
        computed from its logits; x is then clamped to [0, 1], and values outside [-0.5, 1.5] are refused as not scaled.

        Args:
            output: result of ``forward(x)``.
            x: samples ``[N, *input_shape]``.

        Raises:
            ValueError: samples of another shape, or that are not finite; for ``"bce"`` samples outside [-0.5, 1.5].
        """
        check_sample_shape("VQVAE", x, self.config.input_shape)
        x = reconstruction_target(self.config.reconstruction, x, "VQVAE.loss: x")
        codebook, commitment = (
            losses.view(len(x), self.codes_per_sample).mean(dim=1) for losses in (output.codebook, output.commitment)
        )
        dims = len(self.config.input_shape)
        return VQVAETerms(
            reconstruction_error(self.config.reconstruction, output.reconstruction, x, dims), codebook, commitment
        )

    def loss(self, output: VQVAEOutput, x: Tensor) -> VQVAELosses:
        """Computes the means of :meth:`terms` over the samples, and their weighted sum::

            total = reconstruction + codebook + beta * commitment

        With ``codebook_update="ema"`` the total omits the codebook loss, which the averages replace (appendix A.1).
        Without samples the losses are zero. Arguments and errors are those of :meth:`terms`.
        """
        means = VQVAETerms(*(term.sum() / max(1, len(x)) for term in self.terms(output, x)))
        total = means.reconstruction + self.config.beta * means.commitment
        if self.config.codebook_update == "gradient":
            total = total + means.codebook
        return VQVAELosses(total, *means)

    @torch.no_grad()
    def assign(self, x: Tensor) -> Tensor:
        """Finds the codes of each sample: int64 ``[N]``, or ``[N, h, w]`` with convolutional networks."""
        return self.quantizer.assign(self.encode(x))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Reconstructs samples from their codes, in the shape of ``x``."""
        return self.decode(self.quantizer.lookup(self.assign(x)))

    @torch.no_grad()
    def sample(self, num_samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draws codes uniformly, the training prior (section 3), and decodes them: ``[num_samples, *input_shape]``.

        The codes of a grid are drawn independently, although those of an image are not independent: the paper trains a
        second model for that.

        Args:
            num_samples: number of samples, at least 1.
            generator: random generator, on the CPU; torch's global one by default.

        Raises:
            ValueError: ``num_samples`` below 1.
        """
        codes = draw_codes("VQVAE.sample", (num_samples, *self.config.code_shape), self.num_clusters, generator)
        return self.decode(self.quantizer.lookup(codes.to(self.quantizer.codebook.device)))

    @torch.no_grad()
    def initialize_codebook(self, x: Tensor, *, seed: int = 0) -> None:
        """Initializes the codebook from the first samples, before the first step.

        With ``config.init = "kmeans"`` the codes become the k-means centers of the samples' encodings. With
        ``"normal"`` they stay as they are.

        Args:
            x: samples ``[N, *input_shape]``, for k-means with at least K finite encodings. The others are ignored.
            seed: seed of k-means.

        Raises:
            ValueError: samples of another shape, or too few finite encodings.
        """
        if self.config.init == "kmeans":
            self.quantizer.initialize_kmeans(self._encode_in_parts(x), seed=seed)

    @torch.no_grad()
    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Replaces unused codes by finite encodings of random samples, and restarts their averages.

        Args:
            unused: codes to replace, int64 ``[U]``, each once.
            x: samples to draw from, ``[N, *input_shape]``.
            generator: random generator, on the CPU; torch's global one by default.

        Returns:
            The overwritten parameters, as (parameter, its rows): a training loop resets the optimizer's state of these
            rows. With ``codebook_update="ema"`` the list is empty.

        Raises:
            ValueError: samples of another shape, a code out of range, or no sample to draw from.
        """
        rows = self.quantizer.revive(unused, self._encode_in_parts(x), generator=generator)
        codebook = self.quantizer.codebook
        return [(codebook, rows)] if isinstance(codebook, nn.Parameter) else []

    def _encode_in_parts(self, x: Tensor) -> Tensor:
        return torch.cat([self.encode(part) for part in x.split(_BATCH_SAMPLES)])
