"""How the benchmarks take time: contestants in turns, several calls per repetition, events on CUDA."""

from __future__ import annotations

import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from somvae_ext import build_info

SECONDS_PER_REPETITION = 0.02
MM_SIZE = 2048  # of the square torch.mm that searches are compared with
MM_WORK = 2.0 * MM_SIZE**3  # floating-point operations


def checked_device(parser: ArgumentParser, name: str) -> torch.device:
    """The device to measure on; ends the program where it, or the compiled library, is missing."""
    if name == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch sees none")
    if not build_info()["native"]:
        parser.error(
            "the compiled library is missing, and it is what this measures: pip install --no-build-isolation ."
        )
    return torch.device(name)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Gives every contestant this many threads: torch, faiss and scikit-learn's OpenMP, and all of BLAS."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn
        yield
    else:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)


def threads_text(threads: int | None) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}" if threads else ""


def seconds(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Time of one of ``calls`` calls."""
    if device.type == "cuda":
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(calls):
            run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3 / calls
    begin = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - begin) / calls


def interleaved(runs: dict[str, Callable[[], Any]], device: torch.device, repetitions: int) -> dict[str, list[float]]:
    """Seconds per call of each, ``repetitions`` times, in turns. A warm-up sets how many calls are timed together."""
    calls = {}
    for name, run in runs.items():
        seconds(run, 1, device)
        calls[name] = max(1, min(1000, round(SECONDS_PER_REPETITION / max(seconds(run, 1, device), 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            times[name].append(seconds(run, calls[name], device))
    return times


def square_mm(device: torch.device, dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """The product of two ``MM_SIZE`` x ``MM_SIZE`` matrices."""
    square = torch.randn(MM_SIZE, MM_SIZE, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return lambda: square @ square
