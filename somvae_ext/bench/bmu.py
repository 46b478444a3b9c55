"""The best-matching-unit search against everything else that finds nearest codes.

Before anything is timed, each contestant's winners are compared with ours. If their distances, computed in float64,
differ from ours by more than rounding explains, the contestant is still timed but noted as less precise, and no claim
is made against it. Work counts 2 N K D operations; the ceiling is a matrix product.

The contestants on the CPU are torch formulas, scikit-learn, faiss and fastersom; on CUDA they are torch formulas
(cuBLAS and argmin), torch.compile, pykeops, flash-kmeans and fastersom, and ours with the kernel that it chooses and
with each kernel forced. On CUDA every problem has a second row for replays of CUDA graphs, which leave out the cost of
launching. Also reported there are the share of the work that each kernel's first pass leaves to be scored again, and
the kernel's rate as a share of its floor: the rate of a matrix product in its number format, divided by the
instructions that the kernel needs per multiply-add.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.bmu_contestants import KERNELS, Contestant, Winners, forcing, known, somvae_ext, version, versions
from somvae_ext.bench.bmu_problems import PARTS, Problem, floor, log2_work, problems, products, quick_problems
from somvae_ext.bench.claims import Claim
from somvae_ext.bench.memory import peak_memory
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import CODES, DIM, ROWS, Option, Plan, Suite
from somvae_ext.bench.timing import captured, interleaved, seconds

DTYPES = {name: getattr(torch, name) for name in ("float32", "float64", "bfloat16", "float16")}
OWN_SHAPE: dict[str, Any] = {"N": 16384, "K": 4096, "D": 64, "k": 1, "dtype": "float32"}
LESS_PRECISE = "less precise: "


def indices(winners: Winners, k: int) -> Tensor:
    """The indices of the winners, int64 ``[N, k]`` on the CPU."""
    return torch.as_tensor(winners[-1]).cpu().long().reshape(-1, k)


def disagreement(theirs: Tensor, ours: Tensor, z: Tensor, codebook: Tensor) -> str | None:
    """Why another contestant counts as less precise; None if its winners equal ours up to ties and rounding.

    A distance computed as |z|^2 + |e|^2 - 2 z.e has at most D + 4 roundings of terms that sum to (|z| + |e|)^2. By such
    distances a search may choose a code that is farther by the errors of two of them.
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
    count = len(differing[wrong].unique())
    return f"{LESS_PRECISE}{count} of {len(theirs)} rows have winners that rounding does not explain"


@dataclass
class _Setup:
    """The contestants that can take part in a problem, and what is known of them before they are timed."""

    runs: dict[str, Callable[[], Any]] = field(default_factory=dict)
    replays: dict[str, Callable[[], Any]] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)  # peak bytes
    notes: dict[str, str] = field(default_factory=dict)
    not_captured: dict[str, str] = field(default_factory=dict)


def prepare(contestants: Mapping[str, Contestant], z: Tensor, codebook: Tensor, problem: Problem, plan: Plan) -> _Setup:
    """Compares the winners of all contestants with ours, which come first."""
    ready = _Setup()
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
            ready.notes[name] = f"failed: {' '.join(str(error).split())[:200]}"  # another library's fault costs its row
            continue
        ours = winners if ours is None else ours
        if name.startswith(OURS) and not winners.equal(ours):
            raise AssertionError(f"{name} has other winners than {OURS} on {problem}")
        if reason := disagreement(winners, ours, z, codebook):
            ready.notes[name] = reason
        if plan.number == 0:
            ready.memory[name] = peak_memory(search, plan.device)
        ready.runs[name] = search
        if plan.device.type == "cuda" and contestant.captures:
            try:
                ready.replays[name] = captured(search)
            except RuntimeError as error:
                ready.not_captured[name] = f"cannot be captured: {str(error).splitlines()[0]}"
    return ready


def measure_problem(
    problem: Problem, contestants: Mapping[str, Contestant], plan: Plan, threads: int | None
) -> Iterator[Row]:
    """Yields a row for calls from Python and, on CUDA, a row for replays."""
    z, codebook = problem.tensors(plan.device, plan.data_root)
    ready = prepare(contestants, z, codebook, problem, plan)
    rescored = shares_scored_again(problem, z, codebook)
    ceilings = products(problem, plan.device)
    for runs, notes, how in (
        (ready.runs, ready.notes, ""),
        (ready.replays, ready.notes | ready.not_captured, ", CUDA graph"),
    ):
        if OURS not in runs:
            continue
        timed = runs | {ceiling.name: ceiling.run for ceiling in ceilings.values()}
        samples = interleaved(timed, plan.device, plan.repetitions)
        yield Row(
            suite="bmu",
            case=(problem.part if problem.data == "random" else f"{problem.part}, {problem.data}") + how,
            size={"N": problem.n, "K": problem.codes, "D": problem.dim, **({"k": problem.k} if problem.k > 1 else {})},
            dtype=problem.dtype_name,
            device=plan.device.type,
            threads=threads,
            samples=samples,
            own=[name for name in runs if name.startswith(OURS)],
            work=problem.work,
            ceilings={ceiling.name: ceiling.work for ceiling in ceilings.values()},
            notes={name: note for name, note in notes.items() if name in contestants},
            extra={"peak_extra_bytes": ready.memory, **rescored},
        )


