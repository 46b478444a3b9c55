"""Two processes under torchrun train the same map as a single process on all their rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import launching
import numpy as np
import pytest
import torch

from somvae_ext.estimators import SOM

PROGRAM = Path(__file__).with_name("two_processes.py")
CASES = ["pca", "samples", "kmeans", "gaps", "weights"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps")
    launching.run_two_processes(PROGRAM, path)
    launching.run_one_process(PROGRAM, path)
    return path


def outcome(folder: Path, case: str, world_size: int, rank: int = 0) -> dict[str, Any]:
    return torch.load(folder / f"{case}_{world_size}_{rank}.pt", weights_only=False)


@pytest.mark.parametrize("case", CASES)
def test_both_processes_end_with_the_same_bits(folder: Path, case: str) -> None:
    first, second = (outcome(folder, case, 2, rank) for rank in (0, 1))
    codebook, other = (torch.as_tensor(end["codebook"]) for end in (first, second))
    assert codebook.isfinite().all()
    assert codebook.equal(other)
    assert first["history"] == second["history"]
    assert first["error"] == second["error"]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_the_same_map_as_one(folder: Path, case: str) -> None:
    two, one = outcome(folder, case, 2), outcome(folder, case, 1)
    # Adding two float32 sums instead of one costs a rounding in each of eight epochs, for codes of magnitude 10.
    bound = 8 * 8 * torch.finfo(torch.float32).eps
    np.testing.assert_allclose(two["codebook"], one["codebook"], rtol=bound, atol=10 * bound)
    for got, expected in zip(two["history"], one["history"], strict=True):
        assert got == pytest.approx(expected, rel=1e-5)
    labels = np.concatenate([outcome(folder, case, 2, rank)["labels"] for rank in (0, 1)])
    np.testing.assert_array_equal(labels, one["labels"])
    for rank in (0, 1):  # the hits count all rows, not only those of the process
        np.testing.assert_array_equal(outcome(folder, case, 2, rank)["hits"], np.bincount(labels, minlength=24))


def test_shares_that_do_not_fit_together_are_refused_by_both(folder: Path) -> None:
    for rank in (0, 1):
        assert (folder / f"refused_{rank}").read_text() == (
            "SOM: the number of features must be the same in all processes, got 3, 4"
        )


def test_data_that_one_process_refuses_are_refused_by_both(folder: Path) -> None:
    assert "the dtype of the rows must be the same in all processes" in (folder / "refused_dtype_0").read_text()
    assert (folder / "refused_dtype_0").read_text() == (folder / "refused_dtype_1").read_text()
    assert "got NaN in row 0, column 0" in (folder / "refused_nan_1").read_text()
    assert (folder / "refused_nan_0").read_text().startswith("SOM: process 1 failed: ValueError: SOM: X")


def test_no_process_waits_for_one_without_memory(folder: Path) -> None:
    assert (folder / "refused_memory_1").read_text() == "MemoryError: no room for the rows"
    assert (folder / "refused_memory_0").read_text() == (
        "OtherProcessFailed: SOM: process 1 failed: MemoryError: no room for the rows"
    )


def test_both_processes_report_different_codes_at_the_end(folder: Path) -> None:
    messages = [(folder / f"refused_codebook_{rank}").read_text() for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("SOM: the bits of the codebook must be the same in all processes, got SHA-256 ")


def test_without_a_seed_both_processes_start_with_the_same_codes(folder: Path) -> None:
    first, second = (torch.as_tensor(torch.load(folder / f"unseeded_{rank}.pt")) for rank in (0, 1))
    assert first.equal(second)


def test_each_process_may_read_its_own_stream(folder: Path) -> None:
    first, second = (torch.as_tensor(torch.load(folder / f"stream_{rank}.pt", weights_only=False)) for rank in (0, 1))
    assert first.isfinite().all()
    assert first.equal(second)


def test_a_column_of_a_stream_needs_a_value_in_one_of_the_processes(folder: Path) -> None:
    codes = [torch.as_tensor(torch.load(folder / f"stream_gaps_{rank}.pt", weights_only=False)) for rank in (0, 1)]
    assert codes[0].isfinite().all()
    assert codes[0].equal(codes[1])
    for rank in (0, 1):
        assert "got only NaN in column 4" in (folder / f"refused_column_{rank}").read_text()


def test_a_process_outside_torchrun_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="distributed must not be True in a process of its own; start the script by"):
        SOM(2, 2, distributed=True).fit(np.random.default_rng(0).random((9, 3)))


class Reached(BaseException):
    """Ends a fit before it needs the GPU and the other process, which exist only in simulation."""


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Simulates the second of two processes on a machine with two GPUs; lists the devices that torch was set to."""
    current: list[torch.device] = []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", current.append)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    return current


def test_cuda_without_a_number_is_the_gpu_of_the_local_rank(
    two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[torch.device] = []

    def values(dtype: torch.dtype, device: torch.device, *_: Any) -> None:
        devices.append(device)
        raise Reached

    monkeypatch.setattr("somvae_ext.estimators.som.RowFormat", values)
    with pytest.raises(Reached):
        SOM(2, 2, device="cuda", distributed=True).fit(np.zeros((9, 3)))
    assert two_gpus == devices == [torch.device("cuda:1")]


def test_each_process_of_a_machine_needs_a_gpu(two_gpus: list[torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(
        ValueError, match=r"SOM: device 'cuda' needs a GPU for each process of a machine, got local ran"
    ):
        SOM(2, 2, device="cuda", distributed=True).fit(np.zeros((9, 3)))
    assert two_gpus == []
