"""Plot of the purity of nodes, for several maps side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import category_colors

_SIZE = (6, 3.5)  # inches
_BINS = 10
_BAR = 0.84  # of a bin's width, for the bars of all maps together
_LEGEND_LINE = 0.08  # height of a line, as a share of the highest bar


def plot_node_purity(
    purities: Mapping[str, ArrayLike | Tensor], ax: Axes | None = None, *, num_classes: int | None = None
) -> Axes:
    """Plots histograms of the purity of nodes, for maps side by side, such as a model and random nodes.

    Bars are shares of the nodes that hold samples, so that maps of different sizes can be compared.

    Args:
        purities: purity of the nodes of each map, ``[K]``, by the name of the map, as
            :func:`~somvae_ext.evaluation.node_purity` returns it; NaN for nodes without samples, which do not count.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        num_classes: number of classes; the bins then begin at 1 / ``num_classes``, the smallest possible purity,
            instead of 0.

    Raises:
        ValueError: no maps, arrays of a wrong shape, a map without any sample, or values that are not purities.

    Example:
        >>> ax = plot_node_purity({"model": [0.9, 1.0, float("nan")], "noise": [0.5, 0.6, 0.5]}, num_classes=2)
        >>> ax.figure.savefig("node-purity.png")
    """
    if len(purities) == 0:
        raise ValueError("plot_node_purity: purities must hold at least one map, got none")
    least = 0.0
    if num_classes is not None:
        least = 1 / check_integer("plot_node_purity", "num_classes", num_classes, Bounds(at_least=2))
    purity = {name: _as_purity(name, values, least) for name, values in purities.items()}
    ax = axes_or_new(ax, _SIZE)
    edges = np.linspace(least, 1, _BINS + 1)
    bar = _BAR * (1 - least) / _BINS / len(purity)
    colors = category_colors(len(purity))
    for number, ((name, values), color) in enumerate(zip(purity.items(), colors, strict=True)):
        used = values[~np.isnan(values)]
        share = np.histogram(np.clip(used, least, 1), edges)[0] / len(used)
        middle = (edges[:-1] + edges[1:]) / 2 + (number - (len(purity) - 1) / 2) * bar
        label = f"{name}: median {np.median(used):.2f}, {len(used):,} of {len(values):,} nodes in use"
        ax.bar(middle, share, bar, color=color, label=label)
        ax.axvline(np.median(used).item(), color=color, linestyle="--", linewidth=1, zorder=0.5)
    ax.set_xlim(least, 1)
    ax.set_ylim(0, ax.dataLim.y1 * (1.1 + _LEGEND_LINE * len(purity)))
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 1])  # none above 100 %, beside the legend
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    ax.set_xlabel("share of a node's most frequent class (dashed: median)")
    ax.set_ylabel("nodes")
    ax.legend(fontsize="x-small", loc="upper left")
    set_title(ax, "Purity of the nodes")
    return ax


def _as_purity(name: str, values: ArrayLike | Tensor, least: float) -> NDArray[np.float64]:
    array = as_array("plot_node_purity", f"purities[{name!r}]", values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise ValueError(
            f"plot_node_purity: purities[{name!r}] must be numbers of shape [K], got {array.dtype} of shape "
            f"{list(array.shape)}"
        )
    array = array.astype(np.float64)
    if np.isnan(array).all():
        raise ValueError(
            f"plot_node_purity: purities[{name!r}] must have a node with samples, got none in {len(array)}"
        )
    # A third in float32 is not a third in float64.
    if (wrong := (array < least - 1e-6) | (array > 1 + 1e-6)).any():
        raise ValueError(f"plot_node_purity: purities[{name!r}] must be from {least:.6g} to 1, got {array[wrong][0]}")
    return array
