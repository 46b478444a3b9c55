"""Counts the work that is left to the CUDA search of ``ops.bmu`` after its first pass, on maps in training.

    python benchmarks/rescored_tiles.py --data-root DIR --json results.json     about 10 minutes on one thread
    python benchmarks/rescored_tiles.py --maps "blobs, 64 x 64"                 one map, which needs no data folder

The search computes approximate scores of each row and all codes on tensor cores, keeps the smallest of each tile of 64
consecutive codes, and scores a tile again in float32 only if a bound on the approximation's error does not rule out
that it holds the winner. How many tiles remain depends on how many codes are about as near as the winner, and therefore
on the data and the progress of the training. This script emulates the kernel's arithmetic on the CPU and counts the
tiles of a sample of rows, for the codebook that each epoch searches and for the final one. No GPU is needed.

If the first pass computes float32 differences, on the FP32 units, only rows whose next best code is within the rounding
of the best are scored again, in tiles of 128 codes. These counts use float64 scores in place of the float32 ones.

Shown for each codebook are the rescored tiles per row (mean and 99th percentile) and their share of all scores, and
after differences the share of uncertain rows and the share of all scores that these rows cost.

Maps are trained by the batch rule in ten epochs, from the plane of the principal components. The Gaussian neighborhood
shrinks from a quarter of the side to .5, the defaults of the estimator. The data:

- ``blobs``: rows around 50 centers in 60 features, as in the suite ``training``; also with the final width of the
  200 x 200 map there, with the two best codes searched, and searched in float16.
- ``mnist`` and ``fashion-mnist``: 784 pixels, or 50 principal components (with ``--data-root``).
- ``heavy tails``: some codes are far out, which widens the bound of the approximation's error for their tiles alone.
- ``tight blobs``, for which nothing is claimed: the bound grows with the norms of row and codes, and clusters much
  narrower than their distances gather many codes within it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.bench.claims import Claim, conclude
from somvae_ext.bench.maps import pixels, principal_components
from somvae_ext.bench.record import Record, command_line
from somvae_ext.bench.training_problems import CENTERS, blobs
from somvae_ext.machine import describe
from somvae_ext.som import Metric, WinnerSearch, initial_codebook, neighborhood_update, node_sums, schedule_value

TILE = 64  # consecutive codes
TILE_OF_DIFFERENCES = 128
ROUNDOFF = 2.0**-24  # u, the unit roundoff of float32
CODES_OF_THE_CENTER, MEANS_OF_THE_CENTER = 256, 8
MOST_PAIRS = 1 << 23  # of rows and codes scored at a time

FEATURES = 60  # of blobs
EPOCHS = 10
SIGMA_FINAL = 0.5  # default of the estimator
SIGMA_FINAL_OF_LARGE = 11.8  # of the 200 x 200 map of the suite `training`
FIRST_ROWS = 1 << 16  # rows from which the principal components are computed

MOST_TILES = 8  # on average
MOST_TILES_AT_P99 = 24
MOST_OF_THE_WORK = 0.03


# --- The kernel's arithmetic -----------------------------------------------------------------------------------------


class Scores(NamedTuple):
    """Approximate scores: squared distances minus |z'|^2, with an error of at most ``beta``. All are float32.

    Attributes:
        value: ``[N, K]``; infinite where it would be NaN.
        row_norm: |z'|^2, ``[N]``.
        q: (|z'| + max |e'|)^2 over a tile's codes, the scale of the rounding errors, ``[N, tiles]``.
        beta: ``[N, tiles]``.
        margin: beta plus the rounding of its use, ``[N, tiles]``; infinite where a score may have overflowed.
    """

    value: Tensor
    row_norm: Tensor
    q: Tensor
    beta: Tensor
    margin: Tensor


class Split(NamedTuple):
    """float32 numbers times ``scale``, a power of two, as sums of two float16 numbers."""

    high: Tensor
    low: Tensor
    scale: Tensor


def split(x: Tensor, largest: Tensor) -> Split:
    """Scales so that ``largest``, ``[N, 1]``, lies in [2^14, 2^15), and splits ``x`` ``[N, D]``."""
    exponent = torch.frexp(largest).exponent - 1  # floor(log2)
    scale = torch.ldexp(torch.ones_like(largest), (14 - exponent).clamp(-113, 62))
    scaled = x * scale
    high = scaled.half()
    return Split(high, (scaled - high.float()).half(), scale)


def center_of(codebook: Tensor) -> Tensor:
    """Returns the lower median of eight means per feature, ``[D]``.

    Each mean is over the finite values in every eighth of up to 256 codes, which are spread over the codebook.
    """
    count = min(len(codebook), CODES_OF_THE_CENTER)
    chosen = codebook[torch.arange(count) * len(codebook) // count].double()
    finite = chosen.where(chosen.isfinite(), torch.nan)
    means = torch.stack([finite[group::MEANS_OF_THE_CENTER].nanmean(dim=0) for group in range(MEANS_OF_THE_CENTER)])
    return means.float().nanmedian(dim=0).values.nan_to_num(nan=0.0)


def tiled(values: Tensor, fill: float, size: int = TILE) -> Tensor:
    """The last dimension cut into tiles, ``[..., tiles, size]``; the last is padded with ``fill``."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[-1] % size), value=fill)
    return padded.unflatten(-1, (-1, size))


