"""Plots: functions from data to matplotlib Axes, without state and without show(). Needs the extra ``plot``."""

from somvae_ext.extras import needed_by

with needed_by(__name__):
    from somvae_ext.plotting.codebook_rgb import plot_codebook_rgb
    from somvae_ext.plotting.component_planes import component_plane_pages, plot_component_planes
    from somvae_ext.plotting.contingency import plot_contingency
    from somvae_ext.plotting.curves import plot_iterations, plot_losses, plot_map_training, plot_order, plot_quality
    from somvae_ext.plotting.decoded_map import plot_codebook_images, plot_decoded_map
    from somvae_ext.plotting.durations import plot_durations
    from somvae_ext.plotting.images import plot_image_rows, plot_images, plot_reconstructions
    from somvae_ext.plotting.map_clusters import plot_map_clusters
    from somvae_ext.plotting.map_sizes import plot_map_sizes
    from somvae_ext.plotting.node_labels import plot_labels
    from somvae_ext.plotting.node_purity import plot_node_purity
    from somvae_ext.plotting.node_values import plot_hits, plot_node_values
    from somvae_ext.plotting.trajectory import plot_trajectory
    from somvae_ext.plotting.transition_graph import plot_transition_graph
    from somvae_ext.plotting.transitions import plot_transitions
    from somvae_ext.plotting.u_matrix import plot_u_matrix

__all__ = [
    "component_plane_pages",
    "plot_codebook_images",
    "plot_codebook_rgb",
    "plot_component_planes",
    "plot_contingency",
    "plot_decoded_map",
    "plot_durations",
    "plot_hits",
    "plot_image_rows",
    "plot_images",
    "plot_iterations",
    "plot_labels",
    "plot_losses",
    "plot_map_clusters",
    "plot_map_sizes",
    "plot_map_training",
    "plot_node_purity",
    "plot_node_values",
    "plot_order",
    "plot_quality",
    "plot_reconstructions",
    "plot_trajectory",
    "plot_transition_graph",
    "plot_transitions",
    "plot_u_matrix",
]
