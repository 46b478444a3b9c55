"""Scikit-learn's handwritten digits: 1797 images that come with the library."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.data.folds import SplitName, check_split, split_pool
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Splits
from somvae_ext.extras import needed_by

_HELD_OUT = 270  # images each for validation and test: 15 %


@needed_by("digits")
def digits(seed: int = 0, *, split: SplitName = "holdout", fold: int = 0) -> Splits[Samples]:
    """Loads images of the digits 0 to 9, split into 1257 for training, 270 for validation and 270 for the test.

    ``split="all"`` trains on all 1527 that are not for the test, ``"folds"`` on nine tenths of them.

    These are the images of the UCI "Optical Recognition of Handwritten Digits" test set, as
    ``sklearn.datasets.load_digits`` returns them, with their 17 gray values scaled to [0, 1]. All splits have the
    classes in the same proportion.

    Args:
        seed: draws the splits.
        split, fold: see :func:`load`.

    Returns:
        ``train``, ``validation`` and ``test``; ``x`` float32 ``[N, 1, 8, 8]``, ``label`` int64 ``[N]``, and as
        ``row_keys`` the ``index`` of each image among scikit-learn's.

    Raises:
        ValueError: an unknown split or fold.
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    check_split(split, fold)
    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    label = torch.from_numpy(bunch.target.astype(np.int64))
    samples = Samples(torch.from_numpy(images), label, row_keys={"index": np.arange(len(images))})

    def hold_out(label: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        rest, part = train_test_split(np.arange(len(label)), test_size=_HELD_OUT, stratify=label, random_state=seed)
        return torch.from_numpy(rest), torch.from_numpy(part)

    rest, test = hold_out(bunch.target)
    pool = samples.rows(rest)
    train, validation = split_pool("digits", pool, split, fold, seed, holdout=hold_out(bunch.target[rest]))
    return Splits(train, validation, samples.rows(test))
