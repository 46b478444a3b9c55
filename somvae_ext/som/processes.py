"""Several processes that train one map, each on its own rows: what they add up and share.

Everything here is called by all processes at the same point. After :meth:`Processes.add` all hold the same bits: the
sum is made in one place and sent around.
"""

from __future__ import annotations

import os

import torch
import torch.distributed as dist
from torch import Tensor


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
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self.rank, self.number = dist.get_rank(), dist.get_world_size()

    def add(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over the processes."""
        if self.number > 1:
            for tensor in tensors:
                dist.reduce(tensor, dst=0)
                dist.broadcast(tensor, src=0)

    def agree(self, value: int, what: str) -> None:
        """
        Raises:
            ValueError: in all processes, where the value is not the same in all.
        """
        values = self.gather(value)
        if len(set(values)) > 1:
            raise ValueError(f"SOM: {what} must be the same in all processes, got {', '.join(map(str, values))}")

    def gather(self, value: int) -> list[int]:
        """The value of each process, by rank."""
        if self.number == 1:
            return [value]
        gathered: list[int] = [0] * self.number
        dist.all_gather_object(gathered, value)
        return gathered
