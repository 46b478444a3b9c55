"""The base class of all quantizers: a codebook and the operations on it."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.config_checks import Bounds, check_integer, check_number
from somvae_ext.exportable import exportable
from somvae_ext.nn.full_precision import FullPrecisionBuffers, full_precision_dtype
from somvae_ext.nn.snapshot import snapshot
from somvae_ext.som import kmeans_centers

# Standard deviation of the initial codes, which are truncated at twice that, as in the published code
# (github.com/ratschlab/SOM-VAE).
_INITIAL_STD = 0.05
MASKED = -1  # index of a masked encoding, which has no code

CodebookUpdate = Literal["gradient", "ema"]


@exportable
class CodeStatistics(NamedTuple):
    """Counts, int64 ``[K]``, and sums, ``[K, D]``, of the encodings that each code won in a batch.

    Statistics of several batches or processes are combined by adding them.
    """

    counts: Tensor
    sums: Tensor


def finite_row_mask(x: Tensor) -> Tensor:
    """Returns a mask of the rows of x ``[M, D]`` that hold only finite values, bool ``[M]``."""
    return x.abs().amax(dim=1).isfinite()  # isfinite().all(dim=1) takes ten times as long on the CPU


class Quantizer(FullPrecisionBuffers):
    """Base class of :class:`~somvae_ext.nn.SOMQuantizer` and :class:`~somvae_ext.nn.VectorQuantizer`.

    Subclasses draw the codebook at the end of their constructors, by :meth:`reset_parameters`.

    A ``mask``, bool in the shape of the indices, is True where an encoding is real and False where it is padding.
    Padding may hold anything, NaN included, and is ignored. Where codes are made from encodings, encodings that are not
    finite (NaN or infinity in any feature) are ignored, too.

    Args:
        num_codes: number of codes K.
        dim: size D of a code.
        update: how codes learn. ``"gradient"``: the codebook is a parameter, for an optimizer. ``"ema"``: it is a
            buffer that follows exponential moving averages of the encodings that the codes win. The averages are
            float32 or float64, even if the module is cast to 16 bits.
        decay: share of the averages that an update keeps, for ``"ema"``.
        channel_first: whether encodings are ``[N, D, *spatial]``, as convolutions return them, instead of ``[..., D]``.

    Attributes:
        codebook: ``[K, D]``.
        ema_counts: for ``"ema"``, buffer ``[K]``: the average number N of encodings that each code wins in a batch.
        ema_sums: for ``"ema"``, buffer ``[K, D]``: the average m of their sum.

    Raises:
        ValueError: ``num_codes`` or ``dim`` that is not an integer of at least 1, an unknown ``update``, or a ``decay``
            that is not a number from 0 to below 1.
    """

    codebook: Tensor
    ema_counts: Tensor
    ema_sums: Tensor
    full_precision_buffers: ClassVar[tuple[str, ...]] = ("ema_counts", "ema_sums")

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        update: CodebookUpdate = "gradient",
        decay: float = 0.99,
        channel_first: bool = False,
    ) -> None:
        super().__init__()
        if update not in get_args(CodebookUpdate):
            raise ValueError(f"{type(self).__name__}: update must be 'gradient' or 'ema', got {update!r}")
        self.update: CodebookUpdate = update
        self.decay = check_number(type(self).__name__, "decay", decay, Bounds(at_least=0, below=1))
        self.num_codes = check_integer(type(self).__name__, "num_codes", num_codes)
        self.dim = check_integer(type(self).__name__, "dim", dim)
        self.channel_first = channel_first
        codebook = torch.empty(self.num_codes, self.dim)
        if update == "gradient":
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("ema_counts", torch.empty(self.num_codes, dtype=full_precision_dtype()))
            self.register_buffer("ema_sums", torch.empty(self.num_codes, self.dim, dtype=full_precision_dtype()))

    def reset_parameters(self) -> None:
        """Draws a new codebook: normal with standard deviation 0.05, truncated at 0.1."""
        nn.init.trunc_normal_(self.codebook, std=_INITIAL_STD, a=-2 * _INITIAL_STD, b=2 * _INITIAL_STD)

    def assign(self, z: Tensor) -> Tensor:
        """Finds the nearest code of each encoding.

        Returns:
            int64 ``[...]`` for ``z`` of shape ``[..., D]``, or ``[N, *spatial]`` for ``[N, D, *spatial]`` with
            ``channel_first``.
        """
        z = self._move_channels_last(z)
        # Detached: indices have no gradient, and that of the distances is not needed.
        return ops.bmu(z.detach().reshape(-1, self.dim), self.codebook.detach()).index.view(z.shape[:-1])

    def lookup(self, indices: Tensor) -> Tensor:
        """Looks up the codes of indices, the reverse of :meth:`assign`.

        Returns:
            ``[..., D]`` or, with ``channel_first``, ``[N, D, *spatial]``. The index -1 of masked positions gives zeros.
        """
        masked = indices == MASKED
        codes = F.embedding(indices.masked_fill(masked, 0), self.codebook)
        return self._restore_channel_axis(torch.where(masked[..., None], 0, codes))

    def snapshot(self) -> Tensor:
        """Returns the codebook as it is now, ``[K, D]``, differentiable, for custom losses.

        While gradients are recorded it is a copy, so that a backward pass still has these codes if :meth:`revive`, a
        new initialization or moving averages have overwritten the codebook by then.
        """
        return snapshot(self.codebook) if torch.is_grad_enabled() else self.codebook

    @torch.no_grad()
    def statistics(self, z: Tensor, indices: Tensor, mask: Tensor | None = None) -> CodeStatistics:
        """Counts and sums the encodings that each code won, for :meth:`update_codebook`.

        Args:
            z: encodings as in the forward pass; those that are not finite are ignored.
            indices: their codes, as the forward pass returned them; encodings of index -1, which marks masked ones, are
                ignored.
            mask: which encodings are real, for indices that do not come from the forward pass.

        Raises:
            ValueError: shapes that do not fit, or an index out of range.
        """
        z = self._move_channels_last(z)
        if indices.shape != z.shape[:-1]:
            raise ValueError(
                f"{type(self).__name__}.statistics: indices must have the shape of z without its features, "
                f"{list(z.shape[:-1])}, got {list(indices.shape)}"
            )
        self._check_mask(z, mask)
        rows, index = z.reshape(-1, self.dim), indices.flatten()
        is_counted = self._valid_row_mask(rows, mask) & (index != MASKED)
        # Ignored encodings become zeros of code 0, subtracted from its count: shapes stay fixed for compiled graphs.
        rows, index = torch.where(is_counted[:, None], rows, 0), torch.where(is_counted, index, 0)
        sums, counts = ops.segment_sum(rows, index, self.num_codes)
        counts[0] -= (~is_counted).sum()
        return CodeStatistics(counts, sums)

    def update_codebook(self, counts: Tensor, sums: Tensor) -> None:
        """Updates the moving averages with these :meth:`statistics` and moves the codes accordingly, in place.

        Raises:
            ValueError: statistics of another shape, or a codebook that learns by gradients.
        """
        raise NotImplementedError

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

        An optimizer that keeps moments per parameter still moves these rows by the moments of their old codes: reset
        its state in the returned rows.

        Args:
            unused: codes to replace, int64 ``[U]``, each once.
            z: encodings to draw from, as in the forward pass; drawn without replacement if there are at least U.
            generator: random generator, on the CPU wherever the codebook is; torch's global one by default.
            mask: which encodings are real, bool in the shape of their indices; all by default.

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
        rows = self.valid_rows(z, mask)
        if len(rows) == 0:
            num_dropped = z.numel() // self.dim
            suffix = f" that is finite and not masked among {num_dropped}" if num_dropped else ""
            raise ValueError(f"{name}: z must hold at least one encoding to draw from, got none{suffix}")
        if len(rows) >= len(unused):
            row_indices = torch.randperm(len(rows), generator=generator)[: len(unused)]
        else:
            row_indices = torch.randint(len(rows), unused.shape, generator=generator)
        self.codebook[unused] = rows[row_indices.to(rows.device)].to(self.codebook)
        return unused

    def _check_statistics(self, counts: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Casts the statistics of a batch to the averages' dtype and device.

        Raises:
            ValueError: statistics of another shape, or a codebook that learns by gradients.
        """
        name = f"{type(self).__name__}.update_codebook"
        if self.update != "ema":
            raise ValueError(f"{name}: update must be 'ema', got {self.update!r}")
        for argument, value, average in (("counts", counts, self.ema_counts), ("sums", sums, self.ema_sums)):
            if value.shape != average.shape:
                raise ValueError(f"{name}: {argument} must have shape {list(average.shape)}, got {list(value.shape)}")
        return counts.to(self.ema_counts), sums.to(self.ema_sums)

    def _total_average(self) -> Tensor:
        """Sum of the averaged counts, ``[1, 1]``."""
        # Not torch.sum: with many codes its order, and so its last bit, depends on the number of threads.
        zeros = torch.zeros(self.num_codes, dtype=torch.int64, device=self.ema_counts.device)
        return ops.segment_sum(self.ema_counts[:, None], zeros, 1).sum

    def _kmeans_centers(self, z: Tensor, seed: int, mask: Tensor | None, num_tries: int = 1) -> Tensor:
        """K centers ``[K, D]`` of the encodings that are real and finite, in no particular order."""
        rows = self.valid_rows(z, mask)
        if len(rows) < self.num_codes:
            raise ValueError(
                f"{type(self).__name__}.initialize_kmeans: z must hold at least K = {self.num_codes} encodings that "
                f"are finite and not masked, got {len(rows)} among {z.numel() // self.dim}"
            )
        rows = rows if rows.dtype == torch.float64 else rows.float()
        return kmeans_centers(rows, self.num_codes, seed=seed, num_tries=num_tries)

    def valid_rows(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Returns the encodings that may become codes, ``[M, D]``: real ones that are finite in the codebook's dtype.

        Args:
            z: encodings as in the forward pass.
            mask: which of them are real; all by default.

        Raises:
            ValueError: a shape that does not fit.
        """
        z = self._move_channels_last(z)
        self._check_mask(z, mask)
        rows = z.reshape(-1, self.dim)
        return rows[self._valid_row_mask(rows, mask)]

    def _valid_row_mask(self, rows: Tensor, mask: Tensor | None) -> Tensor:
        """Mask of the rows ``[M, D]`` that may become codes, bool ``[M]``: real and finite in the codebook's dtype."""
        finite = finite_row_mask(rows.to(self.codebook.dtype))
        return finite if mask is None else finite & mask.flatten()

    def _zero_masked_rows(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """Flattens z ``[..., D]`` to rows ``[M, D]``, zeros where masked: a NaN there would pass through 0 * NaN."""
        self._check_mask(z, mask)
        return (z if mask is None else torch.where(mask[..., None], z, 0)).reshape(-1, self.dim)

    def _shape_results(
        self, z: Tensor, mask: Tensor | None, quantized: Tensor, index: Tensor, *losses: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Reshapes the results of the rows of z ``[..., D]`` for the caller; masked ones become zeros and index -1."""
        shape = z.shape[:-1]
        quantized, index = quantized.view(z.shape), index.view(shape)
        reshaped_losses = [loss.view(shape) for loss in losses]
        if mask is not None:
            quantized = torch.where(mask[..., None], quantized, 0)
            index = torch.where(mask, index, MASKED)
            reshaped_losses = [torch.where(mask, loss, 0) for loss in reshaped_losses]
        return self._restore_channel_axis(quantized), index, reshaped_losses

    def _check_mask(self, z: Tensor, mask: Tensor | None) -> None:
        """
        Raises:
            ValueError: a mask that is not bool, not in the shape of z ``[..., D]`` without its features, or not on its
                device.
        """
        if mask is None:
            return
        if mask.dtype != torch.bool or mask.shape != z.shape[:-1] or mask.device != z.device:
            raise ValueError(
                f"{type(self).__name__}: mask must be of dtype bool, shape {list(z.shape[:-1])} and on {z.device}, "
                f"got {mask.dtype}, {list(mask.shape)} and {mask.device}"
            )

    def _move_channels_last(self, z: Tensor) -> Tensor:
        """Returns z as ``[..., D]``."""
        axis = 1 if self.channel_first else -1
        if z.dim() < (2 if self.channel_first else 1) or z.shape[axis] != self.dim:
            shape = "[N, D, *spatial]" if self.channel_first else "[..., D]"
            raise ValueError(
                f"{type(self).__name__}: z must have shape {shape} with D = {self.dim}, got {list(z.shape)}"
            )
        return z.movedim(1, -1) if self.channel_first else z

    def _restore_channel_axis(self, z: Tensor) -> Tensor:
        """Returns z of shape ``[..., D]`` in the caller's layout."""
        return z.movedim(-1, 1) if self.channel_first else z
