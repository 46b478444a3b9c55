"""Deep models on maps, and their networks. Needs only torch."""

from somvae_ext.models.networks import (
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    NotebookDecoder,
    NotebookEncoder,
)
from somvae_ext.models.somvae import SOMVAE, SOMVAELosses, SOMVAEOutput
from somvae_ext.models.somvae_config import SOMVAEConfig

__all__ = [
    "SOMVAE",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "NotebookDecoder",
    "NotebookEncoder",
    "SOMVAEConfig",
    "SOMVAELosses",
    "SOMVAEOutput",
]
