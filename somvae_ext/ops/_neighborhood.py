"""Operations over the winner and its grid neighbors."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import _native
from somvae_ext.exportable import exportable
from somvae_ext.grid import Grid
from somvae_ext.ops import _arguments
from somvae_ext.ops._bmu import bmu_reference

Border = Literal["zero", "mask"]


@exportable
class SOMLosses(NamedTuple):
    """Per-row losses, summed over features."""

    commitment: Tensor
    som: Tensor


@exportable
class SOMHead(NamedTuple):
    """Winners of the rows, their codes, and the losses of :class:`SOMLosses`."""

    quantized: Tensor
    commitment: Tensor
    som: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index


@exportable
class SegmentSum(NamedTuple):
    """Sums and counts of the rows of each segment."""

    sum: Tensor
    count: Tensor  # type: ignore[assignment]  # shadows tuple.count


def som_gather(codebook: Tensor, index: Tensor, grid: Grid, *, validate: bool = False) -> Tensor:
    """Gathers the codes of winners and of their grid neighbors.

    Args:
        codebook: ``[K, D]``, K = ``grid.num_nodes``; float32, float64, float16 or bfloat16.
        index: winners, int64 ``[N]``, same device.
        grid: the map's grid; S = ``grid.num_slots``.
        validate: check the index on CUDA too, which waits for the device. On the CPU it is always checked.

    Returns:
        ``[N, 1 + S, D]`` in the codebook's dtype: the winner first, then the neighbors in the grid's slot order.
        Absent neighbors are zeros and receive no gradient. Differentiable in ``codebook``. An index out of range on
        CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device, a codebook that does not have K rows, or an index out of range.
    """
    _arguments.check_tensors("som_gather", codebook=codebook, index=index)
    _arguments.check_grid("som_gather", grid)
    if validate and index.is_cuda:
        _arguments.check_index_range("som_gather", "index", index, grid.num_nodes)
    if _native.available:
        return torch.ops.somvae_ext.som_gather(codebook, index, grid.neighbors(codebook.device))
    return som_gather_reference(codebook, index, grid)


def som_gather_reference(codebook: Tensor, index: Tensor, grid: Grid) -> Tensor:
    """Computes :func:`som_gather` in pure torch, with one padded gather."""
    _check_codebook_and_index("som_gather", codebook, index, grid, {})
    nodes, present = _winner_and_neighbors(index, grid)
    codes = _arguments.full_precision(codebook)  # so that the gradient is added up in float32
    return torch.where(present[..., None], F.embedding(nodes, codes), 0).to(codebook.dtype)


def som_losses(
    z: Tensor, codebook: Tensor, index: Tensor, grid: Grid, *, border: Border = "zero", validate: bool = False
) -> SOMLosses:
    """Computes the commitment and SOM loss of each row, without the ``[N, 1 + S, D]`` tensor of neighbors.

    With w = ``index[n]`` (Fortuin et al. 2019, arXiv 1806.02199, eqs. 1 and 2; sums over features, not means)::

        commitment[n] = |z_n - e_w|^2
        som[n]        = |sg[z_n] - e_w|^2 + sum over neighbors j of w of |sg[z_n] - e_j|^2

    sg is stop-gradient: the SOM term moves the codes, never ``z``. As in the published code, the winner is part of
    the SOM term.

    Args:
        z: ``[N, D]``; float32, float64, float16 or bfloat16.
        codebook: ``[K, D]``, K = ``grid.num_nodes``, same dtype and device.
        index: winners, int64 ``[N]``.
        grid: the map's grid.
        border: what an absent neighbor adds to ``som``: ``"zero"``, ``|z|^2``, as if its code were zero (the
            published behavior; no gradient), or ``"mask"``, nothing.
        validate: check the index on CUDA too, which waits for the device. On the CPU it is always checked.

    Returns:
        ``commitment`` and ``som``, ``[N]``, float32 (float64 for float64 inputs). Differentiable in ``z`` and
        ``codebook``. An index out of range on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, an index out of range, or an unknown ``border``.

    Under autocast the losses are computed in float32.
    """
    _arguments.check_tensors("som_losses", z=z, codebook=codebook, index=index)
    _arguments.check_grid("som_losses", grid)
    _check_border("som_losses", border)
    if validate and index.is_cuda:
        _arguments.check_index_range("som_losses", "index", index, grid.num_nodes)
    if _native.available:
        neighbors = grid.neighbors(z.device)
        return SOMLosses(*torch.ops.somvae_ext.som_losses(z, codebook, index, neighbors, border == "mask"))
    return som_losses_reference(_arguments.autocast(z), _arguments.autocast(codebook), index, grid, border=border)


def som_losses_reference(
    z: Tensor, codebook: Tensor, index: Tensor, grid: Grid, *, border: Border = "zero"
) -> SOMLosses:
    """Computes :func:`som_losses` in pure torch, over the gathered neighbors."""
    _check_border("som_losses", border)
    sizes: dict[str, int] = {}
    _arguments.check_floating("som_losses", z=z, codebook=codebook)
    _arguments.check_shape("som_losses", "z", z, "N D", sizes)
    _check_codebook_and_index("som_losses", codebook, index, grid, sizes)
    z, codebook = _arguments.full_precision(z), _arguments.full_precision(codebook)
    nodes, present = _winner_and_neighbors(index, grid)
    commitment = (z - F.embedding(index, codebook)).square().sum(dim=1)
    codes = torch.where(present[..., None], F.embedding(nodes, codebook), 0)  # (N, 1 + S, D)
    squares = (z.detach()[:, None] - codes).square().sum(dim=2)
    if border == "mask":
        squares = torch.where(present, squares, 0)
    return SOMLosses(commitment, squares.sum(dim=1))


def som_head(
    z: Tensor, codebook: Tensor, grid: Grid, *, border: Border = "zero", straight_through: bool = False
) -> SOMHead:
    """Computes the best matching units of a SOM-VAE's rows, their codes, commitment and SOM loss in one call.

    ``index`` equals that of :func:`~somvae_ext.ops.bmu`, and ``commitment`` and ``som`` equal those of
    :func:`som_losses` for this index, bit for bit. The backward pass writes one gradient of the codebook for all three
    outputs and visits only the nodes that a row moves.

    Args:
        z: ``[N, D]``; float32, float64, float16 or bfloat16. N may be 0.
        codebook: ``[K, D]``, K = ``grid.num_nodes``, same dtype and device.
        grid: the map's grid.
        border: what an absent neighbor adds to ``som``, see :func:`som_losses`.
        straight_through: whether the gradient of ``quantized`` goes to ``z`` unchanged, as if nothing had been
            quantized (Bengio et al. 2013, arXiv 1308.3432), instead of to the winners' codes, as in a gather.

    Returns:
        ``quantized``, ``[N, D]`` in the dtype of ``z``: the winner's code, with ``straight_through`` too;
        ``commitment`` and ``som``, ``[N]``, float32 (float64 for float64 inputs), sums over the features; ``index``,
        int64 ``[N]``, not differentiable. ``commitment`` moves ``z`` and the winner, ``som`` the winner and its
        neighbors, never ``z``. An input that a backward pass does not reach gets no gradient rather than one of zeros.
        A row with a NaN has index 0 and losses of NaN: remove such rows before the call.

    Raises:
        ValueError: wrong rank, dtype, device or size, dtypes that differ, or an unknown ``border``.

    Under autocast everything runs in float32, and ``quantized`` is float32. Memory beyond inputs, outputs and gradients
    is O(N + K * D).

    Example:
        >>> import torch
        >>> codebook = torch.tensor([[0.0], [1.0], [5.0]])
        >>> head = som_head(torch.tensor([[4.0]]), codebook, Grid(1, 3), border="mask")
        >>> head.index.tolist(), head.quantized.tolist(), head.commitment.tolist(), head.som.tolist()
        ([2], [[5.0]], [1.0], [10.0])
    """
    _arguments.check_tensors("som_head", z=z, codebook=codebook)
    _arguments.check_grid("som_head", grid)
    _check_border("som_head", border)
    if _native.available:
        neighbors = grid.neighbors(z.device)
        return SOMHead(*torch.ops.somvae_ext.som_head(z, codebook, neighbors, border == "mask", straight_through))
    return som_head_reference(
        _arguments.autocast(z), _arguments.autocast(codebook), grid, border=border, straight_through=straight_through
    )


def som_head_reference(
    z: Tensor, codebook: Tensor, grid: Grid, *, border: Border = "zero", straight_through: bool = False
) -> SOMHead:
    """Computes :func:`som_head` in pure torch, from the references of its parts."""
    _check_border("som_head", border)
    sizes = {"K": grid.num_nodes}
    _arguments.check_floating("som_head", z=z, codebook=codebook)
    _arguments.check_shape("som_head", "z", z, "N D", sizes)
    _arguments.check_shape("som_head", "codebook", codebook, "K D", sizes)
    # Cast once, so that all gradients are added up in float32.
    full_z, codes = _arguments.full_precision(z), _arguments.full_precision(codebook)
    index = bmu_reference(full_z.detach(), codes.detach()).index
    losses = som_losses_reference(full_z, codes, index, grid, border=border)
    if straight_through:
        quantized = _StraightThrough.apply(full_z, F.embedding(index, codes.detach()))
    else:
        quantized = F.embedding(index, codes)
    return SOMHead(quantized.to(z.dtype), losses.commitment, losses.som, index)


def segment_sum(x: Tensor, index: Tensor, num_segments: int, *, validate: bool = False) -> SegmentSum:
    """Sums and counts the rows of each segment, such as those that a node won.

    Args:
        x: rows, ``[N, D]``; float32, float64, float16 or bfloat16.
        index: the segment of each row, int64 ``[N]``, values in [0, K).
        num_segments: number of segments K, at least 1.
        validate: check the index on CUDA too, which waits for the device. On the CPU it is always checked.

    Returns:
        ``sum``, ``[K, D]``, float32 (float64 for float64 inputs), differentiable in ``x``, and ``count``, int64
        ``[K]``. Rows are added in float64, in an order that only the sizes and ``index`` determine, and the total is
        rounded once: the result does not depend on threads or runs, and millions of rows lose no accuracy. On CUDA a
        row whose index is out of range is skipped.

    Raises:
        ValueError: wrong rank, dtype, device or size, or an index out of range.
    """
    _arguments.check_tensors("segment_sum", x=x, index=index)
    if validate and index.is_cuda:
        _arguments.check_index_range("segment_sum", "index", index, num_segments)
    if _native.available:
        return SegmentSum(*torch.ops.somvae_ext.segment_sum(x, index, num_segments))
    return segment_sum_reference(_arguments.autocast(x), index, num_segments)


def segment_sum_reference(x: Tensor, index: Tensor, num_segments: int) -> SegmentSum:
    """Computes :func:`segment_sum` in pure torch."""
    sizes: dict[str, int] = {}
    _arguments.check_floating("segment_sum", x=x)
    _arguments.check_shape("segment_sum", "x", x, "N D", sizes)
    _arguments.check_shape("segment_sum", "index", index, "N", sizes)
    _arguments.check_device("segment_sum", "index", index, "x", x)
    if num_segments < 1:
        raise ValueError(f"segment_sum: num_segments must be at least 1, got {num_segments}")
    _arguments.check_index("segment_sum", "index", index, num_segments)
    values = _arguments.full_precision(x)
    total = torch.zeros(num_segments, x.shape[1], dtype=torch.float64, device=x.device)
    total = total.index_add(0, index, values.double())
    count = torch.zeros(num_segments, dtype=torch.int64, device=x.device)
    return SegmentSum(total.to(values.dtype), count.index_add(0, index, torch.ones_like(index)))


class _StraightThrough(torch.autograd.Function):
    """Returns the codes and passes their gradient to z.

    z + (codes - z) would round, and would be NaN where z is NaN or infinite.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> Tensor:
        return codes

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


def _check_border(op: str, border: str) -> None:
    if border not in ("zero", "mask"):
        raise ValueError(f"{op}: border must be 'zero' or 'mask', got {border!r}")


def _check_codebook_and_index(op: str, codebook: Tensor, index: Tensor, grid: Grid, sizes: dict[str, int]) -> None:
    sizes["K"] = grid.num_nodes
    _arguments.check_floating(op, codebook=codebook)
    _arguments.check_shape(op, "codebook", codebook, "K D", sizes)
    _arguments.check_shape(op, "index", index, "N", sizes)
    _arguments.check_device(op, "index", index, "codebook", codebook)
    _arguments.check_index(op, "index", index, sizes["K"])


def _winner_and_neighbors(index: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """The node in each slot, winner first, ``[N, 1 + S]`` (0 where absent), and a mask of the present slots."""
    nodes = torch.cat([index[:, None], grid.neighbors(index.device)[index]], dim=1)
    return nodes.clamp_min(0), nodes >= 0
