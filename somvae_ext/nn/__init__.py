"""Layers that others build into their own models. Needs only torch."""

from somvae_ext.nn.som import SOM
from somvae_ext.nn.som_quantizer import QuantizerLosses, QuantizerOutput, SOMQuantizer
from somvae_ext.nn.transition import TransitionModel, predecessors

__all__ = [
    "SOM",
    "QuantizerLosses",
    "QuantizerOutput",
    "SOMQuantizer",
    "TransitionModel",
    "predecessors",
]
