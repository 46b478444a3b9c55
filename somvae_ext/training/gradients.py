"""Gradients between the backward pass and the optimizers: their norm, and clipping; dense ones and rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Euclidean norm of all gradients as one vector; not finite where a gradient is not, or its squares overflow.

    Sparse gradients are taken as they are, because adding up their repeated rows would copy them (and wait for a CUDA
    device): where rows repeat, it is the norm of the summands, not of the sums. See :func:`clip_gradients` for those.

    Args:
        parameters: those without a gradient do not count.
    """
    return _norm([grad._values() if grad.is_sparse else grad for _, grad in _gradients(parameters)])


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Scales all gradients by one number, so that their norm is at most ``max_norm``; smaller ones stay as they are.

    As :func:`torch.nn.utils.clip_grad_norm_`, but sparse gradients are added up where rows repeat, once for all, and
    nothing is scaled by a norm that is not finite.

    Args:
        parameters: those without a gradient do not count.
        max_norm: above 0.

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
