"""Vector quantization with a codebook that lies on a map."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.exportable import exportable
from somvae_ext.grid import Grid
from somvae_ext.nn.quantizer import Quantizer
from somvae_ext.ops.neighborhood import Border
from somvae_ext.som import lay_out


@exportable
class QuantizerLosses(NamedTuple):
    """Losses of each encoding, in the shape of ``indices``; 0 where it is masked."""

    commitment: Tensor
    som: Tensor


@exportable
class QuantizerOutput(NamedTuple):
    """What :class:`SOMQuantizer` gives for encodings ``[..., D]`` (or ``[N, D, *spatial]``, channel first).

    ``quantized`` are the winners' codes in the shape of the encodings, ``indices`` int64 ``[...]`` (or
    ``[N, *spatial]``) their nodes, ``losses`` what pulls codes and encodings together. Where an encoding is masked they
    are 0, -1 and 0.
    """

    quantized: Tensor
    indices: Tensor
    losses: QuantizerLosses


class SOMQuantizer(Quantizer):
    """Replaces encodings by the nearest codes of a map, and says what pulls codes and encodings together.

    For an encoding z with winner w (Fortuin et al. 2019, arXiv 1806.02199, with the means of the published code where
    the paper writes sums; only with means do the published weights have their meaning)::

        commitment = 1/D * |z - e_w|^2
        som        = 1/(D * M) * (|sg[z] - e_w|^2 + sum over neighbours j of w of |sg[z] - e_j|^2)

    ``commitment`` moves encoding and winner: nothing is stopped. ``som`` moves codes only (sg is stop-gradient), and
    the winner is one of them. ``border`` says what M is:

    - ``"zero"``, the published code: M = 1 + S, the number of slots (S = 4, or 6 on hexagons). A neighbour missing at
      the border is a code of zeros: it counts in the value and has no gradient.
    - ``"mask"``: M is the number of slots that exist at this winner, itself included; a missing neighbour adds nothing.

    ``quantized`` is a plain gather: its gradient reaches the codebook alone. With ``straight_through`` it is
    z + sg[e_w - z] (Bengio et al. 2013; van den Oord et al. 2017, section 3.2): its gradient reaches the encodings
    alone, as if nothing had been quantized, and the codes learn from the losses. All of it is one op,
    :func:`~somvae_ext.ops.som_head`.

    Args:
        grid: the map's grid, K = ``grid.num_nodes``.
        dim: size of a code D.
        border: ``"zero"`` or ``"mask"``.
        straight_through: where the gradient of ``quantized`` goes.
        channel_first: encodings are ``[N, D, *spatial]``, as convolutions give them, instead of ``[..., D]``.

    Attributes:
        codebook: parameter ``[K, D]``, nodes in row-major order; at first normal with standard deviation 0.05,
            truncated at 0.1.

    Raises:
        ValueError: ``dim`` below 1 or an unknown ``border``.

    Example:
        >>> import torch
        >>> quantizer = SOMQuantizer(Grid(4, 4), dim=8)
        >>> output = quantizer(torch.randn(2, 5, 8))
        >>> output.quantized.shape, output.indices.shape, output.losses.som.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5]), torch.Size([2, 5]))
        >>> image = SOMQuantizer(Grid(4, 4), dim=8, channel_first=True)(torch.randn(2, 8, 7, 7))
        >>> image.quantized.shape, image.indices.shape
        (torch.Size([2, 8, 7, 7]), torch.Size([2, 7, 7]))
    """

    codebook: nn.Parameter

    def __init__(
        self,
        grid: Grid,
        dim: int,
        *,
        border: Border = "zero",
        straight_through: bool = False,
        channel_first: bool = False,
    ) -> None:
        super().__init__(grid.num_nodes, dim, channel_first=channel_first)
        if border not in ("zero", "mask"):
            raise ValueError(f"SOMQuantizer: border must be 'zero' or 'mask', got {border!r}")
        self.grid = grid
        self.border: Border = border
        self.straight_through = straight_through
        self.reset_parameters()

    def forward(self, z: Tensor, mask: Tensor | None = None) -> QuantizerOutput:
        """Quantizes encodings.

        Args:
            z: ``[..., D]``, or ``[N, D, *spatial]`` with ``channel_first``; of the codebook's dtype (any lower
                precision under autocast) and on its device. An encoding with a NaN has index 0, and losses NaN.
            mask: which encodings are real, bool ``[...]`` or ``[N, *spatial]``; all by default. The others may hold
                anything, and neither get nor give a gradient.

        Raises:
            ValueError: a size is not D where it must be, dtype or device differ from the codebook's, or a mask that
                does not fit.
        """
        z = self._channel_last(z)
        rows = self._unmasked(z, mask)
        head = ops.som_head(
            rows, self.snapshot(), self.grid, border=self.border, straight_through=self.straight_through
        )
        slots: Tensor | int = 1 + self.grid.num_slots
        if self.border == "mask":
            slots = 1 + self.grid.degree(z.device)[head.index]
        commitment, som = head.commitment / self.dim, head.som / (self.dim * slots)
        quantized, indices, losses = self._results(z, mask, head.quantized, head.index, commitment, som)
        return QuantizerOutput(quantized, indices, QuantizerLosses(*losses))

    @torch.no_grad()
    def initialize_kmeans(self, z: Tensor, *, seed: int = 0, mask: Tensor | None = None) -> None:
        """Sets the codebook to k-means centres of encodings, laid out so that the map starts ordered.

        See :func:`~somvae_ext.som.kmeans_centers` and :func:`~somvae_ext.som.lay_out`.

        Args:
            z: encodings as in :meth:`forward`, at least K real and finite ones; the others are left out.
            seed: of the k-means++ seeding.
            mask: as in :meth:`forward`.

        Raises:
            ValueError: fewer than K real and finite encodings, or a shape that does not fit.
        """
        self.codebook.copy_(lay_out(self._kmeans_centers(z, seed, mask), self.grid))

    def extra_repr(self) -> str:
        layout = ", channel_first=True" if self.channel_first else ""
        estimator = ", straight_through=True" if self.straight_through else ""
        return f"{self.grid}, dim={self.dim}, border={self.border!r}{estimator}{layout}"
