"""Batches of a data set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from somvae_ext.data import Samples


def batches(
    data: Dataset[dict[str, Tensor]],
    batch_size: int,
    sampler: Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> DataLoader[dict[str, Any]]:
    """A loader of dicts with the fields of ``batch_size`` items each, one under the other; the last batch may be small.

    Of :class:`~somvae_ext.data.Samples` a whole batch is taken at once, which other data sets assemble item by item.

    Args:
        data: items are dicts of tensors.
        batch_size: items of a batch.
        sampler: which items, in which order; by default each of them in its place.
        generator: what the loader draws from, torch's global one by default.
    """
    if type(data) is not Samples:  # items of its subclasses may be others
        return DataLoader(data, batch_size=batch_size, sampler=sampler, generator=generator)
    order = SequentialSampler(data) if sampler is None else sampler
    # Without a batch size the loader hands the sampler's lists to the data set as they are.
    rows = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(data, batch_size=None, sampler=rows, generator=generator)
