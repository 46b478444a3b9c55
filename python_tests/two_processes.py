"""The program that test_processes.py runs under torchrun: each of two processes saves its results.

torchrun --nproc-per-node 2 two_processes.py FOLDER
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext import processes as processes_module
from somvae_ext.processes import Processes

RANK = int(os.environ["RANK"])


def terms(*shape: int) -> Tensor:
    """Returns this process's term of a sum: float32 values of very different magnitudes."""
    generator = torch.Generator().manual_seed(RANK)
    return torch.randn(shape, generator=generator) * 10.0 ** torch.randint(-6, 7, shape, generator=generator)


def sums(processes: Processes) -> dict[str, tuple[Tensor, Tensor]]:
    """Returns this process's term and the sum for each case. Tensors are exchanged in pieces of 16 elements."""
    cases = {
        "of one piece": terms(3, 4),
        "of a number": terms(),
        "of nothing": terms(0, 4),
        "of many pieces": terms(7, 11),
        "of whole pieces": terms(4, 16),
        "of strided rows": terms(9, 8).T,
    }
    return {
        name: (term, total) for (name, term), total in zip(cases.items(), processes.sum(*cases.values()), strict=True)
    }


def message_of(act: Callable[[], object]) -> str:
    try:
        act()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def fail_in(rank: int) -> OSError | None:
    return OSError("the disk is full") if rank == RANK else None


def raising() -> str:
    raise OSError("the disk is full")


def block_that_fails_in_the_second(processes: Processes) -> None:
    with processes.fail_together():
        if RANK == 1:
            raising()


def messages(processes: Processes) -> dict[str, str]:
    acts: dict[str, Callable[[], object]] = {
        "agree": lambda: processes.check_same("the number of features", 3),
        "disagree": lambda: processes.check_same("the number of features", 3 + RANK),
        "agree on bits": lambda: processes.check_same_bits("the codes", [torch.zeros(3), torch.tensor(1).bfloat16()]),
        "another bit": lambda: processes.check_same_bits("the codes", [torch.zeros(3) * (-1.0) ** RANK]),
        "none failed": lambda: processes.raise_if_any_failed(None),
        "the first failed": lambda: processes.raise_if_any_failed(fail_in(0)),
        "the second failed": lambda: processes.raise_if_any_failed(fail_in(1)),
        "both failed": lambda: processes.raise_if_any_failed(fail_in(RANK)),
        "from first": lambda: processes.call_on_first(raising),
        "a block failed": lambda: block_that_fails_in_the_second(processes),
    }
    return {name: message_of(act) for name, act in acts.items()}


def messages_without_the_other(processes: Processes) -> dict[str, str]:
    """Returns the errors of the first process after the second has ended."""
    x = torch.zeros(2)
    acts: dict[str, Callable[[], object]] = {
        "sum": lambda: processes.sum(x),
        "copy from first": lambda: processes.broadcast_in_place(x),
        "gather rows": lambda: processes.gather_rows(x),
        "gather": lambda: processes.gather_objects("anything"),
        "broadcast": lambda: processes.broadcast_object("anything"),
        "fail together": lambda: block_that_sums(processes, x),
    }
    return {name: message_of(act) for name, act in acts.items()}


def block_that_sums(processes: Processes, x: Tensor) -> None:
    with processes.fail_together():
        processes.sum(x)


def main(folder: Path) -> None:
    processes = Processes.join_group("cpu", owner="Program")
    processes_module.PIECE_ELEMENTS = 16
    copied = torch.full((2,), float(RANK))
    processes.broadcast_in_place(copied)
    results: dict[str, Any] = {
        "self": (processes.rank, processes.world_size, processes.is_first),
        "sums": sums(processes),
        "copied": copied,
        "rows": processes.gather_rows(torch.full((2 * RANK, 3), RANK), torch.arange(2 * RANK)),
        "gathered": processes.gather_objects(f"process {RANK}"),
        "numbers": processes.gather_numbers([float(RANK), 0.5]),
        "broadcast": processes.broadcast_object({"rank": RANK}),
        "from_first": processes.call_on_first(lambda: RANK),
        "messages": messages(processes),
    }
    if RANK == 0:
        results["without the other"] = messages_without_the_other(processes)
    torch.save(results, folder / f"{RANK}.pt")
    if RANK == 1:
        os._exit(0)  # ends abruptly, like a killed process, but torchrun does not stop the first one


if __name__ == "__main__":
    main(Path(sys.argv[1]))
