"""If a process is killed while it writes, the folder holds one of the last epochs and training can be resumed.

Here the process ends by ``os._exit`` at each step in turn, which like SIGKILL runs no cleanup.
test_killed_trainings.py kills real trainings.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from somvae_ext.store import ResultFolder

EPOCHS = 4
DIED = 7


def train(path: Path, *, resume: bool) -> None:
    """Runs a training whose state depends on all earlier epochs."""
    folder = ResultFolder.open(path) if resume else ResultFolder.create(path, "model", overwrite=True)
    if not resume or not folder.epochs:
        folder.save_config({"epochs": EPOCHS})
    value = folder.load_state()["value"] if folder.epochs else 1.0
    first = folder.last_epoch + 1 if folder.epochs else 1
    for epoch in range(first, EPOCHS + 1):
        value = value * 1.5 + epoch
        folder.add_to_next_checkpoint("experts", {"images": torch.full((epoch, 3), value)})
        records: dict[str, Any] = {"metrics": [{"epoch": epoch, "value": value}], "iterations": [{"epoch": epoch}]}
        folder.save_checkpoint(epoch, {"w": torch.full((100,), value)}, {"value": value}, records)
    folder.save_file("nodes", {"hits": torch.arange(3)})
    folder.save_evaluation("test", {"purity": value})


def content(path: Path) -> dict[str, bytes]:
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


class Steps:
    """Counts the calls that change the disk, and ends the process at one of them."""

    def __init__(self, fatal: int, *, torn: bool) -> None:
        self.count, self._fatal, self._torn = 0, fatal, torn

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("fsync", "replace", "unlink"):
            monkeypatch.setattr(os, name, self._watched(name, getattr(os, name)))

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count == self._fatal:
                if self._torn and name == "fsync" and stat.S_ISREG(os.fstat(args[0]).st_mode):
                    os.ftruncate(args[0], os.fstat(args[0]).st_size - 5)
                os._exit(DIED)
            return call(*args, **options)

        return watched


def run_until(path: Path, fatal: int, *, resume: bool, torn: bool) -> bool:
    """Trains in a child process; returns whether the process was killed at the step."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as monkeypatch:
            Steps(fatal, torn=torn).watch(monkeypatch)
            try:
                train(path, resume=resume)
            except BaseException:
                os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DIED)
    return code == DIED


@pytest.mark.parametrize(
    ("torn", "earlier"),
    [(False, True), (True, False), *(pytest.param(both, both, marks=pytest.mark.slow) for both in (False, True))],
)
def test_a_training_that_is_killed_at_any_step_ends_with_the_same_bytes(
    tmp_path: Path, torn: bool, earlier: bool
) -> None:
    train(tmp_path / "whole", resume=False)
    expected = content(tmp_path / "whole")
    for fatal in range(1, 1000):
        path = tmp_path / str(fatal)
        if earlier:
            old = ResultFolder.create(path, "map")
            for epoch in range(1, 4):
                old.save_checkpoint(
                    epoch, {"codebook": torch.full((2,), float(epoch))}, {}, {"metrics": [{"epoch": epoch}]}
                )
        if not run_until(path, fatal, resume=False, torn=torn):
            assert fatal > 30
            break
        try:
            left = ResultFolder.open(path)
            begun = left.kind == "model"
        except FileNotFoundError:
            begun = False
        if earlier and not begun:  # the earlier result is unchanged
            assert left.load_weights()["codebook"].equal(torch.full((2,), 3.0))
            assert [record["epoch"] for record in left.load_log("metrics")] == [1, 2, 3]
        elif begun and left.epochs:
            assert left.load_log("metrics")[-1]["epoch"] == left.last_epoch
            assert left.load_weights()["w"][0] == left.load_state()["value"]
        train(path, resume=begun)
        assert content(path) == expected


def test_a_training_that_is_killed_repeatedly_ends_with_the_same_bytes(tmp_path: Path) -> None:
    train(tmp_path / "whole", resume=False)
    train_until = tmp_path / "run"
    run_until(train_until, 3, resume=False, torn=False)
    for steps in range(6, 100):  # a few more steps each time, until they suffice
        if not run_until(train_until, steps, resume=True, torn=True):
            break
    assert content(train_until) == content(tmp_path / "whole")
