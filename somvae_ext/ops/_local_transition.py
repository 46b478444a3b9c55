"""Lookups in a table of transition logits that holds, for each node, only the nodes near it on the map."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import _native
from somvae_ext.grid import Grid
from somvae_ext.ops import _arguments
from somvae_ext.ops._transition import TransitionLosses, _check_nodes, _rows, distances


def local_transition_losses(
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    z: Tensor,
    codebook: Tensor,
    grid: Grid,
    radius: int,
    *,
    sparse_grad: bool = False,
    validate: bool = False,
) -> TransitionLosses:
    """Log-probability of transitions and expected squared distance under them, on a map too big for a K x K table.

    For each node i the table has a logit l_ij for each node j in its window (:meth:`Grid.window`) and one, r_i, for the
    remainder, the K - m_i nodes outside together, each of which is as likely as the others::

        P(j | i) = exp(l_ij) / s_i                    for j in the window       s_i = sum of exp(l_ij) over the window
        P(j | i) = exp(r_i) / s_i / (K - m_i)         for j outside                   + exp(r_i), if any node is outside

    That is a table of K x K logits, l_ij inside and r_i - log(K - m_i) outside, with the same results::

        log_prob[n]          = log P(cur[n] | prev[n])
        expected_distance[n] = sum_j P(j | prev[n]) |z_n - e_j|^2

    The distances to the nodes outside have a closed form, the sum over all nodes less that over the window, so that a
    call costs O(N W D + K D). What does not depend on the logits is summed up in float64; rounding errors are relative
    to the sum over all nodes, so that a code with 1e16 times the distance of the others leaves none of their digits.

    Args:
        logits: ``[K, W + 1]``: the slots of ``grid.window(radius)``, then the remainder. Absent slots, and the
            remainder where no node is outside, take no part and have no gradient. float32, float64, float16 or
            bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        z: rows at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device. For the log-probabilities alone D may be 0.
        grid: the map's grid, K = ``grid.num_nodes``.
        radius: of the window.
        sparse_grad: as in :func:`transition_losses`, so that a step does not touch all of the table.
        validate: check indices and range on CUDA too, which waits for the device. On the CPU they are always checked.

    Returns:
        ``[N]`` each, float32 (float64 for float64 inputs), differentiable in ``logits``, ``z`` and ``codebook``. Finite
        for any finite logits. An index out of range on CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, a radius below 0, an index out of range, or codes beyond
            sqrt(max / 8DK) in magnitude, of which float32 (or float64) cannot hold the sum of the squared distances;
            for float64 the same of ``z``. In float32 a ``z`` beyond it gives the infinity that is its result. On CUDA
            the range is checked with ``validate`` alone; beyond it results may be infinite or NaN.

    Under autocast it is computed in float32.

    Example:
        >>> grid = Grid(256, 256)
        >>> logits = torch.zeros(grid.num_nodes, 17 * 17 + 1)
        >>> prev, cur = torch.tensor([0, 5]), torch.tensor([300, 7])
        >>> z, codebook = torch.randn(2, 64), torch.randn(grid.num_nodes, 64)
        >>> losses = local_transition_losses(logits, prev, cur, z, codebook, grid, radius=8)
        >>> losses.log_prob.shape, losses.expected_distance.shape
        (torch.Size([2]), torch.Size([2]))
    """
    if validate and prev.is_cuda:
        _arguments.check_index_range("local_transition_losses", "prev", prev, grid.num_nodes)
        _arguments.check_index_range("local_transition_losses", "cur", cur, grid.num_nodes)
        _check_sums("local_transition_losses", z, codebook)
    if _native.available:
        window = grid.window(radius, logits.device)
        outputs = torch.ops.somvae_ext.local_transition_losses(
            logits, prev, cur, z, codebook, window.offsets, window.mirror, grid.rows, grid.cols, grid.periodic,
            sparse_grad,
        )  # fmt: skip
        return TransitionLosses(outputs[0], outputs[1])
    logits, z, codebook = (_arguments.autocast(tensor) for tensor in (logits, z, codebook))
    return local_transition_losses_reference(logits, prev, cur, z, codebook, grid, radius, sparse_grad=sparse_grad)


def local_transition_losses_reference(
    logits: Tensor,
    prev: Tensor,
    cur: Tensor,
    z: Tensor,
    codebook: Tensor,
    grid: Grid,
    radius: int,
    *,
    sparse_grad: bool = False,
) -> TransitionLosses:
    """The same in pure torch: the rows in ``prev`` as rows of a K x K table, and all ``[N, K]`` distances."""
    op, nodes = "local_transition_losses", grid.num_nodes
    window = grid.window(radius, logits.device)
    slots = len(window.mirror)
    sizes: dict[str, int] = {}
    _arguments.check_floating(op, logits=logits)
    if logits.shape != (nodes, slots + 1):
        raise ValueError(
            f"{op}: logits must have shape [K, W + 1] with K = {nodes}, W = {slots}, got {list(logits.shape)}"
        )
    sizes["K"] = nodes
    _check_nodes(op, "prev", prev, logits, sizes)
    _check_nodes(op, "cur", cur, logits, sizes)
    _arguments.check_floating(op, logits=logits, z=z, codebook=codebook)
    _arguments.check_shape(op, "z", z, "N D", sizes)
    _arguments.check_shape(op, "codebook", codebook, "K D", sizes)

    if _arguments.reads_values(z):
        _check_sums(op, z, codebook)
    distance = distances(op, z, codebook)
    rows = _rows(logits, prev, sparse_grad).to(distance.dtype)
    expected = (local_probabilities(rows, prev, grid, radius) * distance).sum(dim=1)
    near_nodes, num_outside = _window(prev, grid, radius)
    log_probs = F.log_softmax(_masked(rows, near_nodes, num_outside), dim=1)
    is_target = near_nodes == cur[:, None]
    log_prob_inside = torch.where(is_target, log_probs[:, :-1], 0).sum(dim=1)
    log_prob_outside = log_probs[:, -1] - num_outside.clamp_min(1).to(rows.dtype).log()
    losses = torch.where(is_target.any(dim=1), log_prob_inside, log_prob_outside), expected
    return TransitionLosses(*(loss.to(_arguments.full_precision(z).dtype) for loss in losses))


def local_probabilities(rows: Tensor, nodes: Tensor, grid: Grid, radius: int) -> Tensor:
    """P(j | i) for all j, ``[N, K]``, from the rows ``[N, W + 1]`` of a local table of ``nodes``, int64 ``[N]``."""
    near_nodes, num_outside = _window(nodes, grid, radius)
    share = _masked(rows, near_nodes, num_outside).softmax(dim=1)
    spread = (share[:, -1] / num_outside.clamp_min(1))[:, None].expand(-1, grid.num_nodes + 1)
    # What the absent slots hold goes to a column of their own.
    return spread.scatter(1, torch.where(near_nodes >= 0, near_nodes, grid.num_nodes), share[:, :-1])[:, :-1]


def _check_sums(op: str, z: Tensor, codebook: Tensor) -> None:
    dtype = _arguments.full_precision(z).dtype
    limit = _arguments.largest_value_to_square(dtype, z.shape[-1], codebook.shape[0])
    because = f"whose squared distances {_arguments.name_of(dtype)} can add up"
    _arguments.check_magnitude(op, "codebook", codebook, limit, because)
    if dtype == torch.float64:  # sums are of this dtype in any case
        _arguments.check_magnitude(op, "z", z, limit, because)


def _window(nodes: Tensor, grid: Grid, radius: int) -> tuple[Tensor, Tensor]:
    """The windows of nodes ``[N]``, ``[N, W]`` with -1 for absent slots, and how many nodes are outside, ``[N]``."""
    near_nodes = grid.window_nodes(radius, nodes)
    return near_nodes, grid.num_nodes - (near_nodes >= 0).sum(dim=1)


def _masked(rows: Tensor, near_nodes: Tensor, num_outside: Tensor) -> Tensor:
    """The logits ``[N, W + 1]``, minus infinity where a slot is absent or nothing is outside."""
    takes_part = torch.cat([near_nodes >= 0, num_outside[:, None] > 0], dim=1)
    return torch.where(takes_part, rows, -math.inf)
