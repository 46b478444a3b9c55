"""Small IDX files in torchvision's layout, with which the code that reads MNIST runs without a download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from idx_files import write_idx

IDXFiles = Callable[..., Path]


@pytest.fixture
def idx_files(tmp_path: Path) -> IDXFiles:
    """Writes ``train`` + ``test`` images under ``tmp_path``; every pixel of image n is n, and its class is n mod 10."""

    def write(folder: str = "MNIST", *, train: int = 120, test: int = 30, labels: int | None = None) -> Path:
        raw = tmp_path / folder / "raw"
        raw.mkdir(parents=True)
        for part, start, count in (("train", 0, train), ("t10k", train, test)):
            number = np.arange(start, start + count, dtype=np.uint8)
            write_idx(raw / f"{part}-images-idx3-ubyte", number[:, None, None].repeat(28, axis=1).repeat(28, axis=2))
            write_idx(raw / f"{part}-labels-idx1-ubyte", (number % 10)[:labels])
        return tmp_path

    return write
