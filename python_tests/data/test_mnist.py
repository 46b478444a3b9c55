"""MNIST and Fashion-MNIST, from small files in their format: values, splits and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from somvae_ext.data import Samples, mnist


def numbers(samples: Samples) -> list[int]:
    """Returns the numbers of the images in the file; all pixels of image n are n / 255."""
    return (samples.x[:, 0, 0, 0] * 255).round().int().tolist()


def test_shapes_types_and_values(idx_files: Callable[..., Path]) -> None:
    splits = mnist(idx_files())
    for part in splits:
        assert part.x.shape[1:] == (1, 28, 28)
        assert (part.x.dtype, part.label.dtype) == (torch.float32, torch.int64)
        assert part.label.tolist() == [number % 10 for number in numbers(part)]
    assert (splits.train.x[0] == torch.tensor(10) / 255).all()
    assert (splits.kind, splits.sample_shape) == ("static", (1, 28, 28))


def test_the_first_twelfth_is_unused_and_the_last_sixth_is_for_validation(idx_files: Callable[..., Path]) -> None:
    # As in the published code: of 60,000 images 5,000 are unused, 45,000 for training and 10,000 for validation.
    splits = mnist(idx_files(train=120, test=30))
    assert numbers(splits.train) == list(range(10, 100))
    assert numbers(splits.validation) == list(range(100, 120))
    assert numbers(splits.test) == list(range(120, 150))
    keys = [part.row_keys["index"].tolist() for part in splits if part.row_keys is not None]
    assert keys == [list(range(10, 100)), list(range(100, 120)), list(range(30))]  # row numbers in each split's file


def test_the_two_names_are_two_folders(idx_files: Callable[..., Path]) -> None:
    root = idx_files("FashionMNIST")
    assert len(mnist(root, name="fashion-mnist").test) == 30
    with pytest.raises(FileNotFoundError, match="mnist was not found in"):
        mnist(root)


def test_the_error_names_the_folder_that_was_searched(tmp_path: Path) -> None:
    sentence = (
        f"fashion-mnist was not found in {tmp_path}/FashionMNIST/raw; set root='FOLDER' to the one that holds "
        "FashionMNIST/raw, or download=True"
    )
    with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
        mnist(tmp_path, name="fashion-mnist")


def test_existing_files_are_not_downloaded(idx_files: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fails)
    assert len(mnist(idx_files(), download=True).test) == 30


def test_a_failed_download_is_reported_with_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torchvision.datasets.mnist, "download_and_extract_archive", fails)
    with pytest.raises(
        OSError, match=r"mnist could not be downloaded to .*/MNIST/raw: .*the network is away"
    ) as raised:
        mnist(tmp_path, download=True)
    assert "\n" not in str(raised.value)


def fails(*args: Any, **options: Any) -> None:
    raise RuntimeError("the network\nis away")


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b packed", b"\0\0\x08\x03" + bytes([0, 0, 0, 9] * 3)])
def test_files_in_another_format_are_refused(content: bytes, idx_files: Callable[..., Path]) -> None:
    root = idx_files()
    (root / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(
        ValueError, match=re.escape(f"the files in {root}/MNIST/raw must be in the unpacked IDX format")
    ):
        mnist(root)


def test_images_and_labels_that_differ_in_number_are_refused(idx_files: Callable[..., Path]) -> None:
    root = idx_files(labels=20)
    with pytest.raises(ValueError, match=r"must be equal in number, got 120 and 20"):
        mnist(root)
