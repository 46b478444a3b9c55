"""Deep models on maps, and their networks. Needs only torch."""

from somvae_ext.models.networks import DenseDecoder, DenseEncoder
from somvae_ext.models.somvae import SOMVAE, SOMVAEConfig, SOMVAELosses, SOMVAEOutput

__all__ = ["SOMVAE", "DenseDecoder", "DenseEncoder", "SOMVAEConfig", "SOMVAELosses", "SOMVAEOutput"]
