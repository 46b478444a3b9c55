"""BMUIndex, the exact pruned search, on trained maps against the plain search.

For each data set and width (784 pixels, 50 principal components) and each side of a square map:

- a batch map is trained from its principal plane in 12 epochs, while the Gaussian neighborhood shrinks from a quarter
  of the side to .7. In each epoch both searches find the winners (``fit``). The pruned one takes the winners of the
  epoch before as hints, and its time includes building the index;
- on the trained map, the pruned search is timed against the plain one, with and without hints and including building
  the index. All winners and distances are compared.

Then the same is measured on latents of a SOM-VAE after one epoch, whose codes learn by gradients and not by averages.
The index prunes only on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from somvae_ext import Grid, ops
from somvae_ext.bench.ceilings import product_beside
from somvae_ext.bench.maps import pixels, principal_components, rows_on_a_sheet
from somvae_ext.bench.rows import Row
from somvae_ext.bench.suite import DIM, ROWS, SIDE, Plan, Suite
from somvae_ext.bench.timing import interleaved, now
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.ops import BMUIndex

HINTED = "BMUIndex, hinted"
PLAIN = "ops.bmu"
EPOCHS = 12
NARROWEST = 0.7  # final width of the neighborhood, in nodes
LARGEST = 784 * 128 * 128  # values of a codebook; beyond that, a plain search takes half a minute
CPU = torch.device("cpu")
SHEET = {"N": 60_000, "side": 64, "D": 50}  # also the defaults of a custom shape
QUICK_SHEETS = [{"N": 10_000, "side": 32, "D": 16}, {"N": 10_000, "side": 48, "D": 50}]
SIDES, DIMS = (64, 128, 256), (50, 784)
LATENT_SIDES = (32, 64)
PARTS = {
    "sheet": "rows near a smooth sheet, which need no data",
    "mnist": "pixels and principal components",
    "fashion-mnist": "pixels and principal components",
    "latents": "latents of MNIST in a SOM-VAE that was trained for an epoch",
}


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """Smooths ``[side, side, D]`` with a Gaussian along both axes."""
    steps = torch.arange(len(values), dtype=values.dtype)
    weights = torch.exp(-((steps[:, None] - steps) ** 2) / (2 * sigma**2))
    along_rows = (weights @ values.flatten(1)).view_as(values)
    return weights @ along_rows


def plane(x: Tensor, side: int) -> Tensor:
    """The initial codebook: a plane along the first two principal directions."""
    centered = x - x.mean(dim=0)
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(x))
    first, second = (vectors[:, -n] * values[-n].sqrt() for n in (1, 2))
    steps = torch.linspace(-1.5, 1.5, side)[:, None]
    return (x.mean(dim=0) + steps[:, None] * first + steps * second).view(side * side, -1)


def fit(x: Tensor, side: int, epochs: int = EPOCHS) -> tuple[Tensor, dict[str, Any]]:
    """Trains a map. In every epoch both searches find the winners, one after the other."""
    grid, codebook, hint = Grid(side, side), plane(x, side), None
    plain, pruned, equal = [], [], True
    for epoch in range(epochs):
        start = now(CPU)
        result = BMUIndex(codebook, grid).search(x, hint=hint)
        middle = now(CPU)
        expected = ops.bmu(x, codebook)
        plain.append(now(CPU) - middle)
        pruned.append(middle - start)
        equal = equal and torch.equal(expected.index, result.index)
        hint = result.index
        sums, counts = ops.segment_sum(x, hint, grid.num_nodes)
        widest = side / 4
        sigma = widest * (NARROWEST / widest) ** (epoch / max(1, epochs - 1))
        weighted = smoothed(sums.view(side, side, -1), sigma)
        weights = smoothed(counts.to(x.dtype).view(side, side, 1), sigma)
        codebook = (weighted / weights.clamp_min(1e-12)).view(grid.num_nodes, -1)
    return codebook, {
        "plain_seconds": plain,
        "pruned_seconds": pruned,
        "gain": sum(plain) / sum(pruned),
        "gain_by_epoch": [a / b for a, b in zip(plain, pruned, strict=True)],
        "winners_equal": equal,
    }


def compare(data: str, x: Tensor, codebook: Tensor, side: int, plan: Plan, threads: int | None) -> Row:
    """Times the plain and the pruned search of all rows ``[N, D]`` in turns.

    Raises:
        AssertionError: their winners or distances differ.
    """
    grid = Grid(side, side)
    expected = ops.bmu(x, codebook)
    built = BMUIndex(codebook, grid)
    result = built.search(x)
    if not (torch.equal(expected.index, result.index) and torch.equal(expected.distance, result.distance)):
        raise AssertionError(f"the pruned search has other winners or distances than {PLAIN} on {data}")
    work = 2.0 * len(x) * len(codebook) * x.shape[1]  # of the plain search
    product = product_beside(work, CPU)
    runs: dict[str, Callable[[], Any]] = {
        HINTED: lambda: BMUIndex(codebook, grid).search(x, hint=expected.index),
        "BMUIndex": lambda: BMUIndex(codebook, grid).search(x),
        "BMUIndex, built before": lambda: built.search(x),
        PLAIN: lambda: ops.bmu(x, codebook),
    }
    return Row(
        suite="pruned",
        case=data,
        size={"N": len(x), "side": side, "D": x.shape[1]},
        threads=threads,
        samples=interleaved({**runs, product.name: product.run}, CPU, plan.repetitions),
        own=list(runs),
        work=work,
        ceilings={product.name: product.work},
        extra={"chosen": "pruned" if built.prunes() else "plain"},
    )


def measure_sheet(name: str, size: dict[str, int], plan: Plan, threads: int | None) -> Row:
    n, side, dim = size["N"], size["side"], size["D"]
    x = rows_on_a_sheet(n, dim, CPU)
    return measure_map(name, x, side, plan, threads)


def measure_map(name: str, x: Tensor, side: int, plan: Plan, threads: int | None) -> Row:
    """Trains a map with both searches, and compares them on the trained map."""
    codebook, epochs = fit(x, side, EPOCHS // 4 if plan.quick else EPOCHS)
    if not epochs["winners_equal"]:
        raise AssertionError(f"the pruned search has other winners than {PLAIN} in an epoch on {name}")
    row = compare(name, x, codebook, side, plan, threads)
    return Row(**(vars(row) | {"extra": {**row.extra, "fit": epochs}}))


def somvae_latents(root: Path, side: int) -> tuple[Tensor, Tensor]:
    """Latents of 60,000 digits and the codebook of a SOM-VAE after an epoch."""
    torch.manual_seed(0)
    images = pixels("mnist", root).view(-1, 1, 28, 28)
    model = SOMVAE(SOMVAEConfig(input_shape=(1, 28, 28), rows=side, cols=side, init="kmeans"))
    model.initialize_codebook(images[:20000])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for batch in DataLoader(cast(Any, images), batch_size=128, shuffle=True):
        optimizer.zero_grad()
        model.loss(model(batch), batch).total.backward()
        optimizer.step()
    with torch.no_grad():
        latents = torch.cat([model.encode(batch) for batch in images.split(4096)])
    return latents, model.quantizer.codebook.detach()


def measure(plan: Plan) -> Iterator[Row]:
    if plan.device.type == "cuda":
        raise ValueError("pruned is for --device cpu: on a GPU BMUIndex searches all codes")
    if plan.shape:
        size = SHEET | dict(plan.shape)
        if size["D"] < 2 or size["side"] < 2 or size["N"] < 2:
            raise ValueError("-N, --side and -D must be at least 2, since a map is laid along two directions of rows")
        codes = size["side"] ** 2
        # Rows and their centered copy; codes, sums and buffers of the smoothing; the covariance of the rows.
        plan.check_memory(4.0 * (3 * size["N"] * size["D"] + 8 * codes * size["D"] + 3 * size["D"] ** 2))
        for threads in plan.rounds():
            yield measure_sheet("own", size, plan, threads)
        return
    for threads in plan.rounds():
        for part in plan.parts:
            yield from measure_part(part, plan, threads)


def measure_part(part: str, plan: Plan, threads: int | None) -> Iterator[Row]:
    if part == "sheet":
        for size in QUICK_SHEETS if plan.quick else [SHEET, SHEET | {"side": 128}]:
            yield measure_sheet("sheet", size, plan, threads)
        return
    if plan.data_root is None:
        raise ValueError(f"--only {part} needs --data-root, the folder with MNIST/raw and FashionMNIST/raw")
    if part == "latents":
        for side in LATENT_SIDES[: 1 if plan.quick else None]:
            latents, codebook = somvae_latents(plan.data_root, side)
            yield compare("latents of a SOM-VAE", latents, codebook, side, plan, threads)
        return
    images = pixels(part, plan.data_root)
    for dim in DIMS:
        x = images if dim == images.shape[1] else principal_components(images, dim)
        for side in SIDES[: 1 if plan.quick else None]:
            if dim * side * side <= LARGEST:
                yield measure_map(part, x, side, plan, threads)


SUITE = Suite(
    name="pruned",
    summary="the exact pruned search of BMUIndex on trained maps against the plain search",
    parts=PARTS,
    default_parts=lambda device, quick, has_images: list(PARTS) if has_images else ["sheet"],
    options=(ROWS, SIDE, DIM),
    measure=measure,
    contestants=lambda device: {},
)
