"""Tests that images on one sheet are recovered unchanged."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from somvae_ext.report.sprites import Sprites, data_url


def image_at(sprites: Sprites, at: int) -> np.ndarray:
    """Cuts an image out of the sheet as the page does."""
    row, column = divmod(at, sprites.per_row)
    left, top = column * sprites.width, row * sprites.height
    sheet = Image.open(io.BytesIO(sprites.png))
    return np.asarray(sheet.crop((left, top, left + sprites.width, top + sprites.height)))


@given(
    count=st.integers(1, 20),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    per_row=st.integers(1, 8),
    seed=st.integers(0, 5),
)
def test_images_are_recovered_from_the_sheet(
    count: int, channels: int, height: int, width: int, per_row: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(256, size=(count, channels, height, width))
    sprites = Sprites.from_images(pixels / 255, per_row=per_row)
    assert (sprites.count, sprites.height, sprites.width) == (count, height, width)
    for at in range(count):
        expected = pixels[at, 0] if channels == 1 else pixels[at].transpose(1, 2, 0)
        assert image_at(sprites, at).tolist() == expected.tolist()


def test_values_outside_low_and_high_are_clipped() -> None:
    images = np.array([-5.0, -1.0, 0.0, 1.0, 9.0]).reshape(5, 1, 1, 1)
    sprites = Sprites.from_images(images, low=-1, high=1)
    assert [int(image_at(sprites, at)[0, 0]) for at in range(5)] == [0, 0, 128, 255, 255]


def test_images_of_one_value_are_black() -> None:
    sprites = Sprites.from_images(np.full((2, 1, 2, 2), 7.0), low=7, high=7)
    assert image_at(sprites, 1).max() == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_many_large_images_are_scaled_down(channels: int) -> None:
    images = np.zeros((80, channels, 200, 400))
    images[:, :, :100] = 1
    sprites = Sprites.from_images(images)
    assert sprites.count * sprites.width * sprites.height <= 6_000_000
    assert sprites.width / sprites.height == pytest.approx(2, rel=0.02)
    image = image_at(sprites, 79).reshape(sprites.height, sprites.width, -1)
    assert image[: sprites.height // 2 - 1].min() == 255
    assert image[sprites.height // 2 + 1 :].max() == 0


def test_the_page_embeds_the_sheet_as_a_data_url() -> None:
    sprites = Sprites.from_images(np.zeros((3, 1, 2, 4)))
    fields = sprites.to_json()
    assert fields.pop("url") == data_url(sprites.png)
    assert data_url(sprites.png).startswith("data:image/png;base64,iVBOR")
    assert fields == {"count": 3, "per_row": 3, "width": 4, "height": 2}
