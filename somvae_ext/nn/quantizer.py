"""A codebook, and what all quantizers do with one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.som import kmeans_centers

# Spread of the initial codes, as in the published code (github.com/ratschlab/SOM-VAE), cut off at two of them.
_INITIAL_STD = 0.05


class Quantizer(nn.Module):
    """What :class:`~somvae_ext.nn.SOMQuantizer` and :class:`~somvae_ext.nn.VectorQuantizer` have in common.

    They draw the codebook themselves, by :meth:`reset_parameters`, when they have all that belongs to it.

    Args:
        num_codes: number of codes K.
        dim: size of a code D.
        learned: the codebook is a parameter, for an optimizer; otherwise a buffer.
        channel_first: encodings are ``[N, D, *spatial]``, as convolutions give them, instead of ``[..., D]``.

    Attributes:
        codebook: ``[K, D]``.

    Raises:
        ValueError: ``num_codes`` or ``dim`` below 1.
    """

    codebook: Tensor

    def __init__(self, num_codes: int, dim: int, *, learned: bool = True, channel_first: bool = False) -> None:
        super().__init__()
        for name, size in (("num_codes", num_codes), ("dim", dim)):
            if size < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be at least 1, got {size}")
        self.num_codes = num_codes
        self.dim = dim
        self.channel_first = channel_first
        if learned:
            self.codebook = nn.Parameter(torch.empty(num_codes, dim))
        else:
            self.register_buffer("codebook", torch.empty(num_codes, dim))

    def reset_parameters(self) -> None:
        """Draws a new codebook: normal with standard deviation 0.05, truncated at 0.1."""
        nn.init.trunc_normal_(self.codebook, std=_INITIAL_STD, a=-2 * _INITIAL_STD, b=2 * _INITIAL_STD)

    def assign(self, z: Tensor) -> Tensor:
        """Nearest code of each encoding: int64 ``[...]`` for ``z`` of shape ``[..., D]``, ``[N, *spatial]`` for
        ``[N, D, *spatial]`` with ``channel_first``.
        """
        z = self._channel_last(z)
        # Detached: the indices have no gradient, and the distances' would be computed for nothing.
        return ops.bmu(z.detach().reshape(-1, self.dim), self.codebook.detach()).index.view(z.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Codes of indices, ``[..., D]`` or, with ``channel_first``, ``[N, D, *spatial]``: :meth:`assign` reversed."""
        return self._channels_in_place(nn.functional.embedding(indices, self.codebook))

    @torch.no_grad()
    def revive(self, unused: Tensor, z: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Replaces codes that win nothing by encodings, drawn at random.

        An optimizer that keeps moments per parameter still pushes these rows as their old codes were pushed: reset its
        state in the rows returned.

        Args:
            unused: codes to replace, int64 ``[U]``, each once.
            z: encodings to draw from, as in the forward pass; without repetition where there are at least U.
            generator: what to draw from, on the CPU wherever the codebook is; torch's global one by default.

        Returns:
            The rows of the codebook that were overwritten: ``unused`` on the codebook's device.

        Raises:
            ValueError: a wrong shape or dtype, a code out of range, or no encodings to draw from.
        """
        name = f"{type(self).__name__}.revive"
        if unused.dtype != torch.int64 or unused.dim() != 1:
            raise ValueError(
                f"{name}: unused must be of dtype int64 and shape [U], got {unused.dtype} and {list(unused.shape)}"
            )
        unused = unused.to(self.codebook.device)
        if len(unused) == 0:
            return unused
        if not 0 <= int(unused.min()) <= int(unused.max()) < self.num_codes:
            raise ValueError(
                f"{name}: unused must hold indices from 0 to {self.num_codes - 1}, "
                f"got {int(unused.min())} to {int(unused.max())}"
            )
        rows = self._rows(z)
        if len(rows) == 0:
            raise ValueError(f"{name}: z must hold at least one encoding to draw from, got none")
        if len(rows) >= len(unused):
            drawn = torch.randperm(len(rows), generator=generator)[: len(unused)]
        else:
            drawn = torch.randint(len(rows), unused.shape, generator=generator)
        self.codebook[unused] = rows[drawn.to(rows.device)].to(self.codebook)
        return unused

    def _kmeans_centers(self, z: Tensor, seed: int) -> Tensor:
        """K centres ``[K, D]`` of encodings, in no particular order."""
        rows = self._rows(z)
        rows = rows if rows.dtype == torch.float64 else rows.float()
        return kmeans_centers(rows, self.num_codes, seed=seed)

    def _rows(self, z: Tensor) -> Tensor:
        """z as ``[M, D]``."""
        return self._channel_last(z).reshape(-1, self.dim)

    def _channel_last(self, z: Tensor) -> Tensor:
        """z as ``[..., D]``."""
        axis = 1 if self.channel_first else -1
        if z.dim() < (2 if self.channel_first else 1) or z.shape[axis] != self.dim:
            shape = "[N, D, *spatial]" if self.channel_first else "[..., D]"
            raise ValueError(
                f"{type(self).__name__}: z must have shape {shape} with D = {self.dim}, got {list(z.shape)}"
            )
        return z.movedim(1, -1) if self.channel_first else z

    def _channels_in_place(self, z: Tensor) -> Tensor:
        """z of shape ``[..., D]`` as the caller has it."""
        return z.movedim(-1, 1) if self.channel_first else z
