"""The map as a sheet of cells: the one place that knows how a node is drawn.

Node k lies at ``grid.coordinates()[k]``, with row 0 on top, in all pictures of a map, so that one can be drawn over
another. Its cell is a square, or a regular hexagon that stands on a corner: neighbours' cells share a side.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from somvae_ext.grid import Grid, Topology
from somvae_ext.plotting._axes import axes_or_new

Array = NDArray[np.floating]

# Sizes in inches. Small maps get cells of this side, until the sheet is too large or too small to read.
_CELL, _SMALLEST_SHEET, _LARGEST_SHEET = 0.6, 2.5, 6.0
_ROOM_BESIDE = 1.0  # for a colour bar or a legend
_MARGIN = 0.2

# Widths of lines, and sizes of letters, in points. The seam covers what antialiasing lets through between two cells.
_SEAM, _OUTLINE, _BORDER = 0.7, 0.5, 2.0
_SMALLEST_LETTER, _LARGEST_LETTER = 5.0, 10.0

_LEGEND_ROWS = 20


def cell_centers(grid: Grid) -> Array:
    return grid.coordinates().numpy()


def cell_polygons(centers: Array, topology: Topology, size: float | Array = 1.0) -> Array:
    """Corners of the cells at ``centers [n, 2]``, ``[n, 4 or 6, 2]``; cells of size 1 tile a sheet of nodes."""
    if topology == "rectangular":
        corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    else:
        angle = np.pi / 6 + np.pi / 3 * np.arange(6)
        corners = np.stack([np.cos(angle), np.sin(angle)], axis=1) / math.sqrt(3)
    return centers[:, None] + np.multiply.outer(np.broadcast_to(size, len(centers)), corners)


def adjacent_cell_pairs(grid: Grid) -> NDArray[np.int64]:
    """The pairs of nodes whose cells share a side, ``[P, 2]``: on a periodic grid not those around its edge."""
    table = dataclasses.replace(grid, periodic=False).neighbors().numpy()
    first, slot = np.nonzero(table > np.arange(grid.num_nodes)[:, None])
    return np.stack([first, table[first, slot]], axis=1)


def shared_sides(grid: Grid, pairs: NDArray[np.int64]) -> Array:
    """The side that two cells share, from end to end, ``[P, 2, 2]``."""
    a, b = cell_centers(grid)[pairs.T]
    along = (b - a)[:, ::-1] * (-1, 1)  # turned by a right angle
    half = along * (0.5 if grid.topology == "rectangular" else 0.5 / math.sqrt(3))
    middle = (a + b) / 2
    return np.stack([middle - half, middle + half], axis=1)


def wrap_shift(grid: Grid, origin: NDArray[np.int64], target: NDArray[np.int64]) -> Array:
    """Where the shortest way on the grid leads over its edge, ``[M, 2]``: 0 where it does not, as on an open grid.

    The way from ``origin [M]`` ends at ``target [M]`` shifted by so much: at the image of the target beyond the edge.
    Of two ways as long as each other it is the one that crosses no edge.
    """
    if not grid.periodic:
        return np.zeros((len(origin), 2))
    (row, col), (to_row, to_col) = np.divmod(origin, grid.cols), np.divmod(target, grid.cols)
    shift = (to_row % 2 - row % 2) / 2 if grid.topology == "hexagonal" else 0.0
    # A half is rounded to 0, because no way is longer than the map.
    around = np.stack([np.rint((to_col - col + shift) / grid.cols), np.rint((to_row - row) / grid.rows)], axis=1)
    spacing = math.sqrt(3) / 2 if grid.topology == "hexagonal" else 1.0
    return -around * (grid.cols, grid.rows * spacing)


def sheet_axes(ax: Axes | None, cells: Array, *, leave_room: bool = True) -> Axes:
    """Axes that hold these cells and no more, row 0 on top; ``leave_room``: a colour bar or a legend is to come."""
    low, high = cells.min(axis=(0, 1)), cells.max(axis=(0, 1))
    width, height = high - low
    if ax is None:
        side = min(max(_CELL * max(width, height), _SMALLEST_SHEET), _LARGEST_SHEET) / max(width, height)
        room = _ROOM_BESIDE if leave_room else 0.0
        wide = is_wide(width, height)
        size = side * width + _MARGIN + room * (not wide), side * height + _MARGIN + room * wide
        ax = axes_or_new(ax, size)
    pad = 0.02  # so that lines at the edge are drawn in their full width
    ax.set_xlim(low[0] - pad, high[0] + pad)
    ax.set_ylim(high[1] + pad, low[1] - pad)
    ax.set_aspect("equal")
    ax.set_axis_off()
    return ax


def draw_values(
    ax: Axes, cells: Array, values: Array, *, cmap: str, vmin: float | None = None, vmax: float | None = None
) -> PolyCollection:
    """Cells coloured by their values; those of NaN stay empty."""
    collection = _add_collection(
        ax, cells, array=np.ma.masked_invalid(values), cmap=cmap, edgecolors="face", linewidths=_SEAM
    )
    collection.set_clim(vmin, vmax)
    draw_outlines(ax, cells[np.isnan(values)])
    return collection


def draw_colors(ax: Axes, cells: Array, colors: Array) -> PolyCollection:
    """Cells of these colours, RGBA ``[n, 4]``; those of opacity 0 stay empty."""
    collection = _add_collection(ax, cells, facecolors=colors, edgecolors="face", linewidths=_SEAM)
    draw_outlines(ax, cells[colors[:, 3] == 0])
    return collection


def draw_outlines(ax: Axes, cells: Array, color: str = "0.8", width: float = _OUTLINE) -> None:
    """Cells with nothing in them."""
    if len(cells):
        _add_collection(ax, cells, facecolors="none", edgecolors=color, linewidths=width)


def _add_collection(ax: Axes, cells: Array, **style: Any) -> PolyCollection:
    # One collection, not an artist for each cell: maps of 128 x 128 are drawn in a fraction of a second.
    collection = PolyCollection(cast("Sequence[Any]", cells), **style)
    ax.add_collection(collection, autolim=False)
    return collection


def draw_borders(ax: Axes, sides: Array) -> None:
    width = min(_BORDER, 0.2 * points_per_unit(ax))
    ax.add_collection(LineCollection(list(sides), colors="black", linewidths=width, capstyle="round"), autolim=False)


def write_in_cells(ax: Axes, centers: Array, texts: Sequence[str], colors: Array) -> None:
    """Writes into the cells, in a colour that stands out from theirs, where the letters are large enough to be read."""
    size = fitting_font_size(ax, texts)
    if size is None:
        return
    for (x, y), text, light in zip(centers, texts, _luminance(colors) > 0.5, strict=True):
        ax.text(x, y, text, ha="center", va="center", fontsize=size, color="black" if light else "white")


def fitting_font_size(ax: Axes, texts: Sequence[str], share: float = 0.85) -> float | None:
    """The size of letters in which the longest text fills this share of a cell's width; None if too small to read."""
    longest = max(map(len, texts), default=0)
    size = share * points_per_unit(ax) / (0.6 * max(longest, 2))
    return min(size, _LARGEST_LETTER) if size >= _SMALLEST_LETTER else None


