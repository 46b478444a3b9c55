"""Times the best-matching-unit search against everything else that finds nearest codes, side by side in one process.

    python benchmarks/bmu.py --json results.json               on the CPU, with 1 thread and with torch's own number
    python benchmarks/bmu.py --threads 1 2 --sweeps headline D K
    python benchmarks/bmu.py --device cuda --json results.json
    python benchmarks/bmu.py --sweeps maps --data-root DIR     trained maps, those of MNIST among them
    python benchmarks/bmu.py --quick                           few rows, few repetitions
    python benchmarks/bmu.py --memory                          also the peak memory of N=1,000,000 K=65,536: minutes

Before anything is timed, each contestant's winners are compared with ours. Where they differ by more than rounding
explains, the two distances taken in float64, the contestant is timed all the same and marked ``~``: it computes with
less precision, and no claim is made against it. Then all take turns repetition by repetition, together with a matrix
product, and medians are compared. GFLOP/s counts 2 N K D operations.

On the CPU: torch formulas, scikit-learn, faiss, fastersom. On CUDA: torch formulas (cuBLAS and argmin), torch.compile,
pykeops, flash-kmeans, fastersom; ours as it chooses its kernel, and with each of its kernels forced. There every
contestant is timed twice, called from Python and as the replay of a CUDA graph, which leaves out what launching costs;
the share of the work that each kernel's first pass leaves to be scored again is reported, and the rate as a share of
its floor: that of a matrix product in its number format, divided by the instructions that it needs per multiply-add.
Libraries that are not installed are named in the result.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.bmu_contestants import (
    KERNELS,
    ON_CPU,
    ON_CUDA,
    OURS,
    Contestant,
    Winners,
    forcing,
    somvae_ext,
    version,
)
from somvae_ext.bench.bmu_problems import SWEEPS, Problem, floor, problems, products
from somvae_ext.bench.claims import Claim, conclude
from somvae_ext.bench.memory import peak_memory
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import captured, checked_device, cpu_threads, interleaved, threads_text
from somvae_ext.machine import describe

# --- Measuring -------------------------------------------------------------------------------------------------------


def indices(winners: Winners, k: int) -> Tensor:
    """int64 ``[N, k]`` on the CPU."""
    return torch.as_tensor(winners[-1]).cpu().long().reshape(-1, k)


def disagreement(theirs: Tensor, ours: Tensor, z: Tensor, codebook: Tensor) -> str | None:
    """Why another contestant counts as less precise; None where its winners are ours but for ties and rounding.

    A distance taken from |z|^2 + |e|^2 - 2 z.e, at most D + 4 roundings of terms that sum to (|z| + |e|)^2, may name a
    code that is farther by the errors of two such distances.
    """
    differing, place = (theirs != ours).nonzero(as_tuple=True)
    if len(differing) == 0:
        return None
    rows, codes = z[differing.to(z.device)].cpu().double(), codebook.cpu().double()
    distance_theirs, distance_ours = (
        (rows - codes[winners[differing, place]]).square().sum(dim=1) for winners in (theirs, ours)
    )
    eps = torch.finfo(torch.promote_types(z.dtype, torch.float32)).eps
    largest = (rows.norm(dim=1) + codes.norm(dim=1).max()).square()
    wrong = (distance_theirs - distance_ours).abs() > 2 * (z.shape[1] + 4) * eps * largest
    if not wrong.any():
        return None
    return f"{len(differing[wrong].unique())} of {len(theirs)} rows have winners that rounding does not explain"


@dataclass
class Row:
    """What was measured of one problem; a line of the table and an entry of the JSON file."""

    problem: Problem
    threads: int | None
    seconds: dict[str, float] = field(default_factory=dict)  # medians
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)
    graph_seconds: dict[str, float] = field(default_factory=dict)  # medians of replays
    memory: dict[str, int] = field(default_factory=dict)  # bytes
    less_precise: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    not_captured: dict[str, str] = field(default_factory=dict)
    rescored: dict[str, float] = field(default_factory=dict)  # shares of the pairs of a row and a code
    dense: dict[str, float] = field(default_factory=dict)  # shares of the rows
    mm_rates: dict[str, float] = field(default_factory=dict)  # GFLOP/s of matrix products, that of its dtype first

    @property
    def rate(self) -> float:
        return self.problem.work / self.seconds[OURS] / 1e9

    @property
    def mm_rate(self) -> float:
        return next(iter(self.mm_rates.values()))

    @property
    def speedup(self) -> dict[str, float]:
        """How many times faster than each other contestant ours is."""
        return {name: time / self.seconds[OURS] for name, time in self.seconds.items() if not name.startswith(OURS)}

    @property
    def graph_speedup(self) -> dict[str, float]:
        """The same of replays, where both could be captured."""
        ours = self.graph_seconds.get(OURS)
        return {name: time / ours for name, time in self.graph_seconds.items() if ours and not name.startswith(OURS)}

    @property
    def share_of_floor(self) -> dict[str, float]:
        """The rate of each forced kernel's replays, where there are such, beside the most that it could have."""
        shares = {}
        for name, kernel in KERNELS.items():
            limit = floor(kernel, self.problem.dtype)
            if name in self.seconds and limit:
                time = self.graph_seconds.get(name, self.seconds[name])
                shares[name] = self.problem.work / time / 1e9 / (self.mm_rates[limit.product] / limit.times)
        return shares

    def least(self, *prefixes: str) -> tuple[float, str] | None:
        """The speedup over the fastest of the equally precise contestants named so (of all, without names)."""
        found = [
            (ratio, name)
            for name, ratio in self.speedup.items()
            if name not in self.less_precise and (not prefixes or name.startswith(prefixes))
        ]
        return min(found, default=None)

    def as_json(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "sweep": problem.sweep,
            "data": problem.data,
            "size": {"N": problem.n, "K": problem.codes, "D": problem.dim},
            "dtype": problem.dtype_name,
            "k": problem.k,
            "threads": self.threads,
            "seconds": self.seconds,
            "fastest_and_slowest": self.extremes,
            "graph_seconds": self.graph_seconds,
            "speedup": self.speedup,
            "graph_speedup": self.graph_speedup,
            "rate": self.rate,
            "unit": "GFLOP/s",
            "mm_rates": self.mm_rates,
            "share_of_mm": self.rate / self.mm_rate,
            "share_of_floor": self.share_of_floor,
            "rescored": self.rescored,
            "dense": self.dense,
            "peak_extra_bytes": self.memory,
            "less_precise": self.less_precise,
            "absent": self.absent,
            "not_captured": self.not_captured,
        }


