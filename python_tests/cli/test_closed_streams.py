"""Commands whose output is not read to the end, such as ``somvae fit ... 2>&1 | head -1``."""

from __future__ import annotations

import os
from pathlib import Path

import children
import numpy as np
import pytest
from children import Child

ROOT = Path(__file__).parents[2]
MAP = ["fit", "table.npy", "--model", "som", "--rows", "3", "--cols", "3", "--epochs", "4"]
FIT = [*MAP, "--threads", "1", "--out", "run"]


@pytest.fixture(autouse=True)
def table() -> None:
    np.save("table.npy", np.random.default_rng(0).random((50, 3), dtype=np.float32))


def start(*command: str, stdout: int | None = None, stderr: int | None = None) -> Child:
    return children.start("-W", "ignore", "-m", "somvae_ext", *command, stdout=stdout, stderr=stderr)


def test_a_training_continues_when_the_reader_of_its_progress_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*FIT, stderr=writer)
    os.close(writer)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "4 epochs" in output


def test_a_training_continues_when_the_reader_of_all_its_output_is_gone() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start(*FIT, stdout=writer, stderr=writer)
    os.close(writer)
    assert process.wait(timeout=120) == 0
    assert Path("run/evaluation.json").exists()
    assert list(Path("run").glob("*.png"))


def test_a_closed_stdout_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("info", stdout=writer)
    os.close(writer)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


def test_a_full_disk_under_stdout_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        process = start("info", stdout=full.fileno())
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (2, "somvae: No space left on device\n")
