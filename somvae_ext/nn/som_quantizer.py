"""Vector quantization with a codebook that lies on a map."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.grid import Grid
from somvae_ext.ops.neighborhood import Border

# Spread of the initial codes, as in the published code (github.com/ratschlab/SOM-VAE), cut off at two of them.
_INITIAL_STD = 0.05


class QuantizerOutput(NamedTuple):
    """What :class:`SOMQuantizer` gives for encodings ``[..., D]``.

    ``quantized`` ``[..., D]`` are the winners' codes, ``index`` int64 ``[...]`` their nodes, ``commitment`` and ``som``
    ``[...]`` the losses of each encoding.
    """

    quantized: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    commitment: Tensor
    som: Tensor


class SOMQuantizer(nn.Module):
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

    ``quantized`` is a plain gather, without straight-through: its gradient reaches the codebook alone.

    Args:
        grid: the map's grid, K = ``grid.num_nodes``.
        dim: size of a code D.
        border: ``"zero"`` or ``"mask"``.

    Attributes:
        codebook: parameter ``[K, D]``, nodes in row-major order; at first normal with standard deviation 0.05,
            truncated at 0.1.

    Raises:
        ValueError: ``dim`` below 1 or an unknown ``border``.

    Example:
        >>> import torch
        >>> quantizer = SOMQuantizer(Grid(4, 4), dim=8)
        >>> output = quantizer(torch.randn(2, 5, 8))
        >>> output.quantized.shape, output.index.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 5]))
    """

    codebook: nn.Parameter

    def __init__(self, grid: Grid, dim: int, *, border: Border = "zero") -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"SOMQuantizer: dim must be at least 1, got {dim}")
        if border not in ("zero", "mask"):
            raise ValueError(f"SOMQuantizer: border must be 'zero' or 'mask', got {border!r}")
        self.grid = grid
        self.dim = dim
        self.border: Border = border
        self.codebook = nn.Parameter(torch.empty(grid.num_nodes, dim))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws a new codebook."""
        nn.init.trunc_normal_(self.codebook, std=_INITIAL_STD, a=-2 * _INITIAL_STD, b=2 * _INITIAL_STD)

    def assign(self, z: Tensor) -> Tensor:
        """Nearest node of each encoding: int64 ``[...]`` for ``z`` of shape ``[..., D]``."""
        self._check_shape(z)
        # Detached: the index has no gradient, and the distances' would be computed for nothing.
        return ops.bmu(z.detach().reshape(-1, self.dim), self.codebook.detach()).index.view(z.shape[:-1])

    def forward(self, z: Tensor) -> QuantizerOutput:
        """Quantizes encodings.

        Args:
            z: ``[..., D]``, of the codebook's dtype (any lower precision under autocast) and on its device.

        Raises:
            ValueError: the last size is not D, or dtype or device differ from the codebook's.
        """
        index = self.assign(z)
        winners = index.reshape(-1)
        losses = ops.som_losses(z.reshape(-1, self.dim), self.codebook, winners, self.grid, border=self.border)
        # F.embedding and not codebook[index]: on the CPU, indexing adds up its gradient in the threads' order.
        quantized = F.embedding(index, self.codebook)
        slots: Tensor | int = 1 + self.grid.num_slots
        if self.border == "mask":
            slots = 1 + self.grid.degree(z.device)[winners]
        commitment = losses.commitment / self.dim
        som = losses.som / (self.dim * slots)
        return QuantizerOutput(quantized, index, commitment.view(index.shape), som.view(index.shape))

    def extra_repr(self) -> str:
        return f"{self.grid}, dim={self.dim}, border={self.border!r}"

    def _check_shape(self, z: Tensor) -> None:
        if z.dim() == 0 or z.shape[-1] != self.dim:
            raise ValueError(f"SOMQuantizer: z must have shape [..., D] with D = {self.dim}, got {list(z.shape)}")
