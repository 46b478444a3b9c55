"""Layers that others build into their own models. Needs only torch."""

from somvae_ext.nn.som_quantizer import QuantizerOutput, SOMQuantizer
from somvae_ext.nn.transition import TransitionModel

__all__ = ["QuantizerOutput", "SOMQuantizer", "TransitionModel"]
