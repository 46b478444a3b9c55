"""Packs many small images into one PNG: a page with thousands of images holds one file."""

from __future__ import annotations

import base64
import dataclasses
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 6_000_000  # per sheet: about 10 MB of photographs, 2 MB of digits
_PER_ROW = 64


@dataclasses.dataclass(frozen=True)
class Sprites:
    """Images on a sheet, row by row from the top left.

    Args:
        png: the sheet.
        count: number of images.
        per_row: number of images in a row of the sheet.
        width, height: size of each image, in pixels of the sheet.
    """

    png: bytes
    count: int
    per_row: int
    width: int
    height: int

    @classmethod
    def from_images(
        cls, images: NDArray[np.floating[Any]], *, low: float = 0.0, high: float = 1.0, per_row: int | None = None
    ) -> Sprites:
        """Arranges images on a sheet, shrinking them if it would be too large.

        Args:
            images: images ``[N, C, H, W]``, with C of 1 (gray) or 3 (red, green, blue).
            low, high: the values of black and of white, to which all values are clipped.
            per_row: number of images in a row of the sheet; by default 64.
        """
        from PIL import Image

        count, channels, height, width = images.shape
        per_row = min(per_row or _PER_ROW, max(count, 1))
        values = np.clip((images - low) / ((high - low) or 1.0), 0, 1)
        pixels = np.rint(values * 255).astype(np.uint8)
        shrink = np.sqrt(_MOST_PIXELS / max(count * height * width, 1))
        if shrink < 1:
            size = max(int(height * shrink), 1), max(int(width * shrink), 1)
            pixels = np.stack([_resize(image, size) for image in pixels])
            height, width = size
        sheet_rows = -(-count // per_row)
        sheet = np.zeros((sheet_rows * per_row, channels, height, width), np.uint8)
        sheet[:count] = pixels
        sheet = sheet.reshape(sheet_rows, per_row, channels, height, width).transpose(0, 3, 1, 4, 2)
        sheet = sheet.reshape(sheet_rows * height, per_row * width, channels)
        file = io.BytesIO()
        Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet).save(file, "PNG", optimize=True)
        return cls(file.getvalue(), count, per_row, width, height)

    def to_json(self) -> dict[str, Any]:
        """Converts the sheet to the JSON that the page holds."""
        return {
            "url": data_url(self.png),
            "count": self.count,
            "per_row": self.per_row,
            "width": self.width,
            "height": self.height,
        }


def data_url(png: bytes) -> str:
    """Returns a PNG as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Resizes an image ``[C, H, W]`` to a height and a width."""
    from PIL import Image

    resized = [Image.fromarray(channel).resize(size[::-1], Image.Resampling.BOX) for channel in image]
    return np.stack([np.asarray(channel) for channel in resized])
