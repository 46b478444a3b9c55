"""What a model or map was trained on, so that the same data can be found again, and others treated like them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from somvae_ext.config_checks import Bounds, check_fields, check_object, config_from_section
from somvae_ext.data.catalog import load
from somvae_ext.data.folds import SplitName
from somvae_ext.data.row_stream import RowStream
from somvae_ext.data.rows import load_rows
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.series import InterpolatedSeries, Recipe
from somvae_ext.data.splits import Kind, Splits
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table

AnySplits = Splits[Samples] | Splits[InterpolatedSeries]

_SERIES = "-series"
_ANY = Bounds(at_least=0)
_NUMBER = Bounds()
_PARTS: dict[str, Any] = {"scaling": Scaling, "table": TableFormat}  # fields that are records of their own


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The arguments of :func:`~somvae_ext.data.load`, and what came of them.

    Args:
        name: of a data set, or an absolute path.
        root, seed, recipe, num_series, split, fold, image_size, table, missing: see :func:`~somvae_ext.data.load`.
        kind: what the data turned out to be.
        scaling: what was done to their values.
        feature_names: of a table.
        fill: values of the features that stand in place of missing ones.
        fingerprint: a hash of all values, labels and masks.
        class_names: of the labels 0, 1, ..., where these stand for text.

    Raises:
        ValueError: a field that holds something else.
    """

    name: str
    root: str
    seed: int
    recipe: Recipe
    num_series: int | None
    kind: Kind
    split: SplitName
    fold: int
    image_size: int | None
    table: TableFormat
    missing: Missing
    scaling: Scaling
    feature_names: tuple[str, ...] | None
    fill: tuple[float, ...] | None
    fingerprint: str
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_fields(self, seed=_ANY, fold=_ANY, fill=_NUMBER)

    @classmethod
    def from_splits(cls, arguments: dict[str, Any], splits: AnySplits) -> Self:
        """
        Args:
            arguments: of :func:`~somvae_ext.data.load`, the first one as ``name``; without ``download``.
            splits: what it gave.
        """
        load_arguments: dict[str, Any] = {"table": TableFormat(), "missing": "error"} | arguments
        return cls(
            **load_arguments
            | {
                "kind": splits.kind,
                "scaling": splits.scaling,
                "feature_names": splits.train.feature_names,
                "fill": splits.fill,
                "table": splits.table or load_arguments["table"],
                "fingerprint": _fingerprint(arguments, splits),
                "class_names": getattr(splits.train, "class_names", None),
            }
        )

    def load(self, *, download: bool = False) -> AnySplits:
        """Loads the recorded data, split as before."""
        return load(self.name, **self._arguments(), download=download)

    def matches(self, splits: AnySplits) -> bool:
        """Whether these splits hold the recorded data, value for value."""
        return _fingerprint({"name": self.name} | self._arguments(), splits) == self.fingerprint

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; :meth:`from_dict` reads it."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The record that :meth:`to_dict` wrote down.

        Raises:
            ValueError: it is none.
        """
        return config_from_section(cls, _with_parts(check_object(values), "scaling", "table"))

    def _arguments(self) -> dict[str, Any]:
        # The kind of the scaling that came of the default one gives the same scaling.
        names = ("root", "seed", "recipe", "num_series", "kind", "split", "fold", "image_size", "table", "missing")
        return {name: getattr(self, name) for name in names} | {"scaling": self.scaling.kind}


@dataclasses.dataclass(frozen=True)
class RowsRecord:
    """The arguments of :func:`~somvae_ext.data.rows.load_rows`, and what came of them.

    Args:
        name: of a data set, or an absolute path.
        root, kind, table, missing: see :func:`~somvae_ext.data.rows.load_rows`.
        fill: values of the features that stand in place of missing ones.
        image_shape: ``(C, H, W)`` of rows that are images.
        fingerprint: a hash of all rows and labels.

    Raises:
        ValueError: a field that holds something else.
    """

    name: str
    root: str
    kind: Kind | None
    table: TableFormat
    missing: Missing
    fill: tuple[float, ...] | None
    image_shape: tuple[int, ...] | None
    fingerprint: str

    def __post_init__(self) -> None:
        check_fields(self, fill=_NUMBER)

    @classmethod
    def from_table(cls, arguments: dict[str, Any], table: Table, fill: tuple[float, ...] | None) -> Self:
        """
        Args:
            arguments: of :func:`~somvae_ext.data.rows.load_rows`, the first one as ``name``; without ``download``.
            table: what it gave, gaps filled.
            fill: what they were filled with.
        """
        return cls(
            **arguments | {"table": table.format or arguments["table"]},
            fill=fill,
            image_shape=table.image_shape,
            fingerprint=table.fingerprint(),
        )

    def load(self, *, download: bool = False) -> Table:
        """The rows as they are now, unscaled; :meth:`Table.fingerprint` tells whether their values have changed."""
        table, _ = load_rows(
            self.name, root=self.root, download=download, kind=self.kind, table=self.table, missing=self.missing
        )
        return table

    def stream(
        self,
        path: Path,
        dim: int,
        features: Sequence[str] | None,
        table: TableFormat | None = None,
        *,
        with_columns: bool = False,
    ) -> RowStream:
        """Other rows with the same features, unscaled, gaps filled.

        Args:
            path: where they are.
            dim: features of the training data.
            features: their names, where they have any.
            table: how a table is written, if not like that of the training data.
            with_columns: whether the blocks have the columns of the file.
        """
        return RowStream(
            path,
            dim,
            kind=self.kind,
            table=table or self.table,
            missing=self.missing,
            features=features,
            fill=self.fill,
            with_columns=with_columns,
        )

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; :meth:`from_dict` reads it."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The record that :meth:`to_dict` wrote down.

        Raises:
            ValueError: it is none.
        """
        return config_from_section(cls, _with_parts(check_object(values), "table"))


def _to_dict(record: DataRecord | RowsRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    parts = {name: getattr(record, name).to_dict() for name in _PARTS if name in values}
    return values | parts


def _with_parts(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The values of a record with its parts of these names instead of what JSON holds of them."""
    parts: dict[str, Any] = {}
    for name in names:
        try:
            parts[name] = _PARTS[name].from_dict(values.get(name))
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be used: {error}") from error
    return values | parts


def _fingerprint(arguments: dict[str, Any], splits: AnySplits) -> str:
    """A hash of the parts, or, of series that are made of images, of these images: series would take long to make."""
    parts = [part for part in splits if isinstance(part, Samples)]
    if not parts:
        images = load(arguments["name"].removesuffix(_SERIES), root=arguments["root"], seed=arguments["seed"])
        parts = [part for part in images if isinstance(part, Samples)]
    return fingerprint(parts)


def fingerprint(parts: Iterable[Samples]) -> str:
    """A number, in hexadecimal digits, that other data do not have: a hash of all values, labels and masks."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for values in (part.x, part.label, part.mask):
            if values is None:
                digest.update(b"none")
                continue
            digest.update(f"{values.dtype} {list(values.shape)}".encode())
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
