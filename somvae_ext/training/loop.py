"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from somvae_ext.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained: Adam with a learning rate that falls in steps.

    Args:
        epochs: passes over the training data.
        batch_size: samples, or series, per step.
        learning_rate: Adam's rate at the start.
        transition_rate_factor: the transition logits learn at this multiple of the rate.
        decay_factor: the rates are multiplied by this every ``decay_steps`` steps; 1 keeps them constant.
        decay_steps: see ``decay_factor``.
        seed: order of the samples, and whatever the model draws.

    The defaults are the published recipe of SOM-VAE (Fortuin et al. 2019 and github.com/ratschlab/SOM-VAE).

    Raises:
        ValueError: a number that is not positive, or a decay factor above 1.
    """

    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 5e-4
    transition_rate_factor: float = 100.0
    decay_factor: float = 0.9
    decay_steps: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "decay_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainingConfig: {name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "transition_rate_factor"):
            rate = getattr(self, name)
            if not (math.isfinite(rate) and rate > 0):
                raise ValueError(f"TrainingConfig: {name} must be a positive number, got {rate}")
        if not 0 < self.decay_factor <= 1:
            raise ValueError(f"TrainingConfig: decay_factor must be above 0 and at most 1, got {self.decay_factor}")


class Trainable(Protocol):
    """What the loop asks of a model, which is a ``torch.nn.Module`` as well."""

    def __call__(self, x: Tensor, mask: Tensor | None = None) -> Any:
        """Forward pass; what it returns is handed to ``loss``."""

    def loss(self, output: Any, x: Tensor, mask: Tensor | None = None) -> Any:
        """Losses as a NamedTuple of scalars, one of them ``total``."""

    def parameter_groups(self, learning_rate: float, transition_rate_factor: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimizer, each with its ``lr``."""


def fit(
    model: Trainable,
    train: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    *,
    validation: Dataset[dict[str, Tensor]] | None = None,
    metrics: Callable[[], dict[str, float]] | None = None,
    run_folder: RunFolder | None = None,
    accelerator: str = "auto",
) -> list[dict[str, Any]]:
    """Trains a model in place, on the first GPU where there is one.

    Seeds torch's global generators with ``config.seed``. On the CPU the same model, data and seed give the same bits. A
    progress bar with the losses is shown where stderr is a terminal.

    Args:
        model: the model; it ends on the device that it was trained on, in evaluation mode.
        train: items are dicts with ``x`` and, for series of different lengths, ``mask``.
        config: the recipe.
        validation: data whose losses are measured after each epoch.
        metrics: called after each epoch, without gradients and in evaluation mode; what it returns joins the record.
            Never measure on test data here.
        run_folder: gets the record and a checkpoint after each epoch.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``, as Fabric understands it.

    Returns:
        One record per epoch: ``epoch``, ``step``, ``seconds`` since the start, ``learning_rate``, ``train`` (mean
        losses while training), and, where asked for, ``validation`` (mean losses after the epoch) and ``metrics``.

    Raises:
        FloatingPointError: a loss that is not finite; the message names step and term. The weights are those before
            that step.
        ValueError: no training samples, or no GPU although ``accelerator`` is ``"cuda"``.
    """
    if len(train) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError("fit: train must hold at least one sample, got none")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("fit: accelerator 'cuda' needs a GPU that torch can use, got none")
    torch.manual_seed(config.seed)
    fabric = Fabric(accelerator=accelerator, devices=1)
    order = torch.Generator().manual_seed(config.seed)
    train_loader = fabric.setup_dataloaders(
        DataLoader(train, batch_size=config.batch_size, shuffle=True, generator=order)
    )
    validation_loader = None
    if validation is not None:
        validation_loader = fabric.setup_dataloaders(DataLoader(validation, batch_size=config.batch_size))
    optimizer = torch.optim.Adam(model.parameter_groups(config.learning_rate, config.transition_rate_factor))
    module, optimizer = fabric.setup(cast(nn.Module, model), optimizer)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, config.decay_steps, gamma=config.decay_factor)

    start = time.perf_counter()
    step, history = 0, []
    for epoch in range(1, config.epochs + 1):
        module.train()
        means = _RunningMeans()
        # disable=None: no bar where stderr is not a terminal.
        bar = tqdm(train_loader, desc=f"epoch {epoch}/{config.epochs}", disable=None, leave=epoch == config.epochs)
        for batch in bar:
            step += 1
            losses, values, count = _losses(module, model, batch)
            _check_finite(values, step, epoch)
            optimizer.zero_grad()
            fabric.backward(losses.total)
            optimizer.step()
            schedule.step()
            means.add(values, count)
            bar.set_postfix({name: f"{value:.4g}" for name, value in means.values().items()}, refresh=False)

        module.eval()
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": step,
            "seconds": round(time.perf_counter() - start, 3),
            "learning_rate": schedule.get_last_lr()[0],
            "train": means.values(),
        }
        with torch.no_grad():
            if validation_loader is not None:
                record["validation"] = _mean_losses(module, model, validation_loader)
            if metrics is not None:
                record["metrics"] = metrics()
        history.append(record)
        if run_folder is not None:
            run_folder.append_metrics(record)
            run_folder.save_checkpoint(
                {
                    "epoch": epoch,
                    "step": step,
                    "model": cast(nn.Module, model).state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "schedule": schedule.state_dict(),
                }
            )
    return history


class _RunningMeans:
    """Means of named values over batches of different sizes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, values: dict[str, float], count: int) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * count
        self._count += count

    def values(self) -> dict[str, float]:
        return {name: total / max(1, self._count) for name, total in self._sums.items()}


def _losses(module: nn.Module, model: Trainable, batch: dict[str, Tensor]) -> tuple[Any, dict[str, float], int]:
    """The losses of a batch, the same as numbers, and how many frames they are means over."""
    x, mask = batch["x"], batch.get("mask")
    losses = model.loss(module(x, mask), x, mask)
    # One copy from the device for all terms.
    values = dict(zip(losses._fields, torch.stack([term.detach() for term in losses]).tolist(), strict=True))
    return losses, values, len(x) if mask is None else int(mask.sum())


def _mean_losses(module: nn.Module, model: Trainable, batches: Any) -> dict[str, float]:
    means = _RunningMeans()
    for batch in batches:
        _, values, count = _losses(module, model, batch)
        means.add(values, count)
    return means.values()


def _check_finite(values: dict[str, float], step: int, epoch: int) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if broken:
        # The total is broken whenever a term is; the term says more.
        name = next((name for name in broken if name != "total"), "total")
        raise FloatingPointError(
            f"fit: the {name} loss is {values[name]} at step {step} (epoch {epoch}), so training stopped; look for "
            "values in the data that are not finite, or lower the learning rate"
        )
