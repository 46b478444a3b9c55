"""Lookups in a table of transition logits, without soft-maxing the table."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import _native
from somvae_ext.exportable import exportable
from somvae_ext.ops import _arguments


@exportable
class TransitionLosses(NamedTuple):
    """``log_prob`` and ``expected_distance`` of each row, ``[N]``."""

    log_prob: Tensor
    expected_distance: Tensor


def transition_losses(
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    z: Tensor,
    codebook: Tensor,
    *,
    sparse_grad: bool = False,
    validate: bool = False,
) -> TransitionLosses:
    """:func:`transition_log_prob` and :func:`expected_distance` in one pass over the rows of the table that ``prev``
    names, and one gradient of the table for both.

    A row that several n share is read once for all of them, up to 16 at a time. Neither the softmaxed table nor
    ``[N, K]`` is stored.

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        z: encodings at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device.
        sparse_grad: give the gradient of ``logits`` as a ``torch.sparse_coo`` tensor of rows, so that a step costs
            O(N * K), not O(K * K): for :class:`somvae_ext.optim.RowAdam` or ``torch.optim.SparseAdam``. On the CPU it
            is coalesced, over the distinct nodes in ``prev``. On CUDA, and in compiled graphs, where their number is
            not known without waiting, it has N rows, of which the last may repeat a node with zeros.
        validate: check indices and range on CUDA too, which waits for the device. On the CPU they are always checked.

    Returns:
        Two tensors ``[N]``, float32 (float64 for float64 inputs). ``log_prob`` is differentiable in ``logits``,
        ``expected_distance`` in ``logits``, ``z`` and ``codebook``. Finite for any finite logits. An index out of range
        on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, an index out of range, or values beyond the range.

    On the CPU results are finite wherever float64's are. Where float32 might not hold a squared distance, because a
    value of ``z`` or ``codebook`` exceeds sqrt(max / 8D) in magnitude, which is 6.5e18 / sqrt(D), all is computed in
    float64, whose own limit of 4.7e153 / sqrt(D) is checked. On CUDA, where looking at values would wait for the
    device, a distance beyond float32 counts as infinite, and gives NaN if its probability is zero; there
    ``validate=True`` refuses values beyond the first limit.

    Under autocast it is computed in float32.
    """
    if validate and prev.is_cuda:
        _arguments.check_index_range("transition_losses", "prev", prev, logits.shape[0])
        _arguments.check_index_range("transition_losses", "cur", cur, logits.shape[0])
        check_squares("transition_losses", z, codebook)
    if _native.available:
        return TransitionLosses(
            *torch.ops.somvae_ext.transition_losses(logits, prev, cur, z, codebook, sparse_grad)[:2]
        )
    logits, z, codebook = (_arguments.autocast(tensor) for tensor in (logits, z, codebook))
    return transition_losses_reference(logits, prev, cur, z, codebook, sparse_grad=sparse_grad)


def transition_losses_reference(
    logits: Tensor, prev: Tensor, cur: Tensor, z: Tensor, codebook: Tensor, *, sparse_grad: bool = False
) -> TransitionLosses:
    """The same in pure torch, with all ``[N, K, D]`` differences."""
    sizes: dict[str, int] = {}
    _check_table("transition_losses", logits, prev, sizes)
    _check_nodes("transition_losses", "cur", cur, logits, sizes)
    _arguments.check_floating("transition_losses", logits=logits, z=z, codebook=codebook)
    _arguments.check_shape("transition_losses", "z", z, "N D", sizes)
    _arguments.check_shape("transition_losses", "codebook", codebook, "K D", sizes)
    distance = distances("transition_losses", z, codebook)
    log_prob = F.log_softmax(_rows(logits, prev, sparse_grad).to(distance.dtype), dim=1)
    losses = log_prob.gather(1, cur[:, None]).squeeze(1), (log_prob.exp() * distance).sum(dim=1)
    return TransitionLosses(*(loss.to(_arguments.full_precision(z).dtype) for loss in losses))


def transition_log_prob(
    logits: Tensor, prev: Tensor, cur: Tensor, *, sparse_grad: bool = False, validate: bool = False
) -> Tensor:
    """Log-probability of the transitions ``prev[n] -> cur[n]`` under a row softmax of the table.

    ``log P(cur | prev) = logits[prev, cur] - logsumexp_j logits[prev, j]``; only the rows in ``prev`` are read (Fortuin
    et al. 2019, arXiv 1806.02199, section 2.3).

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        sparse_grad: as in :func:`transition_losses`.
        validate: check the indices on CUDA too, which waits for the device. On the CPU they are always checked.

    Returns:
        ``[N]``, float32 (float64 for float64 inputs), differentiable in ``logits``. Finite for any finite logits. An
        index out of range on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, or an index out of range.

    Under autocast it is computed in float32.
    """
    if validate and prev.is_cuda:
        _arguments.check_index_range("transition_log_prob", "prev", prev, logits.shape[0])
        _arguments.check_index_range("transition_log_prob", "cur", cur, logits.shape[0])
    if _native.available:
        return cast(Tensor, torch.ops.somvae_ext.transition_log_prob(logits, prev, cur, sparse_grad)[0])
    return transition_log_prob_reference(_arguments.autocast(logits), prev, cur, sparse_grad=sparse_grad)


def transition_log_prob_reference(logits: Tensor, prev: Tensor, cur: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """The same in pure torch."""
    sizes: dict[str, int] = {}
    _check_table("transition_log_prob", logits, prev, sizes)
    _check_nodes("transition_log_prob", "cur", cur, logits, sizes)
    return F.log_softmax(_rows(logits, prev, sparse_grad), dim=1).gather(1, cur[:, None]).squeeze(1)


def expected_distance(
    logits: Tensor,
    prev: Tensor,
    z: Tensor,
    codebook: Tensor,
    *,
    sparse_grad: bool = False,
    validate: bool = False,
) -> Tensor:
    """Expected squared distance of each row to the codes, under the transition row of its predecessor.

    ``sum_j softmax(logits[prev[n]])_j * |z_n - e_j|^2``: the smoothness term of SOM-VAE (Fortuin et al. 2019, arXiv
    1806.02199, eq. 6), summed over features and codes. Neither the softmaxed table nor ``[N, K]`` is stored.

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        z: rows at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device.
        sparse_grad: as in :func:`transition_losses`.
        validate: check index and range on CUDA too, which waits for the device. On the CPU they are always checked.

    Returns:
        ``[N]``, float32 (float64 for float64 inputs), differentiable in ``logits``, ``z`` and ``codebook``. An index
        out of range on CUDA gives NaN. For the range of values see :func:`transition_losses`.

    Raises:
        ValueError: wrong rank, dtype, device or size, an index out of range, or values beyond the range.

    Under autocast it is computed in float32.
    """
    if validate and prev.is_cuda:
        _arguments.check_index_range("expected_distance", "prev", prev, logits.shape[0])
        check_squares("expected_distance", z, codebook)
    if _native.available:
        # The log-probability of staying costs a lookup; its gradient is zero.
        losses = torch.ops.somvae_ext.transition_losses(logits, prev, prev, z, codebook, sparse_grad)
        return cast(Tensor, losses[1])
    logits, z, codebook = (_arguments.autocast(tensor) for tensor in (logits, z, codebook))
    return expected_distance_reference(logits, prev, z, codebook, sparse_grad=sparse_grad)


def expected_distance_reference(
    logits: Tensor, prev: Tensor, z: Tensor, codebook: Tensor, *, sparse_grad: bool = False
) -> Tensor:
    """The same in pure torch, with all ``[N, K, D]`` differences."""
    sizes: dict[str, int] = {}
    _check_table("expected_distance", logits, prev, sizes)
    _arguments.check_floating("expected_distance", logits=logits, z=z, codebook=codebook)
    _arguments.check_shape("expected_distance", "z", z, "N D", sizes)
    _arguments.check_shape("expected_distance", "codebook", codebook, "K D", sizes)
    distance = distances("expected_distance", z, codebook)
    prob = F.softmax(_rows(logits, prev, sparse_grad).to(distance.dtype), dim=1)
    return (prob * distance).sum(dim=1).to(_arguments.full_precision(z).dtype)


def distances(op: str, z: Tensor, codebook: Tensor) -> Tensor:
    """All squared distances, ``[N, K]``: in float64 where float32 might not hold one, of which a probability of zero
    would make a NaN. On CUDA and in compiled graphs that is not looked at.
    """
    z, codebook = _arguments.full_precision(z), _arguments.full_precision(codebook)
    if _arguments.reads_values(z):
        limit = _arguments.largest_value_to_square(z.dtype, z.shape[1])
        if z.dtype == torch.float64:
            check_squares(op, z, codebook)
        elif _arguments.finite_beyond(z, limit) or _arguments.finite_beyond(codebook, limit):
            z, codebook = z.double(), codebook.double()
    return (z[:, None] - codebook).square().sum(dim=2)


def check_squares(op: str, z: Tensor, codebook: Tensor) -> None:
    """
    Raises:
        ValueError: a value whose squared distances the dtype that they are computed in might not hold.
    """
    dtype = _arguments.full_precision(z).dtype
    limit = _arguments.largest_value_to_square(dtype, z.shape[-1])
    for name, tensor in (("z", z), ("codebook", codebook)):
        _arguments.check_magnitude(
            op, name, tensor, limit, f"whose squared distances {_arguments.name_of(dtype)} can hold"
        )


def _check_table(op: str, logits: Tensor, prev: Tensor, sizes: dict[str, int]) -> None:
    _arguments.check_floating(op, logits=logits)
    _arguments.check_shape(op, "logits", logits, "K K", sizes)
    _check_nodes(op, "prev", prev, logits, sizes)


def _check_nodes(op: str, name: str, nodes: Tensor, logits: Tensor, sizes: dict[str, int]) -> None:
    _arguments.check_shape(op, name, nodes, "N", sizes)
    _arguments.check_device(op, name, nodes, "logits", logits)
    _arguments.check_index(op, name, nodes, sizes["K"])


def _rows(logits: Tensor, prev: Tensor, sparse_grad: bool) -> Tensor:
    """Rows ``prev`` of the table in full precision, ``[N, K]``."""
    if sparse_grad:  # casts of a sparse gradient have no backward, so look up first
        return _arguments.full_precision(F.embedding(prev, logits, sparse=True))
    # Cast first, so that the rows of the gradient are added up in full precision too.
    return F.embedding(prev, _arguments.full_precision(logits))
