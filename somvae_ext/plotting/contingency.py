"""Which classes a model's clusters hold, as a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices, as_integers, as_labels
from somvae_ext.config_checks import check_integer
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting._cells import write_in_cells

# Inches. Rows that are lower than a name are not named one by one.
_WIDTH, _HEIGHT, _LOWEST_NAME = 0.45, 0.32, 0.12
_ROOM = 2.2, 0.9  # for names and the colour bar
_LARGEST_SHEET = 11.0
_LONGEST_BAR = 5.0


def plot_contingency(
    label: ArrayLike | Tensor,
    index: ArrayLike | Tensor,
    ax: Axes | None = None,
    *,
    num_clusters: int | None = None,
    names: Sequence[str] | None = None,
) -> Axes:
    """Shows how many samples of each class (columns) a model put into each cluster (rows).

    The colour is the class's share of the cluster, so a row with one dark cell is a pure cluster, however small. The
    counts stand in the cells where they fit; none is written for 0.

    Args:
        label: class of each sample, ``[N]``: integers, booleans or strings, numpy or torch on any device.
        index: cluster of each sample, integers ``[N]`` from 0 on: a category, an expert or a node.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        num_clusters: how many rows there are; by default one more than the largest index. Unused ones are drawn too.
        names: the classes' names; the labels are then integers that count them, and each has its column. By
            default the columns are the labels that occur.

    Raises:
        ValueError: no samples, arguments of other shapes, labels that are missing or floats, clusters that are not
            integers, or numbers out of range.

    Example:
        >>> ax = plot_contingency([0, 0, 1, 1], [2, 2, 0, 2], num_clusters=3)
        >>> ax.figure.savefig("contingency.png")
    """
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
    return _draw(counts, class_names, ax)


def _draw(counts: np.ndarray, names: Sequence[str], ax: Axes | None) -> Axes:
    rows, columns = counts.shape
    high, wide = min(_HEIGHT, _LARGEST_SHEET / rows), min(_WIDTH, _LARGEST_SHEET / columns)
    ax = axes_or_new(ax, (max(columns * wide, 1.0) + _ROOM[0], max(rows * high, 1.5) + _ROOM[1]))
    totals = counts.sum(axis=1)
    share = counts / np.maximum(totals, 1)[:, None]
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    row, column = counts.nonzero()
    write_in_cells(
        ax,
        np.stack([column, row], axis=1),
        [str(count) for count in counts[row, column].tolist()],
        image.to_rgba(share[row, column]),
    )
    if high >= _LOWEST_NAME:
        ax.set_yticks(
            range(rows), [f"{number}" if total else f"unused  {number}" for number, total in enumerate(totals)]
        )
    else:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if columns * wide <= _LARGEST_SHEET and wide >= _LOWEST_NAME:
        is_long = max(map(len, names)) * 0.08 > wide
        ax.set_xticks(range(columns), names, rotation=45 if is_long else 0, ha="right" if is_long else "center")
    ax.tick_params(length=0, labelsize="small")
    ax.set_xlabel("class")
    ax.set_ylabel("cluster")
    ax.figure.colorbar(
        image, ax=ax, label="share of the cluster", aspect=30, shrink=min(1.0, _LONGEST_BAR / (rows * high))
    )
    return ax
