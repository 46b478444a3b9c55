"""Where pictures are drawn."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """The axes that were given, or those of a new figure of this width and height in inches.

    The figure is its own and not pyplot's: nothing global to close, no window system needed. Its layout leaves room for
    what stands beside the axes, also where these have a fixed aspect.
    """
    return Figure(figsize=size, layout="compressed").add_subplot() if ax is None else ax
