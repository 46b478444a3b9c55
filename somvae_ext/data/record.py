"""Records what a model or map was trained on, so that these data can be loaded again and others treated alike."""

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
    """The arguments of :func:`~somvae_ext.data.load`, and what they led to.

    Args:
        name: name of a data set, or an absolute path.
        root, seed, recipe, num_series, split, fold, image_size, table, missing: see :func:`~somvae_ext.data.load`.
        kind: what the data turned out to be.
        scaling: how their values were scaled.
        feature_names: names of the features of a table.
        fill: values, one per feature, that replace missing ones.
        fingerprint: a hash of all values, labels and masks.
        class_names: names of the labels 0, 1, ..., if these stand for text.

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
        """Makes the record of data that were loaded.

        Args:
            arguments: the arguments of :func:`~somvae_ext.data.load`, the first one as ``name``; without ``download``.
            splits: what ``load`` returned.
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
        """Returns the record as JSON's types, which :meth:`from_dict` reads."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the record from what :meth:`to_dict` returned.

        Raises:
            ValueError: ``values`` are not such a record.
        """
        return config_from_section(cls, _with_parts(check_object(values), "scaling", "table"))

    def _arguments(self) -> dict[str, Any]:
        # The kind that the default led to gives the same scaling as the default.
        names = ("root", "seed", "recipe", "num_series", "kind", "split", "fold", "image_size", "table", "missing")
        return {name: getattr(self, name) for name in names} | {"scaling": self.scaling.kind}


@dataclasses.dataclass(frozen=True)
class RowsRecord:
    """The arguments of :func:`~somvae_ext.data.rows.load_rows`, and what they led to.

    Args:
        name: name of a data set, or an absolute path.
        root, kind, table, missing: see :func:`~somvae_ext.data.rows.load_rows`.
        fill: values, one per feature, that replace missing ones.
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
        """Makes the record of rows that were loaded.

        Args:
            arguments: the arguments of :func:`~somvae_ext.data.rows.load_rows`, the first one as ``name``; without
                ``download``.
            table: the table that ``load_rows`` returned, gaps filled.
            fill: the values that the gaps were filled with.
        """
        return cls(
            **arguments | {"table": table.format or arguments["table"]},
            fill=fill,
            image_shape=table.image_shape,
            fingerprint=table.fingerprint(),
        )

    def load(self, *, download: bool = False) -> Table:
        """Loads the rows as they are now, unscaled; :meth:`Table.fingerprint` tells whether values have changed."""
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
        """Streams other rows with the same features, unscaled and with gaps filled.

        Args:
            path: the file or folder of the rows.
            dim: number of features of the training data.
            features: names of these features, if they have any.
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
        """Returns the record as JSON's types, which :meth:`from_dict` reads."""
        return _to_dict(self)

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Makes the record from what :meth:`to_dict` returned.

        Raises:
            ValueError: ``values`` are not such a record.
        """
        return config_from_section(cls, _with_parts(check_object(values), "table"))


def _to_dict(record: DataRecord | RowsRecord) -> dict[str, Any]:
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    parts = {name: getattr(record, name).to_dict() for name in _PARTS if name in values}
    return values | parts


def _with_parts(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Replaces the parts of these names among the values of a record, given as JSON's types, with their objects."""
    parts: dict[str, Any] = {}
    for name in names:
        try:
            parts[name] = _PARTS[name].from_dict(values.get(name))
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be used: {error}") from error
    return values | parts


def _fingerprint(arguments: dict[str, Any], splits: AnySplits) -> str:
    """Hashes the parts, or the images that series are made of: making the series would take long."""
    parts = [part for part in splits if isinstance(part, Samples)]
    if not parts:
        images = load(arguments["name"].removesuffix(_SERIES), root=arguments["root"], seed=arguments["seed"])
        parts = [part for part in images if isinstance(part, Samples)]
    return fingerprint(parts)


def fingerprint(parts: Iterable[Samples]) -> str:
    """Returns a hash, in hexadecimal digits, of all values, labels and masks, by which data are recognized."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        for values in (part.x, part.label, part.mask):
            if values is None:
                digest.update(b"none")
                continue
            digest.update(f"{values.dtype} {list(values.shape)}".encode())
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
