"""Layers that others build into their own models. Needs only torch."""

from somvae_ext.nn.initialization import kmeans_centers, lay_out
from somvae_ext.nn.som import SOM, fastsom_gaussian, gaussian
from somvae_ext.nn.som_quantizer import QuantizerLosses, QuantizerOutput, SOMQuantizer
from somvae_ext.nn.transition import TransitionModel, predecessors

__all__ = [
    "SOM",
    "QuantizerLosses",
    "QuantizerOutput",
    "SOMQuantizer",
    "TransitionModel",
    "fastsom_gaussian",
    "gaussian",
    "kmeans_centers",
    "lay_out",
    "predecessors",
]
