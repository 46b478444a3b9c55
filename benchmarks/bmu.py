"""Times the best-matching-unit search against everything else that finds nearest codes, side by side in one process.

    python benchmarks/bmu.py --json results.json               on the CPU, with 1 thread and with torch's own number
    python benchmarks/bmu.py --threads 1 2 --sweeps headline D K
    python benchmarks/bmu.py --device cuda --json results.json
    python benchmarks/bmu.py --quick                           few rows, few repetitions
    python benchmarks/bmu.py --memory                          also the peak memory of N=1,000,000 K=65,536: minutes

Contestants get z ``[N, D]`` and a codebook ``[K, D]`` and return the winners' indices; whatever they derive from the
codebook (norms, packed panels, a faiss index) is part of their time, since training changes the codebook at every step.
Before anything is timed, each contestant's winners are compared with ours: where they differ, the two distances, in
float64, must be as close as rounding explains, or the contestant is rejected and the row says why. Then they take turns
repetition by repetition, together with a torch.mm, and medians are compared. GFLOP/s counts 2 N K D operations.

On the CPU: torch formulas, scikit-learn, faiss. On CUDA: torch formulas (cuBLAS and argmin), torch.compile, pykeops,
flash-kmeans. Those that are not installed are named in the result.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from claims import Claim, conclude
from machine import describe
from memory import peak_memory
from timing import MM_WORK, checked_device, cpu_threads, interleaved, square_mm, threads_text
from torch import Tensor

from somvae_ext import ops

FLOP_PER_CALL = 2.0**33  # N shrinks so that a call takes no more; that is the headline's
MOST_ROWS = 65536
SCORES_HELD = 1 << 28  # contestants that hold N x K scores take part up to here: a gigabyte of float32

Winners = tuple[Any, ...]  # all that a contestant returns, tensors or arrays; the indices come last
Search = Callable[[], Winners]


@dataclass(frozen=True)
class Problem:
    """k best codes of K for each of N rows of D values."""

    sweep: str
    n: int
    units: int
    dim: int
    dtype: torch.dtype = torch.float32
    k: int = 1

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rows and codebook, normally distributed."""
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(self.n, self.dim, generator=generator)
        codebook = torch.randn(self.units, self.dim, generator=generator)
        return z.to(device, self.dtype), codebook.to(device, self.dtype)

    @property
    def work(self) -> float:
        return 2.0 * self.n * self.units * self.dim


HEADLINE = Problem("headline", 16384, 4096, 64)


def problems(sweep: str, quick: bool) -> list[Problem]:
    """The problems of a sweep; the headline is the same with and without ``quick``."""
    flop = FLOP_PER_CALL / (16 if quick else 1)

    def rows(units: int, dim: int) -> int:
        # Below 64 values the work per score, not per value, sets the time.
        fitting = int(flop / (2 * units * max(dim, 64)))
        return min(MOST_ROWS, 1 << (fitting.bit_length() - 1))

    small = [(n, units) for units in (64, 4096) for n in (1, 4, 16, 64)]
    others = [torch.float64, torch.bfloat16, torch.float16]
    return {
        "headline": [HEADLINE],
        "D": [Problem("D", rows(4096, dim), 4096, dim) for dim in (2, 16, 64, 784, 1024)],
        "K": [Problem("K", rows(units, 64), units, 64) for units in (64, 1024, 65536)],
        "small N": [Problem("small N", n, units, 64) for n, units in small],
        "dtype": [Problem("dtype", rows(4096, 64), 4096, 64, dtype) for dtype in others],
        "two best": [Problem("two best", rows(4096, 64), 4096, 64, k=2)],
        "growth": [],  # has problems of its own
    }[sweep]


SWEEPS = ["headline", "D", "K", "small N", "dtype", "two best", "growth"]

# --- The contestants -------------------------------------------------------------------------------------------------
#
# Each takes rows, codebook and the number k of winners, and gives a Search, or None where it cannot take part.


def somvae_ext(z: Tensor, codebook: Tensor, k: int) -> Search:
    return lambda: tuple(ops.bmu(z, codebook, k))


def smallest(scores: Tensor, k: int) -> Tensor:
    """The columns of the k smallest scores of each row: ``[N]`` for one, ``[N, k]`` for more."""
    if k > 1:
        return scores.topk(k, dim=1, largest=False).indices
    return scores.argmin(dim=1) if len(scores) < 64 else scores.min(dim=1).indices  # whichever is faster on the CPU


def half_norms(codebook: Tensor) -> Tensor:
    return codebook.square().sum(dim=1) / 2


