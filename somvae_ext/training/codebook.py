"""What a map needs besides gradients: codes to start from, and a second chance for nodes that win nothing."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, default_collate

from somvae_ext.models import SOMVAEConfig
from somvae_ext.nn import SOMQuantizer

# Samples per node that a codebook is initialized from: enough for stable centres, few enough to take no time.
_SAMPLES_PER_NODE = 32


@runtime_checkable
class TrainableMap(Protocol):
    """What training asks of a model with a map, whose forward pass gives the winners as ``indices``.

    ``x`` are samples ``[N, *input_shape]`` or series ``[B, T, *input_shape]``; ``mask``, bool ``[B, T]``, says which
    frames are real.
    """

    config: SOMVAEConfig
    quantizer: SOMQuantizer

    def initialize(self, x: Tensor, mask: Tensor | None = None, *, seed: int = 0) -> None:
        """Prepares the codebook before the first step."""

    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None, *, mask: Tensor | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Moves the nodes ``unused``, int64 ``[U]``, to encodings of random samples.

        Returns what it overwrote, as (parameter, its rows).
        """


def initialize(model: TrainableMap, train: Dataset[dict[str, Tensor]], *, seed: int) -> None:
    """Prepares the codebook from random training samples, if the model's config asks for it."""
    if model.config.init == "normal":
        return
    x, mask = _random_samples(model, train, _SAMPLES_PER_NODE * model.quantizer.grid.num_nodes, seed)
    model.initialize(x, mask, seed=seed)


def revive(
    model: TrainableMap,
    optimizer: torch.optim.Optimizer,
    unused: Tensor,
    train: Dataset[dict[str, Tensor]],
    *,
    seed: int,
) -> None:
    """Moves nodes that won nothing to encodings of random training samples.

    Args:
        model: the model with the map.
        optimizer: forgets what it knew about the codes that are replaced.
        unused: the nodes, int64 ``[U]``.
        train: where the samples come from.
        seed: draws them.
    """
    if len(unused) == 0:
        return
    x, mask = _random_samples(model, train, len(unused), seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter, rows in model.revive(unused, x, generator, mask=mask):
        reset_rows(optimizer, parameter, rows)


def reset_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zeroes the optimizer's state of some rows of a parameter, such as Adam's moments, and of nothing else.

    A code that was moved by hand would otherwise be pushed on as its predecessor was. Adam's number of steps, one for
    the whole parameter, stays.
    """
    for value in optimizer.state[parameter].values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0


def _random_samples(
    model: TrainableMap, train: Dataset[dict[str, Tensor]], minimum: int, seed: int
) -> tuple[Tensor, Tensor | None]:
    """As many random samples, or series with as many real frames, as there are or as it takes to reach ``minimum``."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(train), generator=generator)  # type: ignore[arg-type]
    device = model.quantizer.codebook.device
    items: list[dict[str, Tensor]] = []
    frames = 0
    for row in order.tolist():
        item = train[row]
        items.append(item)
        if item["x"].dim() == len(model.config.input_shape):
            frames += 1
        else:
            frames += int(item["mask"].sum()) if "mask" in item else len(item["x"])
        if frames >= minimum:
            break
    batch = default_collate(items)
    mask = batch.get("mask")
    return batch["x"].to(device), None if mask is None else mask.to(device)
