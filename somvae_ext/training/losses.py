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
    """The losses of a batch.

    ``output`` is that of the model, ``total`` the loss to minimize, ``values`` are all terms as numbers, and ``frames``
    is the number of samples or real frames that they are means over.
    """

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
    """Computes the output for a batch and its losses.

    Args:
        module: the module of the forward pass: the model, or DDP around it.
        model: the model, which names the fields of a batch that it takes and computes the loss.
        batch: fields of N samples or series.
        augment: transform of the samples for the forward pass; the loss receives the clean samples.
        targets: targets of hardening, always computed from the clean samples.
        augmented_target: whether the loss receives the transformed samples, too.
    """
    fields = {name: batch[name] for name in model.batch_fields if name in batch}
    inputs = fields if augment is None else fields | {"x": augment(fields["x"])}
    output = module(**inputs)
    target_fields = {} if targets is None else {"targets": targets(fields)}
    with allow_nan_samples():  # the loop stops at NaN and names the step and the term
        losses = model.loss(output, **(inputs if augmented_target else fields), **target_fields)
    # One copy from the device for all terms.
    values = dict(zip(losses._fields, torch.stack([term.detach() for term in losses]).tolist(), strict=True))
    mask = fields.get("mask")
    return BatchLosses(output, losses.total, values, len(batch["x"]) if mask is None else int(mask.sum()))


def means_over_processes(processes: Processes, values: dict[str, float], frames: int) -> tuple[dict[str, float], int]:
    """Computes the means of a step's losses over the frames of all processes, and the number of these frames."""
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
    """Computes the mean losses over the frames of all processes, which may have different numbers of batches."""
    means = RunningMeans()
    for batch in batches:
        # Not through DDP, which expects the same number of batches in every process.
        losses = batch_losses(cast(nn.Module, model), model, batch)
        means.add(losses.values, losses.frames)
    return means.reduce_over_processes(processes).values()


class RunningMeans:
    """Means of named values over batches of different sizes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float], count: int) -> None:
        """Adds the means of a batch over ``count`` frames."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * count
        self._count += count

    def reduce_over_processes(self, processes: Processes) -> RunningMeans:
        """Returns the means over the batches of all processes."""
        reduced = RunningMeans()
        for sums, count in processes.gather_objects((self._sums, self._count)):
            for name, total in sums.items():
                reduced._sums[name] = reduced._sums.get(name, 0.0) + total
            reduced._count += count
        return reduced

    def values(self) -> dict[str, float]:
        """Returns the means so far; an empty dict before the first batch."""
        return {name: total / max(1, self._count) for name, total in self._sums.items()}
