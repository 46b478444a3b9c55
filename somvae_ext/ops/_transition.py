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
    """Computes :func:`transition_log_prob` and :func:`expected_distance` in one pass over the rows that ``prev`` names.

    Both share one gradient of the table. A table row that several n share is read once for up to 16 of them. Neither
    the softmaxed table nor an ``[N, K]`` tensor is stored.

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        z: encodings at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device.
        sparse_grad: return the gradient of ``logits`` as a ``torch.sparse_coo`` tensor of rows, for
            :class:`somvae_ext.optim.RowAdam` or ``torch.optim.SparseAdam``: a step then costs O(N * K), not O(K * K).
            On the CPU the gradient is coalesced and has one row for each distinct node in ``prev``. On CUDA and in
            compiled graphs, where their number is not known without a synchronization, it has N rows, the last of
            which may repeat a node with zeros.
        validate: check the indices and the range of values on CUDA too, which waits for the device. On the CPU they
            are always checked.

    Returns:
        Two tensors ``[N]``, float32 (float64 for float64 inputs), finite for any finite logits that differ by less than
        the maximum of this dtype. ``log_prob`` is differentiable in ``logits``, ``expected_distance`` in ``logits``,
        ``z`` and ``codebook``. An index out of range on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, an index out of range, or values beyond the range.

    On the CPU, results are finite wherever they are finite in float64. A squared distance may overflow float32 if a
    value of ``z`` or ``codebook`` exceeds sqrt(max / 8D) = 6.5e18 / sqrt(D) in magnitude; everything is then computed
    in float64, whose own limit of 4.7e153 / sqrt(D) is checked. On CUDA, where reading values would wait for the
    device, a distance beyond float32 counts as infinite, and gives NaN if its probability is zero; with
    ``validate=True``, values beyond the first limit are refused there.

    Under autocast the losses are computed in float32.
    """
    _arguments.check_tensors("transition_losses", logits=logits, prev=prev, cur=cur, z=z, codebook=codebook)
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
    """Computes :func:`transition_losses` in pure torch, from all ``[N, K, D]`` differences."""
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
    """Computes the log-probability of the transitions ``prev[n] -> cur[n]`` under a row softmax of the table.

    ``log P(cur | prev) = logits[prev, cur] - logsumexp_j logits[prev, j]`` (Fortuin et al. 2019, arXiv 1806.02199,
    section 2.3). Only the rows in ``prev`` are read.

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        sparse_grad: as in :func:`transition_losses`.
        validate: check the indices on CUDA too, which waits for the device. On the CPU they are always checked.

    Returns:
        ``[N]``, float32 (float64 for float64 inputs), differentiable in ``logits``. Finite for any finite logits that
        differ by less than the maximum of this dtype. An index out of range on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, or an index out of range.

    Under autocast the log-probability is computed in float32.
    """
    _arguments.check_tensors("transition_log_prob", logits=logits, prev=prev, cur=cur)
    if validate and prev.is_cuda:
        _arguments.check_index_range("transition_log_prob", "prev", prev, logits.shape[0])
        _arguments.check_index_range("transition_log_prob", "cur", cur, logits.shape[0])
    if _native.available:
        return cast(Tensor, torch.ops.somvae_ext.transition_log_prob(logits, prev, cur, sparse_grad)[0])
    return transition_log_prob_reference(_arguments.autocast(logits), prev, cur, sparse_grad=sparse_grad)


def transition_log_prob_reference(logits: Tensor, prev: Tensor, cur: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """Computes :func:`transition_log_prob` in pure torch."""
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
    """Computes the expected squared distance of each row to the codes, under the transition row of its predecessor.

    ``sum_j softmax(logits[prev[n]])_j * |z_n - e_j|^2``: the smoothness term of SOM-VAE (Fortuin et al. 2019, arXiv
    1806.02199, eq. 6), summed over features and codes. Neither the softmaxed table nor an ``[N, K]`` tensor is stored.

    Args:
        logits: table, ``[K, K]``, row = from, column = to; float32, float64, float16 or bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        z: rows at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device.
        sparse_grad: as in :func:`transition_losses`.
        validate: check the index and the range of values on CUDA too, which waits for the device. On the CPU they are
            always checked.

    Returns:
        ``[N]``, float32 (float64 for float64 inputs), differentiable in ``logits``, ``z`` and ``codebook``. An index
        out of range on CUDA gives NaN. For the range of values see :func:`transition_losses`.

    Raises:
        ValueError: wrong rank, dtype, device or size, an index out of range, or values beyond the range.

    Under autocast the distance is computed in float32.
    """
    _arguments.check_tensors("expected_distance", logits=logits, prev=prev, z=z, codebook=codebook)
    if validate and prev.is_cuda:
        _arguments.check_index_range("expected_distance", "prev", prev, logits.shape[0])
        check_squares("expected_distance", z, codebook)
    if _native.available:
        # cur = prev: the log-probability, which is not used, costs one lookup, and its gradient is zero.
        losses = torch.ops.somvae_ext.transition_losses(logits, prev, prev, z, codebook, sparse_grad)
        return cast(Tensor, losses[1])
    logits, z, codebook = (_arguments.autocast(tensor) for tensor in (logits, z, codebook))
    return expected_distance_reference(logits, prev, z, codebook, sparse_grad=sparse_grad)


def expected_distance_reference(
    logits: Tensor, prev: Tensor, z: Tensor, codebook: Tensor, *, sparse_grad: bool = False
) -> Tensor:
    """Computes :func:`expected_distance` in pure torch, from all ``[N, K, D]`` differences."""
    sizes: dict[str, int] = {}
    _check_table("expected_distance", logits, prev, sizes)
    _arguments.check_floating("expected_distance", logits=logits, z=z, codebook=codebook)
    _arguments.check_shape("expected_distance", "z", z, "N D", sizes)
    _arguments.check_shape("expected_distance", "codebook", codebook, "K D", sizes)
    distance = distances("expected_distance", z, codebook)
    prob = F.softmax(_rows(logits, prev, sparse_grad).to(distance.dtype), dim=1)
    return (prob * distance).sum(dim=1).to(_arguments.full_precision(z).dtype)


def distances(op: str, z: Tensor, codebook: Tensor) -> Tensor:
    """Computes all squared distances, ``[N, K]``.

    They are in float64 if one might overflow float32, for infinity times a probability of zero is NaN. On CUDA and in
    compiled graphs this is not checked.
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
    """Checks that squared distances cannot overflow the dtype in which they are computed.

    Raises:
        ValueError: a value of ``z`` or ``codebook`` that is too large.
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
    if sparse_grad:  # look up first: a cast has no backward for sparse gradients
        return _arguments.full_precision(F.embedding(prev, logits, sparse=True))
    # Cast first, so that the rows of the gradient are added up in full precision too.
    return F.embedding(prev, _arguments.full_precision(logits))
