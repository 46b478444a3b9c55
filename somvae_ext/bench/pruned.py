"""Times BMUIndex, the exact pruned search, on real maps against the plain search, in one process.

    python benchmarks/pruned_search.py --data-root DIR --json results.json     5 to 10 minutes on two cores
    python benchmarks/pruned_search.py --data-root DIR --sides 64 --datasets mnist

For each data set and width (784 pixels, 50 principal components) and each side of a square map:

- a batch map is trained from its principal plane, the Gaussian neighbourhood shrinking from a quarter of the side to .7
  in 12 epochs, on 60,000 rows; at each epoch both searches find the winners (``fit``: hinted by those of the epoch
  before, index building included);
- on the trained map the pruned search, index building included, with and without a hint, is timed against the plain
  one, and all winners and distances are compared.

Then the same on latents of a SOM-VAE that was trained for an epoch, where codes follow gradients and not averages.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from somvae_ext import Grid, ops
from somvae_ext.bench.maps import pixels, principal_components
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import interleaved
from somvae_ext.machine import describe
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.ops import BMUIndex

EPOCHS = 12
NARROWEST = 0.7  # of the neighbourhood, in nodes
LARGEST = 784 * 128 * 128  # values of a codebook; beyond, a plain search takes half a minute
CPU = torch.device("cpu")


def smoothed(values: Tensor, sigma: float) -> Tensor:
    """A Gaussian along both axes of ``[side, side, D]``."""
    steps = torch.arange(len(values), dtype=values.dtype)
    weights = torch.exp(-((steps[:, None] - steps) ** 2) / (2 * sigma**2))
    along_rows = (weights @ values.flatten(1)).view_as(values)
    return weights @ along_rows


def plane(x: Tensor, side: int) -> Tensor:
    """The map's start: a plane along the two first principal directions."""
    centered = x - x.mean(dim=0)
    values, vectors = torch.linalg.eigh(centered.T @ centered / len(x))
    first, second = (vectors[:, -n] * values[-n].sqrt() for n in (1, 2))
    steps = torch.linspace(-1.5, 1.5, side)[:, None]
    return (x.mean(dim=0) + steps[:, None] * first + steps * second).view(side * side, -1)


def fit(x: Tensor, side: int) -> tuple[Tensor, dict[str, Any]]:
    """Trains a map; at every epoch both searches find the winners, one after the other."""
    grid, codebook, hint = Grid(side, side), plane(x, side), None
    plain, pruned, equal = [], [], True
    for epoch in range(EPOCHS):
        start = perf_counter()
        found = BMUIndex(codebook, grid).search(x, hint=hint)
        middle = perf_counter()
        expected = ops.bmu(x, codebook)
        plain.append(perf_counter() - middle)
        pruned.append(middle - start)
        equal = equal and torch.equal(expected.index, found.index)
        hint = found.index
        sums, counts = ops.segment_sum(x, hint, grid.num_nodes)
        widest = side / 4
        sigma = widest * (NARROWEST / widest) ** (epoch / (EPOCHS - 1))
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


def compare(x: Tensor, codebook: Tensor, grid: Grid, repetitions: int) -> dict[str, Any]:
    """Plain and pruned search of all rows, in turns."""
    expected = ops.bmu(x, codebook)
    built = BMUIndex(codebook, grid)
    found = built.search(x)
    runs: dict[str, Callable[[], Any]] = {
        "plain": lambda: ops.bmu(x, codebook),
        "pruned": lambda: BMUIndex(codebook, grid).search(x),
        "pruned, hinted": lambda: BMUIndex(codebook, grid).search(x, hint=expected.index),
        "pruned, index at hand": lambda: built.search(x),
    }
    times = {name: statistics.median(t) for name, t in interleaved(runs, CPU, repetitions).items()}
    return {
        "seconds": times,
        "gain": {name: times["plain"] / seconds for name, seconds in times.items() if name != "plain"},
        "chosen": "pruned" if built.prunes() else "plain",
        "winners_equal": torch.equal(expected.index, found.index),
        "distances_equal": torch.equal(expected.distance, found.distance),
    }


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


def show(row: dict[str, Any]) -> None:
    gain, milliseconds = row["gain"], row["seconds"]["plain"] * 1e3
    equal = "winners equal" if row["winners_equal"] and row["distances_equal"] else "WINNERS DIFFER"
    print(
        f"{row['data']:14} D={row['dim']:<4} {row['side']:3} x {row['side']:<3}  plain {milliseconds:7.0f} ms   pruned "
        f"{gain['pruned']:5.2f}x, hinted {gain['pruned, hinted']:5.2f}x, index at hand "
        f"{gain['pruned, index at hand']:5.2f}x  ({row['chosen']}, {equal})"
        + (f"   whole fit {row['fit']['gain']:.2f}x" if row.get("fit") else ""),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--datasets", nargs="+", default=["mnist", "fashion-mnist"])
    parser.add_argument("--dims", type=int, nargs="+", default=[50, 784], help="784 for the pixels")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    record = Record(arguments.json, machine=describe(), rows=[], growth=[])
    rows: list[dict[str, Any]] = record.contents["rows"]

    def add(row: dict[str, Any]) -> None:
        record.add("rows", row)
        show(row)

    for name in arguments.datasets:
        images = pixels(name, arguments.data_root)
        for dim in arguments.dims:
            x = images if dim == images.shape[1] else principal_components(images, dim)
            for side in arguments.sides:
                if dim * side * side > LARGEST:
                    continue
                codebook, fitted = fit(x, side)
                compared = compare(x, codebook, Grid(side, side), arguments.repetitions)
                add({"data": name, "dim": dim, "side": side, **compared, "fit": fitted})
    for side in (32, 64):
        latents, codebook = somvae_latents(arguments.data_root, side)
        compared = compare(latents, codebook, Grid(side, side), arguments.repetitions)
        add({"data": "SOM-VAE latent", "dim": latents.shape[1], "side": side, **compared})

    growth = [
        {
            "data": a["data"],
            "dim": a["dim"],
            "codes": f"{a['side']}x{a['side']} -> {b['side']}x{b['side']}",
            "time": {n: b["seconds"][n] / a["seconds"][n] for n in ("plain", "pruned", "pruned, hinted")},
        }
        for a in rows
        for b in rows
        if a["data"] == b["data"] and a["dim"] == b["dim"] and b["side"] == 4 * a["side"]
    ]
    for row in growth:
        times = ", ".join(f"{name} {ratio:.1f}x" for name, ratio in row["time"].items())
        print(f"{row['data']} D={row['dim']} {row['codes']}: {times} the time")
    record.put("growth", growth)
    record.say_where()


if __name__ == "__main__":
    main()
