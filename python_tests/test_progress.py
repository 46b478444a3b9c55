"""Progress on stderr: bars on a terminal, lines elsewhere, nothing unless requested."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import termios
from collections.abc import Callable
from pathlib import Path

import children
import pytest

from somvae_ext.progress import CountProgress, Progress

ROOT = Path(__file__).parents[1]

MAP = """
import numpy as np
from somvae_ext.estimators import SOM
SOM(3, 3, n_epochs=3, random_state=0, verbose={shown}).fit(np.random.default_rng(0).random((50, 2)))
"""
MODEL = """
import torch
from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.training import TrainingConfig, fit
model = SOMVAE(SOMVAEConfig(input_shape=(3,), rows=2, cols=2, latent_dim=2, hidden_sizes=(4,), tau=0.0, gamma=0.0))
fit(model, Samples(torch.rand(20, 3)), TrainingConfig(epochs=3, batch_size=4), accelerator="cpu", show_progress={shown})
"""


def command(program: str, shown: object) -> list[str]:
    return ["-W", "ignore", "-c", program.format(shown=shown)]


def on_a_pipe(program: str, shown: object) -> str:
    done = children.run(*command(program, shown))
    assert done.returncode == 0, done.stderr
    return own_lines(done.stderr)


def on_a_terminal(program: str, shown: object) -> str:
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 400, 0, 0))
    child = children.start(*command(program, shown), stdout=terminal, stderr=terminal)
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # Linux raises it when no process has the terminal open anymore
        while part := os.read(master, 4096):
            written += part
    os.close(master)
    assert child.wait() == 0, written.decode()
    return written.decode()


def own_lines(text: str) -> str:
    """Keeps the lines of our progress and drops messages of Lightning and torch."""
    return "".join(line for line in text.splitlines(keepends=True) if line.lstrip("\r").startswith("epoch"))


def test_a_map_on_a_pipe_writes_a_line_per_epoch() -> None:
    lines = on_a_pipe(MAP, True)
    assert "\r" not in lines
    number = r"[0-9.e+-]+"
    assert re.fullmatch(
        "".join(rf"epoch {n}/3: quantization_error {number}, sigma {number}, \d+\.\d s\n" for n in (1, 2, 3)), lines
    )


def test_a_model_on_a_pipe_writes_a_line_per_epoch() -> None:
    lines = on_a_pipe(MODEL, True)
    assert "\r" not in lines
    assert [line.split(":")[0] for line in lines.splitlines()] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all(re.search(r": total \S+, .*usage \d+%, \d+\.\d s$", line) for line in lines.splitlines())


@pytest.mark.parametrize(("program", "shown"), [(MAP, False), (MODEL, None), (MODEL, False)])
def test_nothing_is_written_to_a_pipe_unless_asked_for(program: str, shown: object) -> None:
    assert on_a_pipe(program, shown) == ""


def test_a_map_on_a_terminal_shows_a_bar_of_epochs() -> None:
    written = on_a_terminal(MAP, True)
    assert "\r" in written
    assert "3/3 [" in written
    assert "quantization_error=" in written


@pytest.mark.parametrize("shown", [None, True])
def test_a_model_on_a_terminal_shows_a_bar_of_batches_for_each_epoch(shown: object) -> None:
    written = on_a_terminal(MODEL, shown)
    assert "\r" in written
    for epoch in (1, 2, 3):
        assert f"epoch {epoch}/3:" in written
    assert "5/5 [" in written
    assert "usage=" in written


@pytest.mark.parametrize(("program", "shown"), [(MAP, False), (MODEL, False)])
def test_nothing_is_shown_on_a_terminal_if_disabled(program: str, shown: object) -> None:
    assert "epoch" not in on_a_terminal(program, shown)


def test_a_resumed_training_counts_from_the_epochs_that_were_done(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(5, show=True, completed_epochs=3) as progress:
        progress.after_epoch({"error": 0.25, "usage": "50%"})
        progress.after_epoch({"error": 1 / 3})
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"epoch 4/5: error 0.25, usage 50%, \d+\.\d s", first)
    assert re.fullmatch(r"epoch 5/5: error 0.3333, \d+\.\d s", second)


class Stream:
    """A write-only stream, as some notebooks put in place of stderr."""

    def __init__(self) -> None:
        self.written = ""

    def write(self, text: str) -> None:
        self.written += text

    def flush(self) -> None:
        pass


def test_a_stream_without_isatty_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    monkeypatch.setattr("sys.stderr", stream)
    with Progress(1, show=True) as progress:
        progress.after_epoch({"error": 0.25})
    assert stream.written.startswith("epoch 1/1: error 0.25, ")


def closed_stream() -> io.TextIOBase:
    stream = io.StringIO()
    stream.close()
    return stream


def pipe_without_a_reader() -> io.TextIOBase:
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered: a buffered stream would try to write again when it is deleted.
    return io.TextIOWrapper(os.fdopen(writer, "wb", buffering=0), write_through=True)


def terminal_that_is_gone() -> io.TextIOBase:
    """Returns a broken stream that still claims to be a terminal; a real closed terminal does not."""
    stream = pipe_without_a_reader()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    return stream


@pytest.mark.parametrize("batches", [None, 2])
@pytest.mark.parametrize("stream", [closed_stream, pipe_without_a_reader, terminal_that_is_gone])
def test_training_continues_when_stderr_is_broken(
    stream: Callable[[], io.TextIOBase], batches: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", stream())
    with Progress(2, show=True, num_batches=batches) as progress:
        for _ in range(2):
            progress.start_epoch()
            progress.after_batch({"error": 0.5})
            progress.after_epoch({"error": 0.25})
    assert not progress.shows_batches


def test_a_bar_ends_when_its_terminal_does(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = pty.openpty()
    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(os.fdopen(terminal, "wb", buffering=0), write_through=True))
    with Progress(2, show=True) as progress:
        progress.after_epoch({"error": 0.25})
        os.close(master)
        progress.after_epoch({"error": 0.125})


def test_reading_a_file_writes_a_line_for_each_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with CountProgress("rows.csv", 1000, "B", show=True) as progress:
        for position in (50, 150, 160, 420, 1000):
            progress.advance_to(position)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == ["rows.csv: 10%", "rows.csv: 40%", "rows.csv: 100%"]


def test_reading_a_file_on_a_terminal_shows_a_bar() -> None:
    program = """
from somvae_ext.progress import CountProgress
with CountProgress("rows.csv", 1000, "B", show={shown}) as progress:
    progress.advance_to(400)
    progress.advance_to(1000)
"""
    assert re.search(r"rows\.csv: 100%.* 1\.00k/1\.00k \[", on_a_terminal(program, None))
    assert on_a_terminal(program, False) == ""
