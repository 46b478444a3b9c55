"""The state of a training, from which it can be resumed with the same bits, and its checkpoints in the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from somvae_ext.config_checks import is_integer
from somvae_ext.models.saved_model import check_weights
from somvae_ext.processes import Processes
from somvae_ext.store import METRICS, ResultFolder

_KEYS = {"epoch", "step", "unused", "model", "optimizers", "schedules", "generators"}

# Errors that torch raises for an invalid state.
_LOAD_ERRORS = (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError)

ITERATIONS = "iterations"
"""Name of the log of the losses of each step, one record per epoch."""


class TrainingState:
    """The state of a training: epoch, step, and everything that the next step depends on.

    That is the state of the model, the optimizers, the schedules, the generator of the samples' order and torch's
    global generators in each process, and the nodes that won nothing in the last epoch.
    """

    def __init__(
        self,
        processes: Processes,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedules: Sequence[LRScheduler],
        order: torch.Generator,
    ) -> None:
        self.epoch = 0
        self.step = 0
        self.unused: Tensor | None = None
        self._processes = processes
        self._model = model
        self._optimizers = optimizers
        self._schedules = schedules
        self._order = order

    def state_dict(self) -> dict[str, Any]:
        """Returns the state as tensors, numbers and containers of these.

        All processes call it together and get the same result.
        """
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        cpu_states, cuda_states = zip(*self._processes.gather_objects((torch.get_rng_state(), cuda)), strict=True)
        return {
            "epoch": self.epoch,
            "step": self.step,
            "unused": self.unused,
            "model": self._model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "schedules": [schedule.state_dict() for schedule in self._schedules],
            "generators": {"order": self._order.get_state(), "cpu": list(cpu_states), "cuda": list(cuda_states)},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state that :meth:`state_dict` returned.

        Raises:
            ValueError: the state belongs to another model or another number of processes, or is not such a state.
        """
        missing = _KEYS - state.keys()
        if missing:
            raise ValueError(f"the checkpoint must hold {min(missing)!r}, as one of fit does, got none")
        if not (is_integer(state["epoch"]) and is_integer(state["step"])):
            raise ValueError("the checkpoint must hold the numbers of epoch and step, as one of fit does, got others")
        processes = self._processes
        try:
            generators = state["generators"]
            if len(generators["cpu"]) != processes.world_size:  # before anything is overwritten
                raise ValueError(
                    f"it is of a training by {len(generators['cpu'])} processes, and this one is by "
                    f"{processes.world_size}"
                )
            check_weights(self._model, state["model"])
            self._model.load_state_dict(state["model"])
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
            for schedule, values in zip(self._schedules, state["schedules"], strict=True):
                schedule.load_state_dict(values)
            self._order.set_state(generators["order"])
            torch.set_rng_state(generators["cpu"][processes.rank])
            if generators["cuda"][processes.rank] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(generators["cuda"][processes.rank])
        except _LOAD_ERRORS as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint must be one of this training, got another: {reason}") from error
        self.epoch, self.step, self.unused = state["epoch"], state["step"], state["unused"]


# The run folder is None in all processes but the first, and there too if nothing is to be written.


def save_epoch(
    state: TrainingState,
    record: dict[str, Any],
    iterations: dict[str, Any],
    run_folder: ResultFolder | None,
    processes: Processes,
) -> None:
    """Saves a completed epoch. All processes call it.

    Args:
        state: the state after the epoch.
        record: the epoch's record, for the log of metrics.
        iterations: the losses of the epoch's steps.
        run_folder: folder to save to.
        processes: the processes that train the model.
    """
    values = state.state_dict()
    weights = values.pop("model")

    def write() -> None:
        if run_folder is not None:
            records = {METRICS: [record], ITERATIONS: [_round_losses(iterations)]}
            run_folder.save_checkpoint(state.epoch, weights, values, records)

    processes.call_on_first(write)


def _round_losses(iterations: dict[str, Any]) -> dict[str, Any]:
    """Rounds the losses of the steps to six significant digits."""
    losses = {term: [float(f"{value:.6g}") for value in values] for term, values in iterations["losses"].items()}
    return iterations | {"losses": losses}


def check_new_run(run_folder: ResultFolder | None, processes: Processes) -> None:
    """Checks that a new run has no run folder, or one without epochs. All processes call it.

    Raises:
        ValueError: the run folder holds epochs of another training.
    """

    def check() -> None:
        if run_folder is not None and run_folder.epochs:
            raise ValueError(
                f"fit: run_folder must be a new one, got {run_folder.path} with {run_folder.last_epoch} epochs; set "
                "resume to go on with it"
            )

    processes.call_on_first(check)


def resume_run(state: TrainingState, run_folder: ResultFolder | None, processes: Processes) -> list[dict[str, Any]]:
    """Restores the state from the run folder's checkpoint, and returns the records so far. All processes call it.

    Raises:
        ValueError: no run folder, or a checkpoint of another training.
        FileNotFoundError: the run folder has no checkpoint.
    """

    def read() -> dict[str, Any]:
        if run_folder is None:
            raise ValueError("fit: resume needs the run_folder whose training is to go on, got none")
        return {**run_folder.load_state(), "model": run_folder.load_weights()}

    values = processes.call_on_first(read)
    try:
        state.load_state_dict(values)
    except ValueError as error:
        prefix = "" if run_folder is None else f"{run_folder.path}: "
        raise ValueError(f"fit: {prefix}{error}") from error
    return processes.call_on_first(lambda: [] if run_folder is None else run_folder.load_log(METRICS))


def describe_last_checkpoint(state: TrainingState, run_folder: ResultFolder | None) -> str:
    """Returns the end of a message about a stopped training: the checkpoint from which it can resume."""
    if run_folder is None:
        return ""
    if state.epoch == 0:
        return f"; no epoch was completed, so {run_folder.path} holds no checkpoint"
    return f"; {run_folder.path} holds the checkpoint of epoch {state.epoch}"
