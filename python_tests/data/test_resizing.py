"""Resizing of images, compared with Pillow, and as an option of load."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from somvae_ext.data import Samples, load, resize

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 5, 28, 31, 32, 60])
@pytest.mark.parametrize("shape", [(28, 28), (20, 41)])
def test_pixels_are_those_of_pillow(size: int, shape: tuple[int, int]) -> None:
    images = RNG.random((3, 2, *shape), dtype=np.float32)
    resized = resize(torch.from_numpy(images), size)
    assert resized.shape == (3, 2, size, size)
    for image, expected in zip(resized.view(6, size, size), images.reshape(6, *shape), strict=True):
        pillow = np.asarray(PIL.Image.fromarray(expected).resize((size, size), PIL.Image.Resampling.BILINEAR))
        # A sum of at most 41 + 28 values below 1, with rounded weights, and one more rounding per axis.
        np.testing.assert_allclose(image, pillow, rtol=0, atol=2 * 2 * 69 * np.finfo(np.float32).eps)


def test_no_value_leaves_the_range_of_its_image() -> None:
    images = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)).round()
    images[0], images[1] = 1, 1 / 3
    resized = resize(images, 32)
    assert (resized.amin(), resized.amax()) == (0, 1)
    assert (resized[0] == 1).all()
    assert (resized[1] == images[1, 0, 0, 0]).all()


def test_resizing_does_not_depend_on_the_batch() -> None:
    images = torch.rand(50, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    together = resize(images, 32)
    for row in range(len(images)):
        assert resize(images[row : row + 1], 32).equal(together[row : row + 1])


def test_images_of_that_size_stay_as_they_are(idx_files: Callable[..., Path]) -> None:
    root = idx_files()
    assert load("mnist", root=root, image_size=28).train.x.equal(load("mnist", root=root).train.x)


@pytest.mark.parametrize("split", ["holdout", "all", "folds"])
def test_all_parts_are_resized(split: str, idx_files: Callable[..., Path]) -> None:
    root = idx_files()
    splits = load("mnist", root=root, image_size=32, split=split)  # type: ignore[arg-type]
    assert splits.sample_shape == (1, 32, 32)
    for part, own in zip(splits, load("mnist", root=root, split=split), strict=True):  # type: ignore[arg-type]
        assert isinstance(part, Samples)
        assert isinstance(own, Samples)
        assert part.x.equal(resize(own.x, 32))
        assert part.label.equal(own.label)


def test_images_from_files_are_resized_after_scaling(tmp_path: Path) -> None:
    for name, images in (
        ("bytes.npy", RNG.integers(0, 256, (20, 3, 10, 12), dtype=np.uint8)),
        ("wide.npy", RNG.normal(5, 9, (20, 10, 12))),
    ):
        np.save(tmp_path / name, images)
        whole, small = load(tmp_path / name), load(tmp_path / name, image_size=7)
        assert small.scaling == whole.scaling
        for part, own in zip(small, whole, strict=True):
            assert isinstance(part, Samples)
            assert isinstance(own, Samples)
            assert part.x.equal(resize(own.x, 7))
        assert small.train.x.amin() >= 0
        assert small.train.x.amax() <= 1


def test_data_that_are_not_images_cannot_be_resized(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", RNG.random((20, 3)))
    np.save(tmp_path / "series.npy", RNG.random((20, 3, 1, 4, 4)))
    for name, what in (
        (str(tmp_path / "table.npy"), "tables"),
        (str(tmp_path / "series.npy"), "series"),
        ("digits-series", "series"),
    ):
        sentence = f"{name}: image_size is for still images, so it must be None for {what}, got 32"
        with pytest.raises(ValueError, match=re.escape(sentence)):
            load(name, image_size=32)
    for wrong in (True, 2.5, "x"):
        for use in (lambda: load("digits", image_size=wrong), lambda: resize(torch.rand(1, 1, 4, 4), wrong)):  # noqa: B023
            with pytest.raises(ValueError, match=rf"size must be an integer of at least 1, got {wrong!r}"):
                use()
    with pytest.raises(ValueError, match="image_size must be an integer of at least 1, got 0"):
        load("digits", image_size=0)
    with pytest.raises(ValueError, match="size must be an integer of at least 1, got 0"):
        resize(torch.rand(1, 1, 4, 4), 0)
    with pytest.raises(ValueError, match=r"must be floating point of shape \[N, C, H, W\], got torch.uint8 of shape"):
        resize(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), 2)
