"""The run folder: what it refuses, and that an interruption breaks nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import somvae_ext
from somvae_ext.training import RunFolder


def test_it_makes_the_folder_and_writes_its_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.save_config({"rows": 3})
    folder.append_metrics({"epoch": 1})
    folder.append_metrics({"epoch": 2})
    folder.save_checkpoint({"weight": torch.ones(2)})
    config = json.loads((folder.path / "config.json").read_text())
    assert config == {"format": RunFolder.FORMAT, "somvae_ext": somvae_ext.__version__, "rows": 3}
    assert (folder.path / "metrics.jsonl").read_text() == '{"epoch": 1}\n{"epoch": 2}\n'
    assert torch.load(folder.path / "checkpoint.pt")["weight"].equal(torch.ones(2))


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty; choose another folder, or set overwrite"):
        RunFolder(tmp_path)


def test_overwriting_removes_an_earlier_run_and_nothing_else(tmp_path: Path) -> None:
    RunFolder(tmp_path).append_metrics({"epoch": 1})
    (tmp_path / "note.txt").write_text("mine")
    RunFolder(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(FileExistsError, match="must be a folder, but a file is there"):
        RunFolder(tmp_path / "run", overwrite=True)


class Interrupted:
    """A value during whose pickling the user presses Ctrl-C."""

    def __reduce__(self) -> tuple[object, ...]:
        raise KeyboardInterrupt


def test_an_interruption_leaves_the_previous_checkpoint_and_no_rest(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_checkpoint({"epoch": 1})
    with pytest.raises(KeyboardInterrupt):
        folder.save_checkpoint({"weight": torch.ones(1000), "epoch": Interrupted()})
    assert torch.load(tmp_path / "checkpoint.pt") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
