"""Training steps (forward, backward, optimizer) of the SOM head, and of a whole SOM-VAE, against plain torch.

The head is the part of a SOM-VAE between encoder and decoders: best matching units, commitment and SOM loss, transition
loss and smoothness. Measured alone, it takes encodings that require a gradient. All contestants compute the same losses
in float32:

- ``somvae_ext``: what a SOMVAE uses at this size. Below 1024 nodes its transition table has dense gradients and Adam;
  from 1024 nodes on it has row-sparse gradients and RowAdam. All other parameters use torch's fused Adam.
- ``somvae_ext, graph``: the same step as the replay of one CUDA graph, on CUDA.
- ``rows, SparseAdam``: the same with torch's SparseAdam for the table. ``local``: transitions within a radius of 8
  nodes and an evenly spread remainder, ``TransitionModel(kind="local")``.
- ``torch, Adam`` and ``torch, fused Adam``: vectorized torch. One addmm computes all distances, for both the search and
  the smoothness; only the required rows of the table are gathered. Gradients and Adam are dense; Adam is fused or not.
- ``torch.compile``: the same, compiled in the default mode, with fused Adam. Compilation is not timed.
- ``Python loops``: PyTorch that is not vectorized: all differences of rows and codes, a Python loop over the
  frames for every gather, a softmax of the whole table in each of the two losses. A step that would take long is
  extrapolated from steps of 2 and 16 frames.

Batches are series of 32 frames. Encodings lie near codes drawn uniformly from the whole map, anew in every batch, so a
batch has as many different predecessors as possible: our worst case. Learning rates are so small that updates
do not change the winners. Steps cycle through the batches; ``somvae_ext``, ``rows, SparseAdam`` and ``local`` have seen
all of them before the clock starts. Before that, the losses and gradients of all contestants are compared. Contestants
whose tables do not fit into memory together are measured in groups, each beside ours and in a row of its own.

The part ``nodes`` runs with each number of threads, the others only with the last. Memory is the peak of two steps
beyond parameters, moments, data and code, in a separate process that has already taken a step on a small map and
written to every page of the parameters and moments.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.ceilings import product_beside
from somvae_ext.bench.claims import Claim
from somvae_ext.bench.head_contestants import DIM, FRAMES, Data, Problem, make_data, previous
from somvae_ext.bench.head_memory import step_memory, train_on_digits
from somvae_ext.bench.head_steps import (
    ADAM,
    COMPILED,
    FUSED,
    GRAPH,
    LOCAL,
    LOOPS,
    SPARSE_ADAM,
    VECTORIZED,
    bytes_needed,
    compare_gradients,
    kind,
    make_step,
)
from somvae_ext.bench.memory import available, in_child
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import BATCH, SIDE, Plan, Suite
from somvae_ext.bench.timing import interleaved, seconds

LONGEST_STEP = 3.0  # seconds; loops that take longer are extrapolated
FEW_FRAMES = (2, 16)  # numbers of frames of the steps that loops are extrapolated from
GRAPH_BATCH = 2  # index of the first replayed batch: the first step took one, the capture another
FROM_SIDE, FEWEST = 128, 3  # from this side on, where dense steps take seconds, at most so many repetitions
OUR_VARIANTS = (OURS, GRAPH, SPARSE_ADAM, LOCAL)
EVERYONE = [ADAM, FUSED, COMPILED, LOOPS]
PARTS = {
    "nodes": "maps of 8 x 8 to 256 x 256 nodes",
    "batch": "32 to 4096 frames",
    "model": "the head within a whole SOM-VAE",
    "memory": "peak memory of a step",
    "digits": "a SOM-VAE of 256 x 256 nodes trained on series of MNIST",
}
STEPS_ON_DIGITS = 300


# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class _Setup:
    """The contestants that can take part in a problem: their steps, and notes on them."""

    steps: dict[str, Callable[[], Tensor]] = field(default_factory=dict)
    extrapolated: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def groups(
    problem: Problem, contestants: Sequence[str], device: torch.device
) -> tuple[list[list[str]], dict[str, str]]:
    """Groups of contestants that fit into memory together and with ours, and why others do not fit at all."""
    left = available(device) - bytes_needed(OURS, problem)
    made: list[list[str]] = [[]]
    too_large: dict[str, str] = {}
    used = 0
    for name in contestants:
        needed = bytes_needed(name, problem)
        if needed > left:
            too_large[name] = f"does not fit: needs about {needed / 2**30:.0f} GiB"
            continue
        if used + needed > left * 0.8 and made[-1]:
            made.append([])
            used = 0
        made[-1].append(name)
        used += needed
    return made, too_large


def prepare(problem: Problem, names: Sequence[str], data: Data, device: torch.device) -> _Setup:
    """Takes the first steps of ours and of these contestants, and compares their losses."""
    ready = _Setup()
    ours = make_step(OURS, problem, data)
    loss = float(ours())
    for _ in data.batches:
        ours()
    ready.steps[OURS] = ours
    for name in names:
        if name == LOOPS and (time := extrapolated_loops(problem, data, device)) > LONGEST_STEP:
            ready.extrapolated[name] = time
            ready.notes[name] = f"extrapolated from steps of {FEW_FRAMES[0]} and {FEW_FRAMES[1]} frames"
            continue
        try:
            made = make_step(name, problem, data)
            first = float(made())
            step: Callable[[], Tensor] = made.as_graph() if name == GRAPH else made
        except RuntimeError as error:  # such as a missing compiler
            ready.notes[name] = f"failed: {str(error).splitlines()[0]}"
            continue
        if name != LOCAL and not math.isclose(first, loss, rel_tol=1e-4):
            ready.notes[name] = f"has another loss than ours: {first} and {loss}"
            continue
        if name in (SPARSE_ADAM, LOCAL):  # whose moments have no rows of these batches yet
            for _ in data.batches:
                step()
        if name == GRAPH and not math.isclose(float(step()), eager_loss(problem, data, GRAPH_BATCH), rel_tol=1e-3):
            ready.notes[name] = "its replay has another loss than an eager step"
            continue
        ready.steps[name] = step
    return ready


def measure_problem(
    problem: Problem, part: str, contestants: Sequence[str], plan: Plan, threads: int | None
) -> Iterator[Row]:
    """Yields a row, or several if the contestants do not fit into memory together."""
    device = plan.device
    data = make_data(problem, device)
    predecessors = distinct_predecessors(data)
    product = product_beside(0, device)
    turns = min(FEWEST, plan.repetitions) if problem.side >= FROM_SIDE else plan.repetitions
    side_by_side, too_large = groups(problem, contestants, device)
    for number, names in enumerate(side_by_side):
        ready = prepare(problem, names, data, device)
        samples = interleaved({**ready.steps, product.name: product.run}, device, turns)
        extrapolated = {name: [time] for name, time in ready.extrapolated.items()}
        yield Row(
            suite="head",
            case=part + (f", beside {', '.join(names)}" if number else ""),
            size={"side": problem.side, "B": problem.batch, "D": DIM},
            device=device.type,
            threads=threads,
            samples=samples | extrapolated,
            own=[name for name in OUR_VARIANTS if name in samples],
            ceilings={product.name: product.work},
            notes=ready.notes | ({} if number else too_large),
            extra={"kind": kind(problem), "predecessors": predecessors},
        )


def eager_loss(problem: Problem, data: Data, batch: int) -> float:
    """Our loss on the batch of this index, after a step on each batch before it."""
    step = make_step(OURS, problem, data)
    for _ in range(batch):
        step()
    return float(step())


def distinct_predecessors(data: Data) -> float:
    """Mean number of different predecessors in a batch: the rows of the table that a step needs."""
    counts = []
    with torch.no_grad():
        for batch in data.batches:
            rows = batch.flatten(0, 1)
            winners = ops.bmu(data.networks[0](rows) if data.networks else rows, data.codebook).index
            counts.append(len(previous(winners, batch).unique()))
    return statistics.mean(counts)


def extrapolated_loops(problem: Problem, data: Data, device: torch.device) -> float:
    """Seconds of a step in Python loops, from steps of a few frames: a loop's time is linear in frames."""
    times = []
    for frames in FEW_FRAMES:
        part = dataclasses.replace(data, batches=[batch[:1, :frames] for batch in data.batches])
        step = make_step(LOOPS, problem, part)
        step()
        times.append(min(seconds(step, 1, device) for _ in range(1 if problem.side >= FROM_SIDE else 3)))
    (few, more), (first, second) = FEW_FRAMES, times
    return first + max(0.0, second - first) / (more - few) * (problem.batch - few)


