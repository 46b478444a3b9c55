"""Table of the classes that a model's clusters hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices, as_integers, as_labels
from somvae_ext.config_checks import check_integer
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import set_title, write_in_cells
from somvae_ext.plotting.palettes import GUIDE, SHARES

# Sizes in inches. Rows that are lower than a name are named only at intervals.
_WIDTH, _HEIGHT, _LOWEST_NAME, _TICKS_APART = 0.45, 0.32, 0.12, 0.2
_ROOM = 2.2, 0.9  # for names and the color bar
_LARGEST_SHEET = 11.0
_LONGEST_BAR = 5.0
_GUIDE = 0.6  # points

RowOrder = Literal["class", "number"]


def plot_contingency(
    label: ArrayLike | Tensor,
    index: ArrayLike | Tensor,
    ax: Axes | None = None,
    *,
    num_clusters: int | None = None,
    names: Sequence[str] | None = None,
    order: RowOrder = "class",
) -> Axes:
    """Shows how many samples of each class (columns) a model put into each cluster (rows).

    The color is the share of the class in the cluster, so a row with one dark cell is a pure cluster, however small.
    Counts above 0 are written into the cells if they fit. Clusters with the same most frequent class stand together
    between thin lines, the purest first, in the order of the classes; unused clusters come last. The dark cells of a
    good clustering thus lie on a diagonal. The ticks are the numbers of the clusters.

    Args:
        label: class of each sample, ``[N]``: integers, booleans or strings, numpy or torch on any device.
        index: cluster of each sample, integers ``[N]`` from 0 on: a category, an expert or a node.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        num_clusters: number of rows, including unused clusters. By default unused clusters are left out or, with
            ``order="number"``, shown up to the largest index.
        names: names of the classes. Labels are then integers that index them, and each class has a column. By default
            the columns are the labels that occur.
        order: ``"class"`` sorts the rows by class as above, ``"number"`` by the number of the cluster.

    Raises:
        ValueError: no samples, arguments of wrong shapes, labels that are missing or floats, clusters that are not
            integers, numbers out of range, or an unknown ``order``.

    Example:
        >>> ax = plot_contingency([0, 0, 1, 1], [2, 2, 0, 2], num_clusters=3)
        >>> ax.figure.savefig("contingency.png")
    """
    if order not in get_args(RowOrder):
        raise ValueError(f"plot_contingency: order must be 'class' or 'number', got {order!r}")
    labels, indices = as_array("plot_contingency", "label", label), as_array("plot_contingency", "index", index)
    if labels.ndim != 1 or len(labels) == 0:
        raise ValueError(
            f"plot_contingency: label must have shape [N] with at least one sample, got {list(labels.shape)}"
        )
    if indices.shape != labels.shape:
        raise ValueError(
            f"plot_contingency: index must have the shape of label, {list(labels.shape)}, got {list(indices.shape)}"
        )
    clusters = as_integers("plot_contingency", "index", indices)
    with_unused = num_clusters is not None or order == "number"
    if num_clusters is None:
        num_clusters = max(int(clusters.max()) + 1, 1)
    num_clusters = check_integer("plot_contingency", "num_clusters", num_clusters)
    rows = as_indices("plot_contingency", "index", clusters, num_clusters).numpy()
    if names is None:
        classes, columns = np.unique(as_labels("plot_contingency", "label", labels), return_inverse=True)
        class_names = [str(name) for name in classes.tolist()]
    else:
        class_names = [str(name) for name in names]
        columns = as_indices("plot_contingency", "label", labels, len(class_names)).numpy()
    counts = np.zeros((num_clusters, len(class_names)), np.int64)
    np.add.at(counts, (rows, columns), 1)
    shown = _order_by_class(counts) if order == "class" else np.arange(num_clusters)
    if not with_unused:
        shown = shown[counts[shown].any(axis=1)]
    ax = _draw(counts[shown], shown, class_names, ax)
    if order == "class":
        _draw_class_lines(ax, counts[shown])
    return ax


def _order_by_class(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sorts the clusters by their most frequent class, the purest of each class first, those without samples last."""
    totals = counts.sum(axis=1)
    purity = counts.max(axis=1) / np.maximum(totals, 1)
    return np.lexsort([-totals, -purity, counts.argmax(axis=1), totals == 0])


def _draw_class_lines(ax: Axes, counts: NDArray[np.int64]) -> None:
    """Draws a line between the clusters of one class and those of the next, and before those without samples."""
    group = np.where(counts.sum(axis=1) > 0, counts.argmax(axis=1), -1)
    for row in np.flatnonzero(np.diff(group)).tolist():
        ax.axhline(row + 0.5, color=GUIDE, linewidth=_GUIDE)


def _draw(counts: NDArray[np.int64], clusters: NDArray[np.int64], names: Sequence[str], ax: Axes | None) -> Axes:
    """Draws the table, with these clusters as rows."""
    rows, columns = counts.shape
    high, wide = min(_HEIGHT, _LARGEST_SHEET / rows), min(_WIDTH, _LARGEST_SHEET / columns)
    ax = axes_or_new(ax, (max(columns * wide, 1.0) + _ROOM[0], max(rows * high, 1.5) + _ROOM[1]))
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    image = ax.imshow(share, cmap=SHARES, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    row, column = counts.nonzero()
    write_in_cells(
        ax,
        np.stack([column, row], axis=1),
        [str(count) for count in counts[row, column].tolist()],
        image.to_rgba(share[row, column]),
    )
    step = 1 if high >= _LOWEST_NAME else math.ceil(_TICKS_APART / high)
    ax.set_yticks(
        range(0, rows, step),
        [
            f"{cluster}" if total else f"unused  {cluster}"
            for cluster, total in zip(clusters[::step].tolist(), totals[::step].tolist(), strict=True)
        ],
    )
    if columns * wide <= _LARGEST_SHEET and wide >= _LOWEST_NAME:
        is_long = max(map(len, names)) * 0.08 > wide
        ax.set_xticks(range(columns), names, rotation=45 if is_long else 0, ha="right" if is_long else "center")
    ax.tick_params(length=0, labelsize="small")
    ax.set_xlabel("class")
    ax.set_ylabel("cluster")
    set_title(ax, "Clusters and classes")
    ax.figure.colorbar(
        image,
        ax=ax,
        label="share of the cluster (numbers: samples)",
        aspect=30,
        shrink=min(1.0, _LONGEST_BAR / (rows * high)),
    )
    return ax
