from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

SAVEFIG = Figure.savefig


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)  # --threads changes the number for the whole process


def save_a_dot(figure: Figure, file: BinaryIO, **options: object) -> None:
    Image.new("1", (1, 1)).save(file, "png")


@pytest.fixture(autouse=True, scope="module")
def pictures_are_dots(request: pytest.FixtureRequest) -> Iterator[None]:
    """Replaces pictures by dots, except in tests marked ``pictures``: drawing takes most of a short training's time."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("pictures") is None:
            patch.setattr(Figure, "savefig", save_a_dot)
        yield


@pytest.fixture(autouse=True)
def marked_pictures_are_drawn(
    pictures_are_dots: None, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if request.node.get_closest_marker("pictures") is not None:
        monkeypatch.setattr(Figure, "savefig", SAVEFIG)
