"""Trained models, back from their run folders."""

from __future__ import annotations

import os

import torch

from somvae_ext.models import Model
from somvae_ext.training.run_config import model_config
from somvae_ext.training.run_folder import RunFolder


def load_model(run: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> Model:
    """The model of a run as of its last checkpoint, in evaluation mode.

    Args:
        run: the folder that ``somvae fit`` wrote.
        device: where to put the model.

    Raises:
        FileNotFoundError: there is no run, or no epoch of it was completed.
        ValueError: a broken or foreign config or checkpoint. Models with networks of their own, rather than one that
            their config names, are not rebuilt: make the model and load ``checkpoint.pt``'s ``"model"``.

    Example:
        >>> model = load_model("runs/digits")  # doctest: +SKIP
        >>> model.assign(x)  # doctest: +SKIP
    """
    folder = RunFolder.open(run)
    make, config = model_config(folder)
    model = make(config)
    try:
        model.load_state_dict(folder.load_checkpoint()["model"])
    except (RuntimeError, TypeError, AttributeError) as error:  # the latter two of what are no parameters
        raise ValueError(
            f"load_model: {folder.path / RunFolder.CHECKPOINT} must hold the model that {RunFolder.CONFIG} beside it "
            "describes, got other parameters"
        ) from error
    return model.to(device).eval()
