"""How the benchmarks take time: contestants in turns, several calls per repetition, events on CUDA."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

import torch

from somvae_ext import build_info

SECONDS_PER_REPETITION = 0.02


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
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
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
    begin = perf_counter()
    for _ in range(calls):
        run()
    return (perf_counter() - begin) / calls


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


# --- Ceilings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Product:
    """The product of two square matrices, as the vendor's library does it: the rate to compare searches with."""

    run: Callable[[], Any]
    work: float  # floating-point operations

    def rate(self, time: float) -> float:
        """GFLOP/s of a call that took ``time`` seconds."""
        return self.work / time / 1e9


@lru_cache
def square_product(
    device: torch.device, dtype: torch.dtype = torch.float32, *, tf32: bool = False, size: int | None = None
) -> Product:
    """``size`` defaults to 2048 on the CPU and 8192, which fills a large GPU, on CUDA."""
    size = size or (2048 if device.type == "cpu" else 8192)
    square = torch.randn(size, size, device=device).to(dtype)

    def run() -> None:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        square @ square
        torch.set_float32_matmul_precision("highest")

    return Product(run, 2.0 * size**3)
