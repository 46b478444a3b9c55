"""Soft assignment of encodings to codes and the losses that SOM-VAE's successors compute from it.

Xie et al. 2016, "Unsupervised deep embedding for clustering analysis" (DEC, arXiv 1511.06335); Manduchi et al. 2021,
"T-DPSOM: an interpretable clustering method for unsupervised learning of patient health states" (arXiv 1910.01590).
"""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext.grid import Grid

# Shares below the smallest normal number of float32 are too imprecise for a logarithm.
_LEAST_SHARE = torch.finfo(torch.float32).tiny


def log_soft_assignment(z: Tensor, codebook: Tensor) -> Tensor:
    """Computes the logarithms of a soft assignment to codes by Student's t with one degree of freedom (DEC, eq. 1)::

        s_ij = (1 + |z_i - e_j|^2)^-1 / sum over the codes k of (1 + |z_i - e_k|^2)^-1

    Args:
        z: encodings, floating ``[M, D]``.
        codebook: codes ``[K, D]``.

    Returns:
        ``[M, K]``, float32, or float64 if ``z`` is, differentiable in both arguments.

    Example:
        >>> share = log_soft_assignment(torch.tensor([[1.0]]), torch.tensor([[1.0], [2.0]])).exp()
        >>> [round(value, 4) for value in share[0].tolist()]
        [0.6667, 0.3333]
    """
    dtype = torch.promote_types(z.dtype, torch.float32)
    with torch.autocast(z.device.type, enabled=False):
        z, codebook = z.to(dtype), codebook.to(dtype)
        # Subtract the codes' mean, so that a common offset costs no digits in |z|^2 - 2 z.e + |e|^2.
        center = codebook.detach().mean(dim=0)
        z, codebook = z - center, codebook - center
        squares = z.square().sum(dim=1, keepdim=True) + codebook.square().sum(dim=1)
        kernel = -torch.addmm(squares, z, codebook.T, alpha=-2).clamp_min(0).log1p()
        return kernel.log_softmax(dim=1)


def sharpened_assignment(log_s: Tensor, frequencies: Tensor) -> Tensor:
    """Computes the targets that harden a soft assignment (DEC, eq. 3)::

        t_ij = (s_ij^2 / f_j) / sum over the codes k of (s_ik^2 / f_k)

    Squares favor assignments that are already certain; the division by f keeps large clusters from growing.

    Args:
        log_s: logarithms of the soft assignment ``[M, K]``.
        frequencies: f, the sums of s over the data set, ``[K]``.

    Returns:
        ``[M, K]``, without a gradient.
    """
    logits = 2 * log_s.detach() - frequencies.to(log_s).clamp_min(_LEAST_SHARE).log()
    return logits.softmax(dim=1)


def hardening_loss(log_s: Tensor, targets: Tensor) -> Tensor:
    """Computes KL(t_i | s_i) of each encoding, ``[M]``, in nats (DEC, eq. 2)."""
    # 0 log 0 is 0.
    return (torch.special.xlogy(targets, targets) - targets * log_s).sum(dim=1)


def soft_som_loss(log_s: Tensor, grid: Grid) -> Tensor:
    """Computes the S-SOM loss of T-DPSOM, ``[M]``, which draws the neighbors of likely nodes toward an encoding::

        - sum over the nodes j of sg[s_ij] * sum over the neighbors n of j of log s_in

    Args:
        log_s: logarithms of the soft assignment ``[M, K]``. Detach the encodings if the loss is to move codes alone, as
            in SOM-VAE.
        grid: the grid of the K nodes.
    """
    neighbors = grid.neighbors(log_s.device)  # (K, S)
    is_absent = neighbors < 0
    weights = log_s.detach().exp()
    loss = torch.zeros_like(log_s[:, 0])
    for slot in range(neighbors.shape[1]):  # one at a time, to hold no M x K x S tensor
        neighbor_log_s = log_s.index_select(1, neighbors[:, slot].clamp_min(0))
        loss = loss - (weights * neighbor_log_s.masked_fill(is_absent[:, slot], 0)).sum(dim=1)
    return loss
