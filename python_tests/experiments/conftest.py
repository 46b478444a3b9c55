"""scikit-learn's digits in the file format of MNIST and Fashion-MNIST, with which experiments run in seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from eicu_files import write_eicu_folder
from idx_files import write_idx
from sklearn.datasets import load_digits

from somvae_ext.data import _lorenz, catalog, pig_cvp
from somvae_ext.experiments.datasets import forget_data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 240 training images and 60 test images of each data set, 28 x 28."""
    folder = tmp_path_factory.mktemp("data")
    digits = load_digits()
    images = np.pad(
        (digits.images * 15.9).astype(np.uint8).repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2))
    )
    for name, start in (("MNIST", 0), ("FashionMNIST", 400)):
        raw = folder / name / "raw"
        raw.mkdir(parents=True)
        for part, first, count in (("train", start, 240), ("t10k", start + 240, 60)):
            rows = slice(first, first + count)
            write_idx(raw / f"{part}-images-idx3-ubyte", images[rows])
            write_idx(raw / f"{part}-labels-idx1-ubyte", digits.target[rows].astype(np.uint8))
    forget_data()
    return folder


@pytest.fixture
def few_series(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Reduces the number of series of the Lorenz system and of pigs."""
    monkeypatch.setattr(catalog, "NUM_SERIES", 12)
    monkeypatch.setattr(_lorenz, "_HELD_OUT", 3)
    monkeypatch.setattr(
        catalog, "pig_cvp", lambda seed: pig_cvp(seed).map(lambda part: part.rows(torch.arange(0, len(part), 6)))
    )
    forget_data()
    yield
    forget_data()


@pytest.fixture(scope="module")
def eicu_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of synthetic patients in the layout of eICU."""
    folder = tmp_path_factory.mktemp("eicu")
    write_eicu_folder(folder, num_patients=30, hours=30)
    return folder
