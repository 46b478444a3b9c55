"""The data of a run: found again, and brought into the range that its model takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data import Samples
    from somvae_ext.data.record import AnySplits
    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder
    from somvae_ext.training import RunRecord


def load_run_data(folder: ResultFolder, record: RunRecord, options: Namespace) -> tuple[RunRecord, AnySplits]:
    """The data that a run was trained on, split as they were then, and the record with the place where they are now."""
    data = record.data
    if options.data_root is not None:
        data = dataclasses.replace(data, root=str(Path(options.data_root).resolve()))
    splits = clamp_splits(record.model, data.load(download=options.download))
    if not data.matches(splits):
        raise ValueError(f"{data.name}: must be what {folder.path} was trained on, but its values have changed")
    return dataclasses.replace(record, data=data), splits


def clamp_splits(model: type[Model], splits: AnySplits) -> AnySplits:
    """The splits with the values that a model can take, see :func:`clamp_to_unit_interval`."""
    from somvae_ext.data import Samples

    def clamp_part(part: Any) -> Any:
        return clamp_to_unit_interval(model, part) if isinstance(part, Samples) else part

    return splits.map(clamp_part)


def clamp_to_unit_interval(model: type[Model], samples: Samples) -> Samples:
    """Samples with the values that a model can take.

    Where it takes none outside [0, 1], those of held-out data which lie beyond all training data, by whose ends values
    are scaled, count as these ends.
    """
    return dataclasses.replace(samples, x=samples.x.clamp(0, 1)) if model.unit_interval else samples