def shares_scored_again(problem: Problem, z: Tensor, codebook: Tensor) -> dict[str, dict[str, float]]:
    """By kernel, the share of all pairs scored again in float32, and that of rows scored entirely in float64."""
    rescored, dense = {}, {}
    if z.is_cuda and z.dtype != torch.float64:
        from somvae_ext import _C

        for name, kernel in KERNELS.items():
            with forcing(kernel):
                work = _C.bmu_work(z, codebook, problem.k)
            rescored[name] = work["rescored"] / (len(z) * len(codebook))
            dense[name] = work["dense"] / len(z)
    return {"rescored": rescored, "dense": dense} if rescored else {}


def growth(plan: Plan, threads: int | None) -> Iterator[Row]:
    """Measures how our time grows when N, K or D doubles; the four problems take turns."""
    n = 2048 if plan.quick else 8192
    sizes = {
        "base": (n, 4096, 64),
        "N doubled": (2 * n, 4096, 64),
        "K doubled": (n, 8192, 64),
        "D doubled": (n, 4096, 128),
    }
    made = {name: Problem("growth", *size) for name, size in sizes.items()}
    product = next(iter(products(made["base"], plan.device).values()))
    runs = {name: somvae_ext(*problem.tensors(plan.device), k=1) for name, problem in made.items()}
    samples = interleaved({**runs, product.name: product.run}, plan.device, plan.repetitions)
    for name, problem in made.items():
        yield Row(
            suite="bmu",
            case=f"growth, {name}",
            size={"N": problem.n, "K": problem.codes, "D": problem.dim},
            device=plan.device.type,
            threads=threads,
            samples={OURS: samples[name], product.name: samples[product.name]},
            work=problem.work,
            ceilings={product.name: product.work},
        )


def memory_at_scale(plan: Plan, threads: int | None) -> Row:
    """Peak memory of a search whose N x K scores would take 262 GB."""
    problem = Problem("memory", 1_000_000, 65_536, 16)
    z, codebook = problem.tensors(plan.device)
    search = somvae_ext(z, codebook, 1)
    somvae_ext(z[:1000], codebook, 1)()  # starts threads and loads library code
    taken: list[float] = []

    def run() -> Sequence[Tensor]:
        winners: list[Tensor] = []
        taken.append(seconds(lambda: winners.extend(search()), 1, plan.device))
        return winners

    peak = peak_memory(run, plan.device)
    return Row(
        suite="bmu",
        case="memory",
        size={"N": problem.n, "K": problem.codes, "D": problem.dim},
        device=plan.device.type,
        threads=threads,
        samples={OURS: taken},
        work=problem.work,
        extra={"peak_extra_bytes": {OURS: peak}, "limit_bytes": (64 << 20) + 2 * codebook.nbytes},
    )


def derived(rows: Sequence[Row]) -> list[Row]:
    """Adds how our time grows from the base of ``growth``, and how near forced kernels come to their floors."""
    base = {row.threads: row for row in rows if row.case == "growth, base"}
    return [
        replace(row, extra={**row.extra, **times_of_base(row, base.get(row.threads)), **shares_of_floor(row)})
        for row in rows
    ]


def times_of_base(row: Row, base: Row | None) -> dict[str, float]:
    return {"times_of_base": row.seconds() / base.seconds()} if base and row.case.startswith("growth, ") else {}


def shares_of_floor(row: Row) -> dict[str, dict[str, float]]:
    """The rate of each forced kernel as a share of the highest rate that it could reach."""
    shares = {}
    for name, kernel in KERNELS.items():
        limit = floor(kernel, DTYPES[row.dtype])
        if name in row.samples and limit and row.work:
            rate = row.work / row.seconds(name) / 1e9
            shares[name] = rate / (row.ceiling_rate(f"mm {limit.product}") / limit.times)
    return {"share_of_floor": shares} if shares else {}


def own_problem(plan: Plan) -> Problem:
    """The problem of the custom shape.

    Raises:
        ValueError: it does not fit into memory, or asks for more than two best codes or more than there are.
    """
    shape = OWN_SHAPE | dict(plan.shape)
    problem = Problem("own", shape["N"], shape["K"], shape["D"], DTYPES[shape["dtype"]], shape["k"])
    if problem.k > min(2, problem.codes):
        raise ValueError(f"-k must be 1 or 2 and at most the codes, got {problem.k} for {problem.codes} codes")
    # Drawn in float32, converted, and converted back to float32 for the torch formulas.
    plan.check_memory((8 + problem.dtype.itemsize) * (problem.n + problem.codes) * problem.dim + 16.0 * problem.n)
    return problem


