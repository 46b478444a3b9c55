"""A result folder returns what was written, has a single writer, and replaces only its own files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from somvae_ext.store import ResultFolder, atomic_file, manifest


def weights(epoch: int) -> dict[str, Tensor]:
    return {"codes": torch.full((3, 2), float(epoch)), "steps": torch.tensor(epoch)}


def train(folder: ResultFolder, *epochs: int) -> None:
    for epoch in epochs:
        state = {"epoch": epoch, "moments": [torch.ones(epoch), None], "by number": {0: 1.5, 1: (True, "a")}}
        folder.save_checkpoint(epoch, weights(epoch), state, {"metrics": [{"epoch": epoch, "loss": 1 / epoch}]})


def new(path: Path, *epochs: int, config: dict[str, Any] | None = None) -> ResultFolder:
    folder = ResultFolder.create(path, "model")
    folder.save_config(config or {"a": 1})
    train(folder, *epochs)
    return folder


def names(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()} - {".lock"}


def same(a: Any, b: Any) -> bool:
    """Tests whether two trees have the same types of containers and values, and bit-identical tensors."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and a.equal(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and bool(a == b)


def test_saved_contents_are_loaded_unchanged(tmp_path: Path) -> None:
    new(tmp_path / "run", 1, 2, config={"names": ["ä", "b"], "size": 3})
    folder = ResultFolder.open(tmp_path / "run", "model")
    assert (folder.kind, folder.config, folder.epochs) == ("model", {"names": ["ä", "b"], "size": 3}, [1, 2])
    assert same(folder.load_weights(), weights(2))
    assert same(folder.load_weights(1), weights(1))
    expected = {"epoch": 2, "moments": [torch.ones(2), None], "by number": {0: 1.5, 1: (True, "a")}}
    assert same(folder.load_state(), expected)
    assert folder.load_log("metrics") == [{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}]
    assert folder.load_log("metrics", 1) == [{"epoch": 1, "loss": 1.0}]
    assert folder.load_log("iterations") == []
    assert folder.load_tensors("experts") is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.int64])
def test_tensors_of_any_layout_are_loaded_unchanged(tmp_path: Path, dtype: torch.dtype) -> None:
    base = torch.arange(24).reshape(4, 6).to(dtype)
    tensors = {"view": base.T[1:, ::2], "shared": base, "again": base, "empty": base[:0], "number": base[1, 1]}
    ResultFolder.create(tmp_path / "run", "model").save_checkpoint(1, tensors, {}, {})
    assert same(ResultFolder.open(tmp_path / "run").load_weights(), tensors)


def test_the_last_two_checkpoints_and_complete_logs_are_kept(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", *range(1, 6))
    assert folder.epochs == [4, 5]
    held = {f"{name}-{epoch}.safetensors" for name in ("weights", "state") for epoch in (4, 5)}
    assert names(tmp_path / "run") == {*held, "manifest.json", "metrics.jsonl"}
    assert [record["epoch"] for record in ResultFolder.open(tmp_path / "run").load_log("metrics")] == [1, 2, 3, 4, 5]


def test_a_training_can_be_resumed_from_either_checkpoint(tmp_path: Path) -> None:
    new(tmp_path / "run", 1, 2, 3)
    folder = ResultFolder.open(tmp_path / "run")
    folder.rewind_to(2)
    assert (folder.epochs, folder.load_log("metrics")[-1]["epoch"]) == ([2], 2)
    assert ResultFolder.open(tmp_path / "run").epochs == [2, 3]  # nothing has been written yet
    train(folder, 3, 4)
    assert [record["epoch"] for record in ResultFolder.open(tmp_path / "run").load_log("metrics")] == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"has checkpoints of epoch 3 and 4, and none of epoch 1"):
        ResultFolder.open(tmp_path / "run").rewind_to(1)


