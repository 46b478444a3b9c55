"""How the benchmarks take time: contestants in turns, several calls per repetition.

With one thread on the CPU a time is the process's own, which no other process takes from it: on a machine with idle
cores it is that of a clock on the wall, and on one that is shared it still is. With more threads it is that of the
wall, since threads that wait for each other take time as well; on CUDA that of events. What waits for a disk is timed
by the wall, whatever its threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import torch

from somvae_ext import build_info

ONE_THREAD_CLOCK = process_time
SECONDS_PER_REPETITION = 0.005  # at least: many short ones tell noise from a difference better than few long ones


def check_device(name: str) -> torch.device:
    """The device to measure on.

    Raises:
        ValueError: it, or the compiled library, is missing.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch can use, got none")
    if not build_info()["native"]:
        raise ValueError("the compiled library is missing, and it is what this measures: pip install .")
    return torch.device(name)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Gives every contestant this many threads: torch, faiss and scikit-learn's OpenMP, and all of BLAS."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
    except ImportError:  # comes with scikit-learn
        yield
    else:
        with threadpool_limits(number):
            yield
    finally:
        torch.set_num_threads(before)


def now(device: torch.device) -> float:
    """Seconds on the clock that a call is timed by, once the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return perf_counter()
    return clock()


def clock() -> float:
    """Seconds, on the CPU, of what runs on torch's number of threads."""
    return ONE_THREAD_CLOCK() if torch.get_num_threads() == 1 else perf_counter()


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
    begin = clock()
    for _ in range(calls):
        run()
    return (clock() - begin) / calls


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


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """The replay of a CUDA graph of one call, which leaves out what launching from Python costs.

    Raises:
        RuntimeError: if the call does something that a graph cannot hold, such as waiting for the device.
    """
    before, stream = torch.cuda.current_stream(), torch.cuda.Stream()
    stream.wait_stream(before)
    with torch.cuda.stream(stream):  # compiles and allocates outside of the graph
        for _ in range(3):
            run()
    before.wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            run()
    finally:
        torch.cuda.set_stream(before)  # a capture that fails leaves its own stream behind
    return graph.replay
