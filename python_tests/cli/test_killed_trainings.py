"""Trainings from the shell that are killed at random moments, started twice, or interrupted by signals."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import children
import numpy as np
import pytest
import torch
from children import Child

from somvae_ext.store import ResultFolder

ROOT = Path(__file__).parents[2]
FITS = {
    "map": ["fit", "table.npy", "--model", "som", "--rows", "30", "--cols", "30", "--epochs", "60", "--quiet"],
    "somvae": ["fit", "digits", "--preset", "ordered", "--epochs", "40", "--threads", "1"],
}
RESUME = ["fit", "--resume"]


@pytest.fixture(autouse=True)
def table() -> None:
    np.save("table.npy", np.random.default_rng(0).random((20_000, 20), dtype=np.float32))


def start(*command: str) -> Child:
    return children.start("-W", "ignore", "-m", "somvae_ext", *command)


def finish(process: Child) -> tuple[int, str]:
    """Waits for the process and returns its exit code and stderr without the lines of epochs."""
    _, errors = process.communicate(timeout=300)
    return process.returncode, "\n".join(line for line in errors.splitlines() if not line.startswith("epoch "))


def epochs_done(path: Path) -> int:
    try:
        return max(ResultFolder.open(path).epochs, default=0)
    except FileNotFoundError:
        return 0


def wait_for_an_epoch(path: Path, process: Child) -> None:
    before = epochs_done(path)
    while epochs_done(path) == before and process.poll() is None:
        time.sleep(0.002)


def kill(path: Path, process: Child, draw: random.Random, *, while_writing: bool) -> None:
    """Kills the process at a random moment after its next epoch, or from then on as soon as it is writing a file."""
    wait_for_an_epoch(path, process)
    time.sleep(draw.uniform(0, 0.3))
    while while_writing and process.poll() is None and not any(path.glob(".*.partial")):
        pass
    process.kill()
    process.communicate()


def all_tensors(path: Path) -> dict[str, torch.Tensor]:
    folder = ResultFolder.open(path)
    return folder.load_weights() | (folder.load_file("nodes") if folder.files else {})


@pytest.mark.slow
@pytest.mark.parametrize("kind", FITS)
def test_a_training_that_is_killed_twenty_times_ends_with_the_same_bits(kind: str) -> None:
    assert finish(start(*FITS[kind], "--out", "whole"))[0] == 0
    draw = random.Random(0)
    kills = attempt = 0
    while kills < 20:
        attempt += 1
        path = Path(f"run{attempt}")
        process = start(*FITS[kind], "--out", str(path))
        while kills < 20:
            kill(path, process, draw, while_writing=kills % 2 == 1)
            if process.returncode == 0:  # it had finished before the kill
                break
            kills += 1
            process = start(*RESUME, str(path))
        code, errors = finish(process)
        assert code == 0 or "has completed" in errors
        got, expected = all_tensors(path), all_tensors(Path("whole"))
        assert got.keys() == expected.keys()
        assert all(got[name].equal(expected[name]) for name in expected)
        assert ResultFolder.open(path).evaluations == ResultFolder.open("whole").evaluations


@pytest.mark.parametrize("kind", FITS)
def test_a_killed_training_can_be_resumed(kind: str) -> None:
    process = start(*FITS[kind], "--out", "run")
    kill(Path("run"), process, random.Random(1), while_writing=True)
    done = epochs_done(Path("run"))
    process = start(*RESUME, "run")
    wait_for_an_epoch(Path("run"), process)
    assert epochs_done(Path("run")) > done > 0
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("kind", "command"),
    [("map", [*FITS["map"], "--out", "run", "--overwrite"]), ("somvae", [*RESUME, "run"])],
    ids=["map that is overwritten", "somvae that is resumed"],
)
def test_the_second_of_two_writers_is_refused(kind: str, command: list[str]) -> None:
    first = start(*FITS[kind], "--out", "run")
    wait_for_an_epoch(Path("run"), first)
    first.send_signal(signal.SIGSTOP)  # keeps it from ending in the meantime
    code, errors = finish(start(*command))
    expected = "somvae: run is being written to by another process; wait until it is done, or choose another folder"
    assert (code, errors) == (2, expected)
    first.kill()
    first.communicate()


@pytest.mark.slow
def test_one_of_two_writers_that_start_together_is_refused_twenty_times() -> None:
    fit = [*FITS["map"], "--epochs", "200", "--overwrite"]
    for _ in range(20):
        outcomes = sorted(finish(process) for process in [start(*fit, "--out", "run") for _ in range(2)])
        assert [code for code, _ in outcomes] == [0, 2]
        assert "run is being written to by another process" in outcomes[1][1]


@pytest.mark.parametrize(
    ("kind", "number", "code"),
    [("somvae", signal.SIGINT, 130), ("map", signal.SIGTERM, 143), ("map", signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_a_signal_ends_a_training_with_one_sentence(kind: str, number: int, code: int) -> None:
    process = start(*FITS[kind], "--out", "run")
    wait_for_an_epoch(Path("run"), process)
    process.send_signal(number)
    got, errors = finish(process)
    expected = "somvae: interrupted; run keeps the last complete epoch, and somvae fit --resume run goes on from there"
    assert (got, errors) == (code, expected)
    assert not list(Path("run").glob(".*.partial"))
