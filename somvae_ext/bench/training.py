"""Times the training of self-organizing maps, an epoch on average, against other libraries in one process.

    python benchmarks/som_training.py --data-root DIR --json results.json     the CPU, about 30 minutes
    python benchmarks/som_training.py --parts blobs --threads 2               one part
    python benchmarks/som_training.py --device cuda --json results.json       large maps on a GPU
    python benchmarks/som_training.py --quick                                 small data and maps, a minute

All contestants start from the same codebook (the plane of the two first principal components), see the same rows in
float32 and get the same sigma in every epoch: a Gaussian from a quarter of the side down to ``--sigma-final``, by one
factor from each epoch to the next. Where one cannot, ``som_training_contestants.py`` says how it differs, and so does
the result file. Quantization and topographic error of all final codebooks are computed by one function each, those of
``somvae_ext.evaluation``.

The parts:

- ``blobs``: 20,000 x 64, 32 x 32 nodes, all libraries. The rows lie around 50 centres.
- ``defaults``: the same rows with the schedule that fastersom has by default, which ends wider.
- ``noise``: the same size without any structure, the worst case of a search that prunes.
- ``mnist``: 60,000 x 784, 64 x 64 and 128 x 128 nodes (needs ``--data-root``, the folder that holds MNIST/raw).
- ``memmap``: 5,000,000 x 32 in a file, 64 x 64 nodes, ours alone: the peak of its memory.
- ``large``: maps for a GPU, with ``--device cuda``, ours and fastersom: sizes that others published figures for, from
  480,000 x 34 on 30 x 30 nodes to 5,000,000 x 60 on 200 x 200, and 10,000,000 x 50 on 64 x 64 hexagons. On the CPU they
  take hours, unless ``--quick`` makes them small.

Fits take turns, and everyone has trained before the clock starts; medians are compared. A fit's seconds are divided by
its epochs. Two libraries search once more after the last epoch; that is timed by itself and taken off. Building a
library's map is not counted. A contestant whose fit would take longer than a minute trains for one epoch, on fewer rows
if that takes as long and grows with the rows alone, and is marked ``~``; on the largest number of threads it then
trains once to the end, if that is a matter of minutes, for its errors.

Memory is the peak of building and training a map for two epochs, beyond data and initial codebook: in a process of its
own, which has trained a small map before.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.bench.claims import Claim, conclude
from somvae_ext.bench.memory import peak_memory
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import checked_device, cpu_threads, seconds, threads_text
from somvae_ext.bench.training_contestants import CONTESTANTS, OURS, RIVAL, Contestant, absent, version
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import quantization_error, topographic_error
from somvae_ext.grid import Topology
from somvae_ext.machine import describe
from somvae_ext.som import initial_codebook

CPU = torch.device("cpu")
CENTRES = 50
FIRST_ROWS = 1 << 16  # that the principal components are computed of
LONGEST_FIT = 60.0  # seconds; who takes longer is extrapolated
LONGEST_FOR_ERRORS = 240.0  # seconds of the one fit to the end of such a contestant
SECONDS_EACH = 90.0  # of one contestant on one problem: fewer repetitions where fits take long
LARGEST_PAIRS = 4 << 30  # bytes that a contestant may hold for all pairs of nodes
LOOPS = ("minisom", "minisom, online")
ON_CPU = ("blobs", "defaults", "noise", "mnist", "memmap")
PARTS = (*ON_CPU, "large")
SECONDS_OF_A_LARGE_MAP = 12.0  # of one contestant: fewer repetitions where fits take long


@dataclass(frozen=True)
class Problem:
    """A map to train; rows are drawn, or those of MNIST."""

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
        """One for every epoch, by one factor from each to the next."""
        widest, steps = self.side / 4, max(1, self.epochs - 1)
        return [widest * (self.sigma_final / widest) ** (epoch / steps) for epoch in range(self.epochs)]

    @property
    def size(self) -> str:
        hexagons = " hexagons" if self.topology == "hexagonal" else ""
        return f"{self.rows} x {self.dim}, {self.side} x {self.side}{hexagons}"


@dataclass(frozen=True)
class Data:
    x: Tensor  # [N, D]
    codebook: Tensor  # [K, D], to start from


def make_data(problem: Problem, root: Path | None, device: torch.device = CPU) -> Data:
    if problem.part == "mnist":
        from torchvision.datasets import MNIST  # type: ignore[import-untyped]

        x = MNIST(str(root), train=True).data.flatten(1) / 255
    else:
        generator = torch.Generator(device).manual_seed(0)
        centres = torch.randn(CENTRES, problem.dim, generator=generator, device=device)
        x = blobs(problem.rows, centres, generator) if problem.part != "noise" else noise(problem, generator)
    return Data(x, start(x, problem.grid))


def blobs(rows: int, centres: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(len(centres), (rows,), generator=generator, device=centres.device)
    spread = torch.randn(rows, centres.shape[1], generator=generator, device=centres.device)
    return spread.mul_(0.5).add_(centres[drawn])


def noise(problem: Problem, generator: torch.Generator) -> Tensor:
    return torch.randn(problem.rows, problem.dim, generator=generator, device=generator.device)


def start(x: Tensor, grid: Grid) -> Tensor:
    """The codebook that everyone starts from, ``[K, D]``."""
    return initial_codebook(x[:FIRST_ROWS], grid, "pca")


# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """What one contestant did on one problem."""

    rows: int  # that it was timed on
    epochs: int
    repetitions: int
    fits: list[float] = field(default_factory=list)  # seconds, what it does after training included
    closings: list[float] = field(default_factory=list)  # seconds of that
    errors: dict[str, float] = field(default_factory=dict)  # of the codebook after all epochs on all rows
    complete_seconds: float | None = None  # of the fit that gave these, where times are extrapolated

    def epoch_seconds(self, problem: Problem) -> list[float]:
        """Of all rows, in each repetition."""
        share = self.epochs * self.rows / problem.rows
        return [(fit - closing) / share for fit, closing in zip(self.fits, self.closings, strict=True)]

    def is_complete(self, problem: Problem) -> bool:
        return (self.rows, self.epochs) == (problem.rows, problem.epochs)


@dataclass
class Row:
    """All contestants on one problem; an entry of the JSON file."""

    problem: Problem
    threads: int
    measured: dict[str, Measured] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float:
        return statistics.median(self.measured[name].epoch_seconds(self.problem))

    def speedup(self, name: str = RIVAL) -> float | None:
        """How many times longer than ours an epoch of theirs takes."""
        return self.median(name) / self.median(OURS) if name in self.measured else None

    def as_json(self) -> dict[str, Any]:
        contestants = {}
        for name, measured in self.measured.items():
            times = measured.epoch_seconds(self.problem)
            contestants[name] = {
                "seconds_per_epoch": self.median(name),
                "fastest_and_slowest": (min(times), max(times)),
                "ours_is_faster": self.speedup(name),
                "repetitions": measured.repetitions,
                "extrapolated_from": None
                if measured.is_complete(self.problem)
                else {"rows": measured.rows, "epochs": measured.epochs},
                "seconds_taken_off": statistics.median(measured.closings),
                **measured.errors,
                "seconds_of_the_fit_to_the_end": measured.complete_seconds,
            }
        return {
            **vars(self.problem),
            "sigmas": self.problem.sigmas,
            "threads": self.threads,
            "contestants": contestants,
            "absent": self.absent,
        }


def measure(row: Row, names: Sequence[str], data: Data, repetitions: int, *, to_the_end: bool) -> None:
    """Lets contestants train in turns, each as often as ``SECONDS_EACH`` allows."""
    problem = row.problem
    for name in names:
        if reason := hindrance(name, problem):
            row.absent[name] = reason
        else:
            row.measured[name] = plan(name, problem, data, repetitions)
    for turn in range(repetitions):
        for name, measured in row.measured.items():
            if turn < measured.repetitions:
                train(name, problem, data, measured)
    for name, measured in row.measured.items():
        long = statistics.median(measured.epoch_seconds(problem)) * problem.epochs
        if to_the_end and not measured.errors and long < LONGEST_FOR_ERRORS:
            complete = Measured(problem.rows, problem.epochs, 1)
            train(name, problem, data, complete)
            measured.errors, measured.complete_seconds = complete.errors, complete.fits[0]


def hindrance(name: str, problem: Problem) -> str | None:
    """Why a contestant does not take part in a problem."""
    kind = CONTESTANTS[name]
    if (needed := kind.quadratic_bytes * problem.side**4) > LARGEST_PAIRS:
        return f"holds all pairs of nodes: about {needed / 2**30:.0f} GiB"
    return absent(kind)


def plan(name: str, problem: Problem, data: Data, repetitions: int) -> Measured:
    """How to time a contestant, going by an epoch on a few rows; warms it up. Ours always trains to the end."""
    few = Measured(max(problem.rows // 40, min(problem.rows, 500)), 1, 2)
    for _ in range(few.repetitions):
        train(name, problem, data, few)
    epoch = few.epoch_seconds(problem)[-1]
    rows, epochs = problem.rows, problem.epochs
    if name != OURS and epoch * epochs > LONGEST_FIT:
        epochs = 1
        if epoch > LONGEST_FIT and not CONTESTANTS[name].quadratic_bytes:  # pairs of nodes cost the same for any rows
            rows = min(rows, max(few.rows, int(rows * LONGEST_FIT / 4 / epoch)))
    long = epoch * epochs * rows / problem.rows
    return Measured(rows, epochs, max(1, min(repetitions, int(SECONDS_EACH / long))))


def train(name: str, problem: Problem, data: Data, measured: Measured) -> None:
    """Times one fit, and computes the errors of its codebook if it is the first that is complete."""
    x = data.x[: measured.rows]
    contestant = CONTESTANTS[name](x, data.codebook, problem.grid, problem.sigmas[: measured.epochs])
    measured.fits.append(seconds(contestant.fit, 1, x.device))
    measured.closings.append(seconds(contestant.close, 1, x.device))
    if measured.is_complete(problem) and not measured.errors:
        measured.errors = errors(problem, data, contestant)


def errors(problem: Problem, data: Data, contestant: Contestant) -> dict[str, float]:
    codes = contestant.codes().contiguous()
    return {
        "quantization_error": quantization_error(data.x, codes),
    } | {
        f"topographic_error_{connectivity}": topographic_error(data.x, codes, problem.grid, connectivity=connectivity)
        for connectivity in problem.grid.connectivities
    }


# --- Memory ----------------------------------------------------------------------------------------------------------


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def training_memory(name: str, problem: Problem, root: Path | None, threads: int) -> int:
    """Bytes at the peak of building and training a map, beyond data and initial codebook. For a process of its own."""
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


def measure_memory(rows: Sequence[Row], root: Path | None, threads: int) -> Iterator[dict[str, Any]]:
    """Peaks of contestants whose two epochs take less than ``LONGEST_FIT``."""
    for row in rows:
        for name in row.measured:
            entry: dict[str, Any] = {"contestant": name, **vars(row.problem), "threads": threads}
            if 2 * row.median(name) < LONGEST_FIT:
                entry["peak_extra_bytes"] = in_child(training_memory, name, row.problem, root, threads)
                yield entry


def write_rows(path: Path, problem: Problem) -> None:
    """Blobs in a file, a few at a time."""
    file = np.lib.format.open_memmap(path, "w+", np.float32, (problem.rows, problem.dim))
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CENTRES, problem.dim, generator=generator)
    for part in np.array_split(file, math.ceil(problem.rows / 100_000)):
        part[:] = blobs(len(part), centres, generator).numpy()
    file.flush()


def train_from_disk(path: Path, problem: Problem, threads: int) -> dict[str, Any]:
    """Trains on a file that is mapped into memory. For a process of its own."""
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
        taken.append(seconds(lambda: trained.fit(np.load(path, mmap_mode="r")), 1, CPU))
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
        found: dict[str, Any] = in_child(train_from_disk, path, problem, threads)
    return found


# --- Large maps ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LargeMap:
    """A map for a GPU, what others published for it, and our goal: seconds of a whole fit."""

    problem: Problem
    published: dict[str, float]
    goal: float | None = None


def large_maps(quick: bool) -> Iterator[LargeMap]:
    """Rectangles have fastersom's default schedule, as its figures: a quarter of the side, a tenth after 10 epochs."""
    shrink = 1000 if quick else 1

    def problem(rows: int, dim: int, side: int, sigma_final: float, topology: Topology = "rectangular") -> Problem:
        return Problem("large", rows // shrink, dim, side // (5 if quick else 1), sigma_final, topology=topology)

    def rectangles(rows: int, dim: int, side: int, on_an_a100: float, goal: float | None = None) -> LargeMap:
        return LargeMap(problem(rows, dim, side, side / 4 * 0.1**0.9), {f"{RIVAL}, A100": on_an_a100}, goal)

    yield rectangles(5_000_000, 60, 200, 11.8, goal=1.3)
    yield LargeMap(problem(10_000_000, 50, 64, 0.5, "hexagonal"), {"FloatSOM, 8 V100": 32.5}, goal=5.0)
    yield rectangles(480_000, 34, 30, 0.046)
    yield rectangles(480_000, 34, 100, 0.18)


def measure_large(large: LargeMap, device: torch.device, repetitions: int, record: Record) -> dict[str, Any]:
    """Ours and fastersom, each by itself; memory is that of the device."""
    problem = large.problem
    data = make_data(problem, None, device)
    entry: dict[str, Any] = {
        **vars(problem),
        "sigmas": problem.sigmas,
        "dtype": str(data.x.dtype),
        "published_seconds": large.published,
        "goal_seconds": large.goal,
        "contestants": {},
    }
    record.add("large", entry)
    for name in (OURS, RIVAL):
        kind = CONTESTANTS[name]
        if reason := absent(kind):
            entry["contestants"][name] = {"absent": reason}
        elif problem.topology == "hexagonal" and not kind.hexagons:
            entry["contestants"][name] = {"absent": "has no hexagons"}
        else:
            try:
                entry["contestants"][name] = fit_large(kind, problem, data, repetitions)
            except Exception as error:
                if name == OURS:
                    raise
                entry["contestants"][name] = {"absent": f"failed: {' '.join(str(error).split())[:200]}"}
        record.write()
    return entry


def fit_large(kind: type[Contestant], problem: Problem, data: Data, repetitions: int) -> dict[str, Any]:
    device = data.x.device

    def new(epochs: int) -> Contestant:
        return kind(data.x, data.codebook, problem.grid, problem.sigmas[:epochs])

    first = new(1)  # compiles what it has to
    first.fit()
    first.close()
    fits: list[float] = []
    closings: list[float] = []
    while len(fits) < repetitions and sum(fits) < SECONDS_OF_A_LARGE_MAP:
        last = new(problem.epochs)
        fits.append(seconds(last.fit, 1, device))
        closings.append(seconds(last.close, 1, device))

    def run() -> Sequence[Tensor]:
        new(2).fit()
        return ()

    peak = peak_memory(run, device)
    return {
        "fit_seconds": statistics.median(fits),
        "training_seconds": statistics.median(fit - closing for fit, closing in zip(fits, closings, strict=True)),
        "fastest_and_slowest": (min(fits), max(fits)),
        "repetitions": len(fits),
        "seconds_of_a_search_after_training": statistics.median(closings),
        "peak_extra_bytes": peak,
        "peak_bytes_with_data": peak + data.x.nbytes,
        **errors(problem, data, last),
    }


# --- What is measured ------------------------------------------------------------------------------------------------


def problems(part: str, quick: bool, sigma_final: float) -> Iterator[tuple[Problem, list[str]]]:
    """Maps to train, and who trains them."""
    everyone, at_once = list(CONTESTANTS), [name for name in CONTESTANTS if name not in LOOPS]
    rows, dim, side, epochs = (4000, 32, 16, 3) if quick else (20_000, 64, 32, 10)
    if part == "blobs":
        yield Problem(part, rows, dim, side, sigma_final, epochs), at_once if quick else everyone
    elif part == "defaults":
        # A tenth of the first sigma, which its schedule reaches after the last epoch.
        yield Problem(part, rows, dim, side, side / 4 * 0.1 ** (1 - 1 / epochs), epochs), [OURS, RIVAL]
    elif part == "noise":
        yield Problem(part, rows, dim, side, sigma_final, epochs), [OURS, RIVAL]
    elif part == "mnist":
        for side in (64, 128):
            yield Problem(part, 60_000, 784, side, sigma_final), at_once


def memmap_problem(quick: bool, sigma_final: float) -> Problem:
    return Problem("memmap", *((200_000, 32, 16) if quick else (5_000_000, 32, 64)), sigma_final, epochs=3)


def training_claims(row: Row) -> list[Claim]:
    """What is claimed of a row, whether it could be measured or not."""
    part, side = row.problem.part, row.problem.side
    factor = {("blobs", 32): 4, ("mnist", 64): 4, ("mnist", 128): 5}.get((part, side))
    if factor is None:
        return []
    ratio = row.speedup()
    made = [
        Claim(
            f"{part}, {side} x {side}: at least {factor} times as fast an epoch as {RIVAL}",
            row.threads,
            None if ratio is None else ratio >= factor,
            "not measured" if ratio is None else f"{ratio:.2f} times",
        )
    ]
    text = f"{part}, {side} x {side}: quantization error at most that of {RIVAL}"
    found = [row.measured[name].errors.get("quantization_error") for name in (OURS, RIVAL) if name in row.measured]
    if len(found) == 2 and all(error is not None for error in found):
        ours, theirs = (float(error or 0) for error in found)
        # Rounding decides ties, and from then on maps go apart: errors that agree to .1 % are equal.
        made.append(Claim(text, row.threads, ours <= 1.001 * theirs, f"{ours:.5g} and {theirs:.5g}"))
    elif part == "blobs":
        made.append(Claim(text, row.threads, None, "not measured"))
    return made


def memmap_claim(found: dict[str, Any]) -> Claim:
    peak = found["peak_extra_bytes"]
    text = f"{found['rows']} x {found['dim']} from a file, {found['side']} x {found['side']}: below 1 GiB"
    return Claim(text, found["threads"], peak < 1 << 30, f"{peak / 2**20:.0f} MiB")


def large_claim(large: LargeMap, found: dict[str, Any]) -> Claim:
    problem, taken = large.problem, found["contestants"][OURS]["fit_seconds"]
    text = f"{problem.size}, {problem.epochs} epochs: below {large.goal:g} s"
    return Claim(text, None, taken < large.goal, f"{taken:.2f} s")


# --- Output ----------------------------------------------------------------------------------------------------------


def show(row: Row) -> None:
    problem = row.problem
    print(f"\n{problem.part}: {problem.size}, {problem.epochs} epochs, {threads_text(row.threads)}")
    for name, measured in row.measured.items():
        ratio, mark = row.speedup(name), "" if measured.is_complete(problem) else "~"
        figures = "".join(f"{name.split('_')[0]:>16} error {value:.5g}" for name, value in measured.errors.items())
        print(f"  {name:16}{mark + f'{row.median(name) * 1e3:.1f}':>12} ms an epoch {ratio:8.2f}x{figures}", flush=True)
    for name, reason in row.absent.items():
        print(f"  {name:16} {reason}", flush=True)


def show_large(large: LargeMap, found: dict[str, Any]) -> None:
    published = ", ".join(f"{who} {taken:g} s" for who, taken in large.published.items())
    print(f"\nlarge: {large.problem.size}, {large.problem.epochs} epochs, {found['dtype']}; published: {published}")
    for name, entry in found["contestants"].items():
        if "absent" in entry:
            print(f"  {name:16} {entry['absent']}", flush=True)
        else:
            print(
                f"  {name:16}{entry['training_seconds']:8.3f} s, {entry['peak_bytes_with_data'] >> 20} MiB with the "
                f"data, quantization error {entry['quantization_error']:.5g}, "
                + ", ".join(
                    f"topographic error {entry[name]:.4f} ({connectivity} neighbours)"
                    for connectivity in (4, 6, 8)
                    if (name := f"topographic_error_{connectivity}") in entry
                ),
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw; without it mnist is left out")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"of {', '.join(PARTS)} (default: all but large on the CPU, large alone on CUDA, which has no other)",
    )
    parser.add_argument(
        "--threads", type=int, nargs="+", help="CPU threads, one after another (default: 1 and torch's)"
    )
    parser.add_argument("--sigma-final", type=float, default=0.5, help="of the last epoch (default: .5, as SOM's)")
    parser.add_argument("--repeat", type=int, help="most repetitions (default: 5, 2 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small data and maps, few repetitions, no mnist")
    parser.add_argument("--json", type=Path, help="write everything there")
    arguments = parser.parse_args()
    device = checked_device(parser, arguments.device)
    parts = arguments.parts or (ON_CPU if device.type == "cpu" else ("large",))
    if device.type == "cuda" and set(parts) != {"large"}:
        parser.error("--device cuda has the part large alone: leave --parts out, or measure the others on the CPU")
    repetitions = arguments.repeat or (2 if arguments.quick else 5)
    thread_counts = sorted(arguments.threads or {1, torch.get_num_threads()})
    most = thread_counts[-1]

    machine = describe(arguments.device)
    print(f"{machine['cpu']}, torch {machine['torch']}: milliseconds of an epoch, and how many times that of ours")
    record = Record(
        arguments.json,
        machine=machine,
        repetitions=repetitions,
        quick=arguments.quick,
        contestants={
            name: {"version": None if absent(kind) else version(kind), "differs": kind.differs}
            for name, kind in CONTESTANTS.items()
        },
        results=[],
        memory=[],
        memmap=None,
        large=[],
    )
    made: list[Claim] = []
    rows: list[Row] = []
    for part in (part for part in parts if part in ("blobs", "defaults", "noise", "mnist")):
        if part == "mnist" and (arguments.quick or not arguments.data_root):
            print("\nmnist: skipped, " + ("with --quick" if arguments.quick else "it needs --data-root"))
            continue
        for problem, names in problems(part, arguments.quick, arguments.sigma_final):
            data = make_data(problem, arguments.data_root)
            for threads in thread_counts:
                row = Row(problem, threads)
                with cpu_threads(threads):
                    measure(row, names, data, repetitions, to_the_end=threads == most)
                show(row)
                record.add("results", row.as_json())
                made += [] if arguments.quick else training_claims(row)
            rows.append(row)
            del data

    if rows:
        print("\nmemory at the peak, beyond data and initial codebook")
    compared = [row for row in rows if row.problem.part in ("blobs", "mnist")]
    for entry in measure_memory(compared, arguments.data_root, most):
        record.add("memory", entry)
        size = f"{entry['part']}, {entry['side']} x {entry['side']}"
        print(f"  {size:20}{entry['contestant']:16}{entry['peak_extra_bytes'] / 2**20:10.1f} MiB", flush=True)
    if "memmap" in parts:
        found = measure_memmap(memmap_problem(arguments.quick, arguments.sigma_final), most)
        record.put("memmap", found)
        print(
            f"\nmemmap: {found['rows']} x {found['dim']} in a file of {found['file_bytes'] >> 20} MiB, {found['side']} "
            f"x {found['side']}: {found['seconds_per_epoch']:.2f} s an epoch, {found['peak_extra_bytes'] >> 20} MiB"
        )
        made += [] if arguments.quick else [memmap_claim(found)]
    for large in large_maps(arguments.quick) if "large" in parts else ():
        found = measure_large(large, device, min(3, repetitions), record)
        show_large(large, found)
        made += [large_claim(large, found)] if large.goal and not arguments.quick else []

    conclude(record, made)


if __name__ == "__main__":
    main()
