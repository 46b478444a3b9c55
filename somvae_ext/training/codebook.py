"""What a map needs besides gradients: codes to start from, and a second chance for nodes that win nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from somvae_ext.models import SOMVAEConfig
from somvae_ext.nn import SOMQuantizer

# Samples per node that a codebook is initialized from: enough for stable centres, few enough to take no time.
_SAMPLES_PER_NODE = 32
_SEEDS = 2**63 - 1  # randint's bound must fit int64


@runtime_checkable
class TrainableMap(Protocol):
    """What training asks of a model with a map, whose forward pass gives the winners as ``indices``.

    ``x`` are samples, or frames of series, ``[N, *input_shape]``.
    """

    config: SOMVAEConfig
    quantizer: SOMQuantizer

    def initialize(self, x: Tensor, *, seed: int = 0) -> None:
        """Prepares the codebook before the first step."""

    def revive(
        self, unused: Tensor, x: Tensor, generator: torch.Generator | None = None
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """Moves the nodes ``unused``, int64 ``[U]``, to encodings of random samples.

        Returns what it overwrote, as (parameter, its rows).
        """


def initialize(model: TrainableMap, train: Dataset[dict[str, Tensor]], *, seed: int) -> None:
    """Prepares the codebook from random training samples, if the model's config asks for it."""
    if model.config.init == "normal":
        return
    count = _SAMPLES_PER_NODE * model.quantizer.grid.num_nodes
    model.initialize(_random_samples(model, train, count, torch.Generator().manual_seed(seed)), seed=seed)


def revive(
    model: TrainableMap,
    optimizers: Sequence[torch.optim.Optimizer],
    unused: Tensor,
    train: Dataset[dict[str, Tensor]],
    *,
    seed: int,
    epoch: int,
) -> None:
    """Moves nodes that won nothing to encodings of random training samples.

    Args:
        model: the model with the map.
        optimizers: forget what they knew about the codes that are replaced.
        unused: the nodes, int64 ``[U]``.
        train: where the samples come from; of series, each gives one frame before any gives a second.
        seed: of the training.
        epoch: draws the samples together with the seed, so that a resumed training draws the same.
    """
    if len(unused) == 0:
        return
    # Not seed + epoch, by which the second epoch of one seed would draw like the first of the next.
    epoch_seeds = torch.randint(_SEEDS, (epoch,), generator=torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(int(epoch_seeds[-1]))
    x = _random_samples(model, train, len(unused), generator)
    for parameter, rows in model.revive(unused, x, generator):
        for optimizer in optimizers:
            reset_rows(optimizer, parameter, rows)


def reset_rows(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, rows: Tensor) -> None:
    """Zeroes the optimizer's state of some rows of a parameter, such as Adam's moments, and of nothing else.

    A code that was moved by hand would otherwise be pushed on as its predecessor was. Adam's number of steps, one for
    the whole parameter, stays. An optimizer that has no state of the parameter stays without.
    """
    for value in optimizer.state.get(parameter, {}).values():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            value[rows] = 0


def _random_samples(
    model: TrainableMap, train: Dataset[dict[str, Tensor]], count: int, generator: torch.Generator
) -> Tensor:
    """``count`` random samples or real frames ``[M, *input_shape]``, or all where there are fewer.

    Frames come from as many series as possible, one of each before a second of any: those of one series are alike.
    """
    frames: list[Tensor] = []
    turns: list[Tensor] = []  # for each frame, how many of its own series go before it
    held = 0
    order = torch.randperm(len(train), generator=generator)[:count]  # type: ignore[arg-type]
    for row in order.tolist():
        x, mask = train[row]["x"], train[row].get("mask")
        if x.dim() == len(model.config.input_shape):
            x = x[None]
        real = torch.arange(len(x)) if mask is None else mask.nonzero()[:, 0]
        real = real[torch.randperm(len(real), generator=generator)[:count]]
        frames.append(x[real])
        turns.append(torch.arange(len(real)))
        held += len(real)
        if held > 2 * count:  # so that never much more is held than is asked for
            frames, turns = _first_turns(frames, turns, count)
            held = count
    (drawn,), _ = _first_turns(frames, turns, count)
    return drawn.to(model.quantizer.codebook.device)


def _first_turns(frames: list[Tensor], turns: list[Tensor], count: int) -> tuple[list[Tensor], list[Tensor]]:
    """The ``count`` frames of the lowest turns, of equal ones the first, in one tensor each."""
    turn = torch.cat(turns)
    first = turn.argsort(stable=True)[:count]
    return [torch.cat(frames)[first]], [turn[first]]
