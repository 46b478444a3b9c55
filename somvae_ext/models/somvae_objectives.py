"""Terms of a SOM-VAE's loss that are not in the paper: hardening, the soft SOM loss and the neighbor margin."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext.models.somvae_config import SOMVAEConfig
from somvae_ext.models.somvae_output import SOMVAEOutput
from somvae_ext.nn import SOMQuantizer
from somvae_ext.nn.neighbor_margin import neighbor_margin
from somvae_ext.nn.soft_assignment import hardening_loss, log_soft_assignment, sharpened_assignment, soft_som_loss


def soft_assignment_terms(
    config: SOMVAEConfig,
    quantizer: SOMQuantizer,
    output: SOMVAEOutput,
    mask: Tensor | None,
    targets: Tensor | None,
    *,
    idle: bool,
) -> tuple[Tensor, Tensor]:
    """Computes hardening and soft SOM loss of each sample or frame; zeros if their weight is 0 or they are ``idle``.

    Raises:
        ValueError: targets without hardening, or whose shape is not ``[..., K]``.
    """
    shape, nodes = output.indices.shape, quantizer.num_codes
    if targets is not None and config.hardening == 0:
        raise ValueError("SOMVAE.loss: targets must be None for hardening = 0, which has no use for them")
    hardening = soft_som = output.commitment.new_zeros(shape)
    if idle or (config.hardening == 0 and config.soft_som == 0):
        return hardening, soft_som
    z, codebook = output.z_e.flatten(0, -2), quantizer.snapshot()
    if config.hardening > 0:
        log_s = log_soft_assignment(z, codebook)
        if targets is None:
            shares = log_s.exp() if mask is None else torch.where(mask.flatten()[:, None], log_s.exp(), 0)
            targets = sharpened_assignment(log_s, shares.detach().double().sum(dim=0))
        elif targets.shape != (*shape, nodes):
            raise ValueError(f"SOMVAE.loss: targets must have shape {[*shape, nodes]}, got {list(targets.shape)}")
        hardening = hardening_loss(log_s, targets.reshape(log_s.shape).to(log_s)).view(shape)
    if config.soft_som > 0:
        soft_som = soft_som_loss(log_soft_assignment(z.detach(), codebook), quantizer.grid).view(shape)
    return hardening, soft_som


def neighbor_margin_term(config: SOMVAEConfig, quantizer: SOMQuantizer, output: SOMVAEOutput, *, idle: bool) -> Tensor:
    """Computes the neighbor margin of each sample or frame; zeros if its weight is 0 or it is ``idle``."""
    if idle or config.neighbor_margin == 0:
        return torch.zeros_like(output.commitment)
    z, index = output.z_e.flatten(0, -2), output.indices.flatten()
    index = index.clamp_min(0)  # masked frames have index -1
    return neighbor_margin(z, quantizer.snapshot(), index, quantizer.grid).view(output.indices.shape)