def approximate_scores(z: Tensor, codebook: Tensor, error: Tensor | None = None) -> Scores:
    """The first pass: scores by products of float16 (float32 input) or of the input's type (16-bit input).

    Args:
        z: rows, float32, float16 or bfloat16 ``[N, D]``.
        codebook: of the same type, ``[K, D]``.
        error: error of the tensor cores in each dot product, ``[N, K]``, from -1 to 1 in units of the largest that
            ``beta`` allows; by default none, since sums are taken in float64.
    """
    dim, is_split = z.shape[1], z.dtype == torch.float32
    if is_split:
        center = center_of(codebook)
        z, codebook = z - center, codebook - center
    rows, codes = z.float(), codebook.float()
    finite = codes.isfinite().all(dim=1)
    code_norm = codes.double().square().sum(dim=1).float()
    row_norm = rows.square().sum(dim=1)
    largest_norm = tiled(code_norm.where(finite, 0), 0).amax(dim=1)
    radius = (row_norm * (1 + (dim / 32 + 8) * ROUNDOFF)).sqrt()
    q = (radius[:, None] + largest_norm.sqrt()).square()

    constant = 48 + dim / 32 if is_split else 76 + dim / 64
    beta = constant * ROUNDOFF * q + dim * 2.0**-120
    margin = (1.01 * (beta + 4 * ROUNDOFF * q)).where(4 * q < math.inf, math.inf)
    dot = split_products(rows, codes, finite) if is_split else rows.double() @ codes.double().T
    if error is not None:
        # The dot product counts twice. The emulated part is off by at most 10 u Q: 2 from centering, 6 from the halves,
        # 1 from the norm and 1 from the score itself. 12 leaves room.
        of_codes = q.double().repeat_interleave(TILE, dim=1)[:, : len(codes)]
        dot += error.double() * ((constant - 12) / 2 * ROUNDOFF * of_codes)
    value = (code_norm.double() - 2 * dot).float()
    return Scores(value.nan_to_num(nan=math.inf, posinf=math.inf, neginf=math.inf), row_norm, q, beta, margin)


def split_products(rows: Tensor, codes: Tensor, finite: Tensor) -> Tensor:
    """Dot products as hi hi' + hi lo' + lo hi', summed in float64, ``[N, K]``. The codes of a tile share a scale."""
    z = split(rows, rows.abs().amax(dim=1, keepdim=True))
    largest = tiled(codes.abs().amax(dim=1).where(finite, 0), 0).amax(dim=1)
    e = split(codes, largest.repeat_interleave(TILE)[: len(codes), None])
    left = torch.cat([z.high, z.low], dim=1).double()
    right = torch.cat([e.high.double() + e.low.double(), e.high.double()], dim=1)
    return (left @ right.T) / (z.scale.double() * e.scale.double().T)


def exact_scores(z: Tensor, codes: Tensor) -> Tensor:
    """Squared distances by float32 differences, of rows ``[N, D]`` to their own codes ``[N, M, D]``: ``[N, M]``."""
    return (z.float()[:, None] - codes.float()).square().sum(dim=2)


