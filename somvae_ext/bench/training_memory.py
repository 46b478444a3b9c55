"""Memory of the trainings of the suite ``training``, on rows in memory and on rows in a file.

Everything here but :func:`measure_memmap` runs in a separate process.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.bench.memory import in_child, peak_memory
from somvae_ext.bench.timing import cpu_threads
from somvae_ext.bench.training_contestants import CONTESTANTS, absent
from somvae_ext.bench.training_problems import CENTERS, CPU, Problem, blobs, make_data, start


def training_memory(name: str, problem: Problem, root: Path | None, threads: int) -> int:
    """Peak bytes of building and training a map, beyond data and initial codebook."""
    kind = CONTESTANTS[name]
    absent(kind)  # imports the library, without its output
    data = make_data(problem, root)
    with cpu_threads(threads):
        small = data.x[:500].clone()
        grid = Grid(8, 8)
        kind(small, start(small, grid), grid, [2.0, 1.0]).fit()  # loads libraries and starts threads

        def run() -> Sequence[Tensor]:
            kind(data.x, data.codebook, problem.grid, problem.sigmas[:2]).fit()
            return ()

        return peak_memory(run, CPU)


def write_rows(path: Path, problem: Problem) -> None:
    """Writes blobs to a file, block by block."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (problem.rows, problem.dim))
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(CENTERS, problem.dim, generator=generator)
    for part in np.array_split(file, math.ceil(problem.rows / 100_000)):
        part[:] = blobs(len(part), centers, generator).numpy()
    file.flush()


def train_from_disk(path: Path, problem: Problem, threads: int) -> dict[str, Any]:
    """Trains on a memory-mapped file."""
    from somvae_ext.estimators import SOM

    torch.set_num_threads(threads)

    def new(epochs: int) -> SOM:
        return SOM(
            problem.side,
            problem.side,
            init="samples",
            n_epochs=epochs,
            sigma_initial=problem.sigmas[0],
            sigma_final=problem.sigma_final,
            compute_labels=False,
            random_state=0,
        )

    new(1).fit(torch.randn(1000, problem.dim))  # loads libraries and starts threads
    trained, taken = new(problem.epochs), []

    def run() -> Sequence[Tensor]:
        begin = perf_counter()  # wall time, since CPU time leaves out the wait for the disk
        trained.fit(np.load(path, mmap_mode="r"))
        taken.append(perf_counter() - begin)
        return ()

    peak = peak_memory(run, CPU)
    return {
        **vars(problem),
        "threads": threads,
        "file_bytes": path.stat().st_size,
        "peak_extra_bytes": peak,  # includes the mapped pages of the file
        "seconds_per_epoch": taken[0] / problem.epochs,
        "quantization_error_by_epoch": [epoch["quantization_error"] for epoch in trained.history_],
    }


def measure_memmap(problem: Problem, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        in_child(write_rows, path, problem)
        measured: dict[str, Any] = in_child(train_from_disk, path, problem, threads)
    return measured
