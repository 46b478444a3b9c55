"""The simplest forecast of a series' next node, as a baseline for chains."""

from __future__ import annotations

import math

from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.config_checks import check_integer
from somvae_ext.evaluation._series import as_series, steps_between


def persistence_nll(
    train_indices: ArrayLike | Tensor,
    indices: ArrayLike | Tensor,
    num_nodes: int,
    train_mask: ArrayLike | Tensor | None = None,
    mask: ArrayLike | Tensor | None = None,
) -> float:
    """Computes the negative log-likelihood of a forecast that series stay where they are, in nats per step.

    The next node is the last one with probability p = (stays + 1) / (steps + 2), counted on the training series, and
    each of the K - 1 others with probability (1 - p) / (K - 1). A learned chain is worth its parameters if
    :meth:`TransitionModel.negative_log_likelihood <somvae_ext.nn.TransitionModel.negative_log_likelihood>` is lower on
    the same series.

    Args:
        train_indices: node of each frame of the training series, integers ``[B, T]``, 0 to K - 1, an array-like or a
            tensor on any device.
        indices: node of each frame of the series to forecast, likewise, ``[B', T']``.
        num_nodes: number of nodes K.
        train_mask: which frames of the training series are real, bool ``[B, T]``; by default all. The others may hold
            any integer, and no step leads from or to them.
        mask: which frames of the series to forecast are real, likewise, ``[B', T']``.

    Returns:
        The mean over the steps of ``indices``; 0 for K = 1, and NaN if there is no step.

    Raises:
        ValueError: nodes that are not integers or out of range, or wrong shapes.

    Example:
        >>> persistence_nll([[0, 0, 0, 1]], [[2, 2, 1]], 3)  # p = 3 / 5: -log(3 / 5) for the stay, -log(1 / 5) to move
        1.0601317681000455
    """
    num_nodes = check_integer("persistence_nll", "num_nodes", num_nodes)
    trained = as_series("persistence_nll", train_indices, num_nodes, train_mask, names=("train_indices", "train_mask"))
    train_stays, train_moves = _count_stays_and_moves(*trained)
    stays, moves = _count_stays_and_moves(*as_series("persistence_nll", indices, num_nodes, mask))
    if stays + moves == 0:
        return math.nan
    if num_nodes == 1:
        return 0.0
    train_steps = train_stays + train_moves
    log_stay = math.log((train_stays + 1) / (train_steps + 2))
    log_move = math.log((train_moves + 1) / (train_steps + 2) / (num_nodes - 1))
    return -(stays * log_stay + moves * log_move) / (stays + moves)


def _count_stays_and_moves(nodes: Tensor, is_real: Tensor) -> tuple[int, int]:
    origin, target = steps_between(nodes, is_real)
    stays = int((origin == target).sum())
    return stays, len(origin) - stays
