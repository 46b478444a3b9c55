"""Optimizers for tables of which a step touches few rows."""

from somvae_ext.optim.adam_and_rows import adam_and_rows
from somvae_ext.optim.row_adam import RowAdam

__all__ = ["RowAdam", "adam_and_rows"]
