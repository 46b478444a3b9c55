"""A data set split into parts, with what is needed to treat other data alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Generic, Literal, TypeVar

from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.series import InterpolatedSeries
from somvae_ext.data.table_format import TableFormat

Kind = Literal["static", "series"]
Part = TypeVar("Part", Samples, InterpolatedSeries)


@dataclasses.dataclass(frozen=True, eq=False)
class Splits(Generic[Part]):
    """A data set in three parts, or two: fit on ``train``, choose by ``validation``, report on ``test``.

    Iterating over it gives the parts in this order, without ``validation`` if there is none.

    Args:
        train, test: the parts, scaled.
        validation: likewise, or None if all data that are not for the test are for training.
        kind: ``"static"`` for samples without an order in time, ``"series"`` for series of frames.
        scaling: how the values were scaled, and how those of other data have to be.
        fill: values ``[F]``, one per feature, that replace missing ones, if gaps are filled.
        table: the format of the table that the data come from, completed with what the file showed.
        description: what was understood of the data, as text by title.
    """

    train: Part
    validation: Part | None
    test: Part
    kind: Kind = dataclasses.field(default="static", kw_only=True)
    scaling: Scaling = dataclasses.field(default=Scaling(), kw_only=True)
    fill: tuple[float, ...] | None = dataclasses.field(default=None, kw_only=True)
    table: TableFormat | None = dataclasses.field(default=None, kw_only=True)
    description: dict[str, str] = dataclasses.field(default_factory=dict, kw_only=True)

    def __iter__(self) -> Iterator[Part]:
        return iter(part for part in (self.train, self.validation, self.test) if part is not None)

    def map(self, change: Callable[[Part], Part]) -> Splits[Part]:
        """Applies ``change`` to each part."""
        validation = None if self.validation is None else change(self.validation)
        return dataclasses.replace(self, train=change(self.train), validation=validation, test=change(self.test))

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample, or of one frame of a series: the ``input_shape`` of a model."""
        shape = tuple(self.train[0]["x"].shape)
        return shape[1:] if self.kind == "series" else shape
