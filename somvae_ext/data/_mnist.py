"""MNIST and Fashion-MNIST, read by torchvision."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from somvae_ext.data.folds import SplitName, check_split, split_pool
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Splits
from somvae_ext.extras import needed_by

MNISTName = Literal["mnist", "fashion-mnist"]

_FILES = 4  # images and labels, for training and test


@needed_by("mnist")
def mnist(
    root: str | os.PathLike[str] = "data",
    *,
    name: MNISTName = "mnist",
    download: bool = False,
    split: SplitName = "holdout",
    fold: int = 0,
    seed: int = 0,
) -> Splits[Samples]:
    """Loads 70,000 images of handwritten digits or clothing, ten classes, by default in the SOM-VAE paper's splits.

    Of the 60,000 training images, the published code (github.com/ratschlab/SOM-VAE) sees the last 55,000, which its
    loader calls the training set. The first 45,000 of those are ``train`` and the last 10,000 ``validation``; the 5,000
    images before them belong to no split. ``test`` is the 10,000 test images. A training file of another size is cut in
    the same proportions. ``split="all"`` trains on all 60,000, ``"folds"`` on 54,000 of them.

    Args:
        root: the folder that holds ``MNIST/raw`` or ``FashionMNIST/raw`` with the unpacked IDX files, torchvision's
            layout.
        name: which of the two data sets.
        download: fetch the files into ``root`` if they are not there.
        split, fold: see :func:`load`.
        seed: draws the folds.

    Returns:
        ``x`` float32 ``[N, 1, 28, 28]`` in [0, 1], ``label`` int64 ``[N]``, and as ``row_keys`` the ``index`` of
        each image in its file, that of the training or that of the test images.

    Raises:
        FileNotFoundError: the files are not there, and ``download`` is not set.
        OSError: the download failed.
        ValueError: a file that is not in the IDX format, images and labels that differ in number, or an unknown split
            or fold.
        ModuleNotFoundError: torchvision, which the extra ``mnist`` brings, is missing, or for folds scikit-learn.
    """
    check_split(split, fold)
    pool = _read(name, Path(root), train=True, download=download)
    rows = torch.arange(len(pool))
    first, end = len(pool) // 12, len(pool) - len(pool) // 6
    train, validation = split_pool(name, pool, split, fold, seed, holdout=(rows[first:end], rows[end:]))
    return Splits(train, validation, _read(name, Path(root), train=False, download=download))


def _read(name: MNISTName, root: Path, *, train: bool, download: bool) -> Samples:
    from torchvision.datasets import MNIST, FashionMNIST  # type: ignore[import-untyped]

    reader = {"mnist": MNIST, "fashion-mnist": FashionMNIST}[name]
    folder = root / reader.__name__ / "raw"
    try:
        read = reader(root, train=train, download=download)
    except Exception as error:  # torchvision raises RuntimeError, ValueError and bare asserts
        if len(list(folder.glob("*-ubyte"))) == _FILES:
            raise ValueError(f"{name}: the files in {folder} must be in the unpacked IDX format, got others") from error
        if download:
            reason = " ".join(str(error).split())
            raise OSError(f"{name} could not be downloaded to {folder}: {reason}") from error
        raise FileNotFoundError(
            f"{name} was not found in {folder}; set root='FOLDER' to the one that holds {reader.__name__}/raw, or "
            "download=True"
        ) from error
    images, label = read.data, read.targets
    if len(images) != len(label):
        raise ValueError(
            f"{name}: images and labels in {folder} must be equal in number, got {len(images)} and {len(label)}"
        )
    x = images[:, None].to(torch.float32).div_(255)
    return Samples(x, label, row_keys={"index": np.arange(len(x))})
