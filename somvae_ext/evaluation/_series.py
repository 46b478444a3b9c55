"""Checks of the nodes of series, and the steps from one frame to the next."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_booleans, as_indices, as_integers


def as_series(
    metric: str,
    indices: ArrayLike | Tensor,
    num_nodes: int,
    mask: ArrayLike | Tensor | None,
    *,
    names: tuple[str, str] = ("indices", "mask"),
) -> tuple[Tensor, Tensor]:
    """Returns the node of each frame, int64 ``[B, T]``, and which frames are real, bool ``[B, T]``.

    Both are on the device of ``indices``. ``names`` are the caller's names of ``indices`` and ``mask``, for errors.

    Raises:
        ValueError: nodes that are not integers, nodes of real frames out of range, or wrong shapes.
    """
    name, mask_name = names
    nodes = as_integers(metric, name, indices)
    if nodes.dim() != 2:
        raise ValueError(f"{metric}: {name} must have shape [B, T], got {list(nodes.shape)}")
    if mask is None:
        return as_indices(metric, name, nodes, num_nodes), torch.ones_like(nodes, dtype=torch.bool)
    is_real = as_booleans(metric, mask_name, mask).to(nodes.device)
    if is_real.shape != nodes.shape:
        raise ValueError(
            f"{metric}: {mask_name} must have the shape of {name}, {list(nodes.shape)}, got {list(is_real.shape)}"
        )
    as_indices(metric, name, nodes[is_real], num_nodes)
    return nodes, is_real


def steps_between(nodes: Tensor, is_real: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the nodes before and after each step between two real frames, int64 ``[number of steps]`` each."""
    is_step = is_real[:, :-1] & is_real[:, 1:]
    return nodes[:, :-1][is_step], nodes[:, 1:][is_step]
