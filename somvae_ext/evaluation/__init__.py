"""How well a map clusters, how evenly it uses its nodes, and how well it fits and orders the data.

Normalized mutual information, adjusted Rand index and accuracy, and trustworthiness, need scikit-learn, and what it
brings.
"""

from somvae_ext.evaluation.clustering import NMIAverage, acc, ari, nmi, purity
from somvae_ext.evaluation.map_quality import distortion, quantization_error, topographic_error, trustworthiness
from somvae_ext.evaluation.node_usage import NodeUsage, perplexity, usage
from somvae_ext.evaluation.u_matrix import UMatrix, u_matrix

__all__ = [
    "NMIAverage",
    "NodeUsage",
    "UMatrix",
    "acc",
    "ari",
    "distortion",
    "nmi",
    "perplexity",
    "purity",
    "quantization_error",
    "topographic_error",
    "trustworthiness",
    "u_matrix",
    "usage",
]
