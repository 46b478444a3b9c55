"""The targets of cluster-assignment hardening, new ones for each epoch."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from somvae_ext.models import SOMVAE
from somvae_ext.models.networks import FRAMES_AT_ONCE
from somvae_ext.nn.quantizer import finite_row_mask
from somvae_ext.nn.soft_assignment import log_soft_assignment, sharpened_assignment
from somvae_ext.processes import Processes
from somvae_ext.training.batches import batch_loader


class HardeningTargets:
    """The sharpened soft assignments of all training samples by the model at the start of an epoch.

    The N x K assignments are not stored: copies of the encoder and the codes compute them batch by batch, and only
    their sums over the training data are kept. A training that is resumed between epochs has the same targets.

    Args:
        model: the model at the start of the epoch, in evaluation mode.
        train: all training samples, in a dtype that the model takes.
        processes: the processes that train the model; each sums over a share of the samples.
    """

    def __init__(self, model: SOMVAE, train: Dataset[dict[str, Tensor]], processes: Processes) -> None:
        self._shape = model.config.input_shape
        self._encoder = copy.deepcopy(model.encoder).eval().requires_grad_(False)
        self._window = None if model.window is None else copy.deepcopy(model.window).requires_grad_(False)
        self._codebook = model.quantizer.codebook.detach().clone()
        frequencies = torch.zeros(model.num_clusters, dtype=torch.float64, device=self._codebook.device)
        length = max(1, train[0]["x"].numel() // math.prod(self._shape))  # frames of a series
        rows = range(processes.rank, len(train), processes.world_size)  # type: ignore[arg-type]
        # A loader draws a seed: a generator of its own keeps the training's random numbers as they are.
        for batch in batch_loader(train, max(1, FRAMES_AT_ONCE // length), rows, torch.Generator()):
            log_s = self._log_shares(batch)
            # A single encoding that is not finite would spoil all targets.
            frequencies += log_s[finite_row_mask(log_s)].exp().double().sum(dim=0)
        (self._frequencies,) = processes.sum(frequencies)

    def __call__(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Computes the targets ``[..., K]`` of the clean samples of a batch; zeros for masked frames."""
        x, mask = fields["x"], fields.get("mask")
        targets = sharpened_assignment(self._log_shares(fields), self._frequencies)
        shape = x.shape[: x.dim() - len(self._shape)]
        if mask is None:
            return targets.view(*shape, -1)
        padded = targets.new_zeros(*shape, targets.shape[1])
        padded[mask] = targets
        return padded

    @torch.no_grad()
    def _log_shares(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Computes the log soft assignment of each sample or real frame to all nodes, ``[M, K]``."""
        device = self._codebook.device
        x, mask = fields["x"].to(device), fields.get("mask")
        if mask is not None:
            mask = mask.to(device)
            x = torch.where(mask.view(*mask.shape, *(1 for _ in self._shape)), x, 0)  # padding may be NaN
        z = self._encoder(x.reshape(-1, *self._shape)).view(*x.shape[: x.dim() - len(self._shape)], -1)
        z = z if self._window is None else self._window(z, mask)
        return log_soft_assignment(z.flatten(0, -2) if mask is None else z[mask], self._codebook)


def make_hardening_targets(
    model: Any, train: Dataset[dict[str, Tensor]], processes: Processes
) -> HardeningTargets | None:
    """Makes the targets of the next epoch; returns None for a model whose loss has no hardening term."""
    if getattr(getattr(model, "config", None), "hardening", 0) > 0:
        return HardeningTargets(model, train, processes)
    return None
