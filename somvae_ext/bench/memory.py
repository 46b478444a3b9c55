"""How the benchmarks measure memory: the peak of one call, beyond what was in use before."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def peak_memory(run: Callable[[], Sequence[Tensor]], device: torch.device) -> int:
    """Peak bytes of one call, beyond what was in use before and the tensors that it returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()  # memory that torch caches would count as used by the device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        returned = run()
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # memory that the allocator kept from earlier calls would hide this one's use
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak, VmHWM
        before = resident("VmRSS")
        returned = run()
        peak = resident("VmHWM")
    return max(0, peak - before - sum(tensor.nbytes for tensor in returned))


def resident(field: str) -> int:
    """A field of ``/proc/self/status``, in bytes."""
    return _kilobytes("/proc/self/status", field)


def available(device: torch.device) -> int:
    """Bytes that are available on the machine or the device."""
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()  # the cache is available to the next call in this process
        return torch.cuda.mem_get_info(device)[0]
    return _kilobytes("/proc/meminfo", "MemAvailable")


def _kilobytes(file: str, field: str) -> int:
    lines = Path(file).read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function in a separate process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
