"""Vector quantization with an unordered codebook."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.config_checks import Bounds, check_number
from somvae_ext.exportable import exportable
from somvae_ext.nn.quantizer import CodebookUpdate, Quantizer, finite_row_mask


@exportable
class VectorQuantizerLosses(NamedTuple):
    """Losses of each encoding, in the shape of ``indices``; 0 for masked encodings."""

    commitment: Tensor
    codebook: Tensor


@exportable
class VectorQuantizerOutput(NamedTuple):
    """Result of :class:`VectorQuantizer` for encodings ``[..., D]`` (or ``[N, D, *spatial]``, channel first).

    ``quantized`` holds the nearest codes in the shape of the encodings, ``indices`` their rows in the codebook, int64
    ``[...]`` (or ``[N, *spatial]``), and ``losses`` the terms that pull codes and encodings together. For a masked
    encoding they are 0, -1 and 0.
    """

    quantized: Tensor
    indices: Tensor
    losses: VectorQuantizerLosses


class VectorQuantizer(Quantizer):
    """Replaces encodings by the nearest codes and computes the losses that pull the two together.

    For an encoding z with nearest code e (van den Oord et al. 2017, arXiv 1711.00937, equation 3; means over the
    features, as in :class:`~somvae_ext.nn.SOMQuantizer`, where the paper writes sums; sg is stop-gradient)::

        commitment = 1/D * |z - sg[e]|^2     moves encodings only
        codebook   = 1/D * |sg[z] - e|^2     moves codes only

    ``quantized`` has the values of the codes, and its gradient reaches the encodings alone, as if nothing had been
    quantized (straight-through, section 3.2). The search is :func:`~somvae_ext.ops.bmu`, in float32 under autocast.

    With ``update="gradient"`` the codebook is a parameter that learns from the codebook loss. With ``"ema"`` it is a
    buffer without a gradient: codes are moving averages of the encodings that they win (appendix A.1). From a batch in
    which code i wins n_i encodings, they are updated by::

        N_i <- decay * N_i + (1 - decay) * n_i
        m_i <- decay * m_i + (1 - decay) * sum of these encodings
        e_i <- m_i / N'_i,    N'_i = (N_i + epsilon) / (N + K * epsilon) * N,    N = sum of all N_i

    N' applies Laplace smoothing, which keeps codes finite that hardly win anything. Once N_i falls far below
    ``epsilon``, after some thousand batches without a win, it draws the code toward zero. The forward pass never moves
    a code. An update takes two calls after it, before or after the backward pass; processes that train together add up
    their statistics between the two::

        statistics = quantizer.statistics(z, output.indices)
        quantizer.update_codebook(*statistics)

    Encodings that are masked or not finite do not enter the averages. When the module is cast to 16 bits, the codebook
    is cast and the averages stay in float32.

    Args:
        num_codes: number of codes K.
        dim: size D of a code.
        update: ``"gradient"`` or ``"ema"``.
        decay: share of the averages that an update keeps, for ``"ema"``.
        epsilon: constant of the smoothing, for ``"ema"``.
        channel_first: whether encodings are ``[N, D, *spatial]``, as convolutions return them, instead of ``[..., D]``.

    Attributes:
        codebook: parameter or buffer ``[K, D]``; initially normal with standard deviation 0.05, truncated at 0.1.
        ema_counts: for ``"ema"``, buffer ``[K]``, the N_i; initially 1, as if each code had won itself once.
        ema_sums: for ``"ema"``, buffer ``[K, D]``, the m_i.

    Raises:
        ValueError: sizes that are not integers of at least 1, an unknown ``update``, or a ``decay`` or ``epsilon`` that
            is not a number in its range.

    Example:
        >>> import torch
        >>> quantizer = VectorQuantizer(16, dim=8, update="ema")
        >>> z = torch.randn(5, 8)
        >>> output = quantizer(z)
        >>> output.quantized.shape, output.indices.shape, output.losses.commitment.shape
        (torch.Size([5, 8]), torch.Size([5]), torch.Size([5]))
        >>> quantizer.update_codebook(*quantizer.statistics(z, output.indices))
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        update: CodebookUpdate = "gradient",
        decay: float = 0.99,
        epsilon: float = 1e-5,
        channel_first: bool = False,
    ) -> None:
        super().__init__(num_codes, dim, update=update, decay=decay, channel_first=channel_first)
        self.epsilon = check_number("VectorQuantizer", "epsilon", epsilon, Bounds(above=0))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a new codebook and restarts the averages from it."""
        super().reset_parameters()
        self._restart_averages(slice(None))

    def forward(self, z: Tensor, mask: Tensor | None = None) -> VectorQuantizerOutput:
        """Quantizes encodings.

        Args:
            z: ``[..., D]``, or ``[N, D, *spatial]`` with ``channel_first``; in the codebook's dtype (any lower
                precision under autocast) and on its device. An encoding with a NaN has index 0 and NaN losses.
            mask: which encodings are real, bool ``[...]`` or ``[N, *spatial]``; all by default. Masked encodings may
                hold anything and receive no gradient.

        Raises:
            ValueError: a size other than D, a dtype or device other than the codebook's, or a mask that does not fit.
        """
        z = self._move_channels_last(z)
        rows = self._zero_masked_rows(z, mask)
        codebook = self.snapshot()
        distance, index = ops.bmu(rows, codebook.detach())
        codes = F.embedding(index, codebook)
        codebook_loss = distance.detach()
        if self.update == "gradient":
            codebook_loss = (rows.detach().to(distance.dtype) - codes.to(distance.dtype)).square().sum(dim=1)
        # The difference is zero, so that the value is exactly the code; z + (code - z) would round.
        quantized = codes.detach() + (rows - rows.detach())
        quantized, indices, losses = self._shape_results(
            z, mask, quantized, index, distance / self.dim, codebook_loss / self.dim
        )
        return VectorQuantizerOutput(quantized, indices, VectorQuantizerLosses(*losses))

    @torch.no_grad()
    def update_codebook(self, counts: Tensor, sums: Tensor) -> None:
        """Updates the averages with these statistics and moves the codes to them, in place.

        Args:
            counts: number of encodings that each code won, ``[K]``.
            sums: their sums, ``[K, D]``. A code whose sum is not finite, or overflows, counts as having won nothing.

        Raises:
            ValueError: statistics of another shape, or a codebook that learns by gradients.
        """
        counts, sums = self._check_statistics(counts, sums)
        # An average would keep a NaN forever.
        is_finite = finite_row_mask(sums) & counts.isfinite()
        self.ema_counts.lerp_(torch.where(is_finite, counts, 0), 1 - self.decay)
        self.ema_sums.lerp_(torch.where(is_finite[:, None], sums, 0), 1 - self.decay)
        total = self._total_average()
        smooth_counts = (self.ema_counts[:, None] + self.epsilon) / (total + self.num_codes * self.epsilon) * total
        # The counts are zero if no code has won anything, as with decay 0 after an empty batch: the codes stay.
        self.codebook.copy_(torch.where(smooth_counts > 0, self.ema_sums / smooth_counts, self.codebook))

    @torch.no_grad()
    def initialize_kmeans(self, z: Tensor, *, seed: int = 0, mask: Tensor | None = None) -> None:
        """Sets the codebook to k-means centers of encodings, see :func:`~somvae_ext.som.kmeans_centers`.

        With ``update="ema"`` the averages restart from the new codes.

        Args:
            z: encodings as in :meth:`forward`, at least K real and finite ones; the others are ignored.
            seed: seed of the k-means++ initialization.
            mask: as in :meth:`forward`.

        Raises:
            ValueError: fewer than K real and finite encodings, or a shape that does not fit.
        """
        self.codebook.copy_(self._kmeans_centers(z, seed, mask))
        self._restart_averages(slice(None))

    @torch.no_grad()
    def revive(
        self,
        unused: Tensor,
        z: Tensor,
        *,
        generator: torch.Generator | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Replaces unused codes by encodings, drawn at random from those that are real and finite.

        With ``update="ema"`` their averages restart from the new codes, which stay until they win other encodings. See
        :meth:`Quantizer.revive` for arguments, result and errors.
        """
        rows = super().revive(unused, z, generator=generator, mask=mask)
        self._restart_averages(rows)
        return rows

    def extra_repr(self) -> str:
        layout = ", channel_first=True" if self.channel_first else ""
        averages = f", decay={self.decay}, epsilon={self.epsilon}" if self.update == "ema" else ""
        return f"num_codes={self.num_codes}, dim={self.dim}, update={self.update!r}{averages}{layout}"

    def _restart_averages(self, rows: Tensor | slice) -> None:
        """Sets the averages of these codes to those of a code that has won itself once."""
        if self.update == "ema":
            self.ema_counts[rows] = 1
            self.ema_sums[rows] = self.codebook[rows].to(self.ema_sums)
