"""Pictures: functions from data to matplotlib Axes, without state and without show(). Needs the extra ``plot``."""

from somvae_ext.plotting.curves import plot_losses, plot_quality
from somvae_ext.plotting.decoded_map import plot_decoded_map
from somvae_ext.plotting.transitions import plot_transitions

__all__ = ["plot_decoded_map", "plot_losses", "plot_quality", "plot_transitions"]
