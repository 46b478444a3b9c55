"""The norm and the clipping of gradients, dense ones and sparse rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Computes the Euclidean norm of all gradients as one vector.

    It is not finite if a gradient is not, or if the squares overflow. Sparse gradients are not coalesced, because that
    would copy them (and wait for a CUDA device): for repeated rows it is the norm of the summands, not of the sums,
    which :func:`clip_gradients` returns.

    Args:
        parameters: parameters; those without a gradient are ignored.
    """
    return _norm([grad._values() if grad.is_sparse else grad for _, grad in _gradients(parameters)])


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scales all gradients by one factor, so that their norm is at most ``max_norm``; smaller ones stay as they are.

    It works like :func:`torch.nn.utils.clip_grad_norm_`, but coalesces sparse gradients, which stay coalesced, and
    scales nothing if the norm is not finite.

    Args:
        parameters: parameters; those without a gradient are ignored.
        max_norm: largest norm, above 0.

    Returns:
        The norm before clipping.
    """
    values = []
    for parameter, grad in _gradients(parameters):
        if grad.is_sparse:
            parameter.grad = grad = grad.coalesce()
            values.append(grad.values())
        else:
            values.append(grad)
    norm = _norm(values)
    if max_norm < norm < torch.inf:
        for value in values:
            value *= max_norm / norm
    return norm


def _gradients(parameters: Iterable[nn.Parameter]) -> Iterator[tuple[nn.Parameter, Tensor]]:
    for parameter in parameters:
        if parameter.grad is not None:
            yield parameter, parameter.grad


def _norm(values: list[Tensor]) -> float:
    return torch.nn.utils.get_total_norm(values).item() if values else 0.0