def measure(
    problem: Problem,
    contestants: dict[str, Contestant],
    device: torch.device,
    repetitions: int,
    threads: int | None,
    root: Path | None = None,
) -> Row:
    """Compares the winners, then times every contestant that can take part."""
    z, codebook = problem.tensors(device, root)
    row = Row(problem, threads)
    runs: dict[str, Callable[[], Any]] = {}
    replays: dict[str, Callable[[], Any]] = {}
    ours: Tensor | None = None
    for name, contestant in contestants.items():
        try:
            search = contestant.make(z, codebook, problem.k)
            if search is None:
                continue
            winners = indices(search(), problem.k)
        except Exception as error:
            if name.startswith(OURS):
                raise
            row.absent[name] = f"failed: {' '.join(str(error).split())[:200]}"  # another library's fault costs its row
            continue
        ours = winners if ours is None else ours
        if name.startswith(OURS) and not winners.equal(ours):
            raise ValueError(f"{name} has other winners than {OURS} on {problem}")
        if reason := disagreement(winners, ours, z, codebook):
            row.less_precise[name] = reason
        row.memory[name] = peak_memory(search, device)
        runs[name] = search
        if device.type == "cuda" and contestant.captures:
            try:
                replays[name] = captured(search)
            except RuntimeError as error:
                row.not_captured[name] = str(error).splitlines()[0]
    row.rescored, row.dense = what_is_scored_again(problem, z, codebook)
    ceilings = products(problem.dtype, device)
    timed = runs | {as_graph(name): run for name, run in replays.items()}
    timed |= {name: product.run for name, product in ceilings.items()}
    times = interleaved(timed, device, repetitions)
    medians = {name: statistics.median(values) for name, values in times.items()}
    row.seconds = {name: medians[name] for name in runs}
    row.graph_seconds = {name: medians[as_graph(name)] for name in replays}
    row.mm_rates = {name: product.rate(medians[name]) for name, product in ceilings.items()}
    row.extremes = {name: (min(values), max(values)) for name, values in times.items()}
    return row


def as_graph(name: str) -> str:
    return f"{name}, graph"


def what_is_scored_again(problem: Problem, z: Tensor, codebook: Tensor) -> tuple[dict[str, float], dict[str, float]]:
    """What shares of all pairs each kernel's search scores again in float32, and of all rows, wholly, in float64."""
    rescored, dense = {}, {}
    if z.is_cuda and z.dtype != torch.float64:
        from somvae_ext import _C

        for name, kernel in KERNELS.items():
            with forcing(kernel):
                work = _C.bmu_work(z, codebook, problem.k)
            rescored[name] = work["rescored"] / (len(z) * len(codebook))
            dense[name] = work["dense"] / len(z)
    return rescored, dense


