"""Collective operations of several processes: by two processes under torchrun, and by a single one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import launching
import pytest
import torch
import torch.distributed as dist

from somvae_ext.processes import OtherProcessFailed, Processes, is_lost_connection, local_device, torchrun_processes

PROGRAM = Path(__file__).with_name("two_processes.py")
SUMS = ["of one piece", "of a number", "of nothing", "of many pieces", "of whole pieces", "of strided rows"]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results that each of the two processes saved, by rank."""
    folder = tmp_path_factory.mktemp("processes")
    launching.run_two_processes(PROGRAM, folder)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_each_process_knows_its_rank(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["self"] for outcome in outcomes] == [(0, 2, True), (1, 2, False)]


@pytest.mark.parametrize("case", SUMS)
def test_sums_are_bitwise_equal_to_adding_the_terms_by_rank(outcomes: list[dict[str, Any]], case: str) -> None:
    (first, total), (second, other) = (outcome["sums"][case] for outcome in outcomes)
    expected = first + second
    assert total.shape == first.shape
    assert total.dtype == torch.float32
    assert total.equal(expected)
    assert other.equal(expected)


def test_all_processes_get_the_first_ones_values(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        assert outcome["copied"].tolist() == [0.0, 0.0]
        assert outcome["broadcast"] == {"rank": 0}
        assert outcome["from_first"] == 0


def test_values_are_gathered_by_rank(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        assert outcome["gathered"] == ["process 0", "process 1"]
        assert outcome["numbers"] == [[0.0, 0.5], [1.0, 0.5]]


def test_different_numbers_of_rows_are_concatenated_by_rank(outcomes: list[dict[str, Any]]) -> None:
    for outcome in outcomes:
        rows, index = outcome["rows"]
        assert rows.tolist() == [[1, 1, 1], [1, 1, 1]]
        assert index.tolist() == [0, 1]


@pytest.mark.parametrize("case", ["agree", "agree on bits", "none failed"])
def test_equal_values_raise_in_neither_process(outcomes: list[dict[str, Any]], case: str) -> None:
    assert [outcome["messages"][case] for outcome in outcomes] == ["no error"] * 2


def test_different_values_raise_in_both_processes(outcomes: list[dict[str, Any]]) -> None:
    """The first raises ValueError, the second OtherProcessFailed: the command line leaves the message to the first."""
    for outcome, kind in zip(outcomes, ("ValueError", "OtherProcessFailed"), strict=True):
        assert outcome["messages"]["disagree"] == (
            f"{kind}: Program: the number of features must be the same in all processes, got 3, 4"
        )
        assert outcome["messages"]["another bit"].startswith(
            f"{kind}: Program: the bits of the codes must be the same in all processes, got SHA-256 "
        )


@pytest.mark.parametrize(
    ("case", "failed"), [("the first failed", 0), ("the second failed", 1), ("from first", 0), ("a block failed", 1)]
)
def test_a_failure_of_one_process_raises_in_both(outcomes: list[dict[str, Any]], case: str, failed: int) -> None:
    assert outcomes[failed]["messages"][case] == "OSError: the disk is full"
    assert outcomes[1 - failed]["messages"][case] == (
        f"OtherProcessFailed: Program: process {failed} failed: OSError: the disk is full"
    )


def test_if_both_fail_the_first_ones_error_is_reported(outcomes: list[dict[str, Any]]) -> None:
    assert [outcome["messages"]["both failed"] for outcome in outcomes] == [
        "OSError: the disk is full",
        "OtherProcessFailed: Program: process 0 failed: OSError: the disk is full",
    ]


@pytest.mark.parametrize("case", ["sum", "copy from first", "gather rows", "gather", "broadcast", "fail together"])
def test_waiting_for_a_process_that_has_ended_raises_a_clear_error(outcomes: list[dict[str, Any]], case: str) -> None:
    assert outcomes[0]["without the other"][case] == (
        "OtherProcessEnded: Program: another process has ended, so this one ends too"
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:34180."),
        RuntimeError("[gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:4822: Connection reset by peer."),
        RuntimeError("[gloo/transport/tcp/pair.cc:1] Socket closed [127.0.0.1]:4822"),
        dist.DistNetworkError("Failed to recv, got 0 bytes. Connection was likely closed."),
        dist.DistBackendError("ncclRemoteError: A call failed possibly due to a network error or a remote process"),
    ],
    ids=["closed", "reset", "socket", "store", "nccl"],
)
def test_lost_connections_are_recognized_by_their_message(error: RuntimeError) -> None:
    assert is_lost_connection(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        dist.DistBackendError("NCCL error: ncclInvalidUsage: Duplicate GPU detected : rank 0 and rank 1"),
        BrokenPipeError(32, "Broken pipe"),
        OtherProcessFailed("Program: process 1 failed: OSError: Broken pipe"),
    ],
    ids=["shapes", "usage", "pipe of one's own", "failure"],
)
def test_other_errors_are_no_lost_connections(error: Exception) -> None:
    assert not is_lost_connection(error)


def second_of_three(monkeypatch: pytest.MonkeyPatch, *terms: torch.Tensor) -> Processes:
    """Returns rank 1 of three processes; their exchange is simulated."""

    def all_gather(parts: list[torch.Tensor], _: torch.Tensor) -> None:
        for part, term in zip(parts, terms, strict=True):
            part.copy_(term)

    monkeypatch.setattr("torch.distributed.all_gather", all_gather)
    return Processes(1, 3, torch.device("cpu"))


def test_the_order_of_a_sum_is_that_of_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order matters only from three terms on: 1 is lost beside 2^24 unless the large terms cancel first."""
    large = torch.tensor([2.0**24])
    one = torch.ones(1)
    assert second_of_three(monkeypatch, large, one, -large).sum(one)[0].item() == 0.0
    assert second_of_three(monkeypatch, large, -large, one).sum(-large)[0].item() == 1.0


def test_a_single_process_gets_its_own_values_back() -> None:
    alone, x = Processes.single(), torch.ones(2)
    assert alone.sum(x)[0] is x
    assert alone.gather_objects("a") == ["a"]
    assert alone.broadcast_object("a") == alone.call_on_first(lambda: "a") == "a"
    alone.check_same("anything", 1)
    alone.raise_if_any_failed(None)
    with pytest.raises(OSError, match="full"):
        alone.raise_if_any_failed(OSError("full"))


@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_an_explicit_device_is_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert local_device(device, owner="Program") == torch.device(device)


def test_outside_torchrun_cuda_is_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert local_device("cuda", owner="Program") == torch.device("cuda")


def test_a_local_rank_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"^Program: device 'cuda' needs a GPU .* got local rank 3 and 2 GPU\(s\); "):
        local_device("cuda", owner="Program")


def test_too_few_gpus_raise_an_error_that_names_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message starts with torchrun, because the command line puts its own name before it."""
    for name, value in {"TORCHELASTIC_RUN_ID": "run", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(ValueError, match=r"^torchrun: device 'cuda' needs a GPU for each process"):
        torchrun_processes("cuda")


def test_a_process_outside_torchrun_cannot_join_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="Program: distributed must not be True in a process of its own"):
        Processes.join_group("cpu", owner="Program")
