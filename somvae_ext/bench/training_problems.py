"""Problems of the suite ``training``: rows, and maps that all contestants start from the same codebook."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.bench.maps import pixels
from somvae_ext.bench.rows import OURS
from somvae_ext.bench.training_contestants import CONTESTANTS, RIVAL
from somvae_ext.grid import Topology
from somvae_ext.som import initial_codebook

CPU = torch.device("cpu")
CENTERS = 50
FIRST_ROWS = 1 << 16  # rows from which the principal components are computed
SIGMA_FINAL = 0.5  # width in the last epoch, the default of SOM
LOOPS = ("minisom", "minisom, online")


@dataclass(frozen=True)
class Problem:
    """A map to train, on random rows or on the images of MNIST."""

    part: str
    rows: int
    dim: int
    side: int
    sigma_final: float
    epochs: int = 10
    topology: Topology = "rectangular"

    @property
    def grid(self) -> Grid:
        return Grid(self.side, self.side, self.topology)

    @property
    def sigmas(self) -> list[float]:
        """The neighborhood width of each epoch; it falls geometrically."""
        widest, steps = self.side / 4, max(1, self.epochs - 1)
        return [widest * (self.sigma_final / widest) ** (epoch / steps) for epoch in range(self.epochs)]

    @property
    def size(self) -> str:
        hexagons = " hexagons" if self.topology == "hexagonal" else ""
        return f"{self.rows} x {self.dim}, {self.side} x {self.side}{hexagons}"


@dataclass(frozen=True)
class Data:
    x: Tensor  # [N, D]
    codebook: Tensor  # [K, D], the initial one


def make_data(problem: Problem, root: Path | None, device: torch.device = CPU) -> Data:
    if problem.part == "mnist":
        if root is None:
            raise ValueError("--only mnist needs --data-root, the folder with MNIST/raw")
        x = pixels("mnist", root)
    else:
        generator = torch.Generator(device).manual_seed(0)
        centers = torch.randn(CENTERS, problem.dim, generator=generator, device=device)
        x = blobs(problem.rows, centers, generator) if problem.part != "noise" else noise(problem, generator)
    return Data(x, start(x, problem.grid))


def blobs(rows: int, centers: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(len(centers), (rows,), generator=generator, device=centers.device)
    spread = torch.randn(rows, centers.shape[1], generator=generator, device=centers.device)
    return spread.mul_(0.5).add_(centers[drawn])


def noise(problem: Problem, generator: torch.Generator) -> Tensor:
    return torch.randn(problem.rows, problem.dim, generator=generator, device=generator.device)


def start(x: Tensor, grid: Grid) -> Tensor:
    """The initial codebook of all contestants, ``[K, D]``."""
    return initial_codebook(x[:FIRST_ROWS], grid, "pca")


def problems(part: str, quick: bool) -> Iterator[tuple[Problem, list[str]]]:
    """Yields the problems of a part, each with the contestants that train it."""
    everyone, vectorized = list(CONTESTANTS), [name for name in CONTESTANTS if name not in LOOPS]
    rows, dim, side, epochs = (4000, 32, 16, 3) if quick else (20_000, 64, 32, 10)
    if part == "blobs":
        yield Problem(part, rows, dim, side, SIGMA_FINAL, epochs), vectorized if quick else everyone
    elif part == "defaults":
        # fastersom's default schedule reaches a tenth of the initial sigma one step after the last epoch.
        yield Problem(part, rows, dim, side, side / 4 * 0.1 ** (1 - 1 / epochs), epochs), [OURS, RIVAL]
    elif part == "noise":
        yield Problem(part, rows, dim, side, SIGMA_FINAL, epochs), [OURS, RIVAL]
    elif part == "mnist":
        for side in (64, 128):
            yield Problem(part, 60_000, 784, side, SIGMA_FINAL), vectorized


def memmap_problem(quick: bool) -> Problem:
    return Problem("memmap", *((200_000, 32, 16) if quick else (5_000_000, 32, 64)), SIGMA_FINAL, epochs=3)


# --- Large maps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LargeMap:
    """A map for a GPU, with the published times of a whole fit and our goal, all in seconds."""

    problem: Problem
    published: dict[str, float]
    goal: float | None = None


def large_maps(quick: bool) -> Iterator[LargeMap]:
    """Yields the large maps.

    Rectangles use fastersom's default schedule, as its published times do: sigma falls from a quarter of the side to a
    tenth of that after 10 epochs.
    """
    shrink = 1000 if quick else 1

    def problem(rows: int, dim: int, side: int, sigma_final: float, topology: Topology = "rectangular") -> Problem:
        return Problem("large", rows // shrink, dim, side // (5 if quick else 1), sigma_final, topology=topology)

    def rectangles(rows: int, dim: int, side: int, on_an_a100: float, goal: float | None = None) -> LargeMap:
        return LargeMap(problem(rows, dim, side, side / 4 * 0.1**0.9), {f"{RIVAL}, A100": on_an_a100}, goal)

    yield rectangles(5_000_000, 60, 200, 11.8, goal=1.3)
    yield LargeMap(problem(10_000_000, 50, 64, 0.5, "hexagonal"), {"FloatSOM, 8 V100": 32.5}, goal=5.0)
    yield rectangles(480_000, 34, 30, 0.046)
    yield rectangles(480_000, 34, 100, 0.18)
