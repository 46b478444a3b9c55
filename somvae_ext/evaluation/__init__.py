"""How well a map clusters, how evenly it uses its nodes, and how well it fits and orders the data.

Normalized mutual information, adjusted Rand index and accuracy need scikit-learn, and what it brings.
"""

from somvae_ext.evaluation.clustering import NMIAverage, acc, ari, nmi, purity
from somvae_ext.evaluation.map_quality import quantization_error, topographic_error
from somvae_ext.evaluation.node_usage import NodeUsage, perplexity, usage
from somvae_ext.evaluation.u_matrix import UMatrix, u_matrix

__all__ = [
    "NMIAverage",
    "NodeUsage",
    "UMatrix",
    "acc",
    "ari",
    "nmi",
    "perplexity",
    "purity",
    "quantization_error",
    "topographic_error",
    "u_matrix",
    "usage",
]
