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
    """Loads what ``somvae fit`` has trained: a model or a map.

    Args:
        path: the folder that it wrote.
        device: where to put the codes or the model's weights.
        epoch: of a model, as of which of the epochs that the folder keeps; by default the last one.

    Returns:
        A model of :data:`somvae_ext.models.MODELS` in evaluation mode, or a
        :class:`~somvae_ext.estimators.SavedMap`.

    Raises:
        FileNotFoundError: there is no folder with a result, or no epoch of its training was completed.
        ValueError: a damaged file, a map whose training was interrupted, or a folder of a version that this one cannot
            read. Folders of somvae_ext 0.1 are such.

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
