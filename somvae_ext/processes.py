"""Several processes that work on one result: what they add up, copy and agree on.

All processes call each method of :class:`Processes` at the same point; one process alone gets its own values back.
Sums are taken in the order of the ranks, so that all processes hold the same bits.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

PIECE_ELEMENTS = 2**22
"""Elements of a tensor that :meth:`Processes.sum` gathers at a time; the same in all processes."""


# Phrases of gloo, NCCL and torch's store, in lower case, for a process that is gone at the other end of a connection.
_LOST_CONNECTIONS = (
    "connection closed",
    "connection reset",
    "connection was likely closed",
    "socket closed",
    "broken pipe",
    "peer disconnected",
    "peer closed the connection",
    "ncclremoteerror",
)


class OtherProcessFailed(ValueError):
    """Raised in the other processes where one has failed, so that they end with it."""


class OtherProcessEnded(OtherProcessFailed):
    """Another process has ended, without a word to this one, while this one waited for it."""


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process of the group has ended.

    gloo raises plain RuntimeErrors, also from DDP's backward pass, so only their text tells. torch's own classes,
    such as ``DistBackendError``, are no better: they are raised for wrong arguments too.
    """
    if isinstance(error, OtherProcessEnded):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _LOST_CONNECTIONS)


def torchrun_rank() -> int | None:
    """The rank that ``torchrun`` gave this process; None where it did not start it."""
    if dist.is_available() and dist.is_torchelastic_launched():
        return int(os.environ["RANK"])
    return None


def torchrun_processes(device: str | torch.device) -> Processes:
    """The processes that ``torchrun`` has started, or this one alone.

    Args:
        device: where this process holds its tensors, see :func:`local_device`.

    Raises:
        ValueError: fewer GPUs than processes.
    """
    if torchrun_rank() is None:
        return Processes.single(device)
    return Processes.join_group(device, owner="torchrun")


def local_device(device: str | torch.device, *, owner: str) -> torch.device:
    """The device on which this process works.

    Under ``torchrun``, ``"cuda"`` without a number is the GPU whose number is the process's ``LOCAL_RANK``. Any other
    device is taken as it is.

    Args:
        device: what the user asked for.
        owner: name that the error begins with.

    Raises:
        ValueError: the machine has fewer GPUs than processes.
    """
    device = torch.device(device)
    if device.type != "cuda" or device.index is not None or "LOCAL_RANK" not in os.environ:
        return device
    rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if rank >= gpus:
        raise ValueError(
            f"{owner}: device 'cuda' needs a GPU for each process of a machine, got local rank {rank} and {gpus} "
            "GPU(s); start fewer processes, or give the number of the device"
        )
    return torch.device("cuda", rank)


