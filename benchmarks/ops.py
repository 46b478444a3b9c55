"""Times every op against plain torch, forward and forward + backward, in one process.

    python benchmarks/ops.py                                   on the CPU, 5 to 10 minutes
    python benchmarks/ops.py --device cuda --json results.json
    python benchmarks/ops.py --quick --ops bmu som_losses      small sizes, few repetitions

Three contestants: ``somvae_ext``, ``torch`` (the vectorised formula that a user of torch would write) and
``reference`` (the op's own ``*_reference``, written for reading; only at sizes that it can hold). ``row_adam`` is a
step of RowAdam beside torch's optimizers; ``bmu_index`` is a search of a trained map, its index included, beside
``ops.bmu``. They take turns, one repetition each, so that a machine that slows down slows all of them, and the medians
are compared. A repetition calls a fast contestant many times over. On CUDA it is timed by events.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import describe
from maps import rows_on_a_sheet, trained_codes
from record import Record
from timing import checked_device, interleaved, square_product
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.optim import RowAdam

REFERENCE_ELEMENTS = 1 << 27  # of N * K * D: beyond this the references take seconds and gigabytes


@dataclass(frozen=True)
class Case:
    """One op at one size: what each contestant computes from the same inputs."""

    op: str
    size: dict[str, int | float | bool]
    inputs: tuple[Tensor, ...]  # those that receive gradients, if any
    contestants: dict[str, Callable[..., Tensor]]  # of the inputs; the result is differentiated
    work: float  # floating-point operations or bytes of a forward pass
    unit: str  # "GFLOP/s" or "GB/s"


# --- What plain torch does -------------------------------------------------------------------------------------------


def torch_winners(z: Tensor, codebook: Tensor) -> Tensor:
    """|e|^2 / 2 - z.e for a block of rows at a time, so never N x K."""
    with torch.no_grad():
        half_norms = codebook.square().sum(dim=1) / 2
        index = torch.empty(len(z), dtype=torch.int64, device=z.device)
        block = 256 if z.device.type == "cpu" else 8192
        scores = torch.empty(block, len(codebook), dtype=z.dtype, device=z.device)
        for start in range(0, len(z), block):
            rows = z[start : start + block]
            torch.addmm(half_norms, rows, codebook.T, alpha=-1, out=scores[: len(rows)])
            index[start : start + block] = scores[: len(rows)].argmin(dim=1)
    return index


def torch_bmu(z: Tensor, codebook: Tensor) -> Tensor:
    return (z - codebook[torch_winners(z, codebook)]).square().sum(dim=1)


def torch_gather(codebook: Tensor, index: Tensor, neighbors: Tensor) -> Tensor:
    """Gathers from a codebook with a row of zeros at its end, which absent neighbours point to."""
    nodes = torch.cat([index[:, None], neighbors[index]], dim=1)
    return F.embedding(nodes.where(nodes >= 0, len(codebook)), F.pad(codebook, (0, 0, 0, 1)))


def torch_losses(z: Tensor, codebook: Tensor, index: Tensor, neighbors: Tensor) -> Tensor:
    codes = torch_gather(codebook, index, neighbors)
    commitment = (z - codes[:, 0]).square().sum(dim=1)
    return commitment + (z.detach()[:, None] - codes).square().sum(dim=(1, 2))


def torch_head(z: Tensor, codebook: Tensor, neighbors: Tensor) -> Tensor:
    index = torch_winners(z, codebook)
    return F.embedding(index, codebook).sum(dim=1) + torch_losses(z, codebook, index, neighbors)


def torch_transition(logits: Tensor, prev: Tensor, cur: Tensor) -> Tensor:
    return F.log_softmax(logits[prev], dim=1).gather(1, cur[:, None]).squeeze(1)


def torch_expected_distance(logits: Tensor, z: Tensor, codebook: Tensor, prev: Tensor) -> Tensor:
    distances = torch.cdist(z, codebook).square()
    return (F.softmax(logits[prev], dim=1) * distances).sum(dim=1)


def torch_local_transition(
    logits: Tensor, z: Tensor, codebook: Tensor, prev: Tensor, cur: Tensor, grid: Grid, radius: int
) -> Tensor:
    """Expected distance less log-probability: the codes of each row's window gathered, the others by their moments."""
    near = grid.window_nodes(radius, prev)
    here, outside = near >= 0, (grid.num_nodes - (near >= 0).sum(dim=1)).clamp_min(1)
    log_probs = F.log_softmax(F.embedding(prev, logits).masked_fill(F.pad(~here, (0, 1)), -torch.inf), dim=1)
    probs = log_probs.exp()
    inside = (z[:, None] - F.embedding(near.clamp_min(0), codebook)).square().sum(dim=2) * here
    squares, sums = codebook.square().sum(), codebook.sum(dim=0)
    everywhere = grid.num_nodes * z.square().sum(dim=1) - 2 * z @ sums + squares
    beyond = (everywhere - inside.sum(dim=1)) / outside
    expected = (probs[:, :-1] * inside).sum(dim=1) + probs[:, -1] * beyond
    reached = (near == cur[:, None]) & here
    to_near = (log_probs[:, :-1].masked_fill(~reached, 0)).sum(dim=1)
    return expected - torch.where(reached.any(dim=1), to_near, log_probs[:, -1] - outside.log())


