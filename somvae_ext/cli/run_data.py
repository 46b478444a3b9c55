"""The data of a run: what its configuration says of them, and how they are found again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data import InterpolatedSeries, Samples, Splits
    from somvae_ext.models import Model
    from somvae_ext.training import RunFolder

    AnySplits = Splits[Samples] | Splits[InterpolatedSeries]


def data_of_run(folder: RunFolder, options: Namespace) -> tuple[dict[str, Any], AnySplits]:
    """The data that a run was trained on, split as they were then."""
    from somvae_ext.data import load
    from somvae_ext.training.run_config import data_config, fingerprint, model_config

    data = data_config(folder)
    if options.data_root is not None:
        data["root"] = str(Path(options.data_root).resolve())
    model, _ = model_config(folder)
    splits = fit_to(model, load(**load_arguments(data), download=options.download))
    if fingerprint(loaded(data, splits)) != data["fingerprint"]:
        raise ValueError(f"{data['name']}: must be what {folder.path} was trained on, but its values have changed")
    return data, splits


def fit_to(model: type[Model], splits: AnySplits) -> AnySplits:
    """The splits with the values that a model can take, see :func:`in_range_of`."""
    from somvae_ext.data import Samples

    def in_range(part: Any) -> Any:
        return in_range_of(model, part) if isinstance(part, Samples) else part

    return splits.map(in_range)


def in_range_of(model: type[Model], samples: Samples) -> Samples:
    """Samples with the values that a model can take.

    Where it takes none outside [0, 1], those of held-out data which lie beyond all training data, by whose ends values
    are scaled, count as these ends.
    """
    return dataclasses.replace(samples, x=samples.x.clamp(0, 1)) if model.unit_interval else samples


def loaded(data: dict[str, Any], splits: AnySplits) -> list[Samples]:
    """The parts of the splits, or, of series that are made of images, these images: series would take long to make."""
    from somvae_ext.data import Samples, load

    parts = [part for part in splits if isinstance(part, Samples)]
    if not parts:
        images = load(data["name"].removesuffix("-series"), root=data["root"], seed=data["seed"])
        parts = [part for part in images if isinstance(part, Samples)]
    return parts


def load_arguments(data: dict[str, Any]) -> dict[str, Any]:
    """Arguments of :func:`~somvae_ext.data.load`, which has a default for what is not there."""
    names = ("root", "seed", "recipe", "num_series", "kind", "label_column", "split", "fold", "image_size")
    return {"name_or_path": data["name"]} | {name: data[name] for name in names if name in data}
