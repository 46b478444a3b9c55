"""Several processes that train one map, each on its own rows: what they add up and share.

Everything here is called by all processes at the same point. After :meth:`Processes.add` all hold the same bits: the
sum is made in one place and sent around.
"""

from __future__ import annotations

import atexit
import os
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def _leave() -> None:
    """Before the interpreter is taken down: a group that is left to it may abort when another process is gone first."""
    if dist.is_initialized():
        dist.destroy_process_group()


class Processes:
    """The processes that ``torchrun`` started, or this one alone.

    Args:
        distributed: whether to train with all of them. If there is no process group yet it is made here: NCCL for
            ``device`` on CUDA, else gloo.
        device: where the tensors are.

    Raises:
        ValueError: ``distributed`` outside of ``torchrun`` and without a process group.
    """

    def __init__(self, distributed: bool, device: torch.device) -> None:
        self.rank, self.number = 0, 1
        if not distributed:
            return
        if not (dist.is_available() and (dist.is_initialized() or "RANK" in os.environ)):
            raise ValueError(
                "SOM: distributed must not be True in a process of its own; start the script by torchrun, or make a "
                "process group with torch.distributed.init_process_group"
            )
        if device.type == "cuda":
            torch.cuda.set_device(device)  # where NCCL meets the others
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave)
        self.rank, self.number = dist.get_rank(), dist.get_world_size()

    def add(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over the processes."""
        if self.number > 1:
            for tensor in tensors:
                dist.reduce(tensor, dst=0)
                dist.broadcast(tensor, src=0)

    def share(self, tensor: Tensor) -> None:
        """Overwrites the tensor with that of the first process."""
        if self.number > 1:
            dist.broadcast(tensor, src=0)

    def agree(self, what: str, value: object) -> None:
        """
        Raises:
            ValueError: in all processes, where the value is not the same in all.
        """
        values = self.gather(value)
        if any(other != value for other in values):
            raise ValueError(f"SOM: {what} must be the same in all processes, got {', '.join(map(str, values))}")

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank."""
        if self.number == 1:
            return [value]
        gathered: list[T | None] = [None] * self.number
        dist.all_gather_object(gathered, value)
        return cast(list[T], gathered)

    def only_if_all(self, error: ValueError | None) -> None:
        """
        Raises:
            ValueError: this process's error, or that another one has one, so that none waits for the others in vain.
        """
        failed = [rank for rank, has_failed in enumerate(self.gather(error is not None)) if has_failed]
        if error is not None:
            raise error
        if failed:
            raise ValueError(f"SOM: the data must be in order in all processes, got an error in process {failed[0]}")