def growth(device: torch.device, repetitions: int, threads: int | None, quick: bool) -> dict[str, Any]:
    """How our time grows when N, K or D doubles, the four problems in turns."""
    n = 2048 if quick else 8192
    sizes = {"base": (n, 4096, 64), "N": (2 * n, 4096, 64), "K": (n, 8192, 64), "D": (n, 4096, 128)}
    runs = {name: somvae_ext(*Problem("growth", *size).tensors(device), k=1) for name, size in sizes.items()}
    times = interleaved(runs, device, repetitions)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "threads": threads,
        "base": dict(zip("NKD", sizes["base"], strict=True)),
        "seconds": medians,
        "ratio": {name: medians[name] / medians["base"] for name in "NKD"},
    }


def memory_at_scale(device: torch.device, threads: int | None) -> dict[str, Any]:
    """Peak memory of a search whose N x K scores would take 262 GB."""
    problem = Problem("memory", 1_000_000, 65_536, 16)
    z, codebook = problem.tensors(device)
    somvae_ext(z[:1000], codebook, 1)()  # threads and library code come into memory once
    begin = time.perf_counter()
    peak = peak_memory(somvae_ext(z, codebook, 1), device)
    return {
        "size": {"N": problem.n, "K": problem.codes, "D": problem.dim},
        "threads": threads,
        "seconds": time.perf_counter() - begin,
        "peak_extra_bytes": peak,
        "limit_bytes": (64 << 20) + 2 * codebook.nbytes,
    }


# --- What was claimed, and what came of it ---------------------------------------------------------------------------


def claims(rows: list[Row], device: torch.device, threads: int | None) -> list[Claim]:
    """Every claim about time, from the rows measured with one number of threads."""
    made: list[Claim] = []
    headline = [row for row in rows if row.problem.sweep == "headline"]
    sweeps = [row for row in rows if row.problem.sweep in ("headline", "maps", "D", "K")]
    small = [row for row in rows if row.problem.sweep == "small N"]

    def at_least(text: str, factor: float, among: list[Row], *peers: str) -> None:
        """In each of these rows, ``factor`` times as fast as the fastest of the peers."""
        found = [(*least, row.problem) for row in among if (least := row.least(*peers))]
        if not found:
            made.append(Claim(text, threads, None, "not measured"))
            return
        ratio, peer, problem = min(found, key=lambda entry: entry[0])
        figure = f"{ratio:.2f}x {peer} at N={problem.n} K={problem.codes} D={problem.dim}"
        made.append(Claim(text, threads, ratio >= factor, figure))

    if device.type == "cpu":
        for row in headline:
            figure = f"{row.rate:.0f} of {row.mm_rate:.0f} GFLOP/s, {row.rate / row.mm_rate:.0%}"
            made.append(Claim("headline: 90 % of torch.mm", threads, row.rate >= 0.9 * row.mm_rate, figure))
        at_least("headline: 5x faiss", 5, headline, "faiss")
        at_least("headline: 5x scikit-learn", 5, headline, "sklearn")
        at_least("headline: 2.5x the best torch formula", 2.5, headline, "torch")
    at_least("headline, maps, D and K: never slower than the best peer", 1, sweeps)
    at_least("small N: never slower than the best torch formula", 1, small, "torch")
    return made


def memory_claim(memory: dict[str, Any]) -> Claim:
    peak, limit = (memory[name] / 2**20 for name in ("peak_extra_bytes", "limit_bytes"))
    text = "N=1,000,000 K=65,536: extra memory below 64 MiB + 2x the codebook"
    return Claim(text, memory["threads"], peak < limit, f"{peak:.1f} of {limit:.0f} MiB")


# --- Output ----------------------------------------------------------------------------------------------------------


def heading(peers: list[str]) -> str:
    columns = f"{'sweep':9}{'N':>7}{'K':>6}{'D':>5} {'dtype':8} k{'ms':>10}{'GFLOP/s':>9}{'of mm':>6}{'MiB':>6}"
    return columns + "".join(f"{peer:>{len(peer) + 3}}" for peer in peers)


