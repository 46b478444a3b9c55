"""How long series stay in a node before they move on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.config_checks import check_integer
from somvae_ext.evaluation._series import as_series


class StateDurations(NamedTuple):
    """The S stays of series in nodes, see :func:`state_durations`.

    ``node`` int64 ``[S]``: the node. ``length`` int64 ``[S]``: the number of frames, at least 1. ``complete`` bool
    ``[S]``: whether both arrival and departure were observed, so that the stay lasted exactly ``length`` frames.
    """

    node: Tensor
    length: Tensor
    complete: Tensor


def state_durations(
    indices: ArrayLike | Tensor, num_nodes: int, mask: ArrayLike | Tensor | None = None
) -> StateDurations:
    """Finds the stays of series in nodes, runs of equal nodes in successive frames, and their lengths.

    A stay that begins with the first frame of its series, ends with the last one, or borders on a frame that is not
    real lasted at least as long as its length: it is censored, and ``complete`` is False. Keeping only complete stays
    is simple, but favors short ones, which are censored less often.

    Args:
        indices: node of each frame, integers ``[B, T]``, 0 to K - 1, an array-like or a tensor on any device.
        num_nodes: number of nodes K.
        mask: which frames are real, bool ``[B, T]``; by default all. The others may hold any integer.

    Returns:
        The stays, series by series in order of time, on the device of ``indices``.

    Raises:
        ValueError: nodes that are not integers or out of range, or wrong shapes.

    Example:
        >>> node, length, complete = state_durations([[4, 4, 7, 7, 7, 2]], 8)
        >>> node.tolist(), length.tolist(), complete.tolist()
        ([4, 7, 2], [2, 3, 1], [False, True, False])
    """
    num_nodes = check_integer("state_durations", "num_nodes", num_nodes)
    nodes, is_real = as_series("state_durations", indices, num_nodes, mask)
    is_step = is_real[:, :-1] & is_real[:, 1:]
    is_stay = is_step & (nodes[:, :-1] == nodes[:, 1:])
    border = is_real.new_zeros(len(is_real), min(1, is_real.shape[1]))
    # Runs lie within series, so after flattening the n-th first frame and the n-th last frame belong to the same run.
    first = (is_real & ~torch.cat([border, is_stay], dim=1)).flatten().nonzero()[:, 0]
    last = (is_real & ~torch.cat([is_stay, border], dim=1)).flatten().nonzero()[:, 0]
    is_reached = torch.cat([border, is_step], dim=1).flatten()[first]
    is_left = torch.cat([is_step, border], dim=1).flatten()[last]
    return StateDurations(nodes.flatten()[first], last - first + 1, is_reached & is_left)
