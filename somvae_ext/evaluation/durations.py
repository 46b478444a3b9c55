"""How long series stay in a node before they move on."""

from __future__ import annotations

from typing import NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.config_checks import check_integer
from somvae_ext.evaluation._series import as_series


class StateDurations(NamedTuple):
    """The stays of some series in nodes, see :func:`state_durations`. S stays.

    ``node`` int64 ``[S]``; ``length`` int64 ``[S]``, in frames, at least 1; ``complete`` bool ``[S]``: whether the
    series was seen to come and to go, so that the stay was not longer than its length.
    """

    node: Tensor
    length: Tensor
    complete: Tensor


def state_durations(
    indices: ArrayLike | Tensor, num_nodes: int, mask: ArrayLike | Tensor | None = None
) -> StateDurations:
    """Lengths of the stays of series in nodes: runs of equal nodes in successive frames.

    A stay that begins with the first frame of its series or ends with the last one, or that borders on a frame which is
    not real, lasted for at least its length: it is censored, and ``complete`` is False. To keep only complete stays is
    simple, and favours short ones, which are cut less often.

    Args:
        indices: node of each frame, integers ``[B, T]``, 0 to K - 1, an array-like or a tensor on any device.
        num_nodes: number of nodes K.
        mask: which frames are real, bool ``[B, T]``; all by default. Those that are not may hold any integer.

    Returns:
        The stays, series by series in the order of time, on the device of ``indices``.

    Raises:
        ValueError: nodes that are not integers or out of range, or other shapes.

    Example:
        >>> node, length, complete = state_durations([[4, 4, 7, 7, 7, 2]], 8)
        >>> node.tolist(), length.tolist(), complete.tolist()
        ([4, 7, 2], [2, 3, 1], [False, True, False])
    """
    num_nodes = check_integer("state_durations", "num_nodes", num_nodes)
    nodes, is_real = as_series("state_durations", indices, num_nodes, mask)
    is_step = is_real[:, :-1] & is_real[:, 1:]
    is_stay = is_step & (nodes[:, :-1] == nodes[:, 1:])
    nowhere = is_real.new_zeros(len(is_real), min(1, is_real.shape[1]))
    # Flattened, the n-th first frame and the n-th last frame are of the same run, which lies within a series.
    first = (is_real & ~torch.cat([nowhere, is_stay], dim=1)).flatten().nonzero()[:, 0]
    last = (is_real & ~torch.cat([is_stay, nowhere], dim=1)).flatten().nonzero()[:, 0]
    is_reached = torch.cat([nowhere, is_step], dim=1).flatten()[first]
    is_left = torch.cat([is_step, nowhere], dim=1).flatten()[last]
    return StateDurations(nodes.flatten()[first], last - first + 1, is_reached & is_left)
