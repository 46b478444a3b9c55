"""The data of experiments: images, the first of a training split, series made of them, and other series."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from somvae_ext.data import InterpolatedSeries, Samples, Splits, load
from somvae_ext.data.eicu import SCORE_HOURS, EICUStays, read_eicu, rows_by_patient, split_eicu
from somvae_ext.data.record import AnySplits, fingerprint
from somvae_ext.experiments.protocol import IMAGES, DataChoice, HeldOut

_EICU = "eicu"
_SEEDS = {"train": 1, "validation": 2, "test": 3}  # of the interpolated series: each split has its own noise


@functools.lru_cache(maxsize=2)
def load_source(name: str, root: str) -> Splits[Samples]:
    """Loads a whole data set, once in each process.

    Args:
        name: ``"eicu"``, or a name that :func:`somvae_ext.data.load` knows, except those of interpolated series.
        root: the folder of MNIST and Fashion-MNIST, or of eICU's tables.
    """
    if name == _EICU:
        return split_eicu(_load_stays(root))
    return cast(Splits[Samples], load(name, root=root))


def download_source(name: str, root: str) -> None:
    """Downloads MNIST or Fashion-MNIST if it is missing."""
    if name in IMAGES:
        load(name, root=root, download=True)


@functools.lru_cache(maxsize=2)
def fingerprint_source(name: str, root: str) -> str:
    """A hash of all values and labels of a data set, including further labels."""
    labels = [load_labels(name, root, held_out) for held_out in get_args(HeldOut)]
    return fingerprint([*load_source(name, root), *(Samples(label) for part in labels for label in part.values())])


def load_labels(name: str, root: str, held_out: HeldOut) -> dict[str, Tensor]:
    """Further labels of a split: for eICU the worst scores of the next hours, ``[B, T]``, and the score of the stay."""
    if name != _EICU:
        return {}
    stays = _load_stays(root)
    _, validation, test = rows_by_patient(stays)
    rows = test if held_out == "test" else validation
    scores = {f"score_{hours}h": stays.worst_score[rows, :, number] for number, hours in enumerate(SCORE_HOURS)}
    return scores | {"stay_score": stays.stay_score[rows]}


@functools.lru_cache(maxsize=4)
def load_choice(choice: DataChoice, root: str) -> AnySplits:
    """The splits of a choice; validation and test always use all their images."""
    splits = load_source(choice.name, root)
    if choice.images is None and choice.recipe is None:
        return splits
    assert splits.validation is not None
    num_all = len(splits.train)
    train = splits.train
    if choice.images is not None and choice.images < num_all:
        train = train.rows(torch.arange(choice.images))
    if choice.recipe is None:
        return Splits(train, splits.validation, splits.test)
    assert choice.num_series is not None
    share = choice.num_series / num_all

    def interpolate(images: Samples, part: str, num_series: int) -> InterpolatedSeries:
        assert choice.recipe is not None
        return InterpolatedSeries(images, recipe=choice.recipe, num_series=num_series, seed=_SEEDS[part])

    return Splits(
        interpolate(train, "train", choice.num_series),
        interpolate(splits.validation, "validation", max(1, round(share * len(splits.validation)))),
        interpolate(splits.test, "test", max(1, round(share * len(splits.test)))),
        kind="series",
    )


@functools.lru_cache(maxsize=1)
def _load_stays(root: str) -> EICUStays:
    return read_eicu(Path(root))


def forget_data() -> None:
    """Clears the caches, since the files may have changed."""
    for cached in (load_source, fingerprint_source, load_choice, _load_stays):
        cached.cache_clear()