@dataclasses.dataclass(frozen=True)
class Processes:
    """The processes that produce one result together.

    A method that waits for another process raises :class:`OtherProcessEnded` where that one has ended.

    Args:
        rank: number of this process, from 0.
        world_size: number of processes.
        device: where this process holds its tensors.
        owner: name that errors begin with.
    """

    rank: int
    world_size: int
    device: torch.device
    owner: str = "Processes"

    @classmethod
    def single(cls, device: str | torch.device = "cpu") -> Self:
        """This process without any other, whether or not there is a process group."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def join_group(cls, device: str | torch.device, *, owner: str) -> Self:
        """All processes of the process group.

        Where ``torchrun`` started this process and there is no group yet, it is made: NCCL for CUDA, else gloo.

        Args:
            device: where this process holds its tensors, see :func:`local_device`.
            owner: name that errors begin with.

        Raises:
            ValueError: neither ``torchrun`` nor a process group, or fewer GPUs than processes.
        """
        if not (dist.is_available() and (dist.is_initialized() or "RANK" in os.environ)):
            raise ValueError(
                f"{owner}: distributed must not be True in a process of its own; start the script by torchrun, or make "
                "a process group with torch.distributed.init_process_group"
            )
        device = local_device(device, owner=owner)
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # NCCL communicates on the current device
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
            atexit.register(_leave_group)
        return cls(dist.get_rank(), dist.get_world_size(), device, owner)

    @property
    def is_first(self) -> bool:
        """Whether this process writes, shows and decides for all."""
        return self.rank == 0

    @torch.no_grad()
    def sum(self, *tensors: Tensor) -> list[Tensor]:
        """Sums over the processes, each of one tensor that has the same shape and dtype in all of them.

        The order of summation is that of the ranks, which ``dist.all_reduce`` leaves open. Beside the result,
        ``world_size * PIECE_ELEMENTS`` elements are held.
        """
        return list(tensors) if self.world_size == 1 else [self._sum(tensor) for tensor in tensors]

    def _sum(self, tensor: Tensor) -> Tensor:
        total = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)
        flat, flat_total = tensor.reshape(-1), total.view(-1)
        for first in range(0, len(flat), PIECE_ELEMENTS):
            piece = slice(first, first + PIECE_ELEMENTS)
            parts = self._all_gather(flat[piece])
            for part in parts[1:]:
                parts[0] += part
            flat_total[piece] = parts[0]
        return total

    @torch.no_grad()
    def broadcast_in_place(self, *tensors: Tensor) -> None:
        """Overwrites tensors with those of the first process."""
        if self.world_size > 1:
            with self._connected():
                for tensor in tensors:
                    dist.broadcast(tensor.detach(), src=0)

    @torch.no_grad()
    def gather_rows(self, *tensors: Tensor) -> list[Tensor]:
        """The rows of all processes, one process under the other.

        Args:
            tensors: ``[n, ...]`` with the same n, which may differ between processes.
        """
        if self.world_size == 1:
            return list(tensors)
        counts = [int(count) for (count,) in self.gather_numbers([len(tensors[0])])]
        gathered = []
        for tensor in tensors:
            padded = tensor.new_zeros(max(counts), *tensor.shape[1:])  # all_gather wants equal shapes
            padded[: len(tensor)] = tensor
            parts = self._all_gather(padded)
            gathered.append(torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]))
        return gathered

    def gather_numbers(self, numbers: list[float]) -> list[list[float]]:
        """The numbers of each process, by rank; equally many each. Faster than :meth:`gather_objects`."""
        if self.world_size == 1:
            return [numbers]
        parts = self._all_gather(torch.tensor(numbers, dtype=torch.float64, device=self.device))
        return cast(list[list[float]], torch.stack(parts).tolist())

    def gather_objects(self, value: T) -> list[T]:
        """The value of each process, by rank; values are pickled."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world_size
        with self._connected():
            dist.all_gather_object(gathered, value)
        return cast(list[T], gathered)

    def broadcast_object(self, value: T) -> T:
        """The value of the first process."""
        if self.world_size == 1:
            return value
        values = [value if self.is_first else None]
        with self._connected():
            dist.broadcast_object_list(values, src=0)
        return cast(T, values[0])

    def call_on_first(self, make: Callable[[], T]) -> T:
        """Calls ``make`` in the first process alone; returns its result in all.

        Raises:
            OtherProcessFailed: in the other processes, where it raises an error in the first.
        """
        if self.world_size == 1:
            return make()
        value: T | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                value = make()
            except Exception as raised:  # the other processes must not wait in vain, whatever it is
                error = raised
        self.raise_if_any_failed(error)
        return cast(T, self.broadcast_object(value))

    @contextlib.contextmanager
    def enter_on_first(self, context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
        """Enters a context, such as the lock of a folder, in the first process alone.

        Raises:
            OtherProcessFailed: in the other processes, where it cannot be entered.
        """
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(context)

            self.call_on_first(enter)
            yield

    def check_same(self, name: str, value: object) -> None:
        """
        Raises:
            ValueError: in all processes, where the value is not the same in all.
        """
        values = self.gather_objects(value)
        if any(other != value for other in values):
            # The first process alone says it where a command's errors are printed.
            kind = ValueError if self.is_first else OtherProcessFailed
            raise kind(f"{self.owner}: {name} must be the same in all processes, got {', '.join(map(str, values))}")

    def check_same_bits(self, name: str, tensors: Iterable[Tensor]) -> None:
        """
        Raises:
            ValueError: in all processes, where the tensors do not hold the same bits in all.
        """
        if self.world_size == 1:
            return
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        self.check_same(f"the bits of {name}", f"SHA-256 {digest.hexdigest()[:16]}")

    def raise_if_any_failed(self, error: Exception | None) -> None:
        """Ends all processes with the error of one of them, so that no process waits for it in vain.

        Of several that failed the one with the lowest rank raises its error. The others name that one, even if they
        have failed themselves, so that an error that all have met is told once.

        Raises:
            OtherProcessFailed: in the other processes.
        """
        if error is not None and is_lost_connection(error):  # nobody is left to be told
            raise error
        errors = self.gather_objects(None if error is None else f"{type(error).__name__}: {error}")
        for rank, message in enumerate(errors):
            if message is None:
                continue
            if error is not None and rank == self.rank:
                raise error
            raise OtherProcessFailed(f"{self.owner}: process {rank} failed: {message}") from error

    @contextlib.contextmanager
    def fail_together(self) -> Iterator[None]:
        """Runs a block that may fail in some processes, so that none goes on without the others.

        Raises:
            OtherProcessFailed: another process failed; in that one, its error. See :meth:`raise_if_any_failed`.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        self.raise_if_any_failed(error)

    def _all_gather(self, tensor: Tensor) -> list[Tensor]:
        parts = [torch.empty_like(tensor) for _ in range(self.world_size)]
        with self._connected():
            dist.all_gather(parts, tensor)
        return parts

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        """Says in a sentence that another process has ended."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            raise OtherProcessEnded(f"{self.owner}: another process has ended, so this one ends too") from error


def _leave_group() -> None:
    """Leaves the group before the interpreter ends: a group left to it may abort where another process is gone."""
    if dist.is_initialized():
        dist.destroy_process_group()
