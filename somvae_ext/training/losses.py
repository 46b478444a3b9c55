"""The losses of batches as numbers, and their means over batches and processes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from somvae_ext.models._arguments import allow_nan_samples
from somvae_ext.processes import Processes
from somvae_ext.training.augmentation import AffineAugmentation
from somvae_ext.training.hardening import HardeningTargets
from somvae_ext.training.trainable import Trainable


class BatchLosses(NamedTuple):
    """``output`` of the model for a batch; ``total``, the loss to be minimized; ``values``, all terms as numbers;
    ``frames``, how many samples or real frames they are means over."""

    output: Any
    total: Tensor
    values: dict[str, float]
    frames: int


def batch_losses(
    module: nn.Module,
    model: Trainable,
    batch: dict[str, Tensor],
    augment: AffineAugmentation | None = None,
    targets: HardeningTargets | None = None,
    *,
    augmented_target: bool = False,
) -> BatchLosses:
    """The output for a batch and its losses.

    Args:
        module: the forward pass: the model, or DDP around it.
        model: says which fields of the batch it takes, and has the loss.
        batch: fields of N samples or series.
        augment: transforms the samples that the forward pass gets. The loss gets the clean ones.
        targets: of hardening, always made from the clean samples.
        augmented_target: give the loss the transformed samples, too.
    """
    fields = {name: batch[name] for name in model.batch_fields if name in batch}
    inputs = fields if augment is None else fields | {"x": augment(fields["x"])}
    output = module(**inputs)
    goals = {} if targets is None else {"targets": targets(fields)}
    with allow_nan_samples():  # the loop stops at it with the step and the term
        losses = model.loss(output, **(inputs if augmented_target else fields), **goals)
    # One copy from the device for all terms.
    values = dict(zip(losses._fields, torch.stack([term.detach() for term in losses]).tolist(), strict=True))
    mask = fields.get("mask")
    return BatchLosses(output, losses.total, values, len(batch["x"]) if mask is None else int(mask.sum()))


def means_over_processes(processes: Processes, values: dict[str, float], frames: int) -> tuple[dict[str, float], int]:
    """Means of a step's losses over the frames of all processes, and the number of these frames."""
    if processes.world_size == 1:
        return values, frames
    parts = processes.gather_numbers([*values.values(), frames])
    counts = [part[-1] for part in parts]
    sums = (
        math.fsum(value * count for value, count in zip(column, counts, strict=True))
        for column in zip(*parts, strict=True)
    )
    means = {name: total / max(1, sum(counts)) for name, total in zip(values, sums, strict=False)}
    return means, int(sum(counts))


def mean_losses(processes: Processes, model: Trainable, batches: Iterable[dict[str, Tensor]]) -> dict[str, float]:
    """Mean losses over the frames of all batches of all processes, which may have different numbers of batches."""
    means = RunningMeans()
    for batch in batches:
        # Not through DDP, which expects every process to have as many batches.
        losses = batch_losses(cast(nn.Module, model), model, batch)
        means.add(losses.values, losses.frames)
    return means.reduce_over_processes(processes).values()


class RunningMeans:
    """Means of named values over batches of different sizes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float], count: int) -> None:
        """Takes in the means of a batch over ``count`` frames."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * count
        self._count += count

    def reduce_over_processes(self, processes: Processes) -> RunningMeans:
        """The same over the batches of all processes."""
        joined = RunningMeans()
        for sums, count in processes.gather_objects((self._sums, self._count)):
            for name, total in sums.items():
                joined._sums[name] = joined._sums.get(name, 0.0) + total
            joined._count += count
        return joined

    def values(self) -> dict[str, float]:
        """The means so far; nothing before the first batch."""
        return {name: total / max(1, self._count) for name, total in self._sums.items()}
