"""The training loop, on Lightning Fabric."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext.progress import Progress
from somvae_ext.store import ResultFolder
from somvae_ext.training.codebook import warn_if_neighborhood_is_wide
from somvae_ext.training.epoch import EpochResult, run_epoch
from somvae_ext.training.losses import mean_losses
from somvae_ext.training.setup import TrainingSetup, seed_generators, set_up_training
from somvae_ext.training.state import save_epoch
from somvae_ext.training.trainable import Trainable
from somvae_ext.training.training_config import TrainingConfig


def fit(
    model: Trainable,
    train: Dataset[dict[str, Tensor]],
    config: TrainingConfig,
    *,
    validation: Dataset[dict[str, Tensor]] | None = None,
    metrics: Callable[[], dict[str, float]] | None = None,
    after_epoch: Callable[[int], None] | None = None,
    run_folder: ResultFolder | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    show_progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Trains a model in place, on the first GPU if there is one.

    torch's global generators are seeded with ``config.seed``. On the CPU, the same model, data and seed give the same
    bits, whether or not the training was interrupted and resumed between epochs.

    With augmentation, each training step draws a transform for each sample or series from torch's global CPU generator.
    The forward pass receives the transformed images, and the loss compares its output with the clean ones or, with
    ``config.augmented_target``, with the transformed ones. Validation, ``metrics`` and the initialization and revival
    of codes use clean images only.

    A codebook is initialized from random training samples before the first epoch. If the model's config has
    ``warm_up_epochs``, it is initialized after them: until then it does not learn, no node is revived and the learning
    rates stay constant, and after them the optimizers start with a new state. The targets of a SOM-VAE's hardening are
    computed before each epoch, from the clean training samples. Nodes change places at the end of the epoch
    ``relabel_after``.

    If ``torchrun`` has started several processes, they train one model together: each takes ``batch_size`` samples of
    its own per step, and gradients, including rows of tables, are averaged over the processes, whatever their numbers
    of frames. The losses in the records are means over the frames of all processes; a term of a whole batch, such as a
    mixture's balance, is computed by each process from its own batch. Only the first process writes the run folder,
    calls ``metrics`` and ``after_epoch`` and shows the progress bar; the others need no run folder.

    Args:
        model: the model; it is left on the device on which it was trained, in evaluation mode.
        train: items are dicts with ``x`` and, for series of different lengths, ``mask``. Samples of another dtype than
            the model's are cast to it: floating ones of any precision, integers and bools if it can hold them all.
        config: the training's hyperparameters.
        validation: data whose losses are measured after each epoch.
        metrics: function called after each epoch, without gradients and in evaluation mode; its result is added to the
            record. Never measure on test data here.
        after_epoch: function called in the same way with the number of each epoch, before the epoch is written to the
            run folder.
        run_folder: folder for the record and a checkpoint of each epoch.
        resume: continue after the last checkpoint of ``run_folder`` instead of starting a new training. Model, data and
            config must be those of the interrupted run; only ``epochs`` may have grown.
        accelerator: ``"auto"``, ``"cpu"`` or ``"cuda"``, as in Fabric.
        show_progress: whether to show the losses and the share of nodes in use on stderr, as a progress bar on a
            terminal and as a line per epoch elsewhere; by default only on a terminal.

    Returns:
        One record per epoch: ``epoch``, ``step``, ``seconds`` since the start, ``learning_rate`` and ``train`` (mean
        training losses); for models that cluster, ``usage`` and ``perplexity`` (of the clusters in training, see
        :class:`~somvae_ext.evaluation.NodeUsage`); for models with a codebook, ``revived`` (number of nodes, before the
        epoch); and, if requested, ``validation`` (mean losses after the epoch; the targets of hardening are those of
        each batch, see :meth:`SOMVAE.terms <somvae_ext.models.SOMVAE.terms>`) and ``metrics``. A resumed training also
        returns the records of the epochs before it.

    Raises:
        FloatingPointError: a loss, or the norm of the gradients, is not finite; the message names the step, the term
            and the last checkpoint. The weights are those before that step.
        BlockingIOError: another process writes to the run folder.
        ValueError: no training samples, no epoch after the model's warm-up, too few epochs for its relabeling, a model
            without a method that its config or ``revive`` needs, float16 weights, samples that the model's dtype cannot
            hold, no GPU although ``accelerator`` is ``"cuda"``, augmentation for a model whose samples are not images,
            ``resume`` without a run folder, or a checkpoint of another model or another number of processes. With
            several processes also models whose bits differ at the end, and an error that only one process has met,
            which is raised in the others as a ValueError.
        FileNotFoundError: ``resume``, but the run folder has no checkpoint.
    """
    training = set_up_training(
        model,
        train,
        config,
        validation=validation,
        run_folder=run_folder,
        resume=resume,
        accelerator=accelerator,
    )
    state, history, processes = training.state, training.history, training.processes
    seconds_before = history[-1].get("seconds", 0.0) if history else 0.0
    start = time.perf_counter()
    show = show_progress if processes.is_first else False
    lock = contextlib.nullcontext() if training.run_folder is None else training.run_folder.lock()
    progress = Progress(config.epochs, show=show, completed_epochs=state.epoch, num_batches=len(training.train_loader))
    with processes.enter_on_first(lock), progress:
        for epoch in range(state.epoch + 1, config.epochs + 1):
            result = run_epoch(training, epoch, progress)
            seconds = round(seconds_before + time.perf_counter() - start, 3)
            record = _record(training, epoch, seconds, result) | _measure(training, epoch, metrics, after_epoch)
            history.append(processes.broadcast_object(record))  # the first process's clock counts for all
            state.epoch = epoch
            save_epoch(state, history[-1], result.iterations, training.run_folder, processes)
    training.module.eval()
    processes.check_same_bits("the model", training.network.state_dict().values())
    if training.codebook_model is not None:
        warn_if_neighborhood_is_wide(training.codebook_model, state.step)
    return history


def _record(training: TrainingSetup, epoch: int, seconds: float, result: EpochResult) -> dict[str, Any]:
    """Returns the part of an epoch's record that comes from its steps."""
    record: dict[str, Any] = {
        "epoch": epoch,
        "step": training.state.step,
        "seconds": seconds,
        "learning_rate": training.schedules[0].get_last_lr()[0],
        "train": result.losses,
    }
    if result.usage is not None:
        record |= {"usage": result.usage.used_share, "perplexity": result.usage.perplexity}
        if training.codebook_model is not None:
            record["revived"] = result.revived
    return record


@torch.no_grad()
def _measure(
    training: TrainingSetup,
    epoch: int,
    metrics: Callable[[], dict[str, float]] | None,
    after_epoch: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Measures the part of an epoch's record that follows its steps, then calls the user's ``after_epoch``."""
    figures: dict[str, Any] = {}
    with _separate_random_numbers(training.config.seed, training.processes.rank):
        if training.validation_loader is not None:
            figures["validation"] = mean_losses(training.processes, training.model, training.validation_loader)
        if metrics is not None:
            figures["metrics"] = training.processes.call_on_first(metrics)
        if after_epoch is not None:
            training.processes.call_on_first(functools.partial(after_epoch, epoch))
    return figures


@contextlib.contextmanager
def _separate_random_numbers(seed: int, rank: int) -> Iterator[None]:
    """Seeds torch's generators, the same after each epoch, and restores the states of the training afterwards.

    Losses of a model that draws random numbers can then be compared between epochs, and a training is the same whether
    or not it is measured.
    """
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # manual_seed seeds all devices
        seed_generators(seed, rank)
        yield