def lines(row: Row, peers: list[str]) -> str:
    """Ours in absolute figures, then how many times longer each peer takes; below that, what only CUDA has."""
    p = row.problem
    text = f"{p.sweep:9}{p.n:7}{p.codes:6}{p.dim:5} {p.dtype_name:8} {p.k}"
    text += f"{row.seconds[OURS] * 1e3:10.3f}{row.rate:9.1f}{row.rate / row.mm_rate:6.0%}"
    text += f"{row.memory[OURS] / 2**20:6.1f}"
    for peer in peers:
        mark = "~" if peer in row.less_precise else ""
        figure = f"{mark}{row.speedup[peer]:.2f}x" if peer in row.speedup else "-"
        text += f"{figure:>{len(peer) + 3}}"
    if p.data != "random":
        text += f"   ({p.data})"
    for name, share in row.share_of_floor.items():
        milliseconds = row.graph_seconds.get(name, row.seconds[name]) * 1e3
        again = f", {row.rescored[name]:.2%} scored again" if name in row.rescored else ""
        again += f", {row.dense[name]:.2%} of the rows in float64" if row.dense.get(name) else ""
        text += f"\n{'':9}{name}: {milliseconds:.3f} ms, {share:.0%} of its floor{again}"
    if row.graph_speedup:
        peers_text = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in row.graph_speedup.items())
        text += f"\n{'':9}as graphs: {row.graph_seconds[OURS] * 1e3:.3f} ms; {peers_text}"
    notes = row.absent | {f"{name}, as a graph": reason for name, reason in row.not_captured.items()}
    return text + "".join(f"\n{'':9}{name}: {reason}" for name, reason in notes.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="CPU threads, one after another (default: 1 and torch's)"
    )
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=SWEEPS, metavar="SWEEP", help=", ".join(SWEEPS))
    parser.add_argument("--data-root", type=Path, help="folder with MNIST/raw: also search maps of its images")
    parser.add_argument(
        "--log2-flop",
        type=int,
        help="operations of a call, as a power of 2 (default: 33 on the CPU, the headline's, and 38 on CUDA; 4 less "
        "with --quick)",
    )
    parser.add_argument(
        "--headline-only",
        nargs="+",
        default=[],
        metavar="NAME",
        help="contestants that take part in the headline alone, such as those that compile for each size",
    )
    parser.add_argument("--repeat", type=int, help="repetitions (default: 9, 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few rows, few repetitions")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of a large search: minutes")
    parser.add_argument("--json", type=Path, help="write everything there, row by row")
    arguments = parser.parse_args()
    device = checked_device(parser, arguments.device)
    repetitions = arguments.repeat or (3 if arguments.quick else 9)
    log2_flop = arguments.log2_flop or {"cpu": 33, "cuda": 38}[device.type] - (4 if arguments.quick else 0)
    known = ON_CUDA if device.type == "cuda" else ON_CPU
    versions = {contestant.package: version(contestant.package) for contestant in known.values()}
    contestants = {name: contestant for name, contestant in known.items() if versions[contestant.package]}
    peers = [name for name in contestants if not name.startswith(OURS)]

    machine = describe(arguments.device)
    where = machine["gpu"]["name"] if device.type == "cuda" else machine["cpu"]
    libraries = ", ".join(f"{package} {number or 'not installed'}" for package, number in versions.items())
    print(
        f"{where}; {libraries}\n"
        f"median of {repetitions}, our extra memory, times of the others over ours (~: less precise)"
    )
    record = Record(
        arguments.json,
        machine=machine,
        versions=versions,
        not_installed=[package for package, found in versions.items() if not found],
        repetitions=repetitions,
        quick=arguments.quick,
        log2_flop=log2_flop,
        results=[],
        growth=[],
        memory=[],
    )
    results: list[Claim] = []
    thread_counts = arguments.threads or sorted({1, torch.get_num_threads()})
    for threads in [None] if device.type == "cuda" else thread_counts:
        with cpu_threads(threads or torch.get_num_threads()):
            print(f"\n{threads_text(threads)}\n{heading(peers)}")
            rows = []
            for sweep in arguments.sweeps:
                left_out = arguments.headline_only if sweep != "headline" else []
                present = {name: contestant for name, contestant in contestants.items() if name not in left_out}
                for problem in problems(sweep, log2_flop, device, arguments.data_root is not None):
                    rows.append(measure(problem, present, device, repetitions, threads, arguments.data_root))
                    record.add("results", rows[-1].as_json())
                    print(lines(rows[-1], peers), flush=True)
            results += claims(rows, device, threads)
            if "growth" in arguments.sweeps:
                grown = growth(device, repetitions, threads, arguments.quick)
                record.add("growth", grown)
                print("growth: " + ", ".join(f"{size} doubled {ratio:.2f}x" for size, ratio in grown["ratio"].items()))
            if arguments.memory:
                memory = memory_at_scale(device, threads)
                record.add("memory", memory)
                results.append(memory_claim(memory))
                print(f"memory: {memory['peak_extra_bytes'] / 2**20:.1f} MiB extra in {memory['seconds']:.0f} s")

    conclude(record, results)


if __name__ == "__main__":
    main()
