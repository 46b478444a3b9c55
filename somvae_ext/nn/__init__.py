"""Layers to build into other models. The package needs only torch and numpy."""

from somvae_ext.nn.causal_window import CausalWindow
from somvae_ext.nn.quantizer import CodeStatistics, Quantizer
from somvae_ext.nn.som import SOM
from somvae_ext.nn.som_quantizer import QuantizerLosses, QuantizerOutput, SOMQuantizer
from somvae_ext.nn.transition import TransitionModel, previous_in_series
from somvae_ext.nn.vector_quantizer import (
    VectorQuantizer,
    VectorQuantizerLosses,
    VectorQuantizerOutput,
)

__all__ = [
    "SOM",
    "CausalWindow",
    "CodeStatistics",
    "Quantizer",
    "QuantizerLosses",
    "QuantizerOutput",
    "SOMQuantizer",
    "TransitionModel",
    "VectorQuantizer",
    "VectorQuantizerLosses",
    "VectorQuantizerOutput",
    "previous_in_series",
]
