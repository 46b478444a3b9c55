"""Splits samples into training and validation data, after the test data have been set aside."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.samples import Samples
from somvae_ext.extras import needed_by

SplitName = Literal["holdout", "all", "folds"]

NUM_FOLDS = 10


def check_split(split: str, fold: int) -> None:
    """Checks the name of a split and the number of a fold.

    Raises:
        ValueError: an unknown split, a fold out of range, or a fold other than 0 of a split without folds.
    """
    if split not in ("holdout", "all", "folds"):
        raise ValueError(f"load: split must be 'holdout', 'all' or 'folds', got {split!r}")
    check_integer("load", "fold", fold, Bounds(at_least=0, at_most=NUM_FOLDS - 1))
    if fold != 0 and split != "folds":
        raise ValueError(f"load: fold chooses one of split 'folds', so it must be 0 for split {split!r}, got {fold}")


def split_pool(
    name: str, pool: Samples, split: SplitName, fold: int, seed: int, *, holdout: tuple[Tensor, Tensor]
) -> tuple[Samples, Samples | None]:
    """Splits a pool into training and validation data.

    Args:
        name: name of the data, for messages.
        pool: all samples that are not for the test.
        split: ``"holdout"`` takes the rows of ``holdout``; ``"all"`` trains on the whole pool and has no validation
            data; ``"folds"`` cuts it into ten parts with the classes in equal proportion, of which one is for
            validation and the others for training.
        fold: which of the ten, from 0.
        seed: shuffles the samples before they are cut into folds.
        holdout: rows for training and for validation, int64.

    Raises:
        ValueError: folds of samples without labels, or with fewer samples of a class than there are folds.
        ModuleNotFoundError: scikit-learn, which makes the folds, is missing.
    """
    if split == "all":
        return pool, None
    train, validation = holdout if split == "holdout" else _fold(name, pool, fold, seed)
    return pool.rows(train), pool.rows(validation)


def _fold(name: str, pool: Samples, fold: int, seed: int) -> tuple[Tensor, Tensor]:
    if pool.label is None:
        raise ValueError(
            f"{name}: split 'folds' needs labels, because every fold has the classes in the same proportion, got none; "
            "say where they are, or use split 'holdout'"
        )
    classes, sizes = pool.label.unique(return_counts=True)
    if sizes.min() < NUM_FOLDS:
        smallest = int(sizes.argmin())
        raise ValueError(
            f"{name}: split 'folds' needs {NUM_FOLDS} samples of each class beside those of the test, one for each "
            f"fold, got {int(sizes[smallest])} of class {int(classes[smallest])}"
        )
    with needed_by("split 'folds'"):
        from sklearn.model_selection import StratifiedKFold  # type: ignore[import-untyped]

    folds = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    label = pool.label.numpy()
    train, validation = list(folds.split(label, label))[fold]
    return torch.from_numpy(train), torch.from_numpy(validation)