# --- The cases -------------------------------------------------------------------------------------------------------


def cases(names: list[str], device: torch.device, quick: bool) -> Iterator[Case]:
    """Every case of the named ops, built one at a time."""
    makers = {
        "bmu": (bmu_case, [(2048, 1024, 32)] if quick else [(4096, 1024, 64), (16384, 4096, 64), (4096, 4096, 784)]),
        "som_gather": (som_gather_case, [(2048, 32, 32)] if quick else [(8192, 32, 64), (65536, 64, 64)]),
        "som_losses": (som_losses_case, [(2048, 32, 32)] if quick else [(8192, 32, 64), (65536, 64, 64)]),
        "som_head": (som_head_case, [(256, 16, 32)] if quick else [(256, 8, 64), (256, 64, 64), (4096, 128, 64)]),
        "segment_sum": (
            segment_sum_case,
            [(2048, 1024, 32)]
            if quick
            else [(65536, 4096, 64), (65536, 256, 784), (1_000_000, 65536, 2), (1_000_000, 64, 16), (16384, 65536, 16)],
        ),
        "som_update": (
            som_update_case,
            [(16, 32, 4.0, True), (16, 32, 4.0, False)]
            if quick
            else [(32, 64, 8.0, True), (128, 784, 32.0, True), (128, 784, 0.7, True), (64, 64, 16.0, False)],
        ),
        "som_ema_update": (
            som_ema_update_case,
            [(16, 32, 4.0)]
            if quick
            else [(8, 64, 0.7), (32, 64, 16.0), (32, 64, 0.7), (128, 64, 64.0), (128, 64, 0.7)],
        ),
        "transition_log_prob": (
            transition_case,
            [(512, 256, False), (512, 256, True)] if quick else [(2048, 1024, False), (512, 4096, True)],
        ),
        "transition_losses": (
            transition_losses_case,
            [(512, 256, 32, True)] if quick else [(2048, 1024, 64, False), (512, 4096, 64, True)],
        ),
        "expected_distance": (
            expected_distance_case,
            [(512, 256, 32, True)] if quick else [(2048, 1024, 64, False), (512, 4096, 64, True)],
        ),
        "local_transition_losses": (
            local_transition_losses_case,
            [(64, 16, 4, 32)] if quick else [(256, 64, 8, 64), (256, 256, 8, 64), (4096, 256, 8, 64)],
        ),
        "row_adam": (row_adam_case, [(32, 256)] if quick else [(256, 4096), (256, 16384)]),
        "bmu_index": (bmu_index_case, [(2048, 16, 16)] if quick else [(60000, 64, 50), (60000, 128, 50)]),
    }
    for name in names:
        maker, sizes = makers[name]
        for size in sizes:
            yield maker(torch.Generator().manual_seed(0), device, *size)


