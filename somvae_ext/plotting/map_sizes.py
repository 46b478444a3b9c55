"""Plot of the errors of maps of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title
from somvae_ext.plotting.palettes import CATEGORIES, GUIDE

_SIZE = (6.5, 4)  # inches
_COMBINED, _QUANTIZATION, _TOPOGRAPHIC = CATEGORIES[:3]  # markers and line styles differ, too
_MOST_TICKS = 12


def plot_map_sizes(
    sizes: Sequence[tuple[int, int]],
    quantization_error: ArrayLike | Tensor,
    topographic_error: ArrayLike | Tensor,
    combined_error: ArrayLike | Tensor,
    ax: Axes | None = None,
    *,
    chosen: tuple[int, int] | None = None,
    suggested: tuple[int, int] | None = None,
) -> Axes:
    """Plots three errors of a map against its number of nodes, with error bars of one standard error.

    Quantization and combined error are distances and share the left axis; the topographic error is a share of the rows
    and has the right axis. The number of nodes is on a logarithmic scale.

    Args:
        sizes: rows and columns of each of M sizes.
        quantization_error, topographic_error, combined_error: mean and standard error for each size, ``[M, 2]``, as in
            the table of :func:`somvae_ext.estimators.tune_size`.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        chosen: a size to mark with a solid line.
        suggested: a size to mark with a dashed line, such as that of :func:`somvae_ext.som.suggest_map_size`.

    Raises:
        ValueError: no sizes, or errors of a wrong shape.

    Example:
        >>> sizes = [(2, 3), (4, 6), (8, 12)]
        >>> fit, order, both = [[3, 0.1], [2, 0.1], [1.5, 0.1]], [[0, 0], [0.1, 0.02], [0.3, 0.02]], [[5, 0.1]] * 3
        >>> plot_map_sizes(sizes, fit, order, both, chosen=(4, 6)).figure.savefig("sizes.png")
    """
    if len(sizes) == 0:
        raise ValueError("plot_map_sizes: sizes must hold at least one size, got none")
    errors = {
        name: _as_estimates(name, values, len(sizes))
        for name, values in (
            ("quantization_error", quantization_error),
            ("topographic_error", topographic_error),
            ("combined_error", combined_error),
        )
    }
    ax = axes_or_new(ax, _SIZE)
    right = ax.twinx()
    nodes = np.array([rows * cols for rows, cols in sizes])
    order = np.argsort(nodes, kind="stable")
    handles: list[Any] = []
    for axes, name, color, line in (
        (ax, "combined_error", _COMBINED, "o-"),
        (ax, "quantization_error", _QUANTIZATION, "s--"),
        (right, "topographic_error", _TOPOGRAPHIC, "^:"),
    ):
        mean, standard_error = errors[name][order].T
        style: dict[str, Any] = {"fmt": line, "color": color, "capsize": 2, "markersize": 4}
        label = name.replace("_", " ") + (" (right)" if axes is right else "")
        handles.append(axes.errorbar(nodes[order], mean, standard_error, label=label, **style))
    for size, line, name in ((chosen, "-", "chosen"), (suggested, "--", "auto")):
        if size is not None:
            place, label = size[0] * size[1], f"{name}: {size[0]} x {size[1]}"
            handles.append(ax.axvline(place, color=GUIDE, linestyle=line, linewidth=1, zorder=0, label=label))
    ax.set_xscale("log")
    ticks = np.unique(nodes)
    ticks = ticks[np.unique(np.linspace(0, len(ticks) - 1, _MOST_TICKS).round().astype(int))]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    ax.set_xlabel("nodes")
    ax.set_ylabel("distance, of held-out rows")
    right.set_ylabel("topographic error: share of the rows")
    set_title(ax, "Errors of maps of several sizes", pad=34)  # above the legend
    ax.legend(handles=handles, fontsize="x-small", ncols=3, loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    return ax


def _as_estimates(name: str, values: ArrayLike | Tensor, num_sizes: int) -> NDArray[np.float64]:
    array = as_array("plot_map_sizes", name, values)
    if array.shape != (num_sizes, 2) or array.dtype.kind not in "fiu":
        raise ValueError(
            f"plot_map_sizes: {name} must hold mean and standard error of each size, [M, 2] = {[num_sizes, 2]}, got "
            f"{array.dtype} of {list(array.shape)}"
        )
    return array.astype(np.float64)
