"""Communication between processes that work on one result: sums, copies and checks that they agree.

All processes call each method of :class:`Processes` at the same point; a single process gets its own values back.
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
"""Number of elements of a tensor that :meth:`Processes.sum` gathers at a time; the same in all processes."""


# Phrases, in lower case, in errors of gloo, NCCL and torch's store about a process at the other end that is gone.
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
    """Raised in the other processes if one has failed, so that they end too."""


class OtherProcessEnded(OtherProcessFailed):
    """Raised if another process has ended without notice while this one waited for it."""


def is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another process of the group has ended.

    gloo raises plain RuntimeErrors, also from DDP's backward pass, so only their text tells. torch's own classes,
    such as ``DistBackendError``, do not help: they are raised for wrong arguments too.
    """
    if isinstance(error, OtherProcessEnded):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(phrase in text for phrase in _LOST_CONNECTIONS)


def torchrun_rank() -> int | None:
    """Returns the rank that ``torchrun`` gave this process, or None if ``torchrun`` did not start it."""
    if dist.is_available() and dist.is_torchelastic_launched():
        return int(os.environ["RANK"])
    return None


def torchrun_world_size() -> int:
    """Returns the number of processes that ``torchrun`` has started, or 1 if it did not start this one."""
    return 1 if torchrun_rank() is None else int(os.environ["WORLD_SIZE"])


def torchrun_processes(device: str | torch.device) -> Processes:
    """Returns the processes that ``torchrun`` has started, or this one alone.

    Args:
        device: where this process holds its tensors, see :func:`local_device`.

    Raises:
        ValueError: fewer GPUs than processes.
    """
    if torchrun_rank() is None:
        return Processes.single(device)
    return Processes.join_group(device, owner="torchrun")


def local_device(device: str | torch.device, *, owner: str) -> torch.device:
    """Returns the device on which this process works.

    Under ``torchrun``, ``"cuda"`` without a number is the GPU whose number is the process's ``LOCAL_RANK``. Any other
    device is returned as it is.

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

    A method that waits for another process raises :class:`OtherProcessEnded` if that one has ended.

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
        """Returns this process alone, whether or not there is a process group."""
        return cls(0, 1, torch.device(device))

    @classmethod
    def join_group(cls, device: str | torch.device, *, owner: str) -> Self:
        """Joins the process group and returns its processes.

        If ``torchrun`` started this process and there is no group yet, one is created: NCCL for CUDA, else gloo.

        Args:
            device: where this process holds its tensors, see :func:`local_device`.
            owner: name that errors begin with.

        Raises:
            ValueError: no process group, in a process that ``torchrun`` did not start, or fewer GPUs than processes.
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
        """Sums each tensor over the processes; it must have the same shape and dtype in all of them.

        Terms are added in the order of the ranks, while ``dist.all_reduce`` leaves the order open. Besides the result,
        ``world_size * PIECE_ELEMENTS`` elements are held in memory.
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
        """Returns the rows of all processes, concatenated by rank.

        Args:
            tensors: ``[n, ...]`` with the same n, which may differ between processes.
        """
        if self.world_size == 1:
            return list(tensors)
        counts = [int(count) for (count,) in self.gather_numbers([len(tensors[0])])]
        gathered = []
        for tensor in tensors:
            padded = tensor.new_zeros(max(counts), *tensor.shape[1:])  # all_gather needs equal shapes
            padded[: len(tensor)] = tensor
            parts = self._all_gather(padded)
            gathered.append(torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]))
        return gathered

    def gather_numbers(self, numbers: list[float]) -> list[list[float]]:
        """Returns the numbers of each process, equally many, by rank. Faster than :meth:`gather_objects`."""
        if self.world_size == 1:
            return [numbers]
        parts = self._all_gather(torch.tensor(numbers, dtype=torch.float64, device=self.device))
        return cast(list[list[float]], torch.stack(parts).tolist())

    def gather_objects(self, value: T) -> list[T]:
        """Returns the value of each process, by rank; values are pickled."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world_size
        with self._connected():
            dist.all_gather_object(gathered, value)
        return cast(list[T], gathered)

    def broadcast_object(self, value: T) -> T:
        """Returns the value of the first process in all processes."""
        if self.world_size == 1:
            return value
        values = [value if self.is_first else None]
        with self._connected():
            dist.broadcast_object_list(values, src=0)
        return cast(T, values[0])

    def call_on_first(self, make: Callable[[], T]) -> T:
        """Calls ``make`` in the first process only, and returns its result in all.

        Raises:
            OtherProcessFailed: in the other processes, if ``make`` raises an error in the first.
        """
        if self.world_size == 1:
            return make()
        value: T | None = None
        error: Exception | None = None
        if self.is_first:
            try:
                value = make()
            except Exception as raised:  # whatever it is, the other processes must not be left waiting
                error = raised
        self.raise_if_any_failed(error)
        return cast(T, self.broadcast_object(value))

    @contextlib.contextmanager
    def enter_on_first(self, context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
        """Enters a context, such as the lock of a folder, in the first process only.

        Raises:
            OtherProcessFailed: in the other processes, if the first cannot enter the context.
        """
        with contextlib.ExitStack() as stack:

            def enter() -> None:
                stack.enter_context(context)

            self.call_on_first(enter)
            yield

    def check_same(self, name: str, value: object) -> None:
        """Checks that a value is the same in all processes.

        Raises:
            ValueError: in all processes, if it is not.
        """
        values = self.gather_objects(value)
        if any(other != value for other in values):
            # Commands print a ValueError, but not an OtherProcessFailed, so that only the first process reports this.
            kind = ValueError if self.is_first else OtherProcessFailed
            raise kind(f"{self.owner}: {name} must be the same in all processes, got {', '.join(map(str, values))}")

    def check_same_bits(self, name: str, tensors: Iterable[Tensor]) -> None:
        """Checks that tensors hold the same bits in all processes.

        Raises:
            ValueError: in all processes, if they do not.
        """
        if self.world_size == 1:
            return
        digest = hashlib.sha256()
        for tensor in tensors:
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        self.check_same(f"the bits of {name}", f"SHA-256 {digest.hexdigest()[:16]}")

    def raise_if_any_failed(self, error: Exception | None) -> None:
        """Raises an error in all processes if one of them has failed, so that none is left waiting for it.

        Of several failed processes, the one with the lowest rank raises its own error. All others raise an error that
        names that one, even if they have failed themselves: an error that occurred in all is reported once.

        Raises:
            OtherProcessFailed: in the other processes.
        """
        if error is not None and is_lost_connection(error):  # the others cannot be notified
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
            OtherProcessFailed: another process failed; that one raises its own error, see :meth:`raise_if_any_failed`.
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
        """Raises OtherProcessEnded in place of an error that says that a connection was lost."""
        try:
            yield
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            raise OtherProcessEnded(f"{self.owner}: another process has ended, so this one ends too") from error


def _leave_group() -> None:
    """Leaves the group before the interpreter exits, which may otherwise abort if another process is gone."""
    if dist.is_initialized():
        dist.destroy_process_group()
