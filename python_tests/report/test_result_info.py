"""What ``somvae info`` and the page's first table say of a result."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.report.result_info import describe_result
from somvae_ext.store import ResultFolder

SMALL = ["--epochs", "1", "--quiet"]
MODEL = [*SMALL, "--device", "cpu", "--latent-dim", "4"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield
    torch.set_num_threads(threads)  # a training sets them for its process


def facts_of(*arguments: str) -> dict[str, str]:
    """What is said of a training with these arguments."""
    assert main(["fit", *arguments, "--out", "run"]) == 0
    return describe_result(ResultFolder.open("run"))


@pytest.mark.parametrize(
    ("model", "options"),
    [("som", ["--model", "som", *SMALL]), ("somvae", MODEL)],
)
def test_a_periodic_map_is_called_one_everywhere(model: str, options: list[str]) -> None:
    facts = facts_of("digits", "--rows", "2", "--cols", "3", "--periodic", *options)
    assert facts["model"] == f"{model}, 2 x 3 nodes, rectangular, periodic"
    shown = somvae_ext.load("run")._repr_html_()
    assert "2 x 3 nodes, rectangular, periodic" in (shown if isinstance(shown, str) else shown())


@pytest.mark.parametrize("options", [["--model", "som", *SMALL], MODEL], ids=["map", "model"])
def test_images_are_called_so_for_maps_and_models(options: list[str]) -> None:
    assert facts_of("digits", "--rows", "2", "--cols", "3", *options)["features"] == "images 1 x 8 x 8"
