"""Loads the data of a run again, and clamps them to the range that its model takes."""

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
    """Loads the data that a run was trained on, split as they were then.

    Returns:
        The run's record, with the present location of the data, and the splits.

    Raises:
        ValueError: the values of the data have changed.
    """
    data = record.data
    if options.data_root is not None:
        data = dataclasses.replace(data, root=str(Path(options.data_root).resolve()))
    splits = clamp_splits(record.model, data.load(download=options.download))
    if not data.matches(splits):
        raise ValueError(f"{data.name}: must be what {folder.path} was trained on, but its values have changed")
    return dataclasses.replace(record, data=data), splits


def clamp_splits(model: type[Model], splits: AnySplits) -> AnySplits:
    """Clamps splits to the values that a model can take, see :func:`clamp_to_unit_interval`."""
    from somvae_ext.data import Samples

    def clamp_part(part: Any) -> Any:
        return clamp_to_unit_interval(model, part) if isinstance(part, Samples) else part

    return splits.map(clamp_part)


def clamp_to_unit_interval(model: type[Model], samples: Samples) -> Samples:
    """Clamps samples to [0, 1] if the model takes no other values.

    Values are scaled by the range of the training data, so held-out data may lie outside.
    """
    return dataclasses.replace(samples, x=samples.x.clamp(0, 1)) if model.unit_interval else samples
