"""Times a training step (forward, backward, optimizer) of the SOM head, and of a whole SOM-VAE, against plain torch.

    python benchmarks/som_head.py --json results.json --data-root DIR    on the CPU, about 10 minutes
    python benchmarks/som_head.py --threads 2 --sweeps nodes             one sweep
    python benchmarks/som_head.py --device cuda --json results.json
    python benchmarks/som_head.py --device cuda --sweeps nodes --sides 8 64 128 --peers fused
    python benchmarks/som_head.py --quick                                small maps, few repetitions

The head is what SOM-VAE has between encoder and decoders: best matching units, commitment and SOM loss, transition loss
and smoothness. Alone, it gets encodings that want a gradient. The contestants, all in float32 and with the same losses:

- ``somvae_ext``: what a SOMVAE is at this size. Its transition table is dense with Adam below 1024 nodes; from there on
  its gradients are rows, with RowAdam. All else has torch's fused Adam.
- ``somvae_ext, graph``: the same step as the replay of one CUDA graph, with ``--device cuda``.
- ``rows, SparseAdam``: the same with torch's optimizer for such rows. ``local``: transitions within a radius of 8 nodes
  and an even remainder, ``TransitionModel(kind="local")``.
- ``torch, Adam`` and ``torch, fused Adam``: vectorised torch. One addmm gives all distances, which serve the search and
  the smoothness; only the rows of the table that are needed are gathered. Gradients and Adam are dense; fused or not.
- ``torch.compile``: the same, compiled in the default mode, with fused Adam. Compiling is not counted.
- ``Python loops``: PyTorch that is not vectorised: all differences of rows and codes, a Python loop over the
  frames for every gather, a softmax of the whole table in each of the two losses. A step that would take long is
  worked out from steps of 2 and 4 frames and marked ``~``.

Batches are series of 32 frames. Encodings lie near codes drawn at random and evenly from the whole map, anew in every
batch, so that the batch's predecessors are as many different nodes as they can be: our worst case. (``rows``: how many
there were.) Learning rates are small enough for winners to stay where the data put them. Batches take turns, and all of
them come once before the clock starts. Before that, all contestants' losses and gradients are compared. Each contestant
takes turns with somvae_ext alone, since large tables do not fit into memory side by side; medians are compared.

The sweep over sizes of the map (``nodes``) is repeated for each number of threads; those over batches (``batch``), of
the whole model (``model``) and of memory (``memory``) run with the last number alone.

Memory is the peak of two steps beyond parameters, moments, data and what code needs: in a process of its own, which
has taken a step on a small map and every page of the parameters and moments before.

With ``--data-root`` (the folder that holds MNIST/raw) it also trains a SOM-VAE with 256 x 256 nodes and local
transitions on series of real digits.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.claims import Claim, conclude
from somvae_ext.bench.head_contestants import (
    ADAM,
    COMPILED,
    DIM,
    FRAMES,
    FUSED,
    GRAPH,
    LOCAL,
    LOOPS,
    OURS,
    RADIUS,
    SPARSE_ADAM,
    VECTORISED,
    Data,
    Problem,
    bytes_needed,
    compare_gradients,
    kind,
    make_data,
    make_step,
    our_config,
    previous,
)
from somvae_ext.bench.memory import available, peak_memory, resident
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import checked_device, cpu_threads, interleaved, seconds, threads_text
from somvae_ext.data import InterpolatedSeries, mnist
from somvae_ext.machine import describe
from somvae_ext.models import SOMVAE
from somvae_ext.optim import RowAdam

SMALL_MAPS = {"dense": 8, "rows": 32, "local": 32}  # the side of a small map for each kind
LONGEST_STEP = 3.0  # seconds; loops that take longer are extrapolated
GRAPH_BATCH = 2  # the number of the first batch that is replayed: one was for the first step, one for the capture
FROM_SIDE, FEWEST = 128, 3  # on maps from this side on, where dense steps take seconds, so many repetitions

# --- Measuring -------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """What was measured of one problem; a line of the table and an entry of the JSON file."""

    problem: Problem
    threads: int | None
    predecessors: float  # different ones in a batch, which are the rows of the table that a step needs
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)
    speedup: dict[str, float] = field(default_factory=dict)  # of ours over each, of the same turns
    extrapolated: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "part": problem.part,
            "size": {
                "grid": f"{problem.side}x{problem.side}",
                "K": problem.grid.num_nodes,
                "B": problem.batch,
                "D": DIM,
            },
            "somvae_ext": kind(problem),
            "threads": self.threads,
            "predecessors": self.predecessors,
            "seconds": self.seconds,
            "fastest_and_slowest": self.extremes,
            "speedup": self.speedup,
            "extrapolated": self.extrapolated,
            "absent": self.absent,
        }


def measure(
    problem: Problem, contestants: Sequence[str], device: torch.device, repetitions: int, threads: int | None
) -> Row:
    """Our time, and that of each other contestant in turns with ours."""
    data = make_data(problem, device)
    row = Row(problem, threads, distinct_predecessors(data))
    ours = make_step(OURS, problem, data)
    loss = float(ours())
    for _ in data.batches:
        ours()
    own: list[float] = []
    for name in contestants:
        if name == LOOPS and (time := extrapolated_loops(problem, data, device)) > LONGEST_STEP:
            row.seconds[name], row.extrapolated = time, [name]
            continue
        if (needed := bytes_needed(name, problem)) > available(device):
            row.absent[name] = f"does not fit: needs about {needed / 2**30:.0f} GiB"
            continue
        try:
            made = make_step(name, problem, data)
            first = float(made())
            step: Callable[[], Tensor] = made.as_graph() if name == GRAPH else made
        except RuntimeError as error:  # no compiler, say
            row.absent[name] = f"failed: {str(error).splitlines()[0]}"
            continue
        if name != LOCAL and not math.isclose(first, loss, rel_tol=1e-4):
            row.absent[name] = f"has another loss than ours: {first} and {loss}"
            continue
        if name in (SPARSE_ADAM, LOCAL):  # all rows are new to it
            for _ in data.batches:
                step()
        if name == GRAPH and not math.isclose(float(step()), eager_loss(problem, data, GRAPH_BATCH), rel_tol=1e-3):
            row.absent[name] = "its replay has another loss than an eager step"
            continue
        turns = min(FEWEST, repetitions) if problem.side >= FROM_SIDE else repetitions
        times = interleaved({OURS: ours, name: step}, device, turns)
        own += times[OURS]
        row.seconds[name] = statistics.median(times[name])
        row.extremes[name] = (min(times[name]), max(times[name]))
        row.speedup[name] = row.seconds[name] / statistics.median(times[OURS])
        del step
    own = own or interleaved({OURS: ours}, device, repetitions)[OURS]
    row.seconds[OURS], row.extremes[OURS] = statistics.median(own), (min(own), max(own))
    for name in row.extrapolated:
        row.speedup[name] = row.seconds[name] / row.seconds[OURS]
    return row


def eager_loss(problem: Problem, data: Data, batch: int) -> float:
    """Our loss on a batch, in the step that is its turn."""
    step = make_step(OURS, problem, data)
    for _ in range(batch):
        step()
    return float(step())


def distinct_predecessors(data: Data) -> float:
    """How many different nodes the frames of a batch come from, on average."""
    counts = []
    with torch.no_grad():
        for batch in data.batches:
            rows = batch.flatten(0, 1)
            winners = ops.bmu(data.networks[0](rows) if data.networks else rows, data.codebook).index
            counts.append(len(previous(winners, batch).unique()))
    return statistics.mean(counts)


def extrapolated_loops(problem: Problem, data: Data, device: torch.device) -> float:
    """Seconds that the step in Python loops takes, from steps of 2 and 4 frames: a loop's time is linear in frames."""
    times = []
    for frames in (2, 4):
        if bytes_needed(LOOPS, dataclasses.replace(problem, batch=frames)) > available(device):
            return 0.0
        part = dataclasses.replace(data, batches=[batch[:1, :frames] for batch in data.batches])
        step = make_step(LOOPS, problem, part)
        step()
        times.append(min(seconds(step, 1, device) for _ in range(1 if problem.side >= FROM_SIDE else 3)))
    return times[0] + (times[1] - times[0]) / 2 * (problem.batch - 2)


