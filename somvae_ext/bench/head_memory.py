"""Memory of the training steps of the suite ``head``, and a training that only local transitions make possible.

Everything here runs in a separate process.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.head_contestants import FRAMES, Problem, make_data, our_config
from somvae_ext.bench.head_steps import COMPILED, kind, make_step
from somvae_ext.bench.memory import peak_memory, resident
from somvae_ext.bench.timing import clock
from somvae_ext.data import InterpolatedSeries, mnist
from somvae_ext.models import SOMVAE
from somvae_ext.optim import RowAdam

SMALL_MAPS = {"dense": 8, "rows": 32, "local": 32}  # the side of a small map for each kind


def step_memory(name: str, problem: Problem, device: torch.device, threads: int | None) -> int:
    """Peak bytes of two steps, beyond parameters, moments and data."""
    if threads:
        torch.set_num_threads(threads)
    small = dataclasses.replace(problem, side=SMALL_MAPS[kind(problem)])
    make_step(name, small, make_data(small, device))()  # loads libraries and starts threads
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


def train_on_digits(root: Path, steps: int, threads: int) -> dict[str, Any]:
    """Trains a SOM-VAE of 256 x 256 nodes with local transitions on series of MNIST."""
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
        start = clock()
        adam.zero_grad()
        rows.zero_grad()
        model.loss(model(x), x).total.backward()
        adam.step()
        rows.step()
        times.append(clock() - start)
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
    """A codebook laid along the first two principal directions of rows, ``[side * side, D]``."""
    mean = z.mean(dim=0)
    _, spread, directions = torch.linalg.svd(z - mean, full_matrices=False)
    steps = torch.linspace(-2, 2, side)
    deviations = spread[:2, None] / math.sqrt(len(z)) * directions[:2]
    return (mean + steps[:, None, None] * deviations[0] + steps[None, :, None] * deviations[1]).flatten(0, 1)
