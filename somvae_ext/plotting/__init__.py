"""Pictures: functions from data to matplotlib Axes, without state and without show(). Needs the extra ``plot``."""

from somvae_ext.plotting.decoded_map import plot_decoded_map

__all__ = ["plot_decoded_map"]
