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
    """Computes the losses of :func:`transition_losses` on a map that is too large for a K x K table.

    For each node i the table has a logit l_ij for each of the m_i nodes j in its window (:meth:`Grid.window`) and one
    logit r_i for the remainder, the K - m_i nodes outside, which share its probability equally::

        P(j | i) = exp(l_ij) / s_i                    for j in the window       s_i = sum of exp(l_ij) over the window
        P(j | i) = exp(r_i) / s_i / (K - m_i)         for j outside                   + exp(r_i), if any node is outside

    The results are those of a K x K table with logits l_ij inside the windows and r_i - log(K - m_i) outside::

        log_prob[n]          = log P(cur[n] | prev[n])
        expected_distance[n] = sum_j P(j | prev[n]) |z_n - e_j|^2

    The sum of the distances to the nodes outside is the sum over all nodes, which has a closed form, minus the sum over
    the window, so that a call costs O(N W D + K D). Sums that do not depend on the logits are taken in float64. Their
    rounding errors are relative to the sum over all nodes: a code at 1e16 times the distance of the others leaves none
    of their digits.

    Args:
        logits: ``[K, W + 1]``: the slots of ``grid.window(radius)``, then the remainder. Absent slots, and the
            remainder where no node is outside, are ignored and receive no gradient. float32, float64, float16 or
            bfloat16.
        prev: nodes at t - 1, int64 ``[N]``, same device.
        cur: nodes at t, int64 ``[N]``.
        z: rows at t, ``[N, D]``, same dtype and device as ``logits``.
        codebook: ``[K, D]``, same dtype and device. For the log-probabilities alone D may be 0.
        grid: the map's grid, K = ``grid.num_nodes``.
        radius: radius of the windows, at least 0.
        sparse_grad: as in :func:`transition_losses`; a step then touches only the rows of the nodes in ``prev``.
        validate: check the indices and the range of values on CUDA too, which waits for the device. On the CPU they
            are always checked.

    Returns:
        Two tensors ``[N]``, float32 (float64 for float64 inputs), differentiable in ``logits``, ``z`` and ``codebook``,
        and finite for any finite logits that differ by less than the maximum of this dtype. An index out of range on
        CUDA gives NaN.

    Raises:
        ValueError: wrong rank, dtype, device or size, a radius below 0, an index out of range, or a value of
            ``codebook`` (in float64 also of ``z``) beyond sqrt(max / 8DK) in magnitude: the dtype might not hold the
            sum of its squared distances. In float32 a larger ``z`` is accepted and gives infinity, the correct result.
            On CUDA the range is checked only with ``validate``; results for values beyond it may be infinite or NaN.

    Under autocast the losses are computed in float32.

    Example:
        >>> grid = Grid(256, 256)
        >>> logits = torch.zeros(grid.num_nodes, 17 * 17 + 1)
        >>> prev, cur = torch.tensor([0, 5]), torch.tensor([300, 7])
        >>> z, codebook = torch.randn(2, 64), torch.randn(grid.num_nodes, 64)
        >>> losses = local_transition_losses(logits, prev, cur, z, codebook, grid, radius=8)
        >>> losses.log_prob.shape, losses.expected_distance.shape
        (torch.Size([2]), torch.Size([2]))
    """
    _arguments.check_tensors("local_transition_losses", logits=logits, prev=prev, cur=cur, z=z, codebook=codebook)
    _arguments.check_grid("local_transition_losses", grid)
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
    """Computes :func:`local_transition_losses` in pure torch, from ``[N, K]`` probabilities and distances."""
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
    """Expands rows ``[N, W + 1]`` of a local table, those of ``nodes`` (int64 ``[N]``), to all P(j | i), ``[N, K]``."""
    near_nodes, num_outside = _window(nodes, grid, radius)
    share = _masked(rows, near_nodes, num_outside).softmax(dim=1)
    spread = (share[:, -1] / num_outside.clamp_min(1))[:, None].expand(-1, grid.num_nodes + 1)
    # Absent slots go to an extra column, which is cut off.
    return spread.scatter(1, torch.where(near_nodes >= 0, near_nodes, grid.num_nodes), share[:, :-1])[:, :-1]


def _check_sums(op: str, z: Tensor, codebook: Tensor) -> None:
    dtype = _arguments.full_precision(z).dtype
    limit = _arguments.largest_value_to_square(dtype, z.shape[-1], codebook.shape[0])
    because = f"whose squared distances {_arguments.name_of(dtype)} can add up"
    _arguments.check_magnitude(op, "codebook", codebook, limit, because)
    if dtype == torch.float64:  # sums are taken in float64, which no float32 z overflows
        _arguments.check_magnitude(op, "z", z, limit, because)


def _window(nodes: Tensor, grid: Grid, radius: int) -> tuple[Tensor, Tensor]:
    """The windows of ``nodes``, ``[N, W]`` with -1 for absent slots, and the number of nodes outside each, ``[N]``."""
    near_nodes = grid.window_nodes(radius, nodes)
    return near_nodes, grid.num_nodes - (near_nodes >= 0).sum(dim=1)


def _masked(rows: Tensor, near_nodes: Tensor, num_outside: Tensor) -> Tensor:
    """Sets the logits ``[N, W + 1]`` to minus infinity where a slot is absent or no node is outside."""
    present = torch.cat([near_nodes >= 0, num_outside[:, None] > 0], dim=1)
    return torch.where(present, rows, -math.inf)
