"""What a suite is, and what it is told: the devices, threads, repetitions and sizes of one call."""

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
    """An option of a suite's own shape, by which it measures one case in place of its own; suites may share it."""

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
    """What is to be measured.

    Attributes:
        threads: numbers of CPU threads, one after the other; ``(None,)`` on CUDA.
        repetitions: of every contestant in a pass; fewer of those that take long.
        passes: how many times the suite is gone through; ``number`` says which pass this is. What is not timed needs
            to be measured in the first alone, whose ``extra`` is kept.
        parts: of the suite.
        shape: the own shape, by the names of the options; empty for the suite's own cases.
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
        """Each number of threads, while all contestants have as many."""
        for threads in self.threads:
            with cpu_threads(threads or torch.get_num_threads()):
                yield threads

    def wants(self, *names: str) -> bool:
        """Whether a contestant of these names takes part."""
        return self.peers is None or not self.peers.isdisjoint(names)

    def check_memory(self, needed: float) -> None:
        """
        Raises:
            ValueError: the own shape needs more bytes than there are.
        """
        left = available(self.device)
        if needed > left:
            given = " ".join(f"{'-' if len(name) == 1 else '--'}{name} {value}" for name, value in self.shape.items())
            raise ValueError(f"{given} takes about {needed / 2**30:.1f} GiB, and {left / 2**30:.1f} GiB are left")


@dataclass(frozen=True)
class Suite:
    """A benchmark.

    Attributes:
        parts: what it consists of, and what each part measures.
        default_parts: those that are measured if nothing else is said, of a device, of ``--quick``, and of whether
            there is a data root.
        options: of its own shape.
        measure: gives the rows as they come.
        contestants: names of those that can take part, and the packages that they are of; ceilings are torch's.
        peers: distributions or modules that it measures against, and their versions; None where one is not installed.
        requires: modules that have to be there, beside torch and numpy.
        reads_images: whether any of it is measured on the images of a data root.
        derived: rows with the ``extra`` figures that follow from the times of all passes.
        claims: what is claimed of the rows of a complete run.
        remarks: what is to be known of contestants in every row.
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
