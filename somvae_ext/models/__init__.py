"""Deep models: SOM-VAE and its relatives, and their networks. The package needs only torch and numpy.

All models share one interface: a config dataclass; ``encode``, ``decode`` and ``forward``, which returns a named tuple;
``terms``, the loss terms of each sample, and ``loss``, their means and a weighted ``total``; ``reconstruct`` and
``sample``; and ``assign`` if they cluster.
"""

from typing import get_args

from somvae_ext.models.conditional_vae import ConditionalVAE, ConditionalVAEConfig
from somvae_ext.models.gaussian_autoencoder import Gaussian
from somvae_ext.models.gumbel_vae import (
    GumbelVAE,
    GumbelVAEConfig,
    GumbelVAELosses,
    GumbelVAEOutput,
    GumbelVAETerms,
    JointPosterior,
)
from somvae_ext.models.moe_vae import (
    ExpertPosteriors,
    MoEVAE,
    MoEVAEConfig,
    MoEVAELosses,
    MoEVAEOutput,
    MoEVAETerms,
)
from somvae_ext.models.networks import (
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    StridedConvDecoder,
    StridedConvEncoder,
    UnpaddedConvDecoder,
    UnpaddedConvEncoder,
)
from somvae_ext.models.residual_networks import ResidualDecoder, ResidualEncoder
from somvae_ext.models.somvae import SOMVAE
from somvae_ext.models.somvae_config import SOMVAEConfig
from somvae_ext.models.somvae_output import SOMVAELosses, SOMVAEOutput, SOMVAETerms
from somvae_ext.models.vae import VAE, VAEConfig, VAELosses, VAEOutput, VAETerms
from somvae_ext.models.vqvae import VQVAE, VQVAELosses, VQVAEOutput, VQVAETerms
from somvae_ext.models.vqvae_config import VQVAEConfig

Model = SOMVAE | VQVAE | VAE | ConditionalVAE | GumbelVAE | MoEVAE

MODELS: dict[str, type[Model]] = {model.name: model for model in get_args(Model)}
"""All models by name. Each is constructed from an instance of its ``config_type``."""

__all__ = [
    "MODELS",
    "SOMVAE",
    "VAE",
    "VQVAE",
    "ConditionalVAE",
    "ConditionalVAEConfig",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "ExpertPosteriors",
    "Gaussian",
    "GumbelVAE",
    "GumbelVAEConfig",
    "GumbelVAELosses",
    "GumbelVAEOutput",
    "GumbelVAETerms",
    "JointPosterior",
    "MoEVAE",
    "MoEVAEConfig",
    "MoEVAELosses",
    "MoEVAEOutput",
    "MoEVAETerms",
    "Model",
    "ResidualDecoder",
    "ResidualEncoder",
    "SOMVAEConfig",
    "SOMVAELosses",
    "SOMVAEOutput",
    "SOMVAETerms",
    "StridedConvDecoder",
    "StridedConvEncoder",
    "UnpaddedConvDecoder",
    "UnpaddedConvEncoder",
    "VAEConfig",
    "VAELosses",
    "VAEOutput",
    "VAETerms",
    "VQVAEConfig",
    "VQVAELosses",
    "VQVAEOutput",
    "VQVAETerms",
]
