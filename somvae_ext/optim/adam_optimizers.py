"""Optimizers for models in which some parameters are tables with sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from somvae_ext.optim.row_adam import RowAdam


def build_adam_optimizers(groups: Iterable[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """Builds ``torch.optim.Adam`` for parameter groups with dense gradients, :class:`RowAdam` for sparse rows.

    Args:
        groups: parameter groups, such as :meth:`SOMVAE.parameter_groups <somvae_ext.models.SOMVAE.parameter_groups>`
            returns; ``rows`` is True in groups whose gradients are sparse rows.

    Returns:
        One optimizer for each kind of group that is present.

    Example:
        >>> from somvae_ext.models import SOMVAE, SOMVAEConfig
        >>> model = SOMVAE(SOMVAEConfig(input_shape=(8,), rows=32, cols=32, gamma=1.0, tau=1.0))
        >>> [type(optimizer).__name__ for optimizer in build_adam_optimizers(model.parameter_groups(1e-3))]
        ['Adam', 'RowAdam']
    """
    dense: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for group in groups:
        target = rows if group.get("rows", False) else dense
        target.append({name: value for name, value in group.items() if name != "rows"})
    optimizers: list[torch.optim.Optimizer] = []
    if dense:
        # fused makes one pass over parameter, gradient and moments. By default torch makes a dozen, which on the CPU
        # take a third of a small network's step.
        optimizers.append(torch.optim.Adam(dense, fused=True))
    if rows:
        optimizers.append(RowAdam(rows))
    return optimizers
