"""The results of a SOM-VAE's forward pass and of its loss."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from somvae_ext.exportable import exportable


@exportable
class SOMVAEOutput(NamedTuple):
    """Result of a forward pass. ``...`` is ``N`` for static samples and ``B, T`` for series.

    ``reconstruction_q`` and ``reconstruction_e`` ``[..., *input_shape]`` are decoded from the winner's code and from
    the encoding: samples or, if the reconstruction loss is ``"bce"``, their logits. The second is None without a second
    decoder. ``z_e`` ``[..., D]`` is the encoding, ``z_q`` ``[..., D]`` the winner's code, ``indices``, int64 ``[...]``,
    the winner, and ``commitment`` and ``som`` ``[...]`` are the losses of each frame. At masked frames ``indices`` is
    -1, ``z_q``, ``commitment`` and ``som`` are 0, and the rest has no meaning.
    """

    reconstruction_q: Tensor
    reconstruction_e: Tensor | None
    z_e: Tensor
    z_q: Tensor
    indices: Tensor
    commitment: Tensor
    som: Tensor


@exportable
class SOMVAETerms(NamedTuple):
    """The terms of the loss of each sample, ``[N]``, or frame, ``[B, T]``, before weighting; 0 for masked frames."""

    reconstruction_q: Tensor
    reconstruction_e: Tensor
    commitment: Tensor
    som: Tensor
    transition: Tensor
    smoothness: Tensor
    hardening: Tensor
    soft_som: Tensor
    neighbor_margin: Tensor
    prediction: Tensor


@exportable
class SOMVAELosses(NamedTuple):
    """The weighted ``total`` and its terms before weighting: scalars, means over the samples or real frames."""

    total: Tensor
    reconstruction_q: Tensor
    reconstruction_e: Tensor
    commitment: Tensor
    som: Tensor
    transition: Tensor
    smoothness: Tensor
    hardening: Tensor
    soft_som: Tensor
    neighbor_margin: Tensor
    prediction: Tensor
