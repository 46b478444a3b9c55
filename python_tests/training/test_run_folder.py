"""The run folder: what it refuses, and that an interruption breaks nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

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
    earlier = RunFolder(tmp_path)
    earlier.save_config({"rows": 2})
    earlier.append_metrics({"epoch": 1})
    earlier.save_checkpoint({"epoch": 1})
    (tmp_path / "note.txt").write_text("mine")
    folder = RunFolder(tmp_path, overwrite=True)
    folder.save_config({"rows": 3})
    assert (tmp_path / "checkpoint.pt").exists()  # nothing is lost before the first epoch is done
    assert RunFolder.open(tmp_path).load_config()["rows"] == 2
    folder.append_metrics({"epoch": 1, "new": True})
    assert {path.name for path in tmp_path.iterdir()} == {"note.txt", "config.json", "metrics.jsonl"}
    opened = RunFolder.open(tmp_path)
    assert (opened.load_config()["rows"], opened.load_metrics()) == (3, [{"epoch": 1, "new": True}])


@pytest.mark.parametrize("config", [None, '{"name": "my app"}', "{", "[1]"])
def test_files_of_others_are_not_overwritten(tmp_path: Path, config: str | None) -> None:
    (tmp_path / "map.png").write_text("mine")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(FileExistsError, match=r"but no config\.json of a run, so it is not overwritten"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / "map.png").read_text() == "mine"


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


def test_a_run_that_is_opened_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config({"rows": 3})
    folder.append_metrics({"epoch": 1})
    folder.save_checkpoint({"epoch": 1, "model": {}})
    opened = RunFolder.open(tmp_path)
    assert opened.load_config()["rows"] == 3
    assert opened.load_checkpoint() == {"epoch": 1, "model": {}}
    opened.append_metrics({"epoch": 2})
    assert opened.load_metrics() == [{"epoch": 1}, {"epoch": 2}]


def test_pictures_and_evaluations_are_files_of_the_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config({})
    path = folder.save_figure(folder.MAP, Figure())
    assert path.read_bytes().startswith(b"\x89PNG")
    folder.save_evaluation("test", {"nmi": 0.5})
    folder.save_evaluation("train", {"nmi": 0.7})
    folder.save_evaluation("test", {"nmi": 0.6})
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"test": {"nmi": 0.6}, "train": {"nmi": 0.7}}
    folder.save_checkpoint({"epoch": 2})  # nobody has evaluated it
    assert not (tmp_path / "evaluation.json").exists()
    folder.save_evaluation("test", {"nmi": 0.5})
    RunFolder(tmp_path, overwrite=True).append_metrics({})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be the folder of a run, but it has no config\.json"):
        RunFolder.open(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"format": 1')
    with pytest.raises(ValueError, match=r"config\.json must be JSON, but it is not"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"must hold an object, got a list"):
        RunFolder.open(tmp_path)
    (tmp_path / "config.json").write_text('{"format": 99, "somvae_ext": "9.9"}')
    with pytest.raises(ValueError, match=r"must have format 1, got 99, written by somvae_ext 9\.9; this is"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize("line", ['{"epoch": 2', "[2]", '{"loss": 1}', '{"epoch": "2"}'])
@pytest.mark.parametrize("name", ["metrics", "iterations"])
def test_broken_records_are_refused(tmp_path: Path, name: str, line: str) -> None:
    RunFolder(tmp_path).save_config({})
    (tmp_path / f"{name}.jsonl").write_text('{"epoch": 1}\n' + line + "\n")
    folder = RunFolder.open(tmp_path)
    with pytest.raises(ValueError, match=rf"{name}\.jsonl must hold the record of an epoch .* but line 2 is none"):
        getattr(folder, f"load_{name}")()


def test_losses_of_iterations_are_kept_to_six_digits(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.load_iterations() == []
    folder.append_iterations({"epoch": 1, "step": 1, "losses": {"total": [123.4567891, -1e-7 / 3], "kl": [2.0, 0.0]}})
    folder.append_iterations({"epoch": 2, "step": 3, "losses": {"total": [1.5], "kl": [1 / 3]}})
    assert folder.load_iterations() == [
        {"epoch": 1, "step": 1, "losses": {"total": [123.457, -3.33333e-08], "kl": [2.0, 0.0]}},
        {"epoch": 2, "step": 3, "losses": {"total": [1.5], "kl": [0.333333]}},
    ]


def test_images_of_experts_are_kept_epoch_by_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.load_experts() == ([], None)
    images = torch.rand(3, 10, 1, 4, 4)
    for epoch in (1, 2, 3):
        folder.append_experts(epoch, images[epoch - 1])
    epochs, loaded = folder.load_experts()
    assert epochs == [1, 2, 3]
    assert loaded is not None
    assert loaded.equal(images)


def test_rewinding_drops_all_that_later_epochs_left(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.save_config({})
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch})
        folder.append_iterations({"epoch": epoch, "step": epoch, "losses": {"total": [0.5]}})
        folder.append_experts(epoch, torch.full((2, 4, 4), float(epoch)))
    opened = RunFolder.open(tmp_path)
    assert opened.rewind(2) == [{"epoch": 1}, {"epoch": 2}]
    assert opened.load_metrics() == [{"epoch": 1}, {"epoch": 2}]
    assert [record["epoch"] for record in opened.load_iterations()] == [1, 2]
    epochs, images = opened.load_experts()
    assert epochs == [1, 2]
    assert images is not None
    assert images[:, 0, 0, 0].tolist() == [1, 2]


def test_rewinding_a_run_without_iterations_makes_no_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.append_metrics({"epoch": 1})
    assert folder.rewind(1) == [{"epoch": 1}]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_run_that_overwrites_another_starts_without_its_records(tmp_path: Path) -> None:
    earlier = RunFolder(tmp_path)
    earlier.save_config({})
    earlier.append_metrics({"epoch": 1})
    earlier.append_iterations({"epoch": 1, "step": 1, "losses": {"total": [0.5]}})
    earlier.append_experts(1, torch.rand(2, 4, 4))
    for picture in RunFolder.PICTURES:
        earlier.save_figure(picture, Figure())
    folder = RunFolder(tmp_path, overwrite=True)
    assert (folder.load_metrics(), folder.load_iterations(), folder.load_experts()) == ([], [], ([], None))
    folder.append_experts(1, torch.zeros(2, 4, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["experts.pt"]


def test_broken_images_of_experts_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "experts.pt").write_text("hello")
    with pytest.raises(ValueError, match=r"experts\.pt must be images of the experts of this run, but it is broken"):
        folder.load_experts()
    for other in ([1, 2], {"epochs": [1]}, {"epochs": [1], "images": torch.rand(2, 10, 4, 4)}):
        torch.save(other, tmp_path / "experts.pt")
        with pytest.raises(ValueError, match=r"experts\.pt must hold images of the experts .* something else"):
            folder.load_experts()


def test_a_checkpoint_of_the_overwritten_run_is_none_of_the_new(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert not folder.has_checkpoint
    folder.save_config({})
    folder.save_checkpoint({"epoch": 1})
    assert folder.has_checkpoint
    again = RunFolder(tmp_path, overwrite=True)
    assert not again.has_checkpoint
    again.save_checkpoint({"epoch": 1})
    assert again.has_checkpoint


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_truncated_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    folder = RunFolder(tmp_path)
    folder.save_checkpoint({"epoch": 1, "model": {"weight": torch.ones(1000)}})
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"checkpoint\.pt must be a checkpoint of this run, but it is broken"):
        folder.load_checkpoint()


def test_other_things_in_place_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist, so no epoch of this run was completed"):
        folder.load_checkpoint()
    (tmp_path / "checkpoint.pt").write_text("hello")
    with pytest.raises(ValueError, match="but it is broken"):
        folder.load_checkpoint()
    for other in ({"weight": torch.ones(2)}, {"epoch": "last", "model": {}}, [1, 2]):
        folder.save_checkpoint(other)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="but it is something else"):
            folder.load_checkpoint()
