"""One epoch of a training: its steps, and the preparation and relabeling of the codebook before and after them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from somvae_ext.evaluation import NodeUsage
from somvae_ext.progress import Progress
from somvae_ext.training.codebook import (
    initialize_codebook,
    relabel,
    relabel_after,
    revive,
    update_ema_codebook,
    update_latent_variance,
)
from somvae_ext.training.data_parallel import average_dense_gradients, average_row_gradients
from somvae_ext.training.gradients import clip_gradients, gradient_norm
from somvae_ext.training.hardening import HardeningTargets, make_hardening_targets
from somvae_ext.training.losses import RunningMeans, batch_losses, means_over_processes
from somvae_ext.training.setup import TrainingSetup
from somvae_ext.training.state import describe_last_checkpoint
from somvae_ext.training.trainable import ClusteringModel, HasSchedule


class EpochResult(NamedTuple):
    """Results of an epoch, the same in all processes.

    ``losses`` are means over the epoch; ``usage`` counts the winners of all processes, for models that cluster;
    ``revived`` is the number of nodes that were revived before the epoch; ``iterations`` is the record for the log of
    that name: ``epoch``, ``step`` (the epoch's first, from 1) and ``losses``, the values of each term in all steps.
    """

    losses: dict[str, float]
    usage: NodeUsage | None
    revived: int
    iterations: dict[str, Any]


def run_epoch(training: TrainingSetup, epoch: int, progress: Progress) -> EpochResult:
    """Trains for one epoch; afterwards the model is in evaluation mode and the same in all processes.

    Args:
        training: the training. ``step`` and ``unused`` of its state are updated, ``epoch`` is not.
        epoch: number of the epoch, from 1.
        progress: progress display of the batches and the epoch.

    Raises:
        FloatingPointError: a loss, or the norm of the gradients, is not finite.
    """
    model, state = training.model, training.state
    revived = _prepare_codebook(training, epoch)
    targets = None if epoch <= training.warm_up else make_hardening_targets(model, training.train, training.processes)
    usage = NodeUsage(model.num_clusters) if isinstance(model, ClusteringModel) else None
    means, first_step = RunningMeans(), state.step + 1
    losses_by_step: dict[str, list[float]] = {}
    training.module.train()
    progress.start_epoch()
    for batch in training.train_loader:
        state.step += 1
        output, values, frames = _step(training, batch, epoch, targets)
        means.add(values, frames)
        for name, value in values.items():
            losses_by_step.setdefault(name, []).append(value)
        if usage is not None:
            usage.update(output.indices, batch.get("mask"))
        if progress.shows_batches:
            progress.after_batch(_progress_values(means, usage))
    training.module.eval()
    # The batch norms of each process have statistics of its own samples: take those of the first.
    training.processes.broadcast_in_place(*training.network.buffers())
    if usage is not None:
        usage.counts = torch.stack(training.processes.gather_objects(usage.counts)).sum(dim=0)
        _relabel(training, epoch, usage)
    progress.after_epoch(_progress_values(means, usage))
    iterations = {"epoch": epoch, "step": first_step, "losses": losses_by_step}
    return EpochResult(means.values(), usage, revived, iterations)


def _prepare_codebook(training: TrainingSetup, epoch: int) -> int:
    """Initializes the codebook, or revives nodes that won nothing in the last epoch; returns the number of these."""
    model, seed, unused = training.codebook_model, training.config.seed, training.state.unused
    if model is None:
        return 0
    if epoch == training.warm_up + 1:
        initialize_codebook(model, training.train, seed=seed)
        training.processes.broadcast_in_place(*training.network.state_dict().values())
        for optimizer in training.optimizers:
            optimizer.state.clear()  # it belongs to the loss of the warm-up
        return 0
    if not training.config.revive or epoch <= training.warm_up or unused is None:
        return 0
    revived = revive(model, training.optimizers, unused, training.train, seed=seed, epoch=epoch)
    training.processes.broadcast_in_place(*model.quantizer.state_dict().values())
    return revived


def _step(
    training: TrainingSetup, batch: dict[str, Tensor], epoch: int, targets: HardeningTargets | None
) -> tuple[Any, dict[str, float], int]:
    """Takes one step of the optimizers.

    Returns:
        The output for this process's batch, the mean losses over the batches of all processes, and the number of frames
        in these.
    """
    model, processes, state = training.model, training.processes, training.state
    warming_up = epoch <= training.warm_up
    if isinstance(model, HasSchedule):
        model.set_progress(state.step, epoch)
    # In a warm-up, codes, their decoder and transitions have no gradients, for which DDP would wait.
    with training.fabric.no_backward_sync(training.module, enabled=warming_up):
        losses = batch_losses(
            training.module,
            model,
            batch,
            training.augment,
            targets,
            augmented_target=training.config.augmented_target,
        )
        values, frames = means_over_processes(processes, losses.values, losses.frames)
        _check_finite(training, values)
        for optimizer in training.fabric_optimizers:
            optimizer.zero_grad()
        training.fabric.backward(losses.total)
    _finish_gradients(training, warming_up)
    for optimizer, schedule in zip(training.fabric_optimizers, training.schedules, strict=True):
        optimizer.step()
        if not warming_up:
            schedule.step()
    if training.codebook_model is not None and not warming_up:
        update_ema_codebook(training.codebook_model, losses.output, processes)
        update_latent_variance(training.codebook_model, losses.output, processes)
    return losses.output, values, frames


def _finish_gradients(training: TrainingSetup, warming_up: bool) -> None:
    """Averages over the processes the gradients that DDP did not average, and clips the norm of all gradients."""
    parameters, max_norm = list(training.network.parameters()), training.config.max_grad_norm
    if warming_up:
        average_dense_gradients(training.processes, parameters)
    else:
        average_row_gradients(training.processes, training.tables)
    norm = clip_gradients(parameters, max_norm) if max_norm else gradient_norm(parameters)
    if not math.isfinite(norm):
        _raise_not_finite(training, f"the norm of the gradients is {norm}")


def _relabel(training: TrainingSetup, epoch: int, usage: NodeUsage) -> None:
    """Relabels the nodes at the end of the epoch ``relabel_after``, and stores those that won nothing."""
    model = training.codebook_model
    if model is None:
        return
    if epoch == relabel_after(model):
        order = relabel(model, training.optimizers, training.train, training.processes, seed=training.config.seed)
        usage.counts = usage.counts[order]
    training.state.unused = usage.unused_nodes


def _progress_values(means: RunningMeans, usage: NodeUsage | None) -> dict[str, float | str]:
    return means.values() | ({} if usage is None else {"usage": f"{usage.used_share:.0%}"})


def _check_finite(training: TrainingSetup, values: dict[str, float]) -> None:
    broken = [name for name, value in values.items() if not math.isfinite(value)]
    if not broken:
        return
    # The total is not finite whenever a term is not; naming the term says more.
    name = next((name for name in broken if name != "total"), "total")
    _raise_not_finite(training, f"the {name} loss is {values[name]}")


def _raise_not_finite(training: TrainingSetup, reason: str) -> NoReturn:
    state = training.state
    raise FloatingPointError(
        f"fit: {reason} at step {state.step} (epoch {state.epoch + 1}), so training stopped; look for values in the "
        f"data that are not finite, or lower the learning rate{describe_last_checkpoint(state, training.run_folder)}"
    )