def step_memory(name: str, problem: Problem, device: torch.device, threads: int | None) -> int:
    """Bytes at the peak of two steps beyond parameters, moments and data. For a process of its own."""
    if threads:
        torch.set_num_threads(threads)
    small = dataclasses.replace(problem, side=SMALL_MAPS[kind(problem)])
    make_step(name, small, make_data(small, device))()  # brings in libraries and threads
    step = make_step(name, problem, make_data(problem, device))
    step.allocate()
    if name == COMPILED:
        step()
        step.release()

    def two_steps() -> Sequence[Tensor]:
        step()
        step()
        step.release()
        return ()

    return peak_memory(two_steps, device)


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function gives in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def train_on_digits(root: Path, steps: int, threads: int) -> dict[str, Any]:
    """Trains a SOM-VAE of 256 x 256 nodes with local transitions on series of MNIST. For a process of its own."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    problem = Problem("model", 256, 8 * FRAMES)
    series = problem.batch // FRAMES
    data = InterpolatedSeries(mnist(root).train, num_series=(steps + 2) * series)
    held_out = torch.stack([data[row]["x"].flatten(1) for row in range(2 * series)])
    model = SOMVAE(our_config(problem, local=True))
    with torch.no_grad():
        model.quantizer.codebook.copy_(plane(model.encode(held_out).flatten(0, 1), problem.side))
    groups = [
        {name: value for name, value in group.items() if name != "rows"} for group in model.parameter_groups(1e-3)
    ]
    adam, rows = torch.optim.Adam(groups[:1], fused=True), RowAdam(groups[1:])

    def losses() -> dict[str, float]:
        with torch.no_grad():
            return {term: float(loss) for term, loss in model.loss(model(held_out), held_out)._asdict().items()}

    before, used, times = losses(), len(model.assign(held_out).unique()), []
    for step in range(steps):
        first = (2 + step) * series
        x = torch.stack([data[row]["x"].flatten(1) for row in range(first, first + series)])
        start = time.perf_counter()
        adam.zero_grad()
        rows.zero_grad()
        model.loss(model(x), x).total.backward()
        adam.step()
        rows.step()
        times.append(time.perf_counter() - start)
    parameters = sum(parameter.nbytes for parameter in model.parameters())
    return {
        "steps": steps,
        "batch": problem.batch,
        "threads": threads,
        "seconds_per_step": statistics.median(times),
        "parameter_bytes": parameters,
        "parameter_and_moment_bytes": 3 * parameters,
        "dense_table_and_moment_bytes": 3 * problem.table_bytes,
        "peak_resident_bytes": resident("VmHWM"),
        "losses_before": before,
        "losses_after": losses(),
        "nodes_used": [used, len(model.assign(held_out).unique())],
    }


def plane(z: Tensor, side: int) -> Tensor:
    """A map laid along the two first principal directions of rows, ``[side * side, D]``."""
    mean = z.mean(dim=0)
    _, spread, directions = torch.linalg.svd(z - mean, full_matrices=False)
    steps = torch.linspace(-2, 2, side)
    deviations = spread[:2, None] / math.sqrt(len(z)) * directions[:2]
    return (mean + steps[:, None, None] * deviations[0] + steps[None, :, None] * deviations[1]).flatten(0, 1)


# --- What is measured ------------------------------------------------------------------------------------------------


def sweep_problems(sweep: str, quick: bool, sides: Sequence[int] | None) -> Iterator[tuple[Problem, list[str]]]:
    """Problems and those who are set beside us; ``sides`` are those of the maps in the sweep ``nodes``, if given."""
    loops, everyone = [LOOPS], [ADAM, FUSED, COMPILED, LOOPS]
    if quick:
        peers = [ADAM, FUSED, LOOPS]
        sizes = {"nodes": [("head", side, 32) for side in sides or (8, 16, 32)], "batch": [("head", 8, 64)]}
        for size in sizes.get(sweep, [("model", 8, 32)]):
            yield Problem(*size), peers
    elif sweep == "nodes":
        for side in sides or (8, 16, 32, 64, 128, 256):
            yield Problem("head", side, 256), everyone
    elif sweep == "batch":
        for side, batch in ((8, 32), (8, 4096), (64, 32), (64, 1024), (64, 4096), (128, 32), (128, 4096)):
            yield Problem("head", side, batch), [FUSED] + (loops if side < 128 else [])
    else:
        for side in (8, 64, 128, 256):
            yield Problem("model", side, 256), everyone if side < 128 else [FUSED]


SWEEPS = ["nodes", "batch", "model", "memory"]
PEERS = {"adam": ADAM, "fused": FUSED, "compile": COMPILED, "loops": LOOPS}


def variants(problem: Problem, device: torch.device) -> list[str]:
    """What else of ours is timed at this size."""
    return ([GRAPH] if device.type == "cuda" else []) + rows_variants(problem)


def rows_variants(problem: Problem) -> list[str]:
    """Other ways to train a table by rows."""
    return [SPARSE_ADAM, LOCAL] if kind(problem) == "rows" else []


def growth(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """How times grow where a map gets four times as many nodes."""
    found = []
    for small, large in itertools.pairwise(
        row for row in rows if row.problem.part == "head" and row.problem.batch == 256
    ):
        if large.problem.side == 2 * small.problem.side:
            ratio = {name: large.seconds[name] / small.seconds[name] for name in large.seconds if name in small.seconds}
            if kind(large.problem) == "local" and LOCAL in small.seconds:
                ratio[OURS] = large.seconds[OURS] / small.seconds[LOCAL]
            found.append(
                {"from": small.problem.side, "to": large.problem.side, "threads": large.threads, "ratio": ratio}
            )
    return found


def claims(rows: Sequence[Row], grown: Sequence[dict[str, Any]], threads: int | None) -> list[Claim]:
    made = []
    heads = {row.problem.side: row for row in rows if row.problem.part == "head" and row.problem.batch == 256}
    for side, factor in ((8, 1), (64, 10), (128, 30)):
        for name in VECTORISED:
            ratio = heads[side].speedup.get(name) if side in heads else None
            least = f"at least {factor} times" if factor > 1 else "at least"
            text = f"head {side} x {side}, 256 frames: {least} as fast as {name}"
            made.append(
                Claim(
                    text, threads, ratio >= factor if ratio else None, f"{ratio:.2f} times" if ratio else "not measured"
                )
            )
    for entry in grown:
        if (entry["from"], entry["to"]) == (64, 128):
            ratio = entry["ratio"][OURS]
            made.append(
                Claim("head 64 x 64 to 128 x 128: at most 5 times the time", threads, ratio <= 5, f"{ratio:.2f} times")
            )
    return made


def memory_claim(entry: dict[str, Any]) -> Claim:
    text, peak = "head 128 x 128, 256 frames: below 100 MiB beyond table and moments", entry["peak_extra_bytes"]
    return Claim(text, entry["threads"], peak < 100 << 20, f"{peak / 2**20:.0f} MiB")


def measure_memory(device: torch.device, threads: int | None, quick: bool) -> Iterator[dict[str, Any]]:
    """Peaks of the head's steps, each contestant in a process of its own."""
    for side in (16, 32) if quick else (64, 128, 256):
        problem = Problem("head", side, 32 if quick else 256)
        peers = [ADAM] if quick else [ADAM, FUSED, COMPILED]
        for name in [OURS, *rows_variants(problem), *peers]:
            entry: dict[str, Any] = {"contestant": name, "side": side, "batch": problem.batch, "threads": threads}
            needed = bytes_needed(name, problem)
            if needed > available(device):
                entry |= {"peak_extra_bytes": None, "absent": f"does not fit: needs about {needed / 2**30:.0f} GiB"}
            else:
                entry["peak_extra_bytes"] = in_child(step_memory, name, problem, device, threads)
            yield entry