def measure(plan: Plan) -> Iterator[Row]:
    contestants = {
        name: contestant
        for name, contestant in known(plan.device).items()
        if contestant.package == OURS or (plan.wants(name, contestant.package) and version(contestant.package))
    }
    own = own_problem(plan) if plan.shape else None
    for threads in plan.rounds():
        if own:
            yield from measure_problem(own, contestants, plan, threads)
            continue
        for part in plan.parts:
            if part == "growth":
                yield from growth(plan, threads)
            elif part == "memory":
                if plan.number == 0 and threads == plan.threads[-1]:  # it takes minutes, and its bytes stay the same
                    yield memory_at_scale(plan, threads)
            else:
                present = {
                    name: contestant
                    for name, contestant in contestants.items()
                    if part == "headline" or not contestant.compiles
                }
                for problem in problems_of(part, plan):
                    yield from measure_problem(problem, present, plan, threads)


def problems_of(part: str, plan: Plan) -> list[Problem]:
    if plan.quick:
        return quick_problems(part, plan.device)
    return problems(part, log2_work(plan.device, quick=False), plan.device, plan.data_root is not None)


# --- Claims ----------------------------------------------------------------------------------------------------------


def least_speedup(row: Row, *prefixes: str) -> tuple[float, str] | None:
    """The speedup over the fastest contestant that is as precise, among those with these prefixes, if any."""
    return min(
        (
            (row.speedup(name), name)
            for name in row.others
            if name not in row.own
            and not row.notes.get(name, "").startswith(LESS_PRECISE)
            and (not prefixes or name.startswith(prefixes))
        ),
        default=None,
    )


def claims(rows: Sequence[Row]) -> list[Claim]:
    return [
        claim for threads in sorted({row.threads or 0 for row in rows}) for claim in claims_with(rows, threads or None)
    ]


def claims_with(rows: Sequence[Row], threads: int | None) -> Iterator[Claim]:
    """Every claim about the rows of one number of threads."""

    def rows_of(*parts: str) -> list[Row]:
        return [
            row for row in rows if row.threads == threads and row.case.split(",")[0] in parts and OURS in row.samples
        ]

    def at_least(text: str, factor: float, among: Sequence[Row], *peers: str) -> Claim:
        """The claim that ours is ``factor`` times as fast as the fastest peer in each of these rows."""
        speedups = [(*least, row.label) for row in among if (least := least_speedup(row, *peers))]
        if not speedups:
            return Claim(text, threads, None, "not measured")
        ratio, peer, label = min(speedups)
        return Claim(text, threads, ratio >= factor, f"{ratio:.2f}x {peer}, {label}")

    if rows[0].device == "cpu":
        for row in rows_of("headline"):
            share = row.share_of_ceiling()
            assert share is not None
            yield Claim("headline: 90 % of torch.mm", threads, share >= 0.9, f"{row.rate():.0f} GFLOP/s, {share:.0%}")
        yield at_least("headline: 5x faiss", 5, rows_of("headline"), "faiss")
        yield at_least("headline: 5x scikit-learn", 5, rows_of("headline"), "sklearn")
        yield at_least("headline: 2.5x the best torch formula", 2.5, rows_of("headline"), "torch")
    searches = rows_of("headline", "maps", "D", "K")
    yield at_least("headline, maps, D and K: never slower than the best peer", 1, searches)
    yield at_least("small N: never slower than the best torch formula", 1, rows_of("small-N"), "torch")
    for row in rows_of("memory"):
        peak, limit = row.extra["peak_extra_bytes"][OURS], row.extra["limit_bytes"]
        text = "N=1,000,000 K=65,536: extra memory below 64 MiB + 2x the codebook"
        yield Claim(text, threads, peak < limit, f"{peak / 2**20:.1f} of {limit / 2**20:.0f} MiB")


def default_parts(device: torch.device, quick: bool, has_images: bool) -> Sequence[str]:
    left_out = {"growth", "memory"} if quick else {"memory"} if device.type == "cuda" else set()
    return [name for name in PARTS if name not in left_out]


SUITE = Suite(
    name="bmu",
    summary="the search of best matching units against torch, scikit-learn, faiss, fastersom and others",
    parts=PARTS,
    default_parts=default_parts,
    options=(
        ROWS,
        CODES,
        DIM,
        Option("-k", "best codes of each row, 1 or 2"),
        Option("--dtype", "dtype of rows and codes", str, tuple(DTYPES)),
    ),
    measure=measure,
    contestants=lambda device: {name: contestant.package for name, contestant in known(device).items()},
    peers=versions,
    derived=derived,
    claims=claims,
)
