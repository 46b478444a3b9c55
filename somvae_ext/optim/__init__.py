"""Optimizers for tables of which each step touches only a few rows."""

from somvae_ext.optim.adam_optimizers import build_adam_optimizers
from somvae_ext.optim.row_adam import RowAdam

__all__ = ["RowAdam", "build_adam_optimizers"]
