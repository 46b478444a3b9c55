"""Training with several processes on Fabric and DDP: launch, shares of the samples, and gradients that DDP leaves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

from somvae_ext.processes import Processes


def launch_fabric(accelerator: str) -> tuple[Fabric, Processes]:
    """One process on one device, or, where ``torchrun`` started this one, all of its processes under DDP."""
    if not dist.is_torchelastic_launched():
        fabric = Fabric(accelerator=accelerator, devices=1)
        return fabric, Processes.single(fabric.device)
    on_this_node = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // on_this_node
    fabric = Fabric(accelerator=accelerator, devices=on_this_node, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return fabric, Processes.join_group(fabric.device, owner="fit")


class ShuffledShardSampler(Sampler[int]):
    """This process's share of the samples, in a random order that all processes draw alike.

    As DDP needs equally many steps of all of them, the first samples of an order are taken again at its end where their
    number is not a multiple of that of the processes.

    Args:
        num_samples: of the whole data set.
        processes: which process of how many this is.
        generator: draws an order for each epoch, in the same state in all processes.
    """

    def __init__(self, num_samples: int, processes: Processes, generator: torch.Generator) -> None:
        self._num_samples = num_samples
        self._processes = processes
        self._generator = generator

    def __len__(self) -> int:
        return -(-self._num_samples // self._processes.world_size)

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self._num_samples, generator=self._generator)
        positions = torch.arange(len(self)) * self._processes.world_size + self._processes.rank
        yield from order[positions % self._num_samples].tolist()


def exclude_from_ddp(model: nn.Module, tables: Iterable[nn.Parameter]) -> None:
    """Keeps tables with sparse gradients out of DDP, to be called before it wraps the model.

    DDP would send the whole table around for each step. :func:`average_row_gradients` sends its rows.
    """
    ignored = {id(table) for table in tables}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in ignored]
    # Underscore or not, it is what DDP documents for this.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


@torch.no_grad()
def average_row_gradients(processes: Processes, tables: Iterable[nn.Parameter]) -> None:
    """Replaces each table's sparse gradient by the mean over the processes, as DDP does with dense ones.

    The processes may hold different numbers of rows, or no gradient. The rows of all are put side by side, and not
    coalesced.
    """
    if processes.world_size == 1:
        return
    for table in tables:
        index, values = torch.empty(0, dtype=torch.int64, device=table.device), table.new_empty(0, *table.shape[1:])
        if table.grad is not None:
            index, values = table.grad._indices()[0], table.grad._values()
        rows, values = processes.gather_rows(index, values)
        mean = values.div_(processes.world_size)
        table.grad = torch.sparse_coo_tensor(rows[None], mean, table.shape, check_invariants=False)


@torch.no_grad()
def average_dense_gradients(processes: Processes, parameters: Iterable[nn.Parameter]) -> None:
    """Replaces each dense gradient by the mean over the processes, for a step that DDP does not synchronize.

    DDP waits for a gradient of every parameter. Here parameters may have none, the same ones in all processes.
    """
    if processes.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            (total,) = processes.sum(parameter.grad)
            parameter.grad = total / processes.world_size
