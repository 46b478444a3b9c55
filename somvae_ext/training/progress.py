"""All that a training needs to go on where it stopped, with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from somvae_ext.training.processes import gather

_KEYS = {"epoch", "step", "unused", "model", "optimizers", "schedules", "generators"}


class Progress:
    """How far a training has come: epoch, step, and the state of everything that the next step depends on.

    That is model, optimizers, schedules, the order of the samples, torch's global generators in each process, and which
    nodes won nothing in the last epoch.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedules: Sequence[LRScheduler],
        order: torch.Generator,
    ) -> None:
        self.epoch = 0
        self.step = 0
        self.unused: Tensor | None = None
        self._fabric = fabric
        self._model = model
        self._optimizers = optimizers
        self._schedules = schedules
        self._order = order

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors, numbers and containers of these, all that ``torch.load`` reads without pickle.

        The same in all processes, which call it together.
        """
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        cpu_states, cuda_states = zip(*gather(self._fabric, (torch.get_rng_state(), cuda)), strict=True)
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
        """Takes over what :meth:`state_dict` gave.

        Raises:
            ValueError: the state belongs to another model, or to another number of processes, or is not such a state.
        """
        missing = _KEYS - state.keys()
        if missing:
            raise ValueError(f"the checkpoint must hold {min(missing)!r}, as one of fit does, got none")
        rank = self._fabric.global_rank
        try:
            generators = state["generators"]
            if len(generators["cpu"]) != self._fabric.world_size:  # before anything is overwritten
                raise ValueError(
                    f"it is of a training by {len(generators['cpu'])} processes, and this one is by "
                    f"{self._fabric.world_size}"
                )
            self._model.load_state_dict(state["model"])
            for optimizer, values in zip(self._optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(values)
            for schedule, values in zip(self._schedules, state["schedules"], strict=True):
                schedule.load_state_dict(values)
            self._order.set_state(generators["order"])
            torch.set_rng_state(generators["cpu"][rank])
            if generators["cuda"][rank] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(generators["cuda"][rank])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # whatever torch meets in it
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint must be one of this training, got another: {reason}") from error
        self.epoch, self.step, self.unused = state["epoch"], state["step"], state["unused"]
