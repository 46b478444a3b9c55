"""How well a map clusters, how evenly it uses its nodes, how well it fits and orders the data, and how series move.

Normalized mutual information, adjusted Rand index and accuracy, and trustworthiness, need scikit-learn, and what it
brings.
"""

from somvae_ext.evaluation._prototype_order import prototype_order
from somvae_ext.evaluation._u_matrix import UMatrix, u_matrix
from somvae_ext.evaluation.clustering import NMIAverage, ari, clustering_accuracy, nmi, purity
from somvae_ext.evaluation.map_quality import distortion, quantization_error, topographic_error, trustworthiness
from somvae_ext.evaluation.moves import share_of_moves_within, transition_mass_within
from somvae_ext.evaluation.node_usage import NodeUsage, perplexity, used_node_share

__all__ = [
    "NMIAverage",
    "NodeUsage",
    "UMatrix",
    "ari",
    "clustering_accuracy",
    "distortion",
    "nmi",
    "perplexity",
    "prototype_order",
    "purity",
    "quantization_error",
    "share_of_moves_within",
    "topographic_error",
    "transition_mass_within",
    "trustworthiness",
    "u_matrix",
    "used_node_share",
]
