"""Suites, and the plan of a call: its device, threads, repetitions and sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from somvae_ext.bench.claims import Claim
from somvae_ext.bench.memory import available
from somvae_ext.bench.rows import Row
from somvae_ext.bench.timing import cpu_threads


@dataclass(frozen=True)
class Option:
    """An option that sets part of a custom shape, measured instead of a suite's own sizes; suites may share it."""

    flag: str
    help: str
    kind: type = int
    choices: Sequence[str] | None = None

    @property
    def name(self) -> str:
        return self.flag.lstrip("-").replace("-", "_")


ROWS = Option("-N", "rows")
CODES = Option("-K", "codes")
DIM = Option("-D", "features")
SIDE = Option("--side", "side of a square map")
BATCH = Option("--batch", "rows, images or frames of a training step")


@dataclass(frozen=True)
class Plan:
    """What a call measures, and how.

    Attributes:
        threads: numbers of CPU threads to measure with, in turn; ``(None,)`` on CUDA.
        repetitions: repetitions of every contestant in a pass; slow contestants get fewer.
        passes: number of passes over the suite; ``number`` is the index of this one. What is not timed has to be
            measured in the first pass only, whose ``extra`` is kept.
        parts: parts of the suite to measure.
        shape: the custom shape, by the names of the options; empty for the suite's own cases.
        peers: names of the contestants, or of their packages, that take part beside ours; None for all.
        data_root: folder with MNIST/raw and FashionMNIST/raw.
    """

    device: torch.device
    threads: Sequence[int | None]
    repetitions: int
    parts: Sequence[str]
    quick: bool = False
    passes: int = 1
    number: int = 0
    shape: Mapping[str, Any] = field(default_factory=dict)
    peers: frozenset[str] | None = None
    data_root: Path | None = None

    def rounds(self) -> Iterator[int | None]:
        """Yields each number of threads, to which all contestants are then limited."""
        for threads in self.threads:
            with cpu_threads(threads or torch.get_num_threads()):
                yield threads

    def wants(self, *names: str) -> bool:
        """Whether a contestant of these names takes part."""
        return self.peers is None or not self.peers.isdisjoint(names)

    def check_memory(self, needed: float) -> None:
        """Refuses a custom shape that does not fit into memory.

        Raises:
            ValueError: the custom shape needs more bytes than are available.
        """
        free = available(self.device)
        if needed > free:
            shape = " ".join(f"{'-' if len(name) == 1 else '--'}{name} {value}" for name, value in self.shape.items())
            raise ValueError(f"{shape} takes about {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are left")


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        parts: names of the parts, and what each measures.
        default_parts: the parts measured by default, for a device, ``--quick`` or not, and a data root or none.
        options: options of a custom shape.
        measure: yields the rows as they are measured.
        contestants: names of possible contestants, and the package of each; ceilings belong to torch.
        peers: distributions or modules to measure against, and their versions; None for one that is not installed.
        requires: modules that must be installed besides torch and numpy.
        reads_images: whether a part is measured on the images of a data root.
        derived: adds the ``extra`` figures that follow from the times of all passes.
        claims: makes the claims about the rows of a complete run.
        remarks: remarks on contestants that hold in every row.
    """

    name: str
    summary: str
    parts: Mapping[str, str]
    options: Sequence[Option]
    measure: Callable[[Plan], Iterator[Row]]
    contestants: Callable[[torch.device], Mapping[str, str]]
    default_parts: Callable[[torch.device, bool, bool], Sequence[str]] | None = None
    peers: Callable[[torch.device], Mapping[str, str | None]] = lambda device: {}
    requires: Sequence[str] = ()
    reads_images: bool = True
    derived: Callable[[Sequence[Row]], list[Row]] = list
    claims: Callable[[Sequence[Row]], list[Claim]] = lambda rows: []
    remarks: Mapping[str, str] = field(default_factory=dict)
    parts_option: str = "only"
