"""The program that test_processes.py runs: each process trains maps on its share of the rows and saves the results.

torchrun --nproc-per-node 2 two_processes.py FOLDER
python two_processes.py FOLDER                          trains the same maps on all rows in one process
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext.estimators import SOM

RANK, WORLD_SIZE = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))

CASES: dict[str, dict[str, Any]] = {
    "pca": {"topology": "hexagonal", "track_topographic_error": True},
    "samples": {"init": "samples"},
    "kmeans": {"init": "kmeans", "neighborhood": "bubble", "tol": 0.02},
    "gaps": {"missing": "ignore"},
    "weights": {"init": "random", "metric": "cosine"},
}


def rows(case: str) -> tuple[Tensor, Tensor | None]:
    """Returns all rows and their weights. The shares have different sizes, and only the second one has gaps."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(700, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    if case == "gaps":
        x[600:650, 2] = torch.nan
    weight = torch.rand(700, generator=generator).double() if case == "weights" else None
    return x, weight


def share(values: Tensor | None) -> Tensor | None:
    if values is None or WORLD_SIZE == 1:
        return values
    return values[:300] if RANK == 0 else values[300:]


def main(folder: Path) -> None:
    for case, options in CASES.items():
        x, weight = rows(case)
        som = SOM(6, 4, n_epochs=8, random_state=3, distributed=WORLD_SIZE > 1, **options)
        som.fit(share(x), sample_weight=share(weight))
        outcome = {
            "codebook": som.codebook_,
            "history": som.history_,
            "labels": som.labels_,
            "hits": som.hits_,
            "error": som.quantization_error_,
        }
        torch.save(outcome, folder / f"{case}_{WORLD_SIZE}_{RANK}.pt")
    if WORLD_SIZE > 1:
        try:
            SOM(2, 2, distributed=True).fit(torch.rand(9, 3 + RANK))
        except ValueError as error:
            (folder / f"refused_{RANK}").write_text(str(error))
        for name, x in {
            "dtype": torch.rand(9, 3, dtype=torch.float64 if RANK else torch.float32),
            "nan": torch.full((9, 3), torch.nan) if RANK else torch.rand(9, 3),
        }.items():
            try:
                SOM(2, 2, distributed=True).fit(x)
            except ValueError as error:
                (folder / f"refused_{name}_{RANK}").write_text(str(error))
        try:
            SOMWithoutMemory(2, 2, distributed=True).fit(torch.rand(9, 3))
        except (MemoryError, ValueError) as error:
            (folder / f"refused_memory_{RANK}").write_text(f"{type(error).__name__}: {error}")
        options: dict[str, Any] = {"init": "samples", "neighborhood": "bubble", "sigma_initial": 0.5}
        unseeded = SOM(20, 20, n_epochs=2, distributed=True, **options).fit(share(rows("pca")[0]))
        torch.save(unseeded.codebook_, folder / f"unseeded_{RANK}.pt")
        stream = SOM(3, 3, n_epochs=2, distributed=True).fit(IterableBatches(share(rows("pca")[0])))
        torch.save(stream.codebook_, folder / f"stream_{RANK}.pt")
        x = share(rows("pca")[0])
        assert x is not None
        x = x.clone()
        x[:, 4] = torch.nan
        if RANK == 0:
            x[:, 1] = torch.nan  # the other process has values in this column
        options = {"missing": "ignore", "n_epochs": 2, "distributed": True}
        gaps = SOM(3, 3, **options).fit(IterableBatches(x[:, :4]))
        torch.save(gaps.codebook_, folder / f"stream_gaps_{RANK}.pt")
        try:
            SOM(3, 3, **options).fit(IterableBatches(x))
        except ValueError as error:
            (folder / f"refused_column_{RANK}").write_text(str(error))
        own: dict[str, Any] = {"sigma_schedule": lambda step, num_steps, initial, final: final + RANK}
        try:
            SOM(3, 3, n_epochs=2, distributed=True, **own).fit(share(rows("pca")[0]))
        except ValueError as error:
            (folder / f"refused_codebook_{RANK}").write_text(str(error))


class SOMWithoutMemory(SOM):
    """A SOM for which the second process has too little memory."""

    def _rows(self, *arguments: Any, **options: Any) -> Any:
        if RANK == 1:
            raise MemoryError("no room for the rows")
        return super()._rows(*arguments, **options)


class IterableBatches:
    def __init__(self, x: Tensor | None) -> None:
        assert x is not None
        self.x = x

    def __iter__(self) -> Any:
        return iter(self.x.split(64))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    if WORLD_SIZE > 1:
        torch.distributed.barrier()  # neither process ends while the other one still waits for it