def rescored_tiles(z: Tensor, codebook: Tensor, scores: Scores, k: int = 1) -> Tensor:
    """Which tiles are scored again for which rows, bool ``[N, ceil(K / 64)]``.

    Args:
        z: rows ``[N, D]``.
        codebook: ``[K, D]``.
        scores: their approximate scores.
        k: number of best codes that are searched, 1 or 2.
    """
    n, dim = z.shape
    least = tiled(scores.value, math.inf).amin(dim=2)

    # Limit by approximate scores alone: k tiles each hold a code that is no worse than the k-th smallest of these.
    most = least + scores.margin
    best = most.argmin(dim=1)
    limit = most.sort(dim=1).values[:, k - 1] if k <= least.shape[1] else torch.full((n,), math.inf)

    # Limit by float32 scores in the row's best tile, which is scored first.
    numbers = best[:, None] * TILE + torch.arange(TILE)
    exact = exact_scores(z, codebook[numbers.clamp_max(len(codebook) - 1)])
    exact = exact.masked_fill(numbers >= len(codebook), math.inf)
    kth = exact.nan_to_num(nan=math.inf, posinf=math.inf).sort(dim=1).values[:, k - 1]
    bound = kth * (1 + 2.1 * (dim + 2) * ROUNDOFF)
    q_of_best = scores.q.gather(1, best[:, None])[:, 0]
    second = bound - scores.row_norm + 1.01 * (dim / 32 + 16) * ROUNDOFF * q_of_best
    limit = second.where(second < limit, limit)

    chosen = ~(least - scores.margin > limit[:, None])
    return chosen.scatter(1, best[:, None], True)


def uncertain_tiles(z: Tensor, codebook: Tensor, k: int = 1) -> Tensor:
    """How many tiles of 64 a first pass of float32 differences leaves per row, int64 ``[N]``; 0 for certain rows."""
    limit_factor = rounding(z.shape[1] + 2, ROUNDOFF) * rounding(z.shape[1] + 2, 2.0**-53)
    center = codebook.double().mean(dim=0)  # preserves the digits of differences
    rows, codes = z.double() - center, codebook.double() - center
    score = rows.square().sum(dim=1, keepdim=True) + codes.square().sum(dim=1) - 2 * rows @ codes.T
    least = score.clamp_min(0).topk(k + 1, largest=False).values
    limit = least[:, k - 1] * limit_factor
    uncertain = least[:, k] <= limit
    can_win = tiled(score, math.inf, TILE_OF_DIFFERENCES).amin(dim=2) <= limit[:, None]
    return TILE_OF_DIFFERENCES // TILE * can_win.sum(dim=1) * uncertain


def rounding(operations: int, roundoff: float) -> float:
    """(1 + g) / (1 - g) for the relative error g of so many roundings."""
    g = operations * roundoff / (1 - operations * roundoff)
    return (1 + g) / (1 - g)


@dataclass(frozen=True)
class Work:
    """The work that is left to the search of some rows after its first pass."""

    tiles: Tensor  # rescored tiles of each row, int64 [N]
    uncertain: Tensor  # tiles that a first pass of differences leaves, of each row, int64 [N]
    codes: int

    @property
    def mean(self) -> float:
        return self.tiles.double().mean().item()

    @property
    def p99(self) -> int:
        return int(self.tiles.double().quantile(0.99, interpolation="higher"))

    @property
    def share(self) -> float:
        """The share of all scores computed again; the last tile counts as full."""
        return TILE * self.mean / self.codes

    @property
    def share_of_uncertain(self) -> float:
        """The share of all scores computed again after a first pass of differences."""
        return TILE * self.uncertain.double().mean().item() / self.codes

    @property
    def uncertain_rows(self) -> float:
        """The share of rows that a first pass of differences leaves uncertain."""
        return (self.uncertain > 0).double().mean().item()


