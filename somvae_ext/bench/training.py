"""The training of self-organizing maps against other libraries: the mean time of an epoch.

All contestants start from the same codebook (the plane of the first two principal components), see the same rows in
float32 and use the same sigma in every epoch: the width of a Gaussian that falls geometrically from a quarter of the
side to .5. If one cannot, its ``differs`` says so, and so does the result file. The quantization and topographic errors
of all final codebooks are computed by ``somvae_ext.evaluation``.

Fits take turns, after a warm-up of every contestant. The seconds of a fit are divided by its epochs. Two libraries
search once more after the last epoch; that search is timed separately and subtracted. Building a map is not timed. A
contestant whose fit would take longer than a minute trains for one epoch and is noted as extrapolated; if that epoch
takes longer than a minute as well, and its time depends on the rows alone, it trains on fewer rows. With the largest
number of threads it then trains once to the end for its errors, if that takes a few minutes at most. The ceilings are a
matrix product, and the plain search for the winners of an epoch.

Maps for a GPU have sizes for which others have published times, from 480,000 x 34 on 30 x 30 nodes to 5,000,000 x 60 on
200 x 200, and 10,000,000 x 50 on 64 x 64 hexagons. Memory is the peak of building and training a map for two epochs,
beyond data and initial codebook, in a separate process that has trained a small map before.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.ceilings import product_beside
from somvae_ext.bench.claims import Claim
from somvae_ext.bench.memory import in_child, peak_memory
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import DIM, ROWS, SIDE, Option, Plan, Suite
from somvae_ext.bench.timing import seconds
from somvae_ext.bench.training_contestants import CONTESTANTS, RIVAL, Contestant, absent, versions
from somvae_ext.bench.training_memory import measure_memmap, training_memory
from somvae_ext.bench.training_problems import (
    SIGMA_FINAL,
    Data,
    LargeMap,
    Problem,
    large_maps,
    make_data,
    memmap_problem,
    problems,
)
from somvae_ext.evaluation import quantization_error, topographic_error

LONGEST_FIT = 60.0  # seconds; longer fits are extrapolated
LONGEST_FOR_ERRORS = 240.0  # seconds; shorter extrapolated fits are run once to the end
SECONDS_EACH = 90.0  # of one contestant on one problem: long fits have fewer repetitions
SECONDS_OF_A_LARGE_MAP = 12.0  # the same for a large map
LARGEST_PAIRS = 4 << 30  # bytes that a contestant may hold for all pairs of nodes
SEARCH = "ops.bmu"
COMPARED = ("blobs", "defaults", "noise", "mnist")
PARTS = {
    "blobs": "rows around 50 centers, all libraries",
    "defaults": "the same with fastersom's default schedule, which ends wider",
    "noise": "rows without any structure, the worst case of a pruned search",
    "mnist": "60000 x 784, 64 x 64 and 128 x 128 nodes",
    "memmap": "5000000 x 32 in a file, ours alone: peak memory",
    "large": "maps for a GPU; on the CPU they take hours unless --quick makes them small",
}


# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """The measurements of one contestant on one problem."""

    rows: int  # of the timed fits
    epochs: int
    repetitions: int
    fits: list[float] = field(default_factory=list)  # seconds, including the work after training
    closings: list[float] = field(default_factory=list)  # seconds of the work after training
    errors: dict[str, float] = field(default_factory=dict)  # of the codebook after all epochs on all rows
    complete_seconds: float | None = None  # of the fit that gave the errors, if times are extrapolated

    def epoch_seconds(self, problem: Problem) -> list[float]:
        """Seconds of an epoch on all rows, for each repetition."""
        share = self.epochs * self.rows / problem.rows
        return [(fit - closing) / share for fit, closing in zip(self.fits, self.closings, strict=True)]

    def is_complete(self, problem: Problem) -> bool:
        return (self.rows, self.epochs) == (problem.rows, problem.epochs)


def measure_problem(problem: Problem, names: Sequence[str], data: Data, plan: Plan, threads: int | None) -> Row:
    """Lets contestants train in turns, each as often as ``SECONDS_EACH`` allows."""
    measured: dict[str, Measured] = {}
    notes: dict[str, str] = {}
    for name in names:
        if reason := exclusion(name, problem):
            notes[name] = reason
        else:
            measured[name] = first_fits(name, problem, data, plan.repetitions)
    work = 2.0 * problem.rows * problem.dim * problem.side**2  # of an epoch's search
    product = product_beside(work, data.x.device)
    ceilings: dict[str, list[float]] = {product.name: [], SEARCH: []}
    for turn in range(plan.repetitions):
        for name, done in measured.items():
            if turn < done.repetitions:
                train(name, problem, data, done)
        if turn < measured[OURS].repetitions:
            ceilings[product.name].append(seconds(product.run, 1, data.x.device))
            ceilings[SEARCH].append(seconds(lambda: ops.bmu(data.x, data.codebook), 1, data.x.device))
    for name, done in measured.items():
        if not done.is_complete(problem):
            notes[name] = f"extrapolated from {done.epochs} epoch(s) of {done.rows} rows"
        long = statistics.median(done.epoch_seconds(problem)) * problem.epochs
        if threads == plan.threads[-1] and not done.errors and long < LONGEST_FOR_ERRORS:
            complete = Measured(problem.rows, problem.epochs, 1)
            train(name, problem, data, complete)
            done.errors, done.complete_seconds = complete.errors, complete.fits[0]
    return Row(
        suite="training",
        case=problem.part,
        size=size_of(problem),
        device=data.x.device.type,
        threads=threads,
        samples={name: done.epoch_seconds(problem) for name, done in measured.items()} | ceilings,
        own=[OURS],
        work=work,
        ceilings={SEARCH: work, product.name: product.work},
        notes=notes,
        extra={
            "sigmas": problem.sigmas,
            "errors": {name: done.errors for name, done in measured.items() if done.errors},
            "seconds_taken_off": {name: statistics.median(done.closings) for name, done in measured.items()},
            "seconds_of_the_fit_to_the_end": {
                name: done.complete_seconds for name, done in measured.items() if done.complete_seconds
            },
        },
    )


def size_of(problem: Problem) -> dict[str, float | str]:
    sizes: dict[str, float | str] = {
        "N": problem.rows,
        "D": problem.dim,
        "side": problem.side,
        "epochs": problem.epochs,
    }
    return sizes | ({"topology": problem.topology} if problem.topology != "rectangular" else {})


def exclusion(name: str, problem: Problem) -> str | None:
    """Why a contestant cannot take part in a problem; None if it can."""
    kind = CONTESTANTS[name]
    if (needed := kind.quadratic_bytes * problem.side**4) > LARGEST_PAIRS:
        return f"holds all pairs of nodes: about {needed / 2**30:.0f} GiB"
    return None


def first_fits(name: str, problem: Problem, data: Data, repetitions: int) -> Measured:
    """Warms a contestant up by an epoch on a few rows, and plans its fits from that. Ours always trains to the end."""
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
    """Times one fit, and computes the errors of its codebook if it is the first complete one."""
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


def memory_of(row: Row, problem: Problem, plan: Plan, threads: int) -> dict[str, int]:
    """Peak bytes of the contestants that take less than ``LONGEST_FIT`` for two epochs."""
    return {
        name: in_child(training_memory, name, problem, plan.data_root, threads)
        for name in (row.ours, *row.others)
        if 2 * row.seconds(name) < LONGEST_FIT
    }


def measure_file(plan: Plan, threads: int | None) -> Row:
    problem = memmap_problem(plan.quick)
    measured = measure_memmap(problem, threads or torch.get_num_threads())
    return Row(
        suite="training",
        case="memmap",
        size=size_of(problem),
        threads=threads,
        samples={OURS: [measured["seconds_per_epoch"]]},
        work=2.0 * problem.rows * problem.dim * problem.side**2,
        extra=measured | {"peak_extra_bytes": {OURS: measured["peak_extra_bytes"]}},
    )


# --- Large maps ------------------------------------------------------------------------------------------------------


def measure_large(large: LargeMap, plan: Plan, threads: int | None) -> Row:
    """Times whole fits of ours and then of fastersom; memory is that of the device."""
    problem = large.problem
    data = make_data(problem, None, plan.device)
    fits: dict[str, _LargeFits] = {}
    notes = {}
    for name in (OURS, RIVAL):
        kind = CONTESTANTS[name]
        if not (name == OURS or plan.wants(name)):
            continue
        if problem.topology == "hexagonal" and not kind.hexagons:
            notes[name] = "has no hexagons"
        elif not (reason := absent(kind)):
            try:
                fits[name] = fit_large(kind, problem, data, min(3, plan.repetitions))
            except Exception as error:
                if name == OURS:
                    raise
                notes[name] = f"failed: {' '.join(str(error).split())[:200]}"
        else:
            notes[name] = reason
    return Row(
        suite="training",
        case="large",
        size=size_of(problem),
        device=plan.device.type,
        threads=threads,
        samples={name: done.seconds for name, done in fits.items()},
        work=2.0 * problem.rows * problem.dim * problem.side**2 * problem.epochs,
        notes=notes,
        extra={
            "sigmas": problem.sigmas,
            "published_seconds": large.published,
            "goal_seconds": large.goal,
            "fit_seconds": {name: statistics.median(done.fits) for name, done in fits.items()},
            "peak_extra_bytes": {name: done.peak for name, done in fits.items()},
            "data_bytes": data.x.nbytes,
            "errors": {name: done.errors for name, done in fits.items()},
        },
    )


@dataclass
class _LargeFits:
    fits: list[float]  # seconds
    closings: list[float]
    peak: int  # bytes beyond the data
    errors: dict[str, float]

    @property
    def seconds(self) -> list[float]:
        """Seconds of training alone."""
        return [fit - closing for fit, closing in zip(self.fits, self.closings, strict=True)]


def fit_large(kind: type[Contestant], problem: Problem, data: Data, repetitions: int) -> _LargeFits:
    device = data.x.device

    def new(epochs: int) -> Contestant:
        return kind(data.x, data.codebook, problem.grid, problem.sigmas[:epochs])

    first = new(1)  # a warm-up, which compiles
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

    return _LargeFits(fits, closings, peak_memory(run, device), errors(problem, data, last))


# --- Problems and parts ----------------------------------------------------------------------------------------------


def own_problem(plan: Plan) -> Problem:
    """The problem of the custom shape.

    Raises:
        ValueError: the sizes do not fit into memory, or are too small for a plane.
    """
    shape = {"N": 20_000, "D": 64, "side": 32, "epochs": 10} | dict(plan.shape)
    if shape["D"] < 2 or shape["side"] < 2 or shape["N"] < 2:
        raise ValueError("-N, --side and -D must be at least 2, since a map is laid along two directions of rows")
    problem = Problem("own", shape["N"], shape["D"], shape["side"], SIGMA_FINAL, shape["epochs"])
    plan.check_memory(4.0 * (3 * problem.rows * problem.dim + 8 * problem.side**2 * problem.dim))
    return problem


def installed(names: Sequence[str], plan: Plan) -> list[str]:
    """The contestants that take part: ours, and those that are requested and work here."""
    return [
        name
        for name in names
        if name == OURS or (plan.wants(name, CONTESTANTS[name].package) and not absent(CONTESTANTS[name]))
    ]


def measure(plan: Plan) -> Iterator[Row]:
    if plan.device.type == "cuda" and not plan.shape and set(plan.parts) != {"large"}:
        raise ValueError("--device cuda has only the part large: leave --only out, or measure the others on the CPU")
    if plan.shape:
        yield from measure_all([(own_problem(plan), list(CONTESTANTS))], plan, with_memory=False)
        return
    for part in plan.parts:
        if part == "memmap":
            for threads in plan.threads[-1:]:
                yield measure_file(plan, threads)
        elif part == "large":
            for large in large_maps(plan.quick):
                for threads in plan.rounds():
                    yield measure_large(large, plan, threads)
        else:
            with_memory = part in ("blobs", "mnist") and not plan.quick
            yield from measure_all(problems(part, plan.quick), plan, with_memory=with_memory)


def measure_all(
    todo: Iterator[tuple[Problem, list[str]]] | Sequence[tuple[Problem, list[str]]], plan: Plan, *, with_memory: bool
) -> Iterator[Row]:
    for problem, names in todo:
        data = make_data(problem, plan.data_root, plan.device)
        for threads in plan.rounds():
            row = measure_problem(problem, installed(names, plan), data, plan, threads)
            if with_memory and threads == plan.threads[-1]:
                peaks = memory_of(row, problem, plan, threads or torch.get_num_threads())
                row = dataclasses.replace(row, extra={**row.extra, "peak_extra_bytes": peaks})
            yield row


# --- Claims ----------------------------------------------------------------------------------------------------------


def claims(rows: Sequence[Row]) -> list[Claim]:
    return [claim for row in rows for claim in claims_of(row)]


def claims_of(row: Row) -> Iterator[Claim]:
    """The claims about a row, whether it could be measured or not."""
    side = row.size["side"]
    factor = {("blobs", 32): 4, ("mnist", 64): 4, ("mnist", 128): 5}.get((row.case, int(side)))
    if factor is not None:
        ratio = row.speedup(RIVAL) if RIVAL in row.samples else None
        yield Claim(
            f"{row.case}, {side} x {side}: at least {factor} times as fast an epoch as {RIVAL}",
            row.threads,
            None if ratio is None else ratio >= factor,
            "not measured" if ratio is None else f"{ratio:.2f} times",
        )
        errors = [row.extra["errors"].get(name, {}).get("quantization_error") for name in (OURS, RIVAL)]
        if None not in errors:
            # Rounding decides ties, after which maps diverge: errors that agree to .1 % count as equal.
            text = f"{row.case}, {side} x {side}: quantization error at most that of {RIVAL}"
            yield Claim(text, row.threads, errors[0] <= 1.001 * errors[1], f"{errors[0]:.5g} and {errors[1]:.5g}")
    if row.case == "memmap":
        peak = row.extra["peak_extra_bytes"][OURS]
        text = f"{row.size['N']} x {row.size['D']} from a file, {side} x {side}: below 1 GiB"
        yield Claim(text, row.threads, peak < 1 << 30, f"{peak / 2**20:.0f} MiB")
    if row.case == "large" and (goal := row.extra["goal_seconds"]):
        taken = row.extra["fit_seconds"][OURS]
        yield Claim(f"{row.label}: below {goal:g} s", row.threads, taken < goal, f"{taken:.2f} s")


def default_parts(device: torch.device, quick: bool, has_images: bool) -> Sequence[str]:
    if device.type == "cuda":
        return ["large"]
    return [
        part
        for part in PARTS
        if part != "large" and (part != "mnist" or has_images) and not (quick and part == "memmap")
    ]


SUITE = Suite(
    name="training",
    summary="the training of maps against fastersom, IntraSOM, xpysom, torchsom, somoclu and minisom",
    parts=PARTS,
    default_parts=default_parts,
    options=(ROWS, DIM, SIDE, Option("--epochs", "epochs of a training")),
    measure=measure,
    requires=("sklearn", "tqdm"),
    contestants=lambda device: {name: kind.package for name, kind in CONTESTANTS.items()},
    peers=lambda device: versions(),
    claims=claims,
    remarks={name: kind.differs for name, kind in CONTESTANTS.items() if kind.differs},
)