def in_float(values: Tensor) -> Tensor:
    """16-bit values in float32: their sums, rounded to 16 bits, would name the wrong codes."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def torch_blocks(z: Tensor, codebook: Tensor, k: int) -> Search:
    """|e|^2 / 2 - z.e for a block of rows at a time, into the same buffer each time."""

    def search() -> Winners:
        codes, block = in_float(codebook), 256 if z.device.type == "cpu" else 8192
        norms, found = half_norms(codes), []
        scores = codes.new_empty(min(block, len(z)), len(codes))
        for rows in z.split(block):
            out = scores[: len(rows)]
            torch.addmm(norms, in_float(rows), codes.T, alpha=-1, out=out)
            found.append(smallest(out, k))
        return (torch.cat(found),)

    return search


def torch_whole(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """The same for all rows at once, where N x K scores fit."""
    if len(z) * len(codebook) > SCORES_HELD:
        return None
    return lambda: (all_scores_smallest(z, codebook, k),)


def all_scores_smallest(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    codes = in_float(codebook)
    return smallest(torch.addmm(half_norms(codes), in_float(z), codes.T, alpha=-1), k)


def torch_cdist(z: Tensor, codebook: Tensor, k: int) -> Search:
    def search() -> Winners:
        codes = in_float(codebook)
        blocks = z.split(max(1, (1 << 20 if z.device.type == "cpu" else 1 << 26) // len(codes)))
        return (torch.cat([smallest(torch.cdist(in_float(rows), codes), k) for rows in blocks]),)

    return search


def torch_mm_16bit(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """16-bit values as they are, summed and returned in float32: what cuBLAS's tensor cores do best."""
    if z.dtype not in (torch.float16, torch.bfloat16) or len(z) * len(codebook) > SCORES_HELD:
        return None

    def search() -> Winners:
        products = torch.mm(z, codebook.T, out_dtype=torch.float32)
        return (smallest(half_norms(codebook.float()) - products, k),)

    return search


