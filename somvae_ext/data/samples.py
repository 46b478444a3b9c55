"""Data sets in memory, with the field names that models and the training loop use."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext.arrays import check_dense


@dataclasses.dataclass(frozen=True, eq=False)
class Samples(Dataset[dict[str, Tensor]]):
    """Samples or series, as a torch data set whose items are dicts of ``x`` and, if present, ``label`` and ``mask``.

    Args:
        x: samples ``[N, ...]`` or series ``[N, T, ...]``.
        label: class of each sample or series, int64 ``[N]``, or of each frame, ``[N, T]``.
        mask: for series of different lengths, bool ``[N, T]``: which frames are real.
        feature_names: names of the features on the last axis of ``x``, if they have any; not a part of the items.
        class_names: names of the labels 0, 1, ..., if these stand for text; not a part of the items.
        row_keys: what identifies each sample or series in its source, arrays ``[N]`` by name: its number there, as
            ``"index"`` or ``"series"``, or its name in a column or of a file; not a part of the items.

    Raises:
        ValueError: a sparse tensor, fields that differ in their number of rows, a mask that does not fit the series, or
            names that differ in number from the features.
    """

    x: Tensor
    label: Tensor | None = None
    mask: Tensor | None = None
    feature_names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    row_keys: Mapping[str, NDArray[Any]] | None = None

    def __post_init__(self) -> None:
        for name in ("x", "label", "mask"):
            values = getattr(self, name)
            if isinstance(values, Tensor):
                check_dense("Samples", name, values)
        if self.label is not None and self.label.shape not in (self.x.shape[:1], self.x.shape[:2]):
            raise ValueError(
                f"Samples: label must have shape [N] = [{len(self.x)}], got {list(self.label.shape)}; labels of "
                "frames have shape [N, T]"
            )
        if self.mask is not None and self.mask.shape != self.x.shape[:2]:
            raise ValueError(
                f"Samples: mask must have shape [N, T] = {list(self.x.shape[:2])}, got {list(self.mask.shape)}"
            )
        if self.feature_names is not None and self.x.shape[-1:] != (len(self.feature_names),):
            raise ValueError(
                f"Samples: feature_names must name each of the {self.x.shape[-1]} features, got "
                f"{len(self.feature_names)} names"
            )
        for name, values in (self.row_keys or {}).items():
            if len(values) != len(self.x):
                raise ValueError(
                    f"Samples: row_keys must name each of the {len(self.x)} rows, got {len(values)} {name}"
                )

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int | list[int]) -> dict[str, Tensor]:
        """Returns the fields of one sample, or the stacked fields of several."""
        fields = {"x": self.x, "label": self.label, "mask": self.mask}
        return {name: values[row] for name, values in fields.items() if values is not None}

    def rows(self, index: Tensor) -> Samples:
        """Returns a copy of the samples at ``index`` (int64, or bool ``[N]``)."""
        label = None if self.label is None else self.label[index]
        mask = None if self.mask is None else self.mask[index]
        row_keys = None
        if self.row_keys is not None:
            rows = index.cpu().numpy()
            row_keys = {name: values[rows] for name, values in self.row_keys.items()}
        return Samples(self.x[index], label, mask, self.feature_names, self.class_names, row_keys)
