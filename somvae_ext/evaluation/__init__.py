"""Metrics of a map: how well it clusters, uses its nodes, fits and orders the data, and how series move on it.

Normalized mutual information, adjusted Rand index and accuracy, trustworthiness, macro-states and clusters of nodes
need scikit-learn and its dependencies; the combined error needs scipy.
"""

from somvae_ext.evaluation._macro_states import macro_states
from somvae_ext.evaluation._prototype_order import prototype_order
from somvae_ext.evaluation._u_matrix import UMatrix, u_matrix
from somvae_ext.evaluation.clustering import NMIAverage, ari, clustering_accuracy, nmi, node_purity, purity
from somvae_ext.evaluation.collapse import distinct_rows, has_collapsed, share_of_perplexity
from somvae_ext.evaluation.durations import StateDurations, state_durations
from somvae_ext.evaluation.map_quality import (
    combined_error,
    distortion,
    quantization_error,
    topographic_error,
    trustworthiness,
)
from somvae_ext.evaluation.moves import share_of_moves_within, transition_mass_within
from somvae_ext.evaluation.node_clusters import ClusterCandidate, Criterion, NodeClusters, cluster_nodes
from somvae_ext.evaluation.node_usage import NodeUsage, perplexity, used_node_share
from somvae_ext.evaluation.persistence import persistence_nll

__all__ = [
    "ClusterCandidate",
    "Criterion",
    "NMIAverage",
    "NodeClusters",
    "NodeUsage",
    "StateDurations",
    "UMatrix",
    "ari",
    "cluster_nodes",
    "clustering_accuracy",
    "combined_error",
    "distinct_rows",
    "distortion",
    "has_collapsed",
    "macro_states",
    "nmi",
    "node_purity",
    "perplexity",
    "persistence_nll",
    "prototype_order",
    "purity",
    "quantization_error",
    "share_of_moves_within",
    "share_of_perplexity",
    "state_durations",
    "topographic_error",
    "transition_mass_within",
    "trustworthiness",
    "u_matrix",
    "used_node_share",
]
