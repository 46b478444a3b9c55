"""The optimizers of a model of which some parameters are tables with sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from somvae_ext.optim.row_adam import RowAdam


def build_adam_optimizers(groups: Iterable[dict[str, Any]]) -> list[torch.optim.Optimizer]:
    """``torch.optim.Adam`` for parameter groups with dense gradients, :class:`RowAdam` for those with sparse rows.

    Args:
        groups: parameter groups, such as :meth:`SOMVAE.parameter_groups <somvae_ext.models.SOMVAE.parameter_groups>`
            gives; ``rows`` is True in those whose gradients are sparse rows.

    Returns:
        One or two optimizers: none of a kind that has no group.

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
        # One pass over parameter, gradient and moments; by default torch makes a dozen, which on the CPU take a third
        # of a step of a small network.
        optimizers.append(torch.optim.Adam(dense, fused=True))
    if rows:
        optimizers.append(RowAdam(rows))
    return optimizers
