"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm  # type: ignore[import-untyped]

from somvae_ext.evaluation import NodeUsage
from somvae_ext.models._arguments import passing_nan
from somvae_ext.optim import adam_and_rows
from somvae_ext.training.augmentation import AffineAugmentation, augmentation_of
from somvae_ext.training.batches import FittingSamples, batches
from somvae_ext.training.codebook import (
    follow_averages,
    follow_variance,
    initialize,
    model_with_codebook,
    relabel,
    relabel_after,
    revive,
    warm_up_epochs,
    warn_of_wide_neighborhood,
)
from somvae_ext.training.gradients import clip_gradients, gradient_norm
from somvae_ext.training.hardening import HardeningTargets, hardening_targets
from somvae_ext.training.processes import (
    ShuffledShare,
    average_gradients,
    average_rows,
    copy_from_first,
    gather,
    gather_numbers,
    launch,
    leave_to_rows,
)
from somvae_ext.training.progress import Progress
from somvae_ext.training.run_folder import RunFolder
from somvae_ext.training.trainable import Clusters, InParameterGroups, Scheduled, Trainable
from somvae_ext.training.training_config import TrainingConfig


def fit(
    model: Trainable,
    train: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    *,
    validation: Dataset[dict[str, Tensor]] | None = None,
    metrics: Callable[[], dict[str, float]] | None = None,
    after_epoch: Callable[[int], None] | None = None,
    run_folder: RunFolder | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    show_progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Trains a model in place, on the first GPU where there is one.

    Seeds torch's global generators with ``config.seed``. On the CPU the same model, data and seed give the same bits,
    whether or not the training was interrupted and resumed between epochs.

    Where the config asks for augmentation, each training step draws a transform for each sample, or each series, from
    torch's global CPU generator. The forward pass gets the transformed images, and the loss compares its output with
    the clean ones, or, with ``config.augmented_target``, with the transformed ones. Validation, ``metrics`` and a
    codebook's initialization and revival use clean images only.

    A codebook starts from random training samples before the first epoch, or, where the model's config has
    ``warm_up_epochs``, before the first one after these. Until then it does not learn, no node is revived, and the
    rates stay as they are; after them the optimizers begin anew. The targets of a SOM-VAE's hardening are made before
    each epoch, from the clean training samples. Nodes change places at the end of the epoch ``relabel_after``.

    Where ``torchrun`` has started several processes, they train one model together: each takes ``batch_size`` samples
    of its own per step, and a gradient is the mean of those of the processes, whatever their numbers of frames; the
    rows of tables too. The losses in the records are means over the frames of all processes, and what a loss makes of a
    whole batch, such as a mixture's balance, each process makes of its own. The first process alone writes the run
    folder, calls ``metrics`` and ``after_epoch`` and shows the bar; the others may have no run folder.

    Args:
        model: the model; it ends on the device that it was trained on, in evaluation mode.
        train: items are dicts with ``x`` and, for series of different lengths, ``mask``. Samples of another dtype than
            the model's are cast to it: floating ones of any precision; integers and bools where it has them all.
        config: the recipe.
        validation: data whose losses are measured after each epoch.
        metrics: called after each epoch, without gradients and in evaluation mode; what it returns joins the record.
            Never measure on test data here.
        after_epoch: called with its number after each epoch, likewise, before what belongs to it is written.
        run_folder: gets the record and a checkpoint after each epoch.
        resume: go on after the last checkpoint of ``run_folder`` instead of starting anew. Model, data and config must
            be those of the interrupted run; only ``epochs`` may have grown.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``, as Fabric understands it.
        show_progress: whether to show a progress bar with the losses and the share of nodes in use; by default where
            stderr is a terminal.

    Returns:
        One record per epoch: ``epoch``, ``step``, ``seconds`` since the start, ``learning_rate``, ``train`` (mean
        losses while training), for models that cluster ``usage`` and ``perplexity`` (of the clusters while training,
        see :class:`~somvae_ext.evaluation.NodeUsage`), for maps ``revived`` (number of nodes, before the epoch),
        and, where asked for, ``validation`` (mean losses after the epoch; the targets of hardening are those of each
        batch, see :meth:`SOMVAE.terms <somvae_ext.models.SOMVAE.terms>`) and ``metrics``. A resumed training returns
        the records of the epochs before it too.

    Raises:
        FloatingPointError: a loss, or the norm of the gradients, that is not finite; the message names step, term and
            the last checkpoint. The weights are those before that step.
        ValueError: no training samples, no epoch after the model's warm-up, or too few for its relabelling, weights of
            float16, samples that the model's dtype cannot hold, no GPU although ``accelerator`` is ``"cuda"``,
            augmentation for a model that is not one of images, ``resume`` without a run folder, or a checkpoint of
            another model, or of another number of processes.
        FileNotFoundError: ``resume``, and the run folder has no checkpoint.
    """
    if len(train) == 0:  # type: ignore[arg-type]  # torch's Dataset leaves __len__ to its subclasses
        raise ValueError("fit: train must hold at least one sample, got none")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ValueError("fit: accelerator 'cuda' needs a GPU that torch can use, got none")
    _check_weights(cast(nn.Module, model))
    augment = augmentation_of(config, model)
    train = FittingSamples(train, model)
    validation = None if validation is None else FittingSamples(validation, model)
    fabric = launch(accelerator)
    if not fabric.is_global_zero:
        run_folder = None
    elif resume and run_folder is None:
        raise ValueError("fit: resume needs the run_folder whose training is to go on, got none")
    _seed(config.seed, fabric.global_rank)
    # The order has a generator of its own, so that it does not depend on what a model draws.
    order = torch.Generator().manual_seed(config.seed)

    def load(data: Dataset[dict[str, Tensor]], sampler: Iterable[int], generator: torch.Generator | None = None) -> Any:
        loader = batches(data, config.batch_size, sampler, generator)
        return fabric.setup_dataloaders(loader, use_distributed_sampler=False)

    train_loader = load(train, ShuffledShare(len(train), fabric, order), order)
    validation_loader = None
    if validation is not None:
        # In an order of its own: the neighbours in a file may be alike, and terms of a whole batch tell.
        mixed = torch.randperm(len(validation), generator=torch.Generator().manual_seed(config.seed))
        validation_loader = load(validation, mixed[fabric.global_rank :: fabric.world_size].tolist())

    network = cast(nn.Module, model)
    groups = _parameter_groups(network, config)
    tables = [parameter for group in groups if group.get("rows", False) for parameter in group["params"]]
    optimizers = adam_and_rows(groups)
    network.eval()  # between epochs: the codebook's initialization must not move a batch norm
    leave_to_rows(network, tables)
    module, *fabric_optimizers = fabric.setup(network, *optimizers)
    schedules = [
        torch.optim.lr_scheduler.StepLR(optimizer, config.decay_steps, gamma=config.decay_factor)
        for optimizer in optimizers
    ]
    progress = Progress(fabric, network, optimizers, schedules, order)
    with_codebook = model_with_codebook(model)
    warm_up = 0 if with_codebook is None else warm_up_epochs(with_codebook)
    if warm_up >= config.epochs:
        raise ValueError(
            f"fit: epochs must be above the model's warm_up_epochs, {warm_up}, because the codebook learns after them, "
            f"got {config.epochs}"
        )

    if with_codebook is not None and relabel_after(with_codebook) > config.epochs:
        raise ValueError(
            f"fit: epochs must be at least the model's relabel_after, {relabel_after(with_codebook)}, got "
            f"{config.epochs}"
        )

    history: list[dict[str, Any]] = []
    if resume:
        history = _resume(fabric, progress, run_folder)
    copy_from_first(fabric, network.state_dict().values())

    seconds_before = history[-1].get("seconds", 0.0) if history else 0.0
    start = time.perf_counter()
    for epoch in range(progress.epoch + 1, config.epochs + 1):
        usage = NodeUsage(model.num_clusters) if isinstance(model, Clusters) else None
        revived = 0
        warming_up = epoch <= warm_up
        if with_codebook is not None and epoch == warm_up + 1:
            initialize(with_codebook, train, seed=config.seed)
            copy_from_first(fabric, network.state_dict().values())
            for optimizer in optimizers:
                optimizer.state.clear()  # which knew another loss
        elif with_codebook is not None and config.revive and not warming_up and progress.unused is not None:
            revived = revive(with_codebook, optimizers, progress.unused, train, seed=config.seed, epoch=epoch)
            copy_from_first(fabric, with_codebook.quantizer.state_dict().values())
        targets = None if warming_up else hardening_targets(model, train, fabric)
        module.train()
        means, iterations = _RunningMeans(), _Iterations(epoch, first_step=progress.step + 1)
        # tqdm's disable=None: no bar where stderr is not a terminal.
        hidden = True if not fabric.is_global_zero else None if show_progress is None else not show_progress
        bar = tqdm(train_loader, desc=f"epoch {epoch}/{config.epochs}", disable=hidden, leave=epoch == config.epochs)
        for batch in bar:
            progress.step += 1
            if isinstance(model, Scheduled):
                model.set_progress(progress.step, epoch)
            # DDP would wait for gradients of codes, their decoder and transitions, which have none in a warm-up.
            with fabric.no_backward_sync(module, enabled=warming_up):
                output, losses, values, count = _losses(
                    module, model, batch, augment, targets, augmented_target=config.augmented_target
                )
                values, count = _over_processes(fabric, values, count)
                iterations.add(values)
                _check_finite(values, progress, run_folder)
                for optimizer in fabric_optimizers:
                    optimizer.zero_grad()
                fabric.backward(losses.total)
            if warming_up:
                average_gradients(fabric, network.parameters())
            else:
                average_rows(fabric, tables)
            parameters = network.parameters()
            norm = (
                clip_gradients(parameters, config.max_grad_norm) if config.max_grad_norm else gradient_norm(parameters)
            )
            _check_finite_norm(norm, progress, run_folder)
            for optimizer, schedule in zip(fabric_optimizers, schedules, strict=True):
                optimizer.step()
                if not warming_up:
                    schedule.step()
            if with_codebook is not None and not warming_up:
                follow_averages(with_codebook, output, fabric)
                follow_variance(with_codebook, output, fabric)
            means.add(values, count)
            if usage is not None:
                usage.update(output.indices, batch.get("mask"))
            if not bar.disable:
                shown = {name: f"{value:.4g}" for name, value in means.values().items()}
                bar.set_postfix(shown | ({"usage": f"{usage.usage:.0%}"} if usage else {}), refresh=False)

        module.eval()
        copy_from_first(fabric, network.buffers())  # the statistics of a batch norm are of each process's own samples
        record: dict[str, Any] = {
            "epoch": epoch,
            "step": progress.step,
            "seconds": round(seconds_before + time.perf_counter() - start, 3),
            "learning_rate": schedules[0].get_last_lr()[0],
            "train": means.values(),
        }
        if usage is not None:
            usage.counts = torch.stack(gather(fabric, usage.counts)).sum(dim=0)
            if with_codebook is not None and epoch == relabel_after(with_codebook):
                places = relabel(with_codebook, optimizers, train, fabric, seed=config.seed)
                usage.counts = usage.counts[places]
            record |= {"usage": usage.usage, "perplexity": usage.perplexity}
        if usage is not None and with_codebook is not None:
            record["revived"] = revived
            progress.unused = usage.unused
        with torch.no_grad(), _undisturbed(fabric, config.seed):
            if validation_loader is not None:
                record["validation"] = _mean_losses(fabric, model, validation_loader)
            if metrics is not None:
                record["metrics"] = fabric.broadcast(metrics() if fabric.is_global_zero else None)
            if after_epoch is not None and fabric.is_global_zero:
                after_epoch(epoch)
        record = fabric.broadcast(record)  # one clock for all
        history.append(record)
        progress.epoch = epoch
        state = progress.state_dict()
        if run_folder is not None:
            run_folder.append_metrics(record)
            run_folder.append_iterations(iterations.record())
            run_folder.save_checkpoint(state)
    module.eval()
    if with_codebook is not None:
        warn_of_wide_neighborhood(with_codebook, progress.step)
    return history


def _seed(seed: int, rank: int) -> None:
    """Seeds torch's global generators: the first process with the seed, the others with numbers drawn from it."""
    torch.manual_seed(seed)
    if rank > 0:
        torch.manual_seed(int(torch.randint(2**63 - 1, (rank,))[-1]))


def _resume(fabric: Fabric, progress: Progress, run_folder: RunFolder | None) -> list[dict[str, Any]]:
    """Puts the progress where the run folder's checkpoint is, and returns the records so far."""
    state = {} if run_folder is None else run_folder.load_checkpoint()
    try:
        progress.load_state_dict(fabric.broadcast(state))
    except ValueError as error:
        where = "" if run_folder is None else f"{run_folder.path / RunFolder.CHECKPOINT}: "
        raise ValueError(f"fit: {where}{error}") from error
    return fabric.broadcast([] if run_folder is None else run_folder.rewind(progress.epoch))


def _check_weights(network: nn.Module) -> None:
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and parameter.dtype == torch.float16:
            raise ValueError(
                "fit: model must have weights of float64, float32 or bfloat16, because float16 rounds Adam's epsilon "
                f"to 0, got float16 in {name}; convert it, as model.bfloat16() does"
            )


def _parameter_groups(network: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    if isinstance(network, InParameterGroups):
        return network.parameter_groups(config.learning_rate, config.transition_rate_factor)
    return [{"params": list(network.parameters()), "lr": config.learning_rate, "rows": False}]


@contextlib.contextmanager
def _undisturbed(fabric: Fabric, seed: int) -> Iterator[None]:
    """Random numbers of their own, the same after each epoch, that leave those of the training where they are.

    So the losses of a model that draws can be compared between epochs, and a training learns the same whether or not
    it is watched.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # all of which manual_seed seeds
        _seed(seed, fabric.global_rank)
        yield


class _Iterations:
    """The losses of each step of an epoch."""

    def __init__(self, epoch: int, first_step: int) -> None:
        self._epoch = epoch
        self._first_step = first_step
        self._losses: dict[str, list[float]] = {}

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._losses.setdefault(name, []).append(value)

    def record(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "step": self._first_step, "losses": self._losses}


class _RunningMeans:
    """Means of named values over batches of different sizes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._count = 0

    def over_processes(self, fabric: Fabric) -> _RunningMeans:
        """The same over the batches of all processes."""
        joined = _RunningMeans()
        for sums, count in gather(fabric, (self._sums, self._count)):
            for name, total in sums.items():
                joined._sums[name] = joined._sums.get(name, 0.0) + total
            joined._count += count
        return joined

    def add(self, values: dict[str, float], count: int) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * count
        self._count += count

    def values(self) -> dict[str, float]:
        return {name: total / max(1, self._count) for name, total in self._sums.items()}


def _losses(
    module: nn.Module,
    model: Trainable,
    batch: dict[str, Tensor],
    augment: AffineAugmentation | None = None,
    targets: HardeningTargets | None = None,
    *,
    augmented_target: bool = False,
) -> tuple[Any, Any, dict[str, float], int]:
    """The output for a batch, its losses, the same as numbers, and how many frames they are means over.

    The forward pass gets the augmented samples. The loss gets the clean ones, or the same if it is to; targets are
    always those of the clean ones.
    """
    fields = {name: batch[name] for name in model.batch_fields if name in batch}
    seen = fields if augment is None else fields | {"x": augment(fields["x"])}
    output = module(**seen)
    goals = {} if targets is None else {"targets": targets(fields)}
    with passing_nan():  # the loop stops at it with the step and the term
        losses = model.loss(output, **(seen if augmented_target else fields), **goals)
    # One copy from the device for all terms.
    values = dict(zip(losses._fields, torch.stack([term.detach() for term in losses]).tolist(), strict=True))
    mask = fields.get("mask")
    return output, losses, values, len(batch["x"]) if mask is None else int(mask.sum())


def _mean_losses(fabric: Fabric, model: Trainable, batches: Any) -> dict[str, float]:
    means = _RunningMeans()
    for batch in batches:
        # Not through DDP, which expects every process to have as many batches.
        _, _, values, count = _losses(cast(nn.Module, model), model, batch)
        means.add(values, count)
    return means.over_processes(fabric).values()


def _over_processes(fabric: Fabric, values: dict[str, float], count: int) -> tuple[dict[str, float], int]:
    """Means over the frames of all processes, and their number."""
    if fabric.world_size == 1:
        return values, count
    parts = gather_numbers(fabric, [*values.values(), count])
    frames = [part[-1] for part in parts]
    sums = (
        math.fsum(value * n for value, n in zip(column, frames, strict=True)) for column in zip(*parts, strict=True)
    )
    means = {name: total / max(1, sum(frames)) for name, total in zip(values, sums, strict=False)}
    return means, int(sum(frames))


def _check_finite(values: dict[str, float], progress: Progress, run_folder: RunFolder | None) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if not broken:
        return
    # The total is broken whenever a term is; the term says more.
    name = next((name for name in broken if name != "total"), "total")
    _stop(f"the {name} loss is {values[name]}", progress, run_folder)


def _check_finite_norm(norm: float, progress: Progress, run_folder: RunFolder | None) -> None:
    if not math.isfinite(norm):
        _stop(f"the norm of the gradients is {norm}", progress, run_folder)


def _stop(reason: str, progress: Progress, run_folder: RunFolder | None) -> NoReturn:
    message = (
        f"fit: {reason} at step {progress.step} (epoch {progress.epoch + 1}), so training "
        "stopped; look for values in the data that are not finite, or lower the learning rate"
    )
    if run_folder is not None and progress.epoch > 0:
        message += f"; the last good checkpoint, of epoch {progress.epoch}, is {run_folder.path / RunFolder.CHECKPOINT}"
    elif run_folder is not None:
        message += f"; no epoch was completed, so {run_folder.path} holds no checkpoint"
    raise FloatingPointError(message)