def bmu_case(generator: torch.Generator, device: torch.device, n: int, k: int, d: int) -> Case:
    z, codebook = normal(generator, device, n, d), normal(generator, device, k, d)
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda z, codebook: ops.bmu(z, codebook).distance,
        "torch": torch_bmu,
    }
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda z, codebook: ops.bmu_reference(z, codebook).distance
    return Case("bmu", {"N": n, "K": k, "D": d}, (z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


def som_gather_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    codebook, index = normal(generator, device, grid.num_nodes, d), nodes(generator, device, n, grid.num_nodes)
    neighbors = grid.neighbors(device)
    return Case(
        "som_gather",
        {"N": n, "K": grid.num_nodes, "D": d},
        (codebook,),
        {
            "somvae_ext": lambda codebook: ops.som_gather(codebook, index, grid),
            "torch": lambda codebook: torch_gather(codebook, index, neighbors),
            "reference": lambda codebook: ops.som_gather_reference(codebook, index, grid),
        },
        work=2.0 * n * (1 + grid.num_slots) * d * codebook.element_size(),  # every code read and written
        unit="GB/s",
    )


def som_losses_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    z, codebook = normal(generator, device, n, d), normal(generator, device, grid.num_nodes, d)
    index, neighbors = nodes(generator, device, n, grid.num_nodes), grid.neighbors(device)
    return Case(
        "som_losses",
        {"N": n, "K": grid.num_nodes, "D": d},
        (z, codebook),
        {
            "somvae_ext": lambda z, codebook: sum(ops.som_losses(z, codebook, index, grid)),
            "torch": lambda z, codebook: torch_losses(z, codebook, index, neighbors),
            "reference": lambda z, codebook: sum(ops.som_losses_reference(z, codebook, index, grid)),
        },
        work=1.0 * n * (2 + grid.num_slots) * d * z.element_size(),  # z and every code read
        unit="GB/s",
    )


def som_head_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    grid = Grid(side, side)
    z, codebook = normal(generator, device, n, d), normal(generator, device, grid.num_nodes, d)
    neighbors = grid.neighbors(device)

    def total(head: ops.SOMHead) -> Tensor:
        return head.quantized.sum(dim=1) + head.commitment + head.som

    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda z, codebook: total(ops.som_head(z, codebook, grid)),
        "torch": lambda z, codebook: torch_head(z, codebook, neighbors),
    }
    if n * grid.num_nodes * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda z, codebook: total(ops.som_head_reference(z, codebook, grid))
    size = {"N": n, "K": grid.num_nodes, "D": d}
    return Case("som_head", size, (z, codebook), contestants, 2.0 * n * grid.num_nodes * d, "GFLOP/s")


def segment_sum_case(generator: torch.Generator, device: torch.device, n: int, k: int, d: int) -> Case:
    x, index = normal(generator, device, n, d), nodes(generator, device, n, k)
    return Case(
        "segment_sum",
        {"N": n, "K": k, "D": d},
        (x,),
        {
            "somvae_ext": lambda x: ops.segment_sum(x, index, k).sum,
            "torch": lambda x: torch.zeros(k, d, device=device).index_add(0, index, x),
            "reference": lambda x: ops.segment_sum_reference(x, index, k).sum,
        },
        work=1.0 * (n + k) * d * x.element_size(),
        unit="GB/s",
    )


def gaussian_axis(side: int, sigma: float, device: torch.device) -> Tensor:
    """Weights along an axis of a square map, float64 ``[side, side]``; zero where they are lost beside a node's own."""
    steps = torch.arange(side, dtype=torch.float64, device=device)
    return F.threshold(torch.exp(-(steps[:, None] - steps).square() / (2 * sigma**2)), 2.0**-53, 0.0)


def smoothed(axis: Tensor, values: Tensor) -> Tensor:
    """Rows ``[K, J]`` of a square map, weighed along its rows and then along its columns."""
    h = axis.to(values.dtype)
    side = len(h)
    along_rows = (h @ values.view(side, -1)).view(side, side, -1)
    return (h @ along_rows).view(len(values), -1)  # for each row, along its columns


def som_update_case(
    generator: torch.Generator, device: torch.device, side: int, d: int, sigma: float, separable: bool
) -> Case:
    """The batch map under a Gaussian; plain torch in float32, where it is fastest, and in float64, as the op sums."""
    k = side * side
    codebook, total = normal(generator, device, k, d), normal(generator, device, k, d)
    count = torch.randint(1, 100, (k,), generator=generator).to(device)
    axis = gaussian_axis(side, sigma, device)
    weights: Tensor | ops.AxisWeights = ops.AxisWeights(axis, axis[None, None]) if separable else torch.kron(axis, axis)

    def plain(dtype: torch.dtype) -> Tensor:
        num, den = (
            weights.to(dtype) @ values if isinstance(weights, Tensor) else smoothed(axis, values)
            for values in (total.to(dtype), count[:, None].to(dtype))
        )
        return torch.where(den > 0, num / den, codebook).to(codebook.dtype)

    return Case(
        "som_update",
        {"K": k, "D": d, "sigma": sigma, "separable": separable},
        (),
        {
            "somvae_ext": lambda: ops.som_update(codebook, total, count, weights),
            "torch": lambda: plain(torch.float32),
            "torch in float64": lambda: plain(torch.float64),
            "reference": lambda: ops.som_update_reference(codebook, total, count, weights),
        },
        work=2.0 * k * (2 * side if separable else k) * d,
        unit="GFLOP/s",
    )


def som_ema_update_case(generator: torch.Generator, device: torch.device, side: int, d: int, sigma: float) -> Case:
    """A step of an ordered map; plain torch smooths in float32, where it is fastest, and in float64, as the op does."""
    k, decay = side * side, 0.99
    sums = normal(generator, device, k, d)
    counts = torch.randint(0, 9, (k,), generator=generator).to(device)
    axis = gaussian_axis(side, sigma, device)
    weights = ops.AxisWeights(axis, axis[None, None])

    def state() -> list[Tensor]:
        return [sums.clone(), torch.ones(k, device=device), sums.clone()]

    states = {name: state() for name in ("somvae_ext", "torch", "torch in float64", "reference")}

    def plain(dtype: torch.dtype, codebook: Tensor, ema_counts: Tensor, ema_sums: Tensor) -> Tensor:
        ema_counts.lerp_(counts.to(ema_counts), 1 - decay)
        ema_sums.lerp_(sums, 1 - decay)
        num, den = (smoothed(axis, average.to(dtype)) for average in (ema_sums, ema_counts[:, None]))
        reached = den > 1e-3 * ema_counts.mean()
        return codebook.copy_(torch.where(reached, num / den, codebook))

    return Case(
        "som_ema_update",
        {"K": k, "D": d, "sigma": sigma},
        (),
        {
            "somvae_ext": lambda: ops.som_ema_update(
                *states["somvae_ext"], counts, sums, weights, decay=decay, least_share=1e-3
            ),
            "torch": lambda: plain(torch.float32, *states["torch"]),
            "torch in float64": lambda: plain(torch.float64, *states["torch in float64"]),
            "reference": lambda: ops.som_ema_update_reference(
                *states["reference"], counts, sums, weights, decay=decay, least_share=1e-3
            ),
        },
        work=2.0 * k * (2 * side) * d,
        unit="GFLOP/s",
    )


def transition_case(generator: torch.Generator, device: torch.device, n: int, k: int, sparse: bool) -> Case:
    logits = normal(generator, device, k, k)
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)
    return Case(
        "transition_log_prob",
        {"N": n, "K": k, "sparse_grad": sparse},
        (logits,),
        {
            "somvae_ext": lambda logits: ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse),
            "torch": lambda logits: torch_transition(logits, prev, cur),
            "reference": lambda logits: ops.transition_log_prob_reference(logits, prev, cur, sparse_grad=sparse),
        },
        work=1.0 * n * k * logits.element_size(),
        unit="GB/s",
    )


