"""The configuration of a VQ-VAE."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

from somvae_ext.config_checks import Bounds, check_fields, check_unused
from somvae_ext.models._config import Network
from somvae_ext.models.networks import conv_shape
from somvae_ext.models.reconstruction import Output, Reconstruction
from somvae_ext.nn.vector_quantizer import CodebookUpdate

Init = Literal["normal", "kmeans"]

_DECAY = 0.99


@dataclasses.dataclass(frozen=True)
class VQVAEConfig:
    """Configuration of a :class:`VQVAE`.

    Args:
        input_shape: shape of one sample; for ``"conv"`` images (C, H, W), H and W multiples of 4.
        num_codes: number of codes K.
        latent_dim: size D of a code.
        network: ``"dense"``, linear layers and one code for each sample, or ``"conv"``, strided convolutions with
            residual blocks and a grid of H / 4 x W / 4 codes, see :mod:`somvae_ext.models.residual_networks`.
        hidden_sizes: widths of the dense encoder's hidden layers; the decoder has them in reverse.
        output: activation at the end of the decoder: ``"sigmoid"`` for samples in [0, 1], ``"linear"`` for others.
        init: initialization of the codebook: ``"normal"``, or ``"kmeans"`` centers of the first encodings, see
            :meth:`VQVAE.initialize_codebook`.
        reconstruction: ``"mse"``, the mean squared error, or ``"bce"``, the mean binary cross entropy between samples
            in [0, 1] and the decoder's sigmoid. Samples slightly outside are clamped.
        codebook_update: how codes learn: ``"gradient"``, from the codebook loss, or ``"ema"``, as moving averages of
            the encodings that they win, see :class:`~somvae_ext.nn.VectorQuantizer`.
        decay: share of the averages that a step keeps, for ``"ema"``.
        beta: weight of the commitment loss; the paper's is 0.25.

    Raises:
        ValueError: sizes below 1, a weight that is negative or not finite, unknown names, or options that contradict
            each other.
    """

    input_shape: tuple[int, ...] = (1, 28, 28)
    num_codes: int = 64
    latent_dim: int = 64
    network: Network = "dense"
    hidden_sizes: tuple[int, ...] = (256, 128)
    output: Output = "sigmoid"
    init: Init = "normal"
    reconstruction: Reconstruction = "mse"
    codebook_update: CodebookUpdate = "gradient"
    decay: float = _DECAY
    beta: float = 0.25

    def __post_init__(self) -> None:
        check_fields(self, decay=Bounds(at_least=0, below=1))
        if self.codebook_update == "gradient":
            check_unused(self, "codebook_update must be 'ema'", "decay")
        if self.reconstruction == "bce" and self.output == "linear":
            raise ValueError("VQVAEConfig: output must be 'sigmoid' for reconstruction 'bce', got 'linear'")
        if self.network == "conv":
            conv_shape("VQVAEConfig", self.input_shape)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Shape of one sample's codes: ``()`` for dense networks, which have a single code, else ``(H / 4, W / 4)``."""
        return tuple(size // 4 for size in self.input_shape[1:]) if self.network == "conv" else ()

    @property
    def codes_per_sample(self) -> int:
        """Number of codes per sample."""
        return math.prod(self.code_shape)
