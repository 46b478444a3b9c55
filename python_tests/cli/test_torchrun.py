"""From the shell, two processes under torchrun train the same result as one process on their joined batches or rows."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import children
import numpy as np
import pytest
import torch

from somvae_ext.store import ResultFolder

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("two_commands.py")
SOMVAE = ["fit", "images.npy", "--epochs", "2", "--threads", "1", "--device", "cpu"]
VQVAE = [*SOMVAE, "--model", "vqvae"]
ORDERED = [*SOMVAE, "--preset", "ordered"]
MAP = ["fit", "table.csv", "--model", "som", "--rows", "5", "--cols", "6", "--label-column", "class", "--threads", "1"]


@pytest.fixture(autouse=True)
def images() -> None:
    """Writes 400 images, of which 280 are for training: two processes can share them evenly."""
    generator = np.random.default_rng(0)
    centers, blob = generator.random((5, 8, 8)), generator.integers(5, size=400)
    np.save("images.npy", (centers[blob] + 0.1 * generator.random((400, 8, 8))).astype(np.float32))


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def environment() -> dict[str, str]:
    stand_ins = children.stand_ins(Path.cwd().parent)
    return os.environ | stand_ins | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def run(processes: int, *command: str) -> subprocess.CompletedProcess[str]:
    launcher = TORCHRUN if processes > 1 else []
    return children.run(*launcher, "-m", "somvae_ext", *command, env=environment())


def trained(processes: int, *command: str) -> tuple[ResultFolder, str]:
    out = f"by {processes}"
    done = run(processes, *command, "--out", out)
    assert done.returncode == 0, done.stderr[-3000:]
    return ResultFolder.open(out), done.stdout


@pytest.mark.parametrize("command", [SOMVAE, VQVAE, ORDERED], ids=["somvae", "vqvae", "ordered"])
def test_two_processes_train_the_same_model_as_one(command: list[str]) -> None:
    """Compares up to float32 rounding, which Adam amplifies where gradients are small.

    training/test_processes.py compares in float64. ``fit`` itself checks that both processes end with the same bits.
    """
    two, output = trained(2, *command, "--batch-size", "35")
    one, expected = trained(1, *command, "--batch-size", "70")
    assert output.count("samples of the test split") == 1  # only the first process prints results
    assert two.config["model"] == one.config["model"]  # schedules count the steps, of which there are as many
    for got, wanted in zip(two.load_log("metrics"), one.load_log("metrics"), strict=True):
        assert got["step"] == wanted["step"]
        for part in ("train", "validation"):
            assert got[part] == pytest.approx(wanted[part], rel=1e-4, abs=1e-6)
    for name, value in one.load_weights().items():
        torch.testing.assert_close(two.load_weights()[name], value, rtol=0, atol=1e-3, msg=name)
    for name, value in one.evaluations["test"].items():
        assert two.evaluations["test"][name] == pytest.approx(value, rel=0.01, abs=0.01), name
    assert output.splitlines()[0] == expected.splitlines()[0]


def test_two_processes_train_the_same_map_as_one() -> None:
    generator = np.random.default_rng(0)
    rows = generator.random((301, 4))
    lines = [",".join([*map(repr, row.tolist()), str(int(row[0] * 3))]) for row in rows]
    Path("table.csv").write_text("\n".join(["a,b,c,d,class", *lines]) + "\n")
    two, output = trained(2, *MAP)
    one, expected = trained(1, *MAP)
    codes, wanted = (folder.load_weights()["codebook"] for folder in (two, one))
    torch.testing.assert_close(codes, wanted, rtol=0, atol=1e-4)
    assert two.evaluations["train"] == pytest.approx(one.evaluations["train"], rel=1e-4)
    for name, value in one.load_file("nodes").items():
        assert two.load_file("nodes")[name].equal(value)
    same = [line for line in expected.splitlines() if "by 1" not in line and "training" not in line]
    assert [line for line in output.splitlines() if "by 2" not in line and "training" not in line] == same
    assert json.loads(Path("by 2/evaluation.json").read_text()) == two.evaluations


@pytest.mark.slow
def test_an_interrupted_training_of_two_processes_resumes_with_two() -> None:
    whole, _ = trained(2, *SOMVAE)
    first = run(2, *SOMVAE, "--epochs", "1", "--out", "parts")
    assert first.returncode == 0, first.stderr[-3000:]
    resumed = run(2, "fit", "--resume", "parts", "--epochs", "2", "--device", "cpu")
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    for name, value in whole.load_weights().items():
        assert ResultFolder.open("parts").load_weights()[name].equal(value)


def test_an_error_of_one_process_is_reported_once() -> None:
    Path("full").mkdir()
    Path("full/notes.txt").write_text("mine")
    done = run(2, *SOMVAE, "--out", "full")
    assert done.returncode != 0
    sentences = [line for line in done.stderr.splitlines() if line.startswith("somvae: ")]
    assert sentences == ["somvae: full is not empty; choose another folder, or set --overwrite"]
    assert os.listdir("full") == ["notes.txt"]


def test_rules_that_need_all_rows_at_once_are_refused() -> None:
    np.save("table.npy", np.random.default_rng(0).random((30, 3)))
    done = run(2, "fit", "table.npy", "--model", "som", "--algorithm", "minibatch")
    assert "somvae: --algorithm must be batch under torchrun, got minibatch" in done.stderr
    assert not Path("runs").exists()


class Running:
    """A training by two processes under ``torchrun`` that never ends by itself."""

    def __init__(self, torchrun: children.Child) -> None:
        self.torchrun = torchrun
        wait_until(lambda: Path("pid_0").exists() and Path("pid_1").exists() and "epoch 2/" in self.stderr(0))
        self.pids = [int(Path(f"pid_{rank}").read_text()) for rank in (0, 1)]

    def stderr(self, rank: int) -> str:
        return "".join(log.read_text() for log in Path("logs").glob(f"*/attempt_0/{rank}/stderr.log"))

    def outcome(self) -> list[tuple[int, list[str]]]:
        """Returns the exit code of each process, and its stderr without the lines of epochs."""
        wait_until(lambda: all(Path(f"exit_{rank}").exists() for rank in (0, 1)))
        self.torchrun.send_signal(signal.SIGCONT)
        self.torchrun.wait(timeout=60)  # its processes end before it; until then they may still write
        lines = [self.stderr(rank).splitlines() for rank in (0, 1)]
        said = [[line for line in of_one if not line.startswith("epoch ")] for of_one in lines]
        return [(int(Path(f"exit_{rank}").read_text()), said[rank]) for rank in (0, 1)]


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@contextlib.contextmanager
def endless(kind: str) -> Iterator[Running]:
    if kind == "map":
        np.save("table.npy", np.random.default_rng(0).random((20_000, 20), dtype=np.float32))
        command = ["fit", "table.npy", "--model", "som", "--epochs", "100000", "--threads", "1"]
    else:
        command = [*SOMVAE, "--epochs", "100000"]
    logs = ["--redirects", "3", "--log-dir", "logs"]
    torchrun = children.start(*TORCHRUN, *logs, PROGRAM, *command, "--out", "run", env=environment())
    try:
        yield Running(torchrun)
    finally:
        torchrun.send_signal(signal.SIGCONT)
        torchrun.terminate()
        torchrun.wait()


INTERRUPTED = (
    "somvae: interrupted; run keeps the last complete epoch, and torchrun ... -m somvae_ext fit --resume run goes on "
    "from there"
)


def test_after_ctrl_c_only_the_first_process_reports() -> None:
    """torchrun receives the signal as well and forwards it to the processes a second time."""
    with endless("somvae") as running:
        for pid in (*running.pids, running.torchrun.pid):
            os.kill(pid, signal.SIGINT)
        assert running.outcome() == [(130, [INTERRUPTED]), (130, [])]


def test_a_signal_to_the_second_process_ends_the_first_with_one_sentence() -> None:
    with endless("somvae") as running:
        running.torchrun.send_signal(signal.SIGSTOP)  # it might end the first process before that one notices
        os.kill(running.pids[1], signal.SIGTERM)
        assert running.outcome() == [(2, ["somvae: another process has ended, so this one ends too"]), (143, [])]


def test_a_signal_to_the_first_process_ends_the_second_without_a_message() -> None:
    with endless("map") as running:
        running.torchrun.send_signal(signal.SIGSTOP)
        os.kill(running.pids[0], signal.SIGTERM)
        assert running.outcome() == [(143, [INTERRUPTED]), (2, [])]
