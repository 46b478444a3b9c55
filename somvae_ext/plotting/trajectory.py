"""One series as a path over the map."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, LineCollection
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array, as_indices
from somvae_ext.evaluation import state_durations
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_counts, as_node_values
from somvae_ext.plotting._cells import (
    add_colorbar,
    cell_centers,
    cell_polygons,
    draw_grid_lines,
    draw_values,
    fitting_font_size,
    points_per_unit,
    sheet_axes,
    wrap_shift,
)
from somvae_ext.plotting.palettes import COUNTS, INK, MUTED, OUTLINE, PAPER, TIME

# In units of the grid, whose cells are 1 wide: largest offset of a stay from its node, and diameters of its dot.
_FURTHEST, _LARGEST_DOT, _SMALLEST_DOT = 0.3, 0.32, 0.09
_LABEL_ABOVE = 0.36  # offset of a label above the node, where fewer lines pass
_LINE, _THICKEST_LINE = 0.05, 2.0  # units of the grid, and points
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_DARKEST_HITS = 0.35  # share of the scale in use, so that no cell is darker than a line


def plot_trajectory(
    indices: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    hits: ArrayLike | Tensor | None = None,
    labels: ArrayLike | Tensor | Sequence[Any] | None = None,
) -> Axes:
    """Shows one series as a path over the map, colored by time.

    Each stay in a node is a dot whose area is proportional to its number of frames; moves are lines. The first stay in
    a node is drawn at the node, and later ones around it, so that no move hides another. Positions are deterministic.
    On a periodic grid, a move that is shorter across the edge leaves the sheet and enters on the other side.

    Args:
        indices: node of each frame of a series, integers ``[T]``, 0 to K - 1, numpy or torch on any device, without
            padding.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        hits: number of visits of all series to each node, ``[K]``: the more visits, the darker the cell. By default
            cells are empty.
        labels: text for the cell of each node, ``[K]``; None for no text.

    Raises:
        ValueError: no frames, nodes that are not integers or outside the grid, or arguments of wrong shapes.

    Example:
        >>> ax = plot_trajectory([0, 0, 0, 1, 4, 4, 1, 2], Grid(2, 3))
        >>> ax.figure.savefig("trajectory.png")
    """
    nodes = as_indices("plot_trajectory", "indices", as_array("plot_trajectory", "indices", indices), grid.num_nodes)
    if nodes.dim() != 1 or len(nodes) == 0:
        raise ValueError(
            f"plot_trajectory: indices must have shape [T] with at least one frame, got {list(nodes.shape)}"
        )
    shade = None if hits is None else as_counts("plot_trajectory", "hits", hits, grid)
    texts = None if labels is None else as_node_values("plot_trajectory", "labels", labels, grid).tolist()

    centers = cell_centers(grid)
    cells = cell_polygons(centers, grid.topology)
    ax = sheet_axes(ax, cells, grid, title="Path of a series")
    if shade is not None:
        draw_values(ax, cells, shade, cmap=COUNTS, vmin=0, vmax=(shade.max() or 1.0) / _DARKEST_HITS)
    draw_grid_lines(ax, cells, OUTLINE)
    if texts is not None:
        _write_labels(ax, centers, ["" if text is None else str(text) for text in texts])

    stays = state_durations(nodes[None], grid.num_nodes)
    node, length = stays.node.numpy(), stays.length.numpy()
    visit, times = _count_visits(node)
    places = centers[node] + _places_in_cell(visit, times)
    end = np.cumsum(length)
    _draw_moves(ax, places, wrap_shift(grid, node[:-1], node[1:]), end[:-1] - 0.5, len(nodes))
    # The dots of a node touch: however many there are, they share the area of its cell.
    largest = min(_LARGEST_DOT, 2 * _FURTHEST / math.sqrt(times.max()))
    diameter = np.maximum(largest * np.sqrt(length / length.max()), min(_SMALLEST_DOT, largest))
    dots = EllipseCollection(
        diameter,
        diameter,
        np.zeros(len(node)),
        units="xy",
        offsets=places,
        offset_transform=ax.transData,
        array=end - (length + 1) / 2,
        cmap=TIME,
        edgecolors=PAPER,
        linewidths=0.4,
        zorder=3,
    )
    dots.set_clim(0, max(len(nodes) - 1, 1))
    ax.add_collection(dots, autolim=False)
    _mark_ends(ax, places)
    add_colorbar(ax, dots, "frame" if shade is None else "frame (gray cells: hits)", integer_ticks=True)
    return ax


def _count_visits(node: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts, for each stay, the earlier stays in the same node and all stays in it."""
    order = np.argsort(node, kind="stable")
    _, first, count = np.unique(node[order], return_index=True, return_counts=True)
    visit = np.empty_like(node)
    visit[order] = np.arange(len(node)) - np.repeat(first, count)
    times = np.empty_like(node)
    times[order] = np.repeat(count, count)
    return visit, times


def _places_in_cell(visit: NDArray[np.int64], times: NDArray[np.int64]) -> NDArray[np.float64]:
    """Offsets from the node, ``[S, 2]``: the seeds of a sunflower, which fill a disc evenly (Vogel 1979)."""
    radius = _FURTHEST * np.sqrt(visit / np.maximum(times - 1, 1)) * np.sqrt(1 - 1 / times)
    angle = _GOLDEN_ANGLE * visit
    return radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _draw_moves(
    ax: Axes, places: NDArray[np.floating], shift: NDArray[np.floating], time: NDArray[np.floating], num_frames: int
) -> None:
    """Draws lines between successive positions; lines across the edge come from both sides, cut off at the edge."""
    forth = np.stack([places[:-1], places[1:] + shift], axis=1)
    wraps = shift.any(axis=1)
    back = forth[wraps] - shift[wraps][:, None]
    lines = LineCollection(
        [*forth, *back],
        array=np.concatenate([time, time[wraps]]),
        cmap=TIME,
        linewidths=min(_LINE * points_per_unit(ax), _THICKEST_LINE),
        capstyle="round",
        alpha=0.85,
        zorder=2,
    )
    lines.set_clim(0, max(num_frames - 1, 1))
    ax.add_collection(lines, autolim=False)


def _mark_ends(ax: Axes, places: NDArray[np.floating]) -> None:
    """Marks start and end and writes their names above and below, so that both can be read if the path is closed.

    In row 0, below the numbers of the columns, the name of the start is beside its mark.
    """
    for place, name, marker, above in ((places[0], "start", "o", True), (places[-1], "end", "s", False)):
        ax.plot(*place, marker, markersize=8, markerfacecolor="none", markeredgecolor=INK, zorder=4, clip_on=False)
        is_beside, is_left = above and place[1] < 0.5, place[0] < sum(ax.get_xlim()) / 2
        away, side = (8, "left") if is_left else (-8, "right")
        ax.annotate(
            name,
            place,
            (away, 0) if is_beside else (0, 6 if above else -6),
            textcoords="offset points",
            ha=side if is_beside else "center",
            va="center" if is_beside else "bottom" if above else "top",
            fontsize="small",
            fontweight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground=PAPER)],
            zorder=5,
        )


def _write_labels(ax: Axes, centers: NDArray[np.floating], texts: Sequence[str]) -> None:
    size = fitting_font_size(ax, texts, 0.6)
    if size is None:
        return
    for (x, y), text in zip(centers.tolist(), texts, strict=True):
        if text:
            ax.text(x, y - _LABEL_ABOVE, text, ha="center", va="center", fontsize=size, color=MUTED, zorder=1.5)