# --- Output ----------------------------------------------------------------------------------------------------------


def heading(peers: Sequence[str]) -> str:
    columns = f"{'part':6}{'map':>10}{'B':>6}{'rows':>7}  {'ours':6}{'ms':>10}"
    return columns + "".join(f"{peer:>{len(peer) + 3}}" for peer in peers)


def line(row: Row, peers: Sequence[str]) -> str:
    """Ours in absolute figures, then how many times longer each other one takes, and who is missing for what reason."""
    p = row.problem
    text = f"{p.part:6}{f'{p.side} x {p.side}':>10}{p.batch:6}{row.predecessors:7.0f}  {kind(p):6}"
    text += f"{row.seconds[OURS] * 1e3:10.3f}"
    for peer in peers:
        mark = "~" if peer in row.extrapolated else ""
        figure = f"{mark}{row.speedup[peer]:.2f}x" if peer in row.speedup else "none" if peer in row.absent else "-"
        text += f"{figure:>{len(peer) + 3}}"
    return text + "".join(f"\n{'':23}{peer}: {reason}" for peer, reason in row.absent.items())


def memory_line(entry: dict[str, Any]) -> str:
    peak = entry["peak_extra_bytes"]
    figure = entry["absent"] if peak is None else f"{peak / 2**20:8.1f} MiB"
    return f"head  {entry['side']:4} x {entry['side']:<4} {entry['batch']:5} frames  {entry['contestant']:20} {figure}"


