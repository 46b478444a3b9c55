"""Training with several processes: what they share, beyond the dense gradients that DDP averages.

Everything here is called by all processes at the same point, and does nothing where there is one. Results are the same
bits on all of them: what they gather is put together in the order of their ranks.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

T = TypeVar("T")


def launch(accelerator: str) -> Fabric:
    """One process on one device, or, where ``torchrun`` started this one, all of its processes under DDP."""
    if not dist.is_torchelastic_launched():
        return Fabric(accelerator=accelerator, devices=1)
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // here
    fabric = Fabric(accelerator=accelerator, devices=here, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return fabric


class ShuffledShare(Sampler[int]):
    """This process's share of the samples, in a random order that all processes draw alike.

    As DDP needs equally many steps of all of them, the first samples of an order are taken again at its end where their
    number is not a multiple of that of the processes.

    Args:
        samples: their number.
        fabric: says which process of how many this is.
        generator: draws an order for each epoch, in the same state in all processes.
    """

    def __init__(self, samples: int, fabric: Fabric, generator: torch.Generator) -> None:
        self._samples = samples
        self._fabric = fabric
        self._generator = generator

    def __len__(self) -> int:
        return -(-self._samples // self._fabric.world_size)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self._samples, generator=self._generator)
        places = torch.arange(len(self)) * self._fabric.world_size + self._fabric.global_rank
        yield from order[places % self._samples].tolist()


def leave_to_rows(model: nn.Module, tables: Iterable[nn.Parameter]) -> None:
    """Keeps tables with sparse gradients out of DDP, to be called before it wraps the model.

    DDP would send the whole table around for each step. :func:`average_rows` sends its rows.
    """
    ignored = {id(table) for table in tables}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in ignored]
    # Underscore or not, it is what DDP documents for this.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


@torch.no_grad()
def average_rows(fabric: Fabric, tables: Iterable[nn.Parameter]) -> None:
    """Replaces each table's sparse gradient by the mean over the processes, as DDP does with dense ones.

    The processes may hold different numbers of rows, or no gradient. The rows of all are put side by side, and not
    coalesced.
    """
    if fabric.world_size == 1:
        return
    for table in tables:
        index, values = torch.empty(0, dtype=torch.int64, device=table.device), table.new_empty(0, *table.shape[1:])
        if table.grad is not None:
            index, values = table.grad._indices()[0], table.grad._values()
        counts = [int(count) for (count,) in gather_numbers(fabric, [len(index)])]
        rows = _gather_rows(index, counts)[None]
        mean = _gather_rows(values, counts).div_(fabric.world_size)
        table.grad = torch.sparse_coo_tensor(rows, mean, table.shape, check_invariants=False)


@torch.no_grad()
def average_gradients(fabric: Fabric, parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each dense gradient by the mean over the processes, for a step that DDP does not synchronize.

    DDP waits for a gradient of every parameter. Here parameters may have none, the same ones in all processes.
    """
    if fabric.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            (total,) = add_up(fabric, [parameter.grad])
            parameter.grad = total / fabric.world_size


def _gather_rows(values: Tensor, counts: list[int]) -> Tensor:
    """The rows of all processes, ``[sum of counts, ...]``."""
    padded = values.new_zeros(max(counts), *values.shape[1:])  # gathered tensors are of one size
    padded[: len(values)] = values
    gathered = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts, strict=True)])


def gather(fabric: Fabric, value: T) -> list[T]:
    """What each process gave, by rank."""
    if fabric.world_size == 1:
        return [value]
    gathered: list[T | None] = [None] * fabric.world_size
    dist.all_gather_object(gathered, value)
    return cast(list[T], gathered)


def gather_numbers(fabric: Fabric, numbers: list[float]) -> list[list[float]]:
    """The same for as many numbers each, without the detour over bytes: for every step."""
    if fabric.world_size == 1:
        return [numbers]
    own = torch.tensor(numbers, dtype=torch.float64, device=fabric.device)
    gathered = [torch.empty_like(own) for _ in range(fabric.world_size)]
    dist.all_gather(gathered, own)
    return cast(list[list[float]], torch.stack(gathered).tolist())


@torch.no_grad()
def add_up(fabric: Fabric, tensors: Iterable[Tensor]) -> list[Tensor]:
    """Each tensor's sum over the processes, of the same shape in all of them."""
    if fabric.world_size == 1:
        return list(tensors)
    sums = []
    for tensor in tensors:
        # Not dist.all_reduce, whose order of summation is its own affair.
        gathered = [torch.empty_like(tensor) for _ in range(fabric.world_size)]
        dist.all_gather(gathered, tensor)
        sums.append(sum(gathered[1:], gathered[0]))
    return sums


@torch.no_grad()
def copy_from_first(fabric: Fabric, tensors: Iterable[Tensor]) -> None:
    """Overwrites tensors with those of the first process."""
    if fabric.world_size > 1:
        for tensor in tensors:
            dist.broadcast(tensor.detach(), src=0)
