"""Scikit-learn's handwritten digits: 1797 images that come with the library."""

from __future__ import annotations

import numpy as np
import torch

from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Splits

_HELD_OUT = 270  # images each for validation and test: 15 %


def digits(seed: int = 0) -> Splits[Samples]:
    """Images of the digits 0 to 9, split into 1257 for training, 270 for validation and 270 for the test.

    The UCI "Optical Recognition of Handwritten Digits" test set, as ``sklearn.datasets.load_digits`` has it, with its
    17 grey values scaled to [0, 1]. All splits have the classes in the same proportion.

    Args:
        seed: draws the splits.

    Returns:
        ``train``, ``validation`` and ``test``; ``x`` float32 ``[N, 1, 8, 8]``, ``label`` int64 ``[N]``.

    Raises:
        ModuleNotFoundError: scikit-learn is missing.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]
    from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

    bunch = load_digits()
    images = (bunch.images / 16).astype(np.float32)[:, None]
    labels = bunch.target.astype(np.int64)
    rows = np.arange(len(labels))
    rest, test = train_test_split(rows, test_size=_HELD_OUT, stratify=labels, random_state=seed)
    train, validation = train_test_split(rest, test_size=_HELD_OUT, stratify=labels[rest], random_state=seed)
    x, label = torch.from_numpy(images), torch.from_numpy(labels)
    return Splits(*(Samples(x[part], label[part]) for part in (train, validation, test)))