def expected_distance_case(
    generator: torch.Generator, device: torch.device, n: int, k: int, d: int, sparse: bool
) -> Case:
    logits, prev = normal(generator, device, k, k), nodes(generator, device, n, k)
    z, codebook = normal(generator, device, n, d), normal(generator, device, k, d)
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda logits, z, codebook: ops.expected_distance(logits, prev, z, codebook, sparse_grad=sparse),
        "torch": lambda logits, z, codebook: torch_expected_distance(logits, z, codebook, prev),
    }
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = lambda logits, z, codebook: ops.expected_distance_reference(
            logits, prev, z, codebook, sparse_grad=sparse
        )
    size = {"N": n, "K": k, "D": d, "sparse_grad": sparse}
    return Case("expected_distance", size, (logits, z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


def transition_losses_case(
    generator: torch.Generator, device: torch.device, n: int, k: int, d: int, sparse: bool
) -> Case:
    logits, z, codebook = (normal(generator, device, *shape) for shape in ((k, k), (n, d), (k, d)))
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)

    def fused(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse)
        return losses.expected_distance - losses.log_prob

    def plain(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        expectation = torch_expected_distance(logits, z, codebook, prev)
        return expectation - torch_transition(logits, prev, cur)

    def reference(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.transition_losses_reference(logits, prev, cur, z, codebook, sparse_grad=sparse)
        return losses.expected_distance - losses.log_prob

    contestants = {"somvae_ext": fused, "torch": plain}
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = reference
    size = {"N": n, "K": k, "D": d, "sparse_grad": sparse}
    return Case("transition_losses", size, (logits, z, codebook), contestants, 2.0 * n * k * d, "GFLOP/s")


def local_transition_losses_case(
    generator: torch.Generator, device: torch.device, n: int, side: int, radius: int, d: int
) -> Case:
    grid = Grid(side, side)
    slots, k = len(grid.window(radius).mirror), grid.num_nodes
    logits, z, codebook = (normal(generator, device, *shape) for shape in ((k, slots + 1), (n, d), (k, d)))
    prev, cur = nodes(generator, device, n, k), nodes(generator, device, n, k)

    def fused(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.local_transition_losses(logits, prev, cur, z, codebook, grid, radius, sparse_grad=True)
        return losses.expected_distance - losses.log_prob

    def plain(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        return torch_local_transition(logits, z, codebook, prev, cur, grid, radius)

    def reference(logits: Tensor, z: Tensor, codebook: Tensor) -> Tensor:
        losses = ops.local_transition_losses_reference(logits, prev, cur, z, codebook, grid, radius, sparse_grad=True)
        return losses.expected_distance - losses.log_prob

    contestants = {"somvae_ext": fused, "torch": plain}
    if n * k * d <= REFERENCE_ELEMENTS:
        contestants["reference"] = reference
    size = {"N": n, "K": k, "W": slots, "D": d}
    return Case("local_transition_losses", size, (logits, z, codebook), contestants, 2.0 * n * slots * d, "GFLOP/s")


def row_adam_case(generator: torch.Generator, device: torch.device, rows: int, k: int) -> Case:
    """A step on ``rows`` distinct rows of a K x K table; dense Adam, which passes over the whole table, beside it."""
    index = torch.randperm(k, generator=generator)[:rows].sort().values.to(device)
    values = normal(generator, device, rows, k)
    sparse = torch.sparse_coo_tensor(index[None], values, (k, k), is_coalesced=True, check_invariants=False)

    def step(make: Callable[[list[Tensor]], torch.optim.Optimizer], grad: Tensor) -> Callable[[], Tensor]:
        table = torch.zeros(k, k, device=device).requires_grad_()
        table.grad = grad
        optimizer = make([table])

        def run() -> Tensor:
            with torch.enable_grad():
                optimizer.step()
            return table

        return run

    contestants = {
        "somvae_ext": step(lambda tables: RowAdam(tables), sparse),
        "SparseAdam": step(lambda tables: torch.optim.SparseAdam(tables), sparse),
    }
    if k * k * 4 * 4 <= 1 << 32:  # table, gradient and two moments within 4 GiB
        contestants["Adam, fused"] = step(lambda tables: torch.optim.Adam(tables, fused=True), sparse.to_dense())
    # Each value of parameter and moments is read and written, that of the gradient read.
    return Case("row_adam", {"rows": rows, "K": k}, (), contestants, 7.0 * rows * k * values.element_size(), "GB/s")


def bmu_index_case(generator: torch.Generator, device: torch.device, n: int, side: int, d: int) -> Case:
    """A trained map. On CUDA a BMUIndex is ``ops.bmu``."""
    x = rows_on_a_sheet(n, d, device)
    codebook, grid = trained_codes(x, side), Grid(side, side)
    hint = ops.bmu(x, codebook).index
    contestants: dict[str, Callable[..., Tensor]] = {
        "somvae_ext": lambda: ops.BMUIndex(codebook, grid).search(x, hint=hint).distance,
        "ops.bmu": lambda: ops.bmu(x, codebook).distance,
    }
    return Case("bmu_index", {"N": n, "K": side**2, "D": d}, (), contestants, 2.0 * n * side**2 * d, "GFLOP/s")


def normal(generator: torch.Generator, device: torch.device, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator).to(device)


def nodes(generator: torch.Generator, device: torch.device, n: int, k: int) -> Tensor:
    return torch.randint(k, (n,), generator=generator).to(device)


# --- Measuring -------------------------------------------------------------------------------------------------------


def forward(contestant: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    def run() -> Tensor:
        with torch.no_grad():
            return contestant(*inputs)

    return run


def forward_backward(contestant: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def run() -> tuple[Tensor, ...]:
        output = contestant(*leaves)
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return run


def measure(case: Case, backward: bool, device: torch.device, repetitions: int) -> dict[str, Any]:
    """One row of the result: medians in seconds, how many times faster somvae_ext is, and its rate."""
    wrap = forward_backward if backward else forward
    runs = {name: wrap(contestant, case.inputs) for name, contestant in case.contestants.items()}
    product = square_product(device) if case.op == "bmu" and not backward else None
    if product:
        runs["mm"] = product.run
    times = interleaved(runs, device, repetitions)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = medians["somvae_ext"]
    result: dict[str, Any] = {
        "op": case.op,
        "size": case.size,
        "pass": "forward+backward" if backward else "forward",
        "seconds": medians,
        "fastest_and_slowest": {name: [min(values), max(values)] for name, values in times.items()},
        "speedup": {name: median / ours for name, median in medians.items() if name not in ("somvae_ext", "mm")},
    }
    if not backward:
        result["rate"], result["unit"] = case.work / ours / 1e9, case.unit
    if product:
        result["mm_rate"] = product.rate(medians["mm"])
        result["share_of_mm"] = result["rate"] / result["mm_rate"]
    return result


def line(result: dict[str, Any]) -> str:
    size = " ".join(f"{name}={value}" for name, value in result["size"].items())
    text = f"{result['op']:24} {size:34} {result['pass']:17} {result['seconds']['somvae_ext'] * 1e3:10.3f} ms"
    text += "".join(f"   {ratio:6.2f}x {name}" for name, ratio in result["speedup"].items())
    if "rate" in result:
        text += f"   {result['rate']:8.1f} {result['unit']}"
    if "share_of_mm" in result:
        text += f" ({result['share_of_mm']:.0%} of torch.mm)"
    return text


def main() -> None:
    names = [
        "bmu",
        "som_gather",
        "som_losses",
        "som_head",
        "segment_sum",
        "som_update",
        "som_ema_update",
        "transition_log_prob",
        "transition_losses",
        "expected_distance",
        "local_transition_losses",
        "row_adam",
        "bmu_index",
    ]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--ops", nargs="+", choices=names, default=names, metavar="OP", help=f"of {', '.join(names)}")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--repeat", type=int, help="repetitions (default: 15, 5 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one small size per op")
    parser.add_argument("--json", type=Path, help="write everything there, row by row")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = checked_device(parser, arguments.device)
    repetitions = arguments.repeat or (5 if arguments.quick else 15)

    machine = describe(arguments.device)
    where = machine["gpu"]["name"] if arguments.device == "cuda" else f"{machine['cpu']}, {machine['threads']} threads"
    print(f"{where}, torch {machine['torch']}: median of {repetitions}, and how many times faster than the others")
    record = Record(arguments.json, machine=machine, repetitions=repetitions, quick=arguments.quick, results=[])
    for case in cases(arguments.ops, device, arguments.quick):
        for backward in (False, True) if case.inputs else (False,):
            result = measure(case, backward, device, repetitions)
            record.add("results", result)
            print(line(result), flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