# --- Problems and measurements ---------------------------------------------------------------------------------------


def part_problems(part: str, quick: bool, device: torch.device) -> Iterator[tuple[Problem, list[str]]]:
    """Yields problems and the contestants to measure beside ours; fewer maps on a GPU, to keep the run short."""
    if quick:
        sizes = {"nodes": [("head", 8, 32), ("head", 32, 32)], "batch": [("head", 8, 64)], "model": [("model", 8, 32)]}
        for size in sizes[part]:
            yield Problem(*size), [ADAM, FUSED, LOOPS]
    elif part == "nodes":
        for side in (8, 16, 32, 64, 128, 256) if device.type == "cpu" else (8, 64, 128):
            yield Problem("head", side, 256), EVERYONE
    elif part == "batch":
        for side, batch in ((8, 32), (8, 4096), (64, 32), (64, 1024), (64, 4096), (128, 32), (128, 4096)):
            yield Problem("head", side, batch), [FUSED] + ([LOOPS] if side < 128 else [])
    else:
        for side in (8, 64, 128, 256):
            yield Problem("model", side, 256), EVERYONE if side < 128 else [FUSED]


def variants(problem: Problem, device: torch.device) -> list[str]:
    """Our other contestants that are timed at this size."""
    return ([GRAPH] if device.type == "cuda" else []) + rows_variants(problem)


def rows_variants(problem: Problem) -> list[str]:
    """Our other ways to train transitions where a table is trained by rows."""
    return [SPARSE_ADAM, LOCAL] if kind(problem) == "rows" else []


