"""What a model was trained on, so that the same data can be found again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any, Self

from somvae_ext.config_checks import Bounds, check_fields, check_object, config_from_section
from somvae_ext.data.catalog import load
from somvae_ext.data.folds import SplitName
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.series import InterpolatedSeries, Recipe
from somvae_ext.data.splits import Kind, Splits

AnySplits = Splits[Samples] | Splits[InterpolatedSeries]

_SERIES = "-series"
_ANY = Bounds(at_least=0)


@dataclasses.dataclass(frozen=True)
class DataRecord:
    """The arguments of :func:`~somvae_ext.data.load`, and what came of them.

    Args:
        name: of a data set, or an absolute path.
        root, seed, recipe, num_series, label_column, split, fold, image_size: see :func:`~somvae_ext.data.load`.
        kind: what the data turned out to be.
        scaling: what was done to their values.
        feature_names: of a table.
        fingerprint: a hash of all values, labels and masks.

    Raises:
        ValueError: a field that holds something else.
    """

    name: str
    root: str
    seed: int
    recipe: Recipe
    num_series: int | None
    kind: Kind
    label_column: str | None
    split: SplitName
    fold: int
    image_size: int | None
    scaling: Scaling
    feature_names: tuple[str, ...] | None
    fingerprint: str

    def __post_init__(self) -> None:
        check_fields(self, seed=_ANY, fold=_ANY)

    @classmethod
    def of(cls, arguments: dict[str, Any], splits: AnySplits) -> Self:
        """
        Args:
            arguments: of :func:`~somvae_ext.data.load`, the first one as ``name``; without ``download``.
            splits: what it gave.
        """
        return cls(
            **arguments
            | {
                "kind": splits.kind,
                "scaling": splits.scaling,
                "feature_names": splits.train.feature_names,
                "fingerprint": _fingerprint(arguments, splits),
            }
        )

    def load(self, *, download: bool = False) -> AnySplits:
        """The data, split as they were then."""
        return load(self.name, **self._arguments(), download=download)

    def describes(self, splits: AnySplits) -> bool:
        """Whether these are the data, value for value."""
        return _fingerprint({"name": self.name} | self._arguments(), splits) == self.fingerprint

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; :meth:`from_dict` reads it."""
        return {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "scaling"
        } | {"scaling": self.scaling.to_dict()}

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """The record that :meth:`to_dict` wrote down.

        Raises:
            ValueError: it is none.
        """
        values = check_object(values)
        try:
            scaling = Scaling.from_dict(values.get("scaling"))
        except ValueError as error:
            raise ValueError(f"'scaling' cannot be used: {error}") from error
        return config_from_section(cls, values | {"scaling": scaling})

    def _arguments(self) -> dict[str, Any]:
        names = ("root", "seed", "recipe", "num_series", "kind", "label_column", "split", "fold", "image_size")
        return {name: getattr(self, name) for name in names}


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
