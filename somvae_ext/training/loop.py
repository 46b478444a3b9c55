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

from somvae_ext.evaluation import NodeUsage
from somvae_ext.training.codebook import TrainableMap, initialize, revive
from somvae_ext.training.progress import Progress
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
        revive: before each epoch but the first, move the nodes that won nothing in the one before to encodings of
            random training samples, and forget what the optimizer knew about them. Not part of the published recipe.
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
    revive: bool = False
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
    resume: bool = False,
    accelerator: str = "auto",
) -> list[dict[str, Any]]:
    """Trains a model in place, on the first GPU where there is one.

    Seeds torch's global generators with ``config.seed``. On the CPU the same model, data and seed give the same bits,
    whether or not the training was interrupted and resumed between epochs. A progress bar with the losses and the
    share of nodes in use is shown where stderr is a terminal.

    Args:
        model: the model; it ends on the device that it was trained on, in evaluation mode.
        train: items are dicts with ``x`` and, for series of different lengths, ``mask``.
        config: the recipe.
        validation: data whose losses are measured after each epoch.
        metrics: called after each epoch, without gradients and in evaluation mode; what it returns joins the record.
            Never measure on test data here.
        run_folder: gets the record and a checkpoint after each epoch.
        resume: go on after the last checkpoint of ``run_folder`` instead of starting anew. Model, data and config must
            be those of the interrupted run; only ``epochs`` may have grown.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``, as Fabric understands it.

    Returns:
        One record per epoch: ``epoch``, ``step``, ``seconds`` since the start, ``learning_rate``, ``train`` (mean
        losses while training), for models with a map ``usage`` and ``perplexity`` (of the nodes that won while
        training, see :class:`~somvae_ext.evaluation.NodeUsage`) and ``revived`` (number of nodes, before the epoch),
        and, where asked for, ``validation`` (mean losses after the epoch) and ``metrics``. A resumed training returns
        the records of the epochs before it too.

    Raises:
        FloatingPointError: a loss that is not finite; the message names step, term and the last checkpoint. The
            weights are those before that step.
        ValueError: no training samples, no GPU although ``accelerator`` is ``"cuda"``, ``resume`` without a run folder,
            or a checkpoint of another model.
        FileNotFoundError: ``resume``, and the run folder has no checkpoint.
    """
    if len(train) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError("fit: train must hold at least one sample, got none")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("fit: accelerator 'cuda' needs a GPU that torch can use, got none")
    if resume and run_folder is None:
        raise ValueError("fit: resume needs the run_folder whose training is to go on, got none")
    torch.manual_seed(config.seed)
    fabric = Fabric(accelerator=accelerator, devices=1)
    # The order has a generator of its own, so that it does not depend on what a model draws.
    order = torch.Generator().manual_seed(config.seed)
    train_loader = fabric.setup_dataloaders(
        DataLoader(train, batch_size=config.batch_size, shuffle=True, generator=order)
    )
    validation_loader = None
    if validation is not None:
        validation_loader = fabric.setup_dataloaders(DataLoader(validation, batch_size=config.batch_size))
    optimizer = torch.optim.Adam(model.parameter_groups(config.learning_rate, config.transition_rate_factor))
    cast(nn.Module, model).eval()  # until the first epoch: the codebook's initialization must not move a batch norm
    module, fabric_optimizer = fabric.setup(cast(nn.Module, model), optimizer)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, config.decay_steps, gamma=config.decay_factor)
    progress = Progress(cast(nn.Module, model), optimizer, schedule, order)
    map_model = model if isinstance(model, TrainableMap) else None

    history: list[dict[str, Any]] = []
    if resume and run_folder is not None:
        try:
            progress.load_state_dict(run_folder.load_checkpoint())
        except ValueError as error:
            raise ValueError(f"fit: {run_folder.path / RunFolder.CHECKPOINT}: {error}") from error
        history = run_folder.rewind_metrics(progress.epoch)
    elif map_model is not None:
        initialize(map_model, train, seed=config.seed)

    seconds_before = history[-1].get("seconds", 0.0) if history else 0.0
    start = time.perf_counter()
    for epoch in range(progress.epoch + 1, config.epochs + 1):
        usage, revived = None, 0
        if map_model is not None:
            usage = NodeUsage(map_model.quantizer.grid.num_nodes)
            if config.revive and progress.unused is not None:
                revived = len(progress.unused)
                revive(map_model, optimizer, progress.unused, train, seed=config.seed, epoch=epoch)
        module.train()
        means = _RunningMeans()
        # disable=None: no bar where stderr is not a terminal.
        bar = tqdm(train_loader, desc=f"epoch {epoch}/{config.epochs}", disable=None, leave=epoch == config.epochs)
        for batch in bar:
            progress.step += 1
            output, losses, values, count = _losses(module, model, batch)
            _check_finite(values, progress, run_folder)
            fabric_optimizer.zero_grad()
            fabric.backward(losses.total)
            fabric_optimizer.step()
            schedule.step()
            means.add(values, count)
            if usage is not None:
                usage.update(output.indices, batch.get("mask"))
            if not bar.disable:
                shown = {name: f"{value:.4g}" for name, value in means.values().items()}
                bar.set_postfix(shown | ({"usage": f"{usage.usage:.0%}"} if usage else {}), refresh=False)

        module.eval()
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": progress.step,
            "seconds": round(seconds_before + time.perf_counter() - start, 3),
            "learning_rate": schedule.get_last_lr()[0],
            "train": means.values(),
        }
        if usage is not None:
            record |= {"usage": usage.usage, "perplexity": usage.perplexity, "revived": revived}
            progress.unused = usage.unused
        with torch.no_grad():
            if validation_loader is not None:
                record["validation"] = _mean_losses(module, model, validation_loader)
            if metrics is not None:
                record["metrics"] = metrics()
        history.append(record)
        progress.epoch = epoch
        if run_folder is not None:
            run_folder.append_metrics(record)
            run_folder.save_checkpoint(progress.state_dict())
    module.eval()
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


def _losses(module: nn.Module, model: Trainable, batch: dict[str, Tensor]) -> tuple[Any, Any, dict[str, float], int]:
    """The output for a batch, its losses, the same as numbers, and how many frames they are means over."""
    x, mask = batch["x"], batch.get("mask")
    output = module(x, mask)
    losses = model.loss(output, x, mask)
    # One copy from the device for all terms.
    values = dict(zip(losses._fields, torch.stack([term.detach() for term in losses]).tolist(), strict=True))
    return output, losses, values, len(x) if mask is None else int(mask.sum())


def _mean_losses(module: nn.Module, model: Trainable, batches: Any) -> dict[str, float]:
    means = _RunningMeans()
    for batch in batches:
        _, _, values, count = _losses(module, model, batch)
        means.add(values, count)
    return means.values()


def _check_finite(values: dict[str, float], progress: Progress, run_folder: RunFolder | None) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if not broken:
        return
    # The total is broken whenever a term is; the term says more.
    name = next((name for name in broken if name != "total"), "total")
    message = (
        f"fit: the {name} loss is {values[name]} at step {progress.step} (epoch {progress.epoch + 1}), so training "
        "stopped; look for values in the data that are not finite, or lower the learning rate"
    )
    if run_folder is not None and progress.epoch > 0:
        message += f"; the last good checkpoint, of epoch {progress.epoch}, is {run_folder.path / RunFolder.CHECKPOINT}"
    raise FloatingPointError(message)