def torch_compile(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    if len(z) * len(codebook) > SCORES_HELD:
        return None
    torch.compiler.reset()  # every problem is compiled for its own sizes
    compiled = torch.compile(all_scores_smallest, dynamic=False)
    return lambda: (compiled(z, codebook, k),)


def sklearn_argmin(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from sklearn.metrics import pairwise_distances_argmin

    if k > 1 or z.dtype not in (torch.float32, torch.float64):
        return None
    rows, codes = z.numpy(), codebook.numpy()
    return lambda: (pairwise_distances_argmin(rows, codes),)


def sklearn_argmin_min(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from sklearn.metrics import pairwise_distances_argmin_min

    if k > 1 or z.dtype not in (torch.float32, torch.float64):
        return None
    rows, codes = z.numpy(), codebook.numpy()
    return lambda: pairwise_distances_argmin_min(rows, codes)[::-1]


def faiss_flat(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    import faiss

    if z.dtype != torch.float32:
        return None
    rows, codes = z.numpy(), codebook.numpy()

    def search() -> Winners:
        index = faiss.IndexFlatL2(codes.shape[1])
        index.add(codes)
        return index.search(rows, k)

    return search


def keops(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from pykeops.torch import LazyTensor

    if z.dtype == torch.bfloat16:
        return None

    def search() -> Winners:
        distances = ((LazyTensor(z[:, None, :]) - LazyTensor(codebook[None, :, :])) ** 2).sum(-1)
        return (distances.argmin(dim=1) if k == 1 else distances.argKmin(k, dim=1),)

    return search


def flash_kmeans(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """Its assignment step."""
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    if k > 1 or z.dtype == torch.float64:
        return None
    takes_norms = "x_sq" in inspect.signature(euclid_assign_triton).parameters  # up to its version 0.1

    def search() -> Winners:
        norms = {"x_sq": z.float().square().sum(dim=1)[None]} if takes_norms else {}
        return (euclid_assign_triton(z[None], codebook[None], **norms)[0],)

    return search


@dataclass(frozen=True)
class Contestant:
    make: Callable[[Tensor, Tensor, int], Search | None]
    package: str = "torch"


def version(package: str) -> str | None:
    """None if it is not installed."""
    try:
        return getattr(importlib.import_module(package), "__version__", "unknown")
    except ImportError:
        return None


ON_CPU = {
    "somvae_ext": Contestant(somvae_ext, "somvae_ext"),
    "torch blocks": Contestant(torch_blocks),
    "torch whole": Contestant(torch_whole),
    "torch cdist": Contestant(torch_cdist),
    "sklearn argmin": Contestant(sklearn_argmin, "sklearn"),
    "sklearn argmin_min": Contestant(sklearn_argmin_min, "sklearn"),
    "faiss": Contestant(faiss_flat, "faiss"),
}
ON_CUDA = {
    "somvae_ext": Contestant(somvae_ext, "somvae_ext"),
    "torch blocks": Contestant(torch_blocks),
    "torch whole": Contestant(torch_whole),
    "torch cdist": Contestant(torch_cdist),
    "torch mm 16-bit": Contestant(torch_mm_16bit),
    "torch.compile": Contestant(torch_compile),
    "pykeops": Contestant(keops, "pykeops"),
    "flash-kmeans": Contestant(flash_kmeans, "flash_kmeans"),
}

# --- Measuring -------------------------------------------------------------------------------------------------------


def indices(winners: Winners, k: int) -> Tensor:
    """int64 ``[N, k]`` on the CPU."""
    return torch.as_tensor(winners[-1]).cpu().long().reshape(-1, k)


def disagreement(theirs: Tensor, ours: Tensor, z: Tensor, codebook: Tensor) -> str | None:
    """Why another contestant's winners are not accepted; None where they are ours but for ties and rounding.

    A distance taken from |z|^2 + |e|^2 - 2 z.e, at most D + 4 roundings of terms that sum to (|z| + |e|)^2, may name a
    code that is farther by the errors of two such distances.
    """
    differing, place = (theirs != ours).nonzero(as_tuple=True)
    rows, codes = z.cpu().double()[differing], codebook.cpu().double()
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
    memory: dict[str, int] = field(default_factory=dict)  # bytes
    rejected: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.problem.work / self.seconds["somvae_ext"] / 1e9

    @property
    def mm_rate(self) -> float:
        return MM_WORK / self.seconds["mm"] / 1e9

    @property
    def speedup(self) -> dict[str, float]:
        """How many times faster than each other contestant somvae_ext is."""
        ours = self.seconds["somvae_ext"]
        return {name: time / ours for name, time in self.seconds.items() if name not in ("somvae_ext", "mm")}

    def least(self, *prefixes: str) -> tuple[float, str] | None:
        """The speedup over the fastest of the contestants named so (of all, without names), and which that is."""
        found = [(ratio, name) for name, ratio in self.speedup.items() if not prefixes or name.startswith(prefixes)]
        return min(found, default=None)

    def as_json(self) -> dict[str, Any]:
        problem = self.problem
        return {
            "sweep": problem.sweep,
            "size": {"N": problem.n, "K": problem.units, "D": problem.dim},
            "dtype": str(problem.dtype).removeprefix("torch."),
            "k": problem.k,
            "threads": self.threads,
            "seconds": self.seconds,
            "fastest_and_slowest": self.extremes,
            "speedup": self.speedup,
            "rate": self.rate,
            "unit": "GFLOP/s",
            "mm_rate": self.mm_rate,
            "share_of_mm": self.rate / self.mm_rate,
            "peak_extra_bytes": self.memory,
            "rejected": self.rejected,
        }


def measure(
    problem: Problem, contestants: dict[str, Contestant], device: torch.device, repetitions: int, threads: int | None
) -> Row:
    """Checks, then times, every contestant that can take part."""
    z, codebook = problem.tensors(device)
    row = Row(problem, threads)
    runs: dict[str, Callable[[], Any]] = {}
    ours: Tensor | None = None
    for name, contestant in contestants.items():
        search = contestant.make(z, codebook, problem.k)
        if search is None:
            continue
        winners = indices(search(), problem.k)
        ours = winners if ours is None else ours
        if reason := disagreement(winners, ours, z, codebook):
            row.rejected[name] = reason
            continue
        row.memory[name] = peak_memory(search, device)
        runs[name] = search
    # The CPU computes in float32 whatever 16-bit type comes in; a GPU has units for each.
    on_cpu = device.type == "cpu"
    runs["mm"] = square_mm(device, torch.promote_types(problem.dtype, torch.float32) if on_cpu else problem.dtype)
    times = interleaved(runs, device, repetitions)
    row.seconds = {name: statistics.median(values) for name, values in times.items()}
    row.extremes = {name: (min(values), max(values)) for name, values in times.items()}
    return row


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
        "size": {"N": problem.n, "K": problem.units, "D": problem.dim},
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
    sweeps = [row for row in rows if row.problem.sweep in ("headline", "D", "K")]
    small = [row for row in rows if row.problem.sweep == "small N"]

    def at_least(text: str, factor: float, among: list[Row], *peers: str) -> None:
        """In each of these rows, ``factor`` times as fast as the fastest of the peers."""
        found = [(*least, row.problem) for row in among if (least := row.least(*peers))]
        if not found:
            made.append(Claim(text, threads, None, "not measured"))
            return
        ratio, peer, problem = min(found, key=lambda entry: entry[0])
        figure = f"{ratio:.2f}x {peer} at N={problem.n} K={problem.units} D={problem.dim}"
        made.append(Claim(text, threads, ratio >= factor, figure))

    if device.type == "cpu":
        for row in headline:
            figure = f"{row.rate:.0f} of {row.mm_rate:.0f} GFLOP/s, {row.rate / row.mm_rate:.0%}"
            made.append(Claim("headline: 90 % of torch.mm", threads, row.rate >= 0.9 * row.mm_rate, figure))
        at_least("headline: 5x faiss", 5, headline, "faiss")
        at_least("headline: 5x scikit-learn", 5, headline, "sklearn")
        at_least("headline: 2.5x the best torch formula", 2.5, headline, "torch")
    at_least("headline, D and K: never slower than the best peer", 1, sweeps)
    at_least("small N: never slower than the best torch formula", 1, small, "torch")
    return made


def memory_claim(memory: dict[str, Any]) -> Claim:
    peak, limit = (memory[name] / 2**20 for name in ("peak_extra_bytes", "limit_bytes"))
    text = "N=1,000,000 K=65,536: extra memory below 64 MiB + 2x the codebook"
    return Claim(text, memory["threads"], peak < limit, f"{peak:.1f} of {limit:.0f} MiB")


# --- Output ----------------------------------------------------------------------------------------------------------


def heading(peers: list[str]) -> str:
    columns = f"{'sweep':9}{'N':>6}{'K':>6}{'D':>5} {'dtype':8} k{'ms':>10}{'GFLOP/s':>9}{'of mm':>6}{'MiB':>6}"
    return columns + "".join(f"{peer:>{len(peer) + 3}}" for peer in peers)


def line(row: Row, peers: list[str]) -> str:
    """Ours in absolute figures, then how many times longer each peer takes."""
    p = row.problem
    text = f"{p.sweep:9}{p.n:6}{p.units:6}{p.dim:5} {str(p.dtype).removeprefix('torch.'):8} {p.k}"
    text += f"{row.seconds['somvae_ext'] * 1e3:10.3f}{row.rate:9.1f}{row.rate / row.mm_rate:6.0%}"
    text += f"{row.memory['somvae_ext'] / 2**20:6.1f}"
    for peer in peers:
        figure = f"{row.speedup[peer]:.2f}x" if peer in row.speedup else "wrong" if peer in row.rejected else "-"
        text += f"{figure:>{len(peer) + 3}}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--threads", type=int, nargs="+", help="CPU threads, one after another (default: 1 and torch's)"
    )
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=SWEEPS, metavar="SWEEP", help=", ".join(SWEEPS))
    parser.add_argument("--repeat", type=int, help="repetitions (default: 9, 3 with --quick)")
    parser.add_argument("--quick", action="store_true", help="few rows, few repetitions")
    parser.add_argument("--memory", action="store_true", help="also the peak memory of a large search: minutes")
    parser.add_argument("--json", type=Path, help="write everything there")
    arguments = parser.parse_args()
    device = checked_device(parser, arguments.device)
    repetitions = arguments.repeat or (3 if arguments.quick else 9)
    known = ON_CUDA if device.type == "cuda" else ON_CPU
    versions = {contestant.package: version(contestant.package) for contestant in known.values()}
    contestants = {name: contestant for name, contestant in known.items() if versions[contestant.package]}
    peers = [name for name in contestants if name != "somvae_ext"]

    machine = describe(arguments.device)
    where = machine["gpu"]["name"] if device.type == "cuda" else machine["cpu"]
    present = ", ".join(f"{package} {found or 'not installed'}" for package, found in versions.items())
    print(f"{where}; {present}\nmedian of {repetitions}, our extra memory, times of the others over ours")
    record: dict[str, Any] = {
        "machine": machine,
        "versions": versions,
        "not_installed": [package for package, found in versions.items() if not found],
        "repetitions": repetitions,
        "quick": arguments.quick,
        "results": [],
        "growth": [],
        "memory": [],
    }
    results: list[Claim] = []
    thread_counts = arguments.threads or sorted({1, torch.get_num_threads()})
    for threads in [None] if device.type == "cuda" else thread_counts:
        with cpu_threads(threads or torch.get_num_threads()):
            print(f"\n{threads_text(threads)}\n{heading(peers)}")
            rows = []
            for sweep in arguments.sweeps:
                for problem in problems(sweep, arguments.quick):
                    rows.append(measure(problem, contestants, device, repetitions, threads))
                    print(line(rows[-1], peers), flush=True)
            record["results"] += [row.as_json() for row in rows]
            results += claims(rows, device, threads)
            if "growth" in arguments.sweeps:
                grown = growth(device, repetitions, threads, arguments.quick)
                record["growth"].append(grown)
                print("growth: " + ", ".join(f"{size} doubled {ratio:.2f}x" for size, ratio in grown["ratio"].items()))
            if arguments.memory:
                memory = memory_at_scale(device, threads)
                record["memory"].append(memory)
                results.append(memory_claim(memory))
                print(f"memory: {memory['peak_extra_bytes'] / 2**20:.1f} MiB extra in {memory['seconds']:.0f} s")

    conclude(record, results, arguments.json)


if __name__ == "__main__":
    main()