def remaining_work(z: Tensor, codebook: Tensor, k: int = 1) -> Work:
    """The work left to the search of rows ``z`` ``[N, D]`` for their ``k`` best codes."""
    tiles, uncertain = [], []
    for block in z.split(max(1, MOST_PAIRS // len(codebook))):
        scores = approximate_scores(block, codebook)
        tiles.append(rescored_tiles(block, codebook, scores, k).sum(dim=1))
        uncertain.append(uncertain_tiles(block, codebook, k))
    return Work(torch.cat(tiles), torch.cat(uncertain), len(codebook))


# --- Maps ------------------------------------------------------------------------------------------------------------


class Trained(NamedTuple):
    """A codebook ``[K, D]`` after some epochs; ``sigma`` is the width of the last one, None before the first."""

    epochs: int
    sigma: float | None
    codebook: Tensor


def training(x: Tensor, side: int, epochs: int = EPOCHS, sigma_final: float = SIGMA_FINAL) -> Iterator[Trained]:
    """Trains a batch map of rows ``x`` ``[N, D]`` on ``side`` x ``side`` nodes; yields its start and every epoch."""
    grid = Grid(side, side)
    codebook, winners = initial_codebook(x[:FIRST_ROWS], grid, "pca"), None
    yield Trained(0, None, codebook)
    for epoch in range(epochs):
        winners = WinnerSearch(codebook, grid, Metric()).search(x, hint=winners).index
        total, count = node_sums(x, winners, grid.num_nodes)
        sigma = schedule_value("exponential", epoch, epochs, side / 4, sigma_final)
        codebook = neighborhood_update(codebook, total, count, grid, "gaussian", sigma)
        yield Trained(epoch + 1, sigma, codebook)


def blob_rows(rows: int, spread: float = 1.0) -> Tensor:
    """Rows ``[N, 60]`` around 50 centers; ``spread`` relative to that of the suite ``training``."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(CENTERS, FEATURES, generator=generator)
    return blobs(rows, centers / spread, generator) * spread


def heavy_tailed_rows(rows: int) -> Tensor:
    """Rows ``[N, 60]`` of a multivariate Student distribution of two degrees of freedom."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(rows, FEATURES, generator=generator)
    chi = torch.randn(rows, 2, generator=generator).norm(dim=1, keepdim=True) / 2**0.5
    return normal / chi


DRAWN: dict[str, Callable[[int], Tensor]] = {
    "blobs": blob_rows,
    "tight blobs": lambda rows: blob_rows(rows, spread=0.02),
    "heavy tails": heavy_tailed_rows,
}
IMAGES = ("mnist", "fashion-mnist")


@dataclass(frozen=True)
class Map:
    """A map to train, and the search on it whose work is counted."""

    data: str  # a key of DRAWN, or one of IMAGES
    side: int
    rows: int = 50_000
    components: int | None = None  # principal components of the images, None for their pixels
    sigma_final: float = SIGMA_FINAL
    k: int = 1
    dtype: torch.dtype = torch.float32
    claimed: bool = True

    @property
    def name(self) -> str:
        parts = [self.data]
        if self.data in IMAGES:
            parts.append(f"{self.components} components" if self.components else "pixels")
        parts.append(f"{self.side} x {self.side}")
        parts += [f"sigma to {self.sigma_final:g}"] if self.sigma_final != SIGMA_FINAL else []
        parts += ["two best"] if self.k == 2 else []
        parts += [str(self.dtype).removeprefix("torch.")] if self.dtype != torch.float32 else []
        return ", ".join(parts)


MAPS = [
    Map("blobs", 64, rows=20_000),
    Map("blobs", 128),
    Map("blobs", 200),
    Map("blobs", 200, sigma_final=SIGMA_FINAL_OF_LARGE),
    Map("blobs", 128, k=2),
    Map("blobs", 128, dtype=torch.float16),
    *(
        Map(data, side, rows=60_000, components=components)
        for data in IMAGES
        for components in (50, None)
        for side in (64, 128)
    ),
    Map("heavy tails", 128),
    Map("tight blobs", 128, claimed=False),
]


@lru_cache(maxsize=1)
def training_rows(data: str, rows: int, components: int | None, root: Path | None) -> Tensor:
    """The rows to train on, float32 ``[N, D]``; cached for the next map of the same data."""
    if data in DRAWN:
        return DRAWN[data](rows)
    if root is None:
        raise ValueError(f"maps of {data} need --data-root")
    x = pixels(data, root)[:rows]
    return principal_components(x, components) if components else x


# --- Counting --------------------------------------------------------------------------------------------------------

AVERAGED = ("mean_tiles", "p99_tiles", "share_of_the_work", "differences_share_of_the_work")


def measure(problem: Map, x: Tensor, sample: int, record: Record) -> dict[str, Any]:
    """Trains a map and counts on each of its codebooks; the entry grows in the record with every epoch."""
    entry: dict[str, Any] = {
        "map": problem.name,
        "data": problem.data,
        "rows": len(x),
        "dim": x.shape[1],
        "side": problem.side,
        "sigma_final": problem.sigma_final,
        "k": problem.k,
        "dtype": str(problem.dtype).removeprefix("torch."),
        "claimed": problem.claimed,
        "epochs": [],
    }
    record.add("maps", entry)
    searched = x[:: max(1, len(x) // sample)][:sample].to(problem.dtype)
    print(f"\n{problem.name}: {len(x)} x {x.shape[1]}, {len(searched)} rows counted\n{EPOCH_HEADER}")
    for trained in training(x, problem.side, sigma_final=problem.sigma_final):
        work = remaining_work(searched, trained.codebook.to(problem.dtype), problem.k)
        epoch = {
            "epochs_trained": trained.epochs,
            "sigma": trained.sigma,
            "mean_tiles": work.mean,
            "p99_tiles": work.p99,
            "most_tiles": int(work.tiles.max()),
            "share_of_the_work": work.share,
            "differences_uncertain_rows": work.uncertain_rows,
            "differences_share_of_the_work": work.share_of_uncertain,
        }
        entry["epochs"].append(epoch)
        record.write()
        show_epoch(epoch)
    entry["mean_over_epochs"] = {
        name: math.fsum(epoch[name] for epoch in entry["epochs"]) / len(entry["epochs"]) for name in AVERAGED
    }
    entry["worst_epoch"] = max(entry["epochs"], key=lambda epoch: epoch["mean_tiles"])
    record.write()
    return entry


def claims_of(problem: Map, entry: dict[str, Any]) -> Iterator[Claim]:
    """The claims about every codebook of a map."""
    most: list[tuple[str, str, float, str]] = [
        (f"at most {MOST_TILES} tiles rescored on average", "mean_tiles", MOST_TILES, ".2f"),
        (f"at most {MOST_TILES_AT_P99} tiles rescored for 99 % of rows", "p99_tiles", MOST_TILES_AT_P99, ".0f"),
    ]
    text = f"at most {MOST_OF_THE_WORK:.0%} of the scores computed again"
    most.append((text, "share_of_the_work", MOST_OF_THE_WORK, ".2%"))
    most.append((f"{text}, after differences", "differences_share_of_the_work", MOST_OF_THE_WORK, ".2%"))
    for text, name, limit, form in most:
        worst = max(entry["epochs"], key=lambda epoch: epoch[name])
        when = f"after epoch {worst['epochs_trained']}" if worst["epochs_trained"] else "at the start"
        yield Claim(f"{problem.name}: {text}", None, worst[name] <= limit, f"{worst[name]:{form}} {when}")


# --- Output ----------------------------------------------------------------------------------------------------------

EPOCH_HEADER = f"  {'epochs':>6}{'sigma':>8}{'mean':>9}{'p99':>6}{'most':>6}{'work':>8}   differences: rows    work"


def show_epoch(epoch: dict[str, Any]) -> None:
    sigma = "start" if epoch["sigma"] is None else f"{epoch['sigma']:.2f}"
    print(
        f"  {epoch['epochs_trained']:6}{sigma:>8}{epoch['mean_tiles']:9.2f}{epoch['p99_tiles']:6}"
        f"{epoch['most_tiles']:6}{epoch['share_of_the_work']:8.2%}{epoch['differences_uncertain_rows']:20.1%}"
        f"{epoch['differences_share_of_the_work']:8.2%}",
        flush=True,
    )


def show_summary(entries: list[dict[str, Any]]) -> None:
    print(
        f"\nrescored tiles of {TILE} codes per row, over all epochs and in the worst of them\n"
        f"  {'map':42}{'mean':>7}{'p99':>7}{'work':>8}{'differences':>13}"
        f"   worst:{'epochs':>7}{'mean':>8}{'p99':>5}{'work':>8}"
    )
    for entry in entries:
        mean, worst = entry["mean_over_epochs"], entry["worst_epoch"]
        print(
            f"  {entry['map']:42}{mean['mean_tiles']:7.2f}{mean['p99_tiles']:7.1f}{mean['share_of_the_work']:8.2%}"
            f"{mean['differences_share_of_the_work']:13.2%}{worst['epochs_trained']:16}{worst['mean_tiles']:8.2f}"
            f"{worst['p99_tiles']:5}{worst['share_of_the_work']:8.2%}" + ("" if entry["claimed"] else "   not claimed")
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [problem.name for problem in MAPS]
    parser.add_argument(
        "--data-root", type=Path, help="folder with MNIST/raw and FashionMNIST/raw (default: no maps of images)"
    )
    parser.add_argument("--maps", nargs="+", choices=names, metavar="MAP", help=f"of {'; '.join(names)} (default: all)")
    parser.add_argument("--sample", type=int, default=2000, help="rows to count on (default: 2000)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = [problem for problem in MAPS if arguments.maps is None or problem.name in arguments.maps]
    if arguments.data_root is None:
        if arguments.maps and any(problem.data in IMAGES for problem in chosen):
            parser.error("maps of images need --data-root")
        chosen = [problem for problem in chosen if problem.data not in IMAGES]
        print("without --data-root, maps of images are left out")

    record = Record(
        arguments.json, machine=describe(), command=command_line(), tile=TILE, sample=arguments.sample, maps=[]
    )
    made: list[Claim] = []
    for problem in chosen:
        x = training_rows(problem.data, problem.rows, problem.components, arguments.data_root)
        entry = measure(problem, x, arguments.sample, record)
        made += claims_of(problem, entry) if problem.claimed else []
    show_summary(record.contents["maps"])
    conclude(record, made)


if __name__ == "__main__":
    main()