def test_staged_tensors_are_saved_with_the_next_checkpoint(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    for epoch in (2, 3):
        folder.add_to_next_checkpoint("experts", {"images": torch.full((epoch,), 1.0)})
        train(folder, epoch)
    train(folder, 4)
    assert len((folder.load_tensors("experts", 3) or {})["images"]) == 3
    assert folder.load_tensors("experts") is None


def test_an_evaluation_belongs_to_the_last_checkpoint(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    folder.save_evaluation("test", {"purity": 0.5})
    folder.save_evaluation("train", {"purity": 0.75})
    expected = {"test": {"purity": 0.5}, "train": {"purity": 0.75}}
    assert ResultFolder.open(tmp_path / "run").evaluations == expected
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text()) == expected
    train(folder, 2)
    assert ResultFolder.open(tmp_path / "run").evaluations == {}
    assert "evaluation.json" not in names(tmp_path / "run")


def test_files_of_a_complete_result(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    folder.save_file("nodes", {"hits": torch.arange(3)})
    folder = ResultFolder.open(tmp_path / "run")
    assert folder.files == ["nodes.safetensors"]
    assert same(folder.load_file("nodes"), {"hits": torch.arange(3)})
    with pytest.raises(FileNotFoundError, match=r"labels\.safetensors does not exist"):
        folder.load_file("labels")


def test_a_tree_of_a_complete_result_is_loaded_unchanged(tmp_path: Path) -> None:
    tree = {"text": "a", "numbers": [1, 2.5, True, None], 3: (torch.arange(4), {"nested": torch.ones(2, 2)})}
    new(tmp_path / "run", 1).save_tree("clusters", tree)
    folder = ResultFolder.open(tmp_path / "run")
    assert folder.files == ["clusters.safetensors"]
    assert same(folder.load_tree("clusters"), tree)
    with pytest.raises(FileNotFoundError, match=r"others\.safetensors does not exist"):
        folder.load_tree("others")
    with pytest.raises(TypeError, match="a state must consist of containers, numbers and tensors"):
        folder.save_tree("clusters", {"set": {1}})
    assert same(folder.load_tree("clusters"), tree)


def test_a_damaged_tree_is_refused(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    folder.save_tree("clusters", {"number": 1})
    path = tmp_path / "run" / "clusters.safetensors"
    path.write_bytes(path.read_bytes().replace(b"number", b"numbre"))
    with pytest.raises(ValueError, match=r"clusters\.safetensors is damaged: it does not have the SHA-256"):
        ResultFolder.open(tmp_path / "run").load_tree("clusters")
    folder.save_file("clusters", {"no": torch.ones(1)})
    with pytest.raises(ValueError, match=r"clusters\.safetensors is damaged: it holds no tree"):
        folder.load_tree("clusters")


def test_files_of_a_complete_result_are_removed_with_the_next_checkpoint(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    folder.save_file("nodes", {"hits": torch.arange(3)})
    folder.save_tree("clusters", {"number": 1})
    train(folder, 2)
    folder = ResultFolder.open(tmp_path / "run")
    assert folder.files == []
    assert not {"nodes.safetensors", "clusters.safetensors"} & names(tmp_path / "run")
    folder.save_tree("clusters", {"number": 2})
    assert ResultFolder.open(tmp_path / "run").load_tree("clusters") == {"number": 2}


def test_a_chosen_candidate_is_adopted(tmp_path: Path) -> None:
    candidate = new(tmp_path / "run" / "seeds" / "3", 1, 2)
    folder = ResultFolder.create(tmp_path / "run", "model", overwrite=True)
    folder.copy_checkpoint_from(candidate, {"chosen": 3})
    folder = ResultFolder.open(tmp_path / "run")
    assert (folder.epochs, folder.config) == ([2], {"a": 1})
    assert same(folder.load_weights(), weights(2))
    assert len(folder.load_log("metrics")) == 2
    assert json.loads((tmp_path / "run" / "choice.json").read_text()) == {"chosen": 3}


# ---- ownership of a folder -------------------------------------------------------------------------------------------


def test_no_folder_is_created_before_something_is_written(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path / "a" / "run", "model")
    assert names(tmp_path) == set()
    with pytest.raises(RuntimeError, match="refused later"), folder.lock():
        raise RuntimeError("refused later")
    assert not (tmp_path / "a" / "run").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_training_that_fails_before_its_first_epoch_leaves_nothing(
    tmp_path: Path, error: type[BaseException]
) -> None:
    def failing(folder: ResultFolder, epochs: list[int]) -> None:
        with folder.lock():
            folder.save_config({})
            train(folder, *epochs)
            raise error("at last")

    for epochs in ([], [1]):
        with pytest.raises(error, match="at last"):
            failing(ResultFolder.create(tmp_path / "run", "model"), epochs)
        assert (tmp_path / "run").exists() is bool(epochs)


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty; choose another folder, or set overwrite"):
        ResultFolder.create(tmp_path, "model")
    new(tmp_path / "run", 1)
    with pytest.raises(FileExistsError, match="is not empty"):
        ResultFolder.create(tmp_path / "run", "map")


def test_a_training_without_an_epoch_can_be_replaced(tmp_path: Path) -> None:
    new(tmp_path / "run")
    new(tmp_path / "run", 1)
    assert ResultFolder.open(tmp_path / "run").epochs == [1]


def test_overwriting_removes_an_earlier_result_only_after_the_first_epoch(tmp_path: Path) -> None:
    earlier = new(tmp_path / "run", 1, 2, 3)
    earlier.save_file("nodes", {"hits": torch.arange(3)})
    earlier.save_evaluation("test", {"purity": 0.5})
    (tmp_path / "run" / "notes.txt").write_text("mine")
    before = {name: (tmp_path / "run" / name).read_bytes() for name in names(tmp_path / "run")}
    folder = ResultFolder.create(tmp_path / "run", "map", overwrite=True)
    folder.save_config({"b": 2})
    assert {name: (tmp_path / "run" / name).read_bytes() for name in names(tmp_path / "run")} == before
    assert same(ResultFolder.open(tmp_path / "run").load_weights(), weights(3))
    train(folder, 1)
    expected = {"manifest.json", "metrics.jsonl", "weights-1.safetensors", "state-1.safetensors", "notes.txt"}
    assert names(tmp_path / "run") == expected
    folder = ResultFolder.open(tmp_path / "run")
    assert (folder.kind, folder.config, folder.load_log("metrics")) == ("map", {"b": 2}, [{"epoch": 1, "loss": 1.0}])


@pytest.mark.parametrize("name", ["weights-1.safetensors", "metrics.jsonl", "map.png", "evaluation.json"])
def test_foreign_files_are_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=rf"holds {name} but no manifest\.json of ours"):
        ResultFolder.create(tmp_path, "model", overwrite=True)
    (tmp_path / "manifest.json").write_text('{"name": "a web page"}')
    with pytest.raises(FileExistsError, match="so it is not overwritten"):
        ResultFolder.create(tmp_path, "model", overwrite=True)


def test_pictures_of_an_earlier_result_are_removed_and_others_stay(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    folder = new(tmp_path / "run", 1)
    assert folder.save_figure("map.png", Figure()) == tmp_path / "run" / "map.png"
    (tmp_path / "run" / "holiday.png").write_bytes(b"mine")
    train(ResultFolder.create(tmp_path / "run", "model", overwrite=True), 1)
    assert {name for name in names(tmp_path / "run") if name.endswith(".png")} == {"holiday.png"}


@pytest.mark.parametrize("config", [{"format": 1}, {"map_format": 1}])
def test_folders_of_version_1_are_refused_by_name_and_replaced(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config | {"somvae_ext": "0.1.0"}))
    (tmp_path / "checkpoint.pt").write_bytes(b"pickle")
    with pytest.raises(ValueError, match=r"was written by somvae_ext 0\.1\.0, .* this version, 0\.2\.0, cannot read"):
        ResultFolder.open(tmp_path)
    train(ResultFolder.create(tmp_path, "model", overwrite=True), 1)
    assert names(tmp_path) == {"manifest.json", "metrics.jsonl", "weights-1.safetensors", "state-1.safetensors"}


def test_a_model_is_refused_where_a_map_is_expected(tmp_path: Path) -> None:
    new(tmp_path / "run", 1)
    with pytest.raises(ValueError, match="must hold a trained map, but it holds a model"):
        ResultFolder.open(tmp_path / "run", "map")


def test_a_training_without_an_epoch_has_nothing_to_load(tmp_path: Path) -> None:
    new(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="no epoch of its training was completed"):
        ResultFolder.open(tmp_path / "run").load_weights()
    with pytest.raises(FileNotFoundError, match="must be the folder of a trained map or model, but it has no"):
        ResultFolder.open(tmp_path)


# ---- one writer ------------------------------------------------------------------------------------------------------


def test_a_second_writer_is_refused_while_the_first_one_has_the_folder(tmp_path: Path) -> None:
    first = new(tmp_path / "run", 1)
    second = ResultFolder.open(tmp_path / "run")
    with first.lock():
        with pytest.raises(BlockingIOError, match="is being written to by another process"):
            train(second, 2)
        train(first, 2)
    with pytest.raises(BlockingIOError, match="has been written to by another process since it was opened"):
        train(second, 2)
    assert ResultFolder.open(tmp_path / "run").epochs == [1, 2]


def test_a_folder_filled_by_another_process_meanwhile_is_refused(tmp_path: Path) -> None:
    late = ResultFolder.create(tmp_path / "run", "model")
    new(tmp_path / "run", 1)
    with pytest.raises(FileExistsError, match="is not empty"):
        late.save_config({})


def test_the_lock_of_a_dead_process_does_not_block(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    child = os.fork()
    if child == 0:
        with ResultFolder.open(tmp_path / "run").lock():
            os._exit(0)
    os.waitpid(child, 0)
    train(folder, 2)


def test_the_next_writer_removes_only_temporary_files_of_killed_processes(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    for name in (".weights-2.safetensors.next", ".manifest.json.0123abcd.partial", "probe-7.safetensors", ".mine"):
        (tmp_path / "run" / name).write_bytes(b"half")
    train(folder, 2, 3, 4)
    assert {name for name in names(tmp_path / "run") if name.startswith((".", "probe"))} == {
        ".mine",
        "probe-7.safetensors",
    }
    assert same(ResultFolder.open(tmp_path / "run").load_weights(3), weights(3))


def test_concurrent_writers_of_a_file_do_not_interfere(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "table.csv") as file:
        file.write(b"first")
        with atomic_file(tmp_path / "table.csv") as other:
            other.write(b"second")
    assert (tmp_path / "table.csv").read_bytes() == b"first"
    assert names(tmp_path) == {"table.csv"}


def test_a_checkpoint_that_is_not_later_than_the_last_is_refused(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1, 2)
    with pytest.raises(ValueError, match=r"has a checkpoint of epoch 2, so the next must be of a later one, got 1"):
        train(folder, 1)
    assert folder.epochs == ResultFolder.open(tmp_path / "run").epochs == [1, 2]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_an_interruption_leaves_memory_and_disk_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Interrupts before or after each call in turn."""
    call = getattr(os, step)
    for fatal in range(20):
        folder = new(tmp_path / str(fatal), 1)
        left = iter(range(fatal))

        def interrupted(*args: Any, left: Iterator[int] = left, after: bool = fatal % 2 == 1) -> None:
            is_fatal = next(left, None) is None
            if not is_fatal or after:
                call(*args)
            if is_fatal:
                raise KeyboardInterrupt

        monkeypatch.setattr(os, step, interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            train(folder, 2)
        monkeypatch.undo()
        assert folder.epochs == ResultFolder.open(folder.path).epochs
        train(folder, folder.last_epoch + 1)
        assert same(ResultFolder.open(folder.path).load_weights(folder.epochs[0]), weights(folder.epochs[0]))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("is_replaced", [False, True])
@pytest.mark.parametrize("moment", ["before the disk is looked at", "after it"])
def test_an_interruption_at_the_end_of_a_commit_leaves_memory_and_disk_consistent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool, is_replaced: bool, moment: str
) -> None:
    """Interrupts the ``finally`` of a commit, whose manifest is on disk or, on a full disk, is not."""
    if overwrite:
        new(tmp_path, 1, 2, config={"is": "earlier"})
    folder = ResultFolder.create(tmp_path, "model", overwrite=overwrite)
    folder.save_config({"is": "new"})
    has_manifest = ResultFolder._has_manifest

    def interrupted(self: ResultFolder, file: manifest.FileDigest) -> bool:
        monkeypatch.setattr(ResultFolder, "_has_manifest", has_manifest)
        if moment == "after it":
            has_manifest(self, file)
        raise KeyboardInterrupt

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(ResultFolder, "_has_manifest", interrupted)
    if not is_replaced:
        monkeypatch.setattr("somvae_ext.store.result_folder.atomic_file", full)
    with pytest.raises(KeyboardInterrupt):
        train(folder, 1)
    monkeypatch.undo()
    assert folder.epochs == ([1] if is_replaced else [])
    assert folder.config == {"is": "new"}
    on_disk = ResultFolder.open(tmp_path)
    is_earlier = overwrite and not is_replaced
    assert on_disk.epochs == ([1, 2] if is_earlier else folder.epochs)
    assert on_disk.config == {"is": "earlier" if is_earlier else "new"}
    train(folder, 2)
    assert ResultFolder.open(tmp_path).epochs == folder.epochs == ([1, 2] if is_replaced else [2])
    assert same(folder.load_weights(), weights(2))


def interrupt_settling(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Makes the next check for the manifest of a commit raise the error; later checks work."""
    has_manifest = ResultFolder._has_manifest

    def interrupted(self: ResultFolder, file: manifest.FileDigest) -> bool:
        monkeypatch.setattr(ResultFolder, "_has_manifest", has_manifest)
        raise error

    monkeypatch.setattr(ResultFolder, "_has_manifest", interrupted)


def test_a_commit_stays_if_its_interruption_is_caught_while_the_folder_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = ResultFolder.create(tmp_path / "run", "model")
    with folder.lock():
        interrupt_settling(monkeypatch, KeyboardInterrupt())
        with contextlib.suppress(KeyboardInterrupt):
            folder.save_config({"is": "new"})
    assert ResultFolder.open(tmp_path / "run").config == folder.config == {"is": "new"}


@pytest.mark.parametrize("is_interrupted", [False, True])
def test_a_commit_whose_manifest_cannot_be_read_back_is_resolved_by_the_next_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_interrupted: bool
) -> None:
    folder = new(tmp_path / "run", 1)
    unreadable = OSError(errno.EIO, "Input/output error")

    def failing(self: ResultFolder, file: manifest.FileDigest) -> bool:
        raise unreadable

    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultFolder, "_has_manifest", failing)
    if is_interrupted:
        monkeypatch.setattr("somvae_ext.store.result_folder.sync_folder", interrupted)
    with pytest.raises(KeyboardInterrupt if is_interrupted else OSError), folder.lock():
        folder.save_config({"is": "newer"})
    with pytest.raises(OSError, match="Input/output error"):
        _ = folder.epochs
    with pytest.raises(OSError, match="Input/output error"):
        train(folder, 2)
    monkeypatch.undo()
    assert ResultFolder.open(tmp_path / "run").config == folder.config == {"is": "newer"}
    train(folder, 2)
    assert same(ResultFolder.open(tmp_path / "run").load_weights(), weights(2))


def test_a_checkpoint_whose_manifest_cannot_be_read_back_keeps_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new(tmp_path / "run", 1)
    interrupt_settling(monkeypatch, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(OSError, match="Input/output error"):
        train(folder, 2)
    assert ResultFolder.open(tmp_path / "run").epochs == folder.epochs == [1, 2]
    assert same(ResultFolder.open(tmp_path / "run").load_weights(), weights(2))
    train(folder, 3)
    assert same(ResultFolder.open(tmp_path / "run").load_weights(2), weights(2))


@pytest.mark.parametrize("moment", ["before the disk is looked at", "after the step"])
def test_tensors_saved_with_an_interrupted_checkpoint_are_not_saved_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    folder = new(tmp_path / "run", 1)
    folder.add_to_next_checkpoint("experts", {"images": torch.ones(2)})
    if moment == "after the step":
        monkeypatch.setattr("somvae_ext.store.result_folder.sync_folder", interrupted)
    else:
        interrupt_settling(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        train(folder, 2)
    monkeypatch.undo()
    folder.add_to_next_checkpoint("means", {"images": torch.zeros(3)})
    train(folder, 3)
    assert folder.epochs == [2, 3]
    assert folder.load_tensors("experts", 2) is not None
    assert folder.load_tensors("experts", 3) is None
    assert folder.load_tensors("means", 3) is not None


def test_an_evaluation_does_not_consume_staged_tensors(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    folder.add_to_next_checkpoint("experts", {"images": torch.ones(2)})
    folder.save_evaluation("test", {"purity": 1.0})
    train(folder, 2)
    assert folder.load_tensors("experts") is not None


def test_an_evaluation_that_json_cannot_represent_changes_nothing(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    with pytest.raises(ValueError, match="must be what JSON can hold"):
        folder.save_evaluation("test", {"purity": float("nan")})
    folder.save_evaluation("train", {"purity": 1.0})
    assert ResultFolder.open(tmp_path / "run").evaluations == {"train": {"purity": 1.0}}


def test_a_write_while_the_folder_is_opened_is_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new(tmp_path / "run", 1)
    parse = manifest.parse_json

    def late(path: Path, text: bytes) -> Any:
        monkeypatch.undo()
        ResultFolder.open(tmp_path / "run").save_evaluation("test", {"purity": 0.5})
        return parse(path, text)

    monkeypatch.setattr(manifest, "parse_json", late)
    folder = ResultFolder.open(tmp_path / "run")
    with pytest.raises(BlockingIOError, match="has been written to by another process"):
        folder.save_evaluation("train", {"purity": 1.0})
    assert ResultFolder.open(tmp_path / "run").evaluations == {"test": {"purity": 0.5}}


def test_the_error_for_a_removed_folder_says_so(tmp_path: Path) -> None:
    folder = new(tmp_path / "run", 1)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="run has been removed since it was opened"):
        train(folder, 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOLCK, "must be on a file system with locks"),
        (errno.EOPNOTSUPP, "must be on a file system with locks"),
        (errno.EWOULDBLOCK, "is being written to by another process"),
    ],
)
def test_failures_to_lock_have_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, sentence: str
) -> None:
    def flock(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=rf"run {sentence}"):
        new(tmp_path / "run")


# ---- unwritable folders ----------------------------------------------------------------------------------------------


def test_paths_that_cannot_be_a_folder_have_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    for place, sentence in {
        "file": "must be a folder, but a file is there",
        "file/run": "is a file",
        "circle": "a link that leads nowhere|Too many levels of symbolic links",
        "circle/run": "a link that leads nowhere|Too many levels of symbolic links",
        "nowhere": "a link that leads nowhere",
        "a" * 300: "File name too long",
    }.items():
        with pytest.raises(OSError, match=sentence):
            ResultFolder.create(tmp_path / place, "model", overwrite=True)
    assert names(tmp_path) == {"file", "circle", "nowhere"}


def test_a_full_disk_loses_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new(tmp_path / "run", 1)
    for files in range(4):  # number of files before the disk is full
        room = iter(range(files))

        def full(_: int, room: Iterator[int] = room) -> None:
            if next(room, None) is None:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"could not be written, because the disk is full; what was there before is"):
            train(folder, 2)
        monkeypatch.undo()
        kept = ResultFolder.open(tmp_path / "run")
        assert (kept.epochs, len(kept.load_log("metrics"))) == ([1], 1)
        assert same(kept.load_weights(), weights(1))
        assert not [name for name in names(tmp_path / "run") if "-2." in name]
        folder = kept
    train(folder, 2)
    assert len(ResultFolder.open(tmp_path / "run").load_log("metrics")) == 2


def test_a_read_only_folder_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new(tmp_path / "run", 1)
    (tmp_path / "run").chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert same(ResultFolder.open(tmp_path / "run").load_weights(), weights(1))
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root
    with pytest.raises(PermissionError, match=r"must be a folder to write to, but .* does not allow it"):
        ResultFolder.create(tmp_path / "run", "model", overwrite=True)
    (tmp_path / "run").chmod(stat.S_IRWXU)


def test_configs_that_json_cannot_represent_are_refused(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path / "run", "model")
    for config in ({"a": float("nan")}, {"a": {1, 2}}):
        with pytest.raises(ValueError, match="a config and evaluations must be what JSON can hold"):
            folder.save_config(config)
    assert not (tmp_path / "run").exists()
