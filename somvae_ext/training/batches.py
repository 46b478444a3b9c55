"""Batches of a data set, cast to the dtypes of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, SequentialSampler

from somvae_ext.arrays import check_dense
from somvae_ext.data import Samples


class CastSamples(Dataset[dict[str, Tensor]]):
    """The items of a data set, cast to dtypes that a model takes.

    Samples are cast to the dtype of the model's weights: floating ones of any precision, as torch casts them, integers
    and bools if that dtype can hold them all. Integer labels are cast to int64. A model whose config has no
    ``input_shape`` may expect integers, as an embedding does, and receives its samples as they are.

    Args:
        data: items are dicts with ``x`` and optionally ``label`` and ``mask``.
        model: the model that the items are for.

    Getting an item raises a ValueError for samples that the model's dtype cannot hold: sparse or complex ones, integers
    beyond its last consecutive one, and floating ones beyond its range; and, if the model takes labels, for labels that
    are neither integers nor bools.
    """

    def __init__(self, data: Dataset[dict[str, Tensor]], model: object) -> None:
        self.data: Dataset[dict[str, Tensor]] = data.data if isinstance(data, CastSamples) else data
        self._name = type(model).__name__
        self._takes_labels = "label" in getattr(model, "batch_fields", ())
        self._dtype: torch.dtype | None = None
        if hasattr(getattr(model, "config", None), "input_shape"):
            dtypes = (parameter.dtype for parameter in cast(nn.Module, model).parameters())
            self._dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), None)

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses

    def __getitem__(self, row: Any) -> dict[str, Tensor]:
        return self._cast_item(self.data[row])

    @property
    def __getitems__(self) -> Callable[[list[int]], list[dict[str, Tensor]]]:
        """Items by a list of rows, if the data set supports it; torch's loader tests whether the method exists."""
        items = getattr(self.data, "__getitems__", None)
        if items is None:
            raise AttributeError(f"{type(self.data).__name__} has no __getitems__")
        return lambda rows: [self._cast_item(item) for item in items(rows)]

    def _cast_item(self, item: dict[str, Tensor]) -> dict[str, Tensor]:
        fields = dict(item)
        if self._dtype is not None:
            fields["x"] = _cast(self._name, torch.as_tensor(fields["x"]), self._dtype)
        if "label" in fields:
            fields["label"] = self._integers(torch.as_tensor(fields["label"]))
        return fields

    def _integers(self, label: Tensor) -> Tensor:
        if not (label.is_floating_point() or label.is_complex()):
            return label.long()
        if self._takes_labels:
            raise ValueError(
                f"{self._name}: label must be of an integer dtype, got {_dtype_name(label.dtype)}; cast it to int64"
            )
        return label


def batch_loader(
    data: Dataset[dict[str, Tensor]],
    batch_size: int,
    sampler: Iterable[int] | None = None,
    generator: torch.Generator | None = None,
) -> DataLoader[dict[str, Any]]:
    """Returns a loader of batches, dicts with the stacked fields of ``batch_size`` items; the last may be smaller.

    A batch of :class:`~somvae_ext.data.Samples` is taken at once; those of other data sets are assembled item by item.

    Args:
        data: items are dicts of tensors.
        batch_size: number of items in a batch.
        sampler: rows of the items, in the order of the batches; by default all of them in their order.
        generator: random generator of the loader; torch's global one by default.
    """
    samples = data.data if isinstance(data, CastSamples) else data
    if type(samples) is not Samples:  # subclasses may return other items
        return DataLoader(data, batch_size=batch_size, sampler=sampler, generator=generator)
    order = SequentialSampler(samples) if sampler is None else sampler
    # Without a batch size the loader passes the sampler's lists of rows to the data set as they are.
    rows = BatchSampler(order, batch_size, drop_last=False)
    return DataLoader(data, batch_size=None, sampler=rows, generator=generator)


def _cast(model: str, x: Tensor, dtype: torch.dtype) -> Tensor:
    check_dense(model, "x", x)
    if x.dtype == dtype:
        return x
    if x.is_complex() or x.is_quantized:
        _refuse(model, x, dtype, "hold real numbers", "others")
    result = x.to(dtype)
    if x.is_floating_point():
        lost = result.isinf() & x.isfinite()
        if torch.finfo(x.dtype).max > torch.finfo(dtype).max and lost.any():
            limit = torch.finfo(dtype).max
            _refuse(model, x, dtype, f"hold values of at most {limit:.6g} in magnitude", f"{x[lost][0].item():.6g}")
    elif x.dtype != torch.bool and x.numel() > 0:
        limit = _largest_integer(dtype)
        largest = x.to(torch.float64).abs().max().item()
        if largest > limit:
            _refuse(model, x, dtype, f"hold integers of at most {limit} in magnitude", f"{largest:.0f}")
    return result


def _largest_integer(dtype: torch.dtype) -> int:
    """The largest integer up to which the dtype holds all integers."""
    limit = int(2 / torch.finfo(dtype).eps)
    # Integers are compared in float64, which cannot tell the integer after its limit from the limit.
    return limit - 1 if dtype == torch.float64 else limit


def _refuse(model: str, x: Tensor, dtype: torch.dtype, must: str, actual: str) -> None:
    raise ValueError(
        f"{model}: x must {must} to be cast to the model's {_dtype_name(dtype)}, got {actual} in "
        f"{_dtype_name(x.dtype)}; scale the samples, or give the model a dtype that holds them, as model.double() does"
    )


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
