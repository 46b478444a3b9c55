"""What an ordered map adds to a training step: steps of a whole SOM-VAE, by gradients and ordered, up to 128 x 128.

    python benchmarks/ordered_steps.py --threads 1

Contestants take turns, and the figures are medians. "wide" is an ordered map at its initial width, "narrow" one at its
final width, as in the last part of a training. `update_seconds` is the share of `statistics` and `update_codebook`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import checked_device, cpu_threads
from somvae_ext.machine import describe
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.optim import build_adam_optimizers

SIDES = (8, 16, 32, 64, 128)
BATCH = 256
GRADIENT, WIDE, NARROW = "by gradients", "ordered, wide", "ordered, narrow"


class Contestant:
    """A model that can be moved on by one step."""

    def __init__(self, side: int, name: str, device: torch.device) -> None:
        torch.manual_seed(0)
        ordered: dict[str, Any] = (
            {} if name == GRADIENT else {"codebook_update": "ema", "alpha": 0.05, "sigma_steps": 10**9}
        )
        self.model = SOMVAE(SOMVAEConfig(rows=side, cols=side, **ordered)).to(device)
        self.ordered = name != GRADIENT
        if name == NARROW:
            self.model.quantizer.num_updates.fill_(10**9)
        self.optimizers = build_adam_optimizers(self.model.parameter_groups(1e-3))
        self.device = device

    def now(self) -> float:
        """Seconds, once the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()

    def step(self, x: torch.Tensor) -> tuple[float, float]:
        """Seconds of the whole step, and of the update of the codes by averages."""
        start = self.now()
        output = self.model(x)
        loss = self.model.loss(output, x).total
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        before_update = self.now()
        if self.ordered:
            quantizer = self.model.quantizer
            quantizer.update_codebook(*quantizer.statistics(output.z_e, output.indices))
        end = self.now()
        return end - start, end - before_update if self.ordered else 0.0


def measure(
    side: int, repetitions: int, device: torch.device, images: Callable[[], torch.Tensor]
) -> list[dict[str, Any]]:
    contestants = {name: Contestant(side, name, device) for name in (GRADIENT, WIDE, NARROW)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for repetition in range(repetitions + 2):
        x = images().to(device)
        for name, contestant in contestants.items():
            taken = contestant.step(x)
            if repetition >= 2:  # the first ones create the optimizers' state
                times[name].append(taken)
    base = statistics.median(whole for whole, _ in times[GRADIENT])
    rows = []
    for name, pairs in times.items():
        whole, update = (statistics.median(part) for part in zip(*pairs, strict=True))
        rows.append(
            {
                "side": side,
                "contestant": name,
                "seconds": whole,
                "update_seconds": update,
                "over_gradients": whole / base,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--sides", type=int, nargs="+", default=list(SIDES))
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write everything there, row by row")
    arguments = parser.parse_args()
    device = checked_device(parser, arguments.device)
    record = Record(arguments.json, machine=describe(arguments.device), batch=BATCH, results=[])
    generator = torch.Generator().manual_seed(0)

    def images() -> torch.Tensor:
        return torch.rand(BATCH, 1, 28, 28, generator=generator)

    for threads in arguments.threads:
        with cpu_threads(threads):
            print(f"{threads} threads, milliseconds of a step of {BATCH} images (of these, the codes' update)")
            before: dict[str, float] = {}
            for side in arguments.sides:
                text = f"{side:4} x {side:<4}"
                for row in measure(side, arguments.repeat, device, images):
                    name = row["contestant"]
                    row |= {"threads": threads, "growth": row["seconds"] / before[name] if name in before else None}
                    before[name] = row["seconds"]
                    record.add("results", row)
                    growth = f", x{row['growth']:.1f}" if row["growth"] else ""
                    text += f"  {name} {row['seconds'] * 1e3:.1f} ({row['update_seconds'] * 1e3:.1f}{growth})"
                print(text, flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
