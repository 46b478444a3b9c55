"""Data-parallel training on Fabric and DDP: launch, sharding, and the gradients that DDP does not average."""

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
    """Launches Fabric: on one device or, if ``torchrun`` started this process, with all its processes under DDP."""
    if not dist.is_torchelastic_launched():
        fabric = Fabric(accelerator=accelerator, devices=1)
        return fabric, Processes.single(fabric.device)
    on_this_node = int(os.environ["LOCAL_WORLD_SIZE"])
    nodes = int(os.environ["WORLD_SIZE"]) // on_this_node
    fabric = Fabric(accelerator=accelerator, devices=on_this_node, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    return fabric, Processes.join_group(fabric.device, owner="fit")


class ShuffledShardSampler(Sampler[int]):
    """Yields this process's share of the samples, in a random order that is the same in all processes.

    DDP needs the same number of steps in all processes. If the number of samples is not a multiple of the number of
    processes, the first samples of an order are therefore repeated at its end.

    Args:
        num_samples: number of samples in the whole data set.
        processes: the processes that share the samples.
        generator: draws an order for each epoch; in the same state in all processes.
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
    """Excludes tables with sparse gradients from DDP; call it before DDP wraps the model.

    DDP would send the whole table in each step. :func:`average_row_gradients` sends only the gradient's rows.
    """
    ignored = {id(table) for table in tables}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in ignored]
    # Despite its underscore, this is the method that DDP documents for the purpose.
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)


@torch.no_grad()
def average_row_gradients(processes: Processes, tables: Iterable[nn.Parameter]) -> None:
    """Replaces each table's sparse gradient by the mean over the processes, as DDP does with dense gradients.

    The processes may hold different numbers of rows, or no gradient. Their rows are concatenated, not coalesced.
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

    DDP waits for a gradient of every parameter. Here parameters may lack one, if they lack it in all processes.
    """
    if processes.world_size == 1:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            (total,) = processes.sum(parameter.grad)
            parameter.grad = total / processes.world_size
