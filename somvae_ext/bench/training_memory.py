"""What a training of the suite ``training`` takes of memory, of rows at hand and of those in a file.

Everything here but :func:`measure_memmap` runs in a process of its own.
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
from somvae_ext.bench.training_problems import CENTRES, CPU, Problem, blobs, make_data, start


def training_memory(name: str, problem: Problem, root: Path | None, threads: int) -> int:
    """Bytes at the peak of building and training a map, beyond data and initial codebook."""
    kind = CONTESTANTS[name]
    absent(kind)  # imports it, in silence
    data = make_data(problem, root)
    with cpu_threads(threads):
        small = data.x[:500].clone()
        grid = Grid(8, 8)
        kind(small, start(small, grid), grid, [2.0, 1.0]).fit()  # brings in libraries and threads

        def run() -> Sequence[Tensor]:
            kind(data.x, data.codebook, problem.grid, problem.sigmas[:2]).fit()
            return ()

        return peak_memory(run, CPU)


def write_rows(path: Path, problem: Problem) -> None:
    """Blobs in a file, a few at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (problem.rows, problem.dim))
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, problem.dim, generator=generator)
    for part in np.array_split(file, math.ceil(problem.rows / 100_000)):
        part[:] = blobs(len(part), centres, generator).numpy()
    file.flush()


def train_from_disk(path: Path, problem: Problem, threads: int) -> dict[str, Any]:
    """Trains on a file that is mapped into memory."""
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

    new(1).fit(torch.randn(1000, problem.dim))  # brings in libraries and threads
    trained, taken = new(problem.epochs), []

    def run() -> Sequence[Tensor]:
        begin = perf_counter()  # the wall's: a processor does not count the time in which it waits for the disk
        trained.fit(np.load(path, mmap_mode="r"))
        taken.append(perf_counter() - begin)
        return ()

    peak = peak_memory(run, CPU)
    return {
        **vars(problem),
        "threads": threads,
        "file_bytes": path.stat().st_size,
        "peak_extra_bytes": peak,  # what is mapped of the file included
        "seconds_per_epoch": taken[0] / problem.epochs,
        "quantization_error_by_epoch": [epoch["quantization_error"] for epoch in trained.history_],
    }


def measure_memmap(problem: Problem, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.npy")
        in_child(write_rows, path, problem)
        measured: dict[str, Any] = in_child(train_from_disk, path, problem, threads)
    return measured