def digits_text(digits: dict[str, Any]) -> str:
    mebibytes = {name: size >> 20 for name, size in digits.items() if name.endswith("_bytes")}
    after, used = digits["losses_after"], digits["nodes_used"]
    terms = ", ".join(f"{term} {loss:.4g} -> {after[term]:.4g}" for term, loss in digits["losses_before"].items())
    return (
        f"MNIST series, 256 x 256 nodes, transitions within {RADIUS}: {digits['steps']} steps of {digits['batch']} "
        f"frames, {digits['seconds_per_step'] * 1e3:.0f} ms each\nparameters {mebibytes['parameter_bytes']} MiB, with "
        f"moments {mebibytes['parameter_and_moment_bytes']} MiB, the whole process at most "
        f"{mebibytes['peak_resident_bytes']} MiB; a table of all transitions with moments would take "
        f"{mebibytes['dense_table_and_moment_bytes'] >> 10} GiB\n"
        f"{terms}; winners of the held-out series {used[0]} -> {used[1]}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="CPU threads, one after another (default: 1 and torch's)"
    )
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=SWEEPS, metavar="SWEEP", help=", ".join(SWEEPS))
    parser.add_argument("--sides", type=int, nargs="+", help="sides of the maps of the sweep nodes (default: 8 to 256)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="who is timed beside us")
    parser.add_argument("--repeat", type=int, help="most repetitions (default: 9, 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="small maps, few repetitions, nothing compiled")
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw: also train on series of digits")
    parser.add_argument("--steps", type=int, default=300, help="of the training on digits (default: 300)")
    parser.add_argument("--json", type=Path, help="write everything there, row by row")
    arguments = parser.parse_args()
    device = checked_device(parser, arguments.device)
    repetitions = arguments.repeat or (3 if arguments.quick else 9)
    wanted = [PEERS[name] for name in arguments.peers]
    columns = [GRAPH, SPARSE_ADAM, LOCAL, *wanted]

    machine = describe(arguments.device)
    where = machine["gpu"]["name"] if device.type == "cuda" else machine["cpu"]
    print(
        f"{where}, torch {machine['torch']}: a step of somvae_ext, median of up to {repetitions}; the others' times "
        "over ours"
    )
    record = Record(
        arguments.json,
        machine=machine,
        repetitions=repetitions,
        quick=arguments.quick,
        series=FRAMES,
        results=[],
        growth=[],
        memory=[],
        digits=None,
    )
    for part in ("head", "model"):
        compare_gradients(part, device)
    made: list[Claim] = []
    thread_counts = arguments.threads or sorted({1, torch.get_num_threads()})
    for threads in [None] if device.type == "cuda" else thread_counts:
        with cpu_threads(threads or torch.get_num_threads()):
            print(f"\n{threads_text(threads)}\n{heading(columns)}")
            rows = []
            for sweep in (sweep for sweep in arguments.sweeps if sweep != "memory"):
                if sweep != "nodes" and threads not in (None, thread_counts[-1]):
                    continue
                for problem, others in sweep_problems(sweep, arguments.quick, arguments.sides):
                    names = [*variants(problem, device), *(name for name in others if name in wanted)]
                    rows.append(measure(problem, names, device, repetitions, threads))
                    record.add("results", rows[-1].as_json())
                    print(line(rows[-1], columns), flush=True)
            grown = growth(rows)
            for entry in grown:
                ratios = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in entry["ratio"].items())
                print(f"growth, side {entry['from']} to {entry['to']}: {ratios}")
                record.add("growth", entry)
            made += claims(rows, grown, threads)

    threads = None if device.type == "cuda" else thread_counts[-1]
    if "memory" in arguments.sweeps:
        print("\nmemory at the peak, beyond parameters and moments")
    for entry in measure_memory(device, threads, arguments.quick) if "memory" in arguments.sweeps else ():
        record.add("memory", entry)
        print(memory_line(entry), flush=True)
        if (entry["contestant"], entry["side"], entry["peak_extra_bytes"] is None) == (OURS, 128, False):
            made.append(memory_claim(entry))
    if arguments.data_root:
        digits = in_child(train_on_digits, arguments.data_root, arguments.steps, thread_counts[-1])
        record.put("digits", digits)
        print(f"\n{digits_text(digits)}")

    conclude(record, made)


if __name__ == "__main__":
    main()
