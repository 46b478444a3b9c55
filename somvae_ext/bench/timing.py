"""How the benchmarks measure time: contestants take turns, with several calls per repetition.

With one thread on the CPU, a time is the CPU time of the process: it equals the wall time of an idle machine, and other
processes do not change it. With more threads a time is wall time, since threads that wait for each other take time as
well; on CUDA it is that between two events. What waits for a disk is timed by wall time, with any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any

import torch

from somvae_ext import build_info

ONE_THREAD_CLOCK = process_time
SECONDS_PER_REPETITION = 0.005  # at least; many short repetitions tell noise from differences better than few long ones


def check_device(name: str) -> torch.device:
    """The device to measure on.

    Raises:
        ValueError: the device or the compiled library is missing.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda needs a GPU that torch can use, got none")
    if not build_info()["native"]:
        raise ValueError("the compiled library is missing, and it is what this measures: pip install .")
    return torch.device(name)


@contextmanager
def cpu_threads(number: int) -> Iterator[None]:
    """Limits all contestants to this many threads: torch, faiss and scikit-learn's OpenMP, and all of BLAS."""
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
    """Seconds on the clock that times calls, once the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return perf_counter()
    return clock()


def clock() -> float:
    """Seconds on the clock for the CPU: CPU time if torch has one thread, wall time otherwise."""
    return ONE_THREAD_CLOCK() if torch.get_num_threads() == 1 else perf_counter()


def threads_text(threads: int | None) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}" if threads else ""


def seconds(run: Callable[[], Any], calls: int, device: torch.device) -> float:
    """Seconds per call, over ``calls`` calls."""
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
    """Seconds per call of all runs, ``repetitions`` times in turns. A warm-up sets how many calls are timed at once."""
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
    """Captures one call in a CUDA graph and returns its replay, which leaves out the cost of launching from Python.

    Raises:
        RuntimeError: the call does something that a graph cannot hold, such as waiting for the device.
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