def measure_memory(plan: Plan, threads: int | None) -> Iterator[Row]:
    """Yields the peak memory of the head's steps, each contestant in a separate process."""
    for side in (16, 32) if plan.quick else (64, 128, 256):
        problem = Problem("head", side, 32 if plan.quick else 256)
        peers = [name for name in ([ADAM] if plan.quick else [ADAM, FUSED, COMPILED]) if plan.wants(name)]
        peaks, notes = {}, {}
        for name in [OURS, *rows_variants(problem), *peers]:
            needed = bytes_needed(name, problem)
            if needed > available(plan.device):
                notes[name] = f"does not fit: needs about {needed / 2**30:.0f} GiB"
            else:
                peaks[name] = in_child(step_memory, name, problem, plan.device, threads)
        yield Row(
            suite="head",
            case="memory",
            size={"side": side, "B": problem.batch, "D": DIM},
            device=plan.device.type,
            threads=threads,
            notes=notes,
            extra={"peak_extra_bytes": peaks},
        )


def measure_digits(plan: Plan, threads: int | None) -> Row:
    """Trains a SOM-VAE of 256 x 256 nodes on series of MNIST, in a separate process.

    Raises:
        ValueError: there is no data root.
    """
    if plan.data_root is None:
        raise ValueError("--only digits needs --data-root, the folder with MNIST/raw")
    steps = 20 if plan.quick else STEPS_ON_DIGITS
    measured: dict[str, Any] = in_child(train_on_digits, plan.data_root, steps, threads or torch.get_num_threads())
    return Row(
        suite="head",
        case="digits",
        size={"side": 256, "B": measured["batch"]},
        threads=threads,
        samples={OURS: [measured["seconds_per_step"]]},
        extra=measured,
    )


def own_problem(plan: Plan) -> Problem:
    problem = Problem("head", plan.shape.get("side", 32), plan.shape.get("batch", 256))
    data = 4.0 * 16 * problem.batch * DIM + 4.0 * problem.grid.num_nodes * DIM
    plan.check_memory(bytes_needed(OURS, problem) + data)
    return problem


def measure(plan: Plan) -> Iterator[Row]:
    own = own_problem(plan) if plan.shape else None
    for problem_part in ("head", "model"):
        compare_gradients(problem_part, plan.device)
    for threads in plan.rounds():
        if own:
            names = [*variants(own, plan.device), *(name for name in EVERYONE if plan.wants(name))]
            yield from measure_problem(own, "own", names, plan, threads)
            continue
        for part in plan.parts:
            if part != "nodes" and threads != plan.threads[-1]:
                continue
            if part == "memory":
                yield from measure_memory(plan, threads)
            elif part == "digits":
                yield measure_digits(plan, threads)
            else:
                for problem, others in part_problems(part, plan.quick, plan.device):
                    names = [*variants(problem, plan.device), *(name for name in others if plan.wants(name))]
                    yield from measure_problem(problem, part, names, plan, threads)


# --- Claims ----------------------------------------------------------------------------------------------------------


def claims(rows: Sequence[Row]) -> list[Claim]:
    made = []
    for threads in sorted({row.threads or 0 for row in rows}):
        heads = [row for row in rows if (row.threads or 0) == threads and row.case.startswith("nodes")]
        for side, factor in ((8, 1), (64, 10), (128, 30)):
            for name in VECTORIZED:
                speedups = [row.speedup(name) for row in heads if row.size["side"] == side and name in row.samples]
                least = f"at least {factor} times" if factor > 1 else "at least"
                text = f"head {side} x {side}, 256 frames: {least} as fast as {name}"
                held = speedups[0] >= factor if speedups else None
                figure = f"{speedups[0]:.2f} times" if speedups else "not measured"
                made.append(Claim(text, threads or None, held, figure))
        ours = {row.size["side"]: row.seconds() for row in heads}
        if 64 in ours and 128 in ours:
            ratio = ours[128] / ours[64]
            text = "head 64 x 64 to 128 x 128: at most 5 times the time"
            made.append(Claim(text, threads or None, ratio <= 5, f"{ratio:.2f} times"))
    for row in rows:
        if row.case == "memory" and row.size["side"] == 128:
            peak = row.extra["peak_extra_bytes"].get(OURS)
            text = "head 128 x 128, 256 frames: below 100 MiB beyond table and moments"
            if peak is not None:
                made.append(Claim(text, row.threads, peak < 100 << 20, f"{peak / 2**20:.0f} MiB"))
    return made


def default_parts(device: torch.device, quick: bool, has_images: bool) -> Sequence[str]:
    if quick:
        return ["nodes", "batch", "model"]
    return [part for part in PARTS if part != "digits" or has_images]


SUITE = Suite(
    name="head",
    summary=f"training steps of the SOM head, on series of {FRAMES} frames, against plain torch",
    parts=PARTS,
    default_parts=default_parts,
    options=(SIDE, BATCH),
    measure=measure,
    contestants=lambda device: dict.fromkeys(EVERYONE, "torch"),
    claims=claims,
)
