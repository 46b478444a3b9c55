"""Runs of `somvae fit` are trained once and reused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import presets
import pytest

CLEAN, CHANGED = "0123abc", "0123abc-dirty"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first training of this file is kept for those after it."""
    return tmp_path_factory.mktemp("kept") / "run"


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, kept: Path) -> list[list[str]]:
    """The options of the trainings started with a cheap setting. Only the first one trains; the others copy it."""
    monkeypatch.setitem(presets.SETTINGS, "digits, tiny", ["digits", "--epochs", "1", "--rows", "2", "--cols", "2"])
    started: list[list[str]] = []
    train = presets.train

    def counted(folder: Path, options: list[str]) -> float:
        started.append(options)
        if kept.exists():
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            return 0.0
        minutes = train(folder, options)
        shutil.copytree(folder, kept)
        return minutes

    monkeypatch.setattr(presets, "train", counted)
    return started


def run(folder: Path, *, seed: int = 0, commit: str = CLEAN) -> dict[str, Any]:
    return presets.run(folder, "digits, tiny", seed, folder.parent, commit)


def test_a_run_reports_its_cost_and_its_metrics(tmp_path: Path, trainings: list[list[str]]) -> None:
    made = run(tmp_path / "run")
    assert made["cpu_minutes"] > 0
    assert made["epochs"] == 1
    assert 0 < made["test"]["purity"] <= 1


def test_a_run_is_kept_until_its_options_or_the_commit_change(tmp_path: Path, trainings: list[list[str]]) -> None:
    for seed, commit in ((0, CLEAN), (0, CLEAN), (1, CLEAN), (1, "4567def"), (1, "4567def")):
        run(tmp_path / "run", seed=seed, commit=commit)
    assert len(trainings) == 3


def test_a_run_of_a_changed_tree_is_not_reused(tmp_path: Path, trainings: list[list[str]]) -> None:
    run(tmp_path / "run", commit=CHANGED)
    run(tmp_path / "run", commit=CHANGED)
    assert len(trainings) == 2


def test_a_failed_training_stops_the_script_and_names_its_log(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"broken: somvae fit ended with 2; see .*broken.log"):
        presets.train(tmp_path / "broken", ["no-such-data"])
    assert "no-such-data" in (tmp_path / "broken.log").read_text()
