"""``somvae experiment``: its output, files and errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from somvae_ext import experiments
from somvae_ext.cli import main


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments with which the command calls the library, which is replaced and does nothing."""
    calls: list[dict[str, Any]] = []

    def run_experiment(experiment: Any, budget: Any, folder: Path, name: str, **options: Any) -> Path:
        calls.append({"experiment": experiment, "budget": budget, "folder": folder, "name": name, **options})
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.json"

    monkeypatch.setattr(experiments, "run_experiment", run_experiment)
    return calls


def test_the_command_says_where_the_results_are(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", "table1", "--quick", "--data-root", "here", "--workers", "2"]) == 0
    assert calls[0]["name"] == "table1-quick"
    assert calls[0]["budget"] == experiments.QUICK
    assert calls[0]["root"] == tmp_path / "here"
    assert calls[0]["workers"] == 2
    said = capsys.readouterr().out
    assert "runs/experiments/table1-quick.json" in said
    assert "runs/experiments.md" in said
    assert (tmp_path / "runs" / "experiments.md").read_text().startswith("# Results")


def test_without_quick_all_images_are_taken(calls: list[dict[str, Any]], tmp_path: Path) -> None:
    assert main(["experiment", "map512", "--out", str(tmp_path / "out")]) == 0
    assert calls[0]["name"] == "map512"
    assert calls[0]["budget"] == experiments.FULL
    assert calls[0]["budget"].reported.images == 45_000
    assert dataclasses.replace(calls[0]["budget"], reported=experiments.QUICK.reported) == experiments.QUICK


def test_quiet_prints_only_the_last_line(
    calls: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["experiment", "map512", "--quiet", "-o", str(tmp_path / "out")]) == 0
    calls[0]["report"]("tuning 1/1")
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "NAME is missing"),
        (
            ["tabel1"],
            "or map512 or hardening or lorenz or vitals or eicu, got 'tabel1'; did you mean table1?",
        ),
        (["table1", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["table1", "--device", "gpu"], "--device must be auto or cpu or cuda, got 'gpu'"),
        (["table1", "--out", "file"], "file must be a folder, but a file is there"),
        (["table1", "--out", "file/out"], "file must be a folder, but a file is there"),
        (
            ["table1", "--out", "README"],
            "README.md is where the page of the results should be, but holds something else",
        ),
        (["table1", "--epochs", "3"], "--epochs"),
        (["lorenz", "--download"], "--download is for experiments on mnist and fashion-mnist, which lorenz is not"),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("file", "README.md"):
        Path(name).write_text("of one's own")
    assert main(["experiment", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("somvae: ")
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "file"]
    assert Path("README.md").read_text() == "of one's own"


def test_missing_data_are_reported_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["experiment", "map512", "--quick"]) == 2
    error = capsys.readouterr().err
    assert "--download" in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_after_an_interruption_the_command_says_how_to_resume(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(experiments, "run_experiment", interrupt)
    assert main(["experiment", "table2", "-o", str(tmp_path / "out")]) == 130
    said = capsys.readouterr().err
    assert said == "somvae: interrupted; the same command continues and keeps the trainings that are done\n"
