"""Copies, for autograd to save, of tensors that change in place."""

from __future__ import annotations

import torch
from torch import Tensor


def snapshot(x: Tensor) -> Tensor:
    """Copies a tensor, differentiably, for a backward pass that may run after ``x`` has changed in place.

    Args:
        x: any tensor.

    Returns:
        The values of ``x`` as they are now; their gradient is that of ``x``.
    """
    # A compiled clone is no protection: torch's partitioner may save x and repeat the clone in the backward pass. It
    # never repeats an op that it does not know. An exported program uses only torch's ops, so that it runs anywhere.
    if torch.compiler.is_compiling() and not torch.compiler.is_exporting():
        return _opaque_clone(x)
    return x.clone()


@torch.library.custom_op("somvae_ext::snapshot", mutates_args=(), schema="(Tensor x) -> Tensor")
def _opaque_clone(x: Tensor) -> Tensor:
    return x.clone()


@_opaque_clone.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


_opaque_clone.register_autograd(lambda ctx, grad: grad)
