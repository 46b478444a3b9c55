"""Loads a trained model or map from its folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from somvae_ext.estimators import SavedMap
    from somvae_ext.models import Model


def load(
    path: str | os.PathLike[str], *, device: torch.device | str = "cpu", epoch: int | None = None
) -> Model | SavedMap:
    """Loads a model or a map that ``somvae fit`` has trained.

    Args:
        path: the folder that ``somvae fit`` wrote.
        device: where to put the codes or the model's weights.
        epoch: for a model, which of the epochs kept in the folder to load, by default the last one; None for a map.

    Returns:
        A model of :data:`somvae_ext.models.MODELS` in evaluation mode, or a
        :class:`~somvae_ext.estimators.SavedMap`.

    Raises:
        FileNotFoundError: there is no folder with a result, or no epoch of its training was completed.
        ValueError: a damaged file, a map whose training was interrupted, an epoch of a map, or a folder of a version
            that this one cannot read, such as somvae_ext 0.1.

    Example:
        >>> import somvae_ext, torch
        >>> model = somvae_ext.load("runs/digits")  # written by 'somvae fit digits'
        >>> model.assign(torch.rand(5, 1, 8, 8)).shape
        torch.Size([5])
    """
    from somvae_ext.store import ResultFolder

    folder = ResultFolder.open(path)
    if folder.kind == "model":
        from somvae_ext.models.saved_model import load_model

        return load_model(folder, device=device, epoch=epoch)
    from somvae_ext.estimators import SavedMap

    if epoch is not None:
        raise ValueError(f"load: epoch must be None for a map, got {epoch} for {folder.path}")
    return SavedMap.from_folder(folder, device=device)
