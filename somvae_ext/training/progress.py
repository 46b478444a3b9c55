"""All that a training needs to go on where it stopped, with the same bits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

_KEYS = {"epoch", "step", "unused", "model", "optimizer", "schedule", "generators"}


class Progress:
    """How far a training has come: epoch, step, and the state of everything that the next step depends on.

    That is model, optimizer, schedule, the order of the samples, torch's global generators, and which nodes won nothing
    in the last epoch.
    """

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, order: torch.Generator
    ) -> None:
        self.epoch = 0
        self.step = 0
        self.unused: Tensor | None = None
        self._model = model
        self._optimizer = optimizer
        self._schedule = schedule
        self._order = order

    def state_dict(self) -> dict[str, Any]:
        """The state as tensors, numbers and containers of these, all that ``torch.load`` reads without pickle."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "unused": self.unused,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generators": {
                "order": self._order.get_state(),
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` gave.

        Raises:
            ValueError: the state belongs to another model, or is not such a state.
        """
        missing = _KEYS - state.keys()
        if missing:
            raise ValueError(f"the checkpoint must hold {min(missing)!r}, as one of fit does, got none")
        try:
            self._model.load_state_dict(state["model"])
            self._optimizer.load_state_dict(state["optimizer"])
            self._schedule.load_state_dict(state["schedule"])
            generators = state["generators"]
            self._order.set_state(generators["order"])
            torch.set_rng_state(generators["cpu"])
            if generators["cuda"] is not None and torch.cuda.is_available():
                torch.cuda.set_rng_state(generators["cuda"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:  # whatever torch meets in it
            reason = " ".join(str(error).split())
            raise ValueError(f"the checkpoint must be one of this model, got another: {reason}") from error
        self.epoch, self.step, self.unused = state["epoch"], state["step"], state["unused"]