def points_per_unit(ax: Axes) -> float:
    """Length of a cell's side, about: margins and colour bars have no place yet."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    extent = ax.get_window_extent()
    pixels = min(extent.width / abs(right - left), extent.height / abs(top - bottom))
    return pixels * 72 / ax.figure.dpi


def add_colorbar(ax: Axes, mappable: ScalarMappable, label: str | None = None, *, integer_ticks: bool = False) -> None:
    """Adds a colour bar as long as the sheet, beside it or, where the sheet is wide, below."""
    width, height = _axes_extent(ax)
    thickness, gap = 0.035 * max(width, height), 0.03 * max(width, height)
    wide = is_wide(width, height)
    if wide:
        bounds = 0.0, -(gap + thickness) / height, 1.0, thickness / height
    else:
        bounds = 1 + gap / width, 0.0, thickness / width, 1.0
    bar = ax.figure.colorbar(
        mappable,
        cax=ax.inset_axes(bounds),
        orientation="horizontal" if wide else "vertical",
        ticks=MaxNLocator(nbins=5, integer=integer_ticks),
    )
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize="small")
    if label is not None:
        bar.set_label(label, size="small")


def add_legend(ax: Axes, names: Sequence[str], colors: Array, title: str | None = None) -> None:
    """Names and their colours, beside the sheet, or below where it is wide."""
    handles = [Patch(color=tuple(color), label=name) for name, color in zip(names, colors, strict=True)]
    style: dict[str, Any] = {"handles": handles, "title": title, "frameon": False, "fontsize": "small"}
    width, height = _axes_extent(ax)
    if is_wide(width, height):
        across = int(ax.figure.bbox.width / ax.figure.dpi / (0.5 + 0.08 * max(map(len, names))))  # inches each
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(max(across, 1), len(names)), **style)
    else:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=math.ceil(len(names) / _LEGEND_ROWS), **style)


def _axes_extent(ax: Axes) -> tuple[float, float]:
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    return abs(right - left), abs(top - bottom)


def is_wide(width: float, height: float) -> bool:
    """Whether what belongs to the sheet stands below it, and not beside it."""
    return width > 2 * height


def _luminance(colors: Array) -> Array:
    """Rec. 709."""
    return colors[:, :3] @ np.array([0.2126, 0.7152, 0.0722])
