"""The data of experiments: the first images of a training split, and series made of them."""

from __future__ import annotations

import functools
from typing import cast

import torch

from somvae_ext.data import InterpolatedSeries, Samples, Splits, load
from somvae_ext.data.record import AnySplits, fingerprint
from somvae_ext.experiments.protocol import DataChoice

_SEEDS = {"train": 1, "validation": 2, "test": 3}  # of the series: each split has noise of its own


@functools.lru_cache(maxsize=2)
def load_images(name: str, root: str) -> Splits[Samples]:
    """All images of a data set, read once in each process."""
    return cast(Splits[Samples], load(name, root=root))


@functools.lru_cache(maxsize=2)
def fingerprint_images(name: str, root: str) -> str:
    """A hash of all values and labels of a data set."""
    return fingerprint(load_images(name, root))


@functools.lru_cache(maxsize=4)
def load_choice(choice: DataChoice, root: str) -> AnySplits:
    """The splits of a choice; validation and test are always of all their images."""
    splits = load_images(choice.name, root)
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
