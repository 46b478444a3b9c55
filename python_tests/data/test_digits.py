"""The digits: values, splits and seeds."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from somvae_ext.data import digits
from somvae_ext.data.samples import Samples


def rows(samples: Samples) -> set[bytes]:
    return {image.numpy().tobytes() for image in samples.x}


def test_shapes_types_and_values() -> None:
    splits = digits()
    assert [len(part) for part in splits] == [1257, 270, 270]
    for part in splits:
        assert part.x.shape[1:] == (1, 8, 8)
        assert (part.x.dtype, part.label.dtype) == (torch.float32, torch.int64)
        assert (part.x.min(), part.x.max()) == (0, 1)


def test_the_splits_share_no_image() -> None:
    splits = digits()
    everything = [rows(part) for part in splits]
    assert sum(len(part) for part in everything) == 1797  # the data set has no duplicates
    assert len(set.union(*everything)) == 1797


def test_every_split_has_the_classes_in_the_same_proportion() -> None:
    splits = digits()
    whole = torch.bincount(torch.cat([part.label for part in splits])) / 1797
    for part in splits:
        # The data are split twice in a row, and each time the classes are rounded to whole images.
        assert ((torch.bincount(part.label) - whole * len(part)).abs() < 2).all()


def test_the_seed_determines_the_splits() -> None:
    assert all(a.x.equal(b.x) for a, b in zip(digits(3), digits(3), strict=True))
    assert rows(digits(0).test) != rows(digits(1).test)


def test_images_keep_their_numbers_in_the_library() -> None:
    images = load_digits().images
    for part in digits(3, split="folds", fold=2):
        assert part.row_keys is not None
        np.testing.assert_array_equal(images[part.row_keys["index"]], part.x[:, 0] * 16)
