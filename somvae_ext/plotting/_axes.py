"""The axes of a plot."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Returns ``ax``, or the axes of a new figure of this width and height in inches.

    The figure does not belong to pyplot: there is nothing global to close, and no window system is needed. Its layout
    leaves room for what stands beside the axes, even if these have a fixed aspect.
    """
    return Figure(figsize=size, layout="compressed").add_subplot() if ax is None else ax
