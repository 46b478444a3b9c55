"""The map as a sheet of cells: the one place that knows how a node is drawn.

In all plots of a map, node k lies at ``grid.coordinates()[k]``, with row 0 on top, so that one plot can be drawn over
another. Its cell is a square, or a regular hexagon that stands on a corner: the cells of neighbors share a side.
"""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Colormap
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from somvae_ext.grid import Grid, Topology
from somvae_ext.plotting._axes import axes_or_new
from somvae_ext.plotting.palettes import INK, OUTLINE, PAPER

Array = NDArray[np.floating]

# Sizes in inches. Small maps get cells of this side, until the sheet is too large or too small to read.
_CELL, _SMALLEST_SHEET, _LARGEST_SHEET = 0.6, 2.5, 6.0
ROOM_BESIDE = 1.0  # for a color bar or a short legend
_ROOM_LEFT, _ROOM_ABOVE = 0.5, 0.75  # for the numbers of rows and columns, and the title
_MARGIN = 0.2
_CAPTION = 0.35  # room below for one or two lines

# Widths of lines, and sizes of letters, in points. The seam covers what antialiasing lets through between two cells.
_SEAM, _OUTLINE, _BORDER = 0.7, 0.5, 2.0
_SMALLEST_LETTER, _LARGEST_LETTER = 5.0, 10.0
_MIDDLE_LUMINANCE = math.sqrt(1.05 * 0.05) - 0.05  # has the same contrast with black and with white, by WCAG 2
# Lines between cells: of this width and opacity from large cells on, fading to none in tiny cells (sides in points).
_GRID_LINE, _GRID_OPACITY = 0.8, 0.7
_LARGE_CELL, _TINY_CELL = 24.0, 8.0

_MOST_LEGEND_ROWS, _MOST_NAMES = 20, 60
_LEGEND_LINE, _ABOVE_AND_BELOW = 0.18, 0.4  # inches: height of a line, and by how much a legend may exceed the sheet
_ROOM_PER_COLUMN = 0.8  # inches, without the names
_INCHES_PER_LETTER = 0.068  # in small text, approximately
_TICK_HEIGHT, _TICK_WIDTH = 18.0, 5.5  # points: height of a line of numbers, and width of a digit


def cell_centers(grid: Grid) -> Array:
    return grid.coordinates().numpy()


def cell_polygons(centers: Array, topology: Topology, size: float | Array = 1.0) -> Array:
    """Returns the corners ``[n, 4 or 6, 2]`` of the cells at ``centers`` ``[n, 2]``; cells of size 1 tile the sheet."""
    if topology == "rectangular":
        corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    else:
        angle = np.pi / 6 + np.pi / 3 * np.arange(6)
        corners = np.stack([np.cos(angle), np.sin(angle)], axis=1) / math.sqrt(3)
    return centers[:, None] + np.multiply.outer(np.broadcast_to(size, len(centers)), corners)


def adjacent_cell_pairs(grid: Grid) -> NDArray[np.int64]:
    """Returns the pairs of nodes whose cells share a side, ``[P, 2]``, without pairs across a periodic grid's edge."""
    table = dataclasses.replace(grid, periodic=False).neighbors().numpy()
    first, slot = np.nonzero(table > np.arange(grid.num_nodes)[:, None])
    return np.stack([first, table[first, slot]], axis=1)


def area_centers(grid: Grid, group: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the innermost node of each connected area of the sheet, and how many cells lie between it and the outside.

    Among equally deep nodes it is the one nearest to the middle of the area.

    Args:
        grid: the map's grid.
        group: group of each node, ``[K]``; an area lies within one group.

    Returns:
        Nodes ``[A]`` and their depths ``[A]``.
    """
    pairs = adjacent_cell_pairs(grid)
    first, second = pairs[group[pairs[:, 0]] == group[pairs[:, 1]]].T
    nodes = np.arange(grid.num_nodes)
    area, before = nodes, np.full(grid.num_nodes, -1)
    while (area != before).any():  # each node takes the smallest number around it, then the number of that node
        before, area = area, area.copy()
        np.minimum.at(area, first, before[second])
        np.minimum.at(area, second, before[first])
        area = np.minimum(area, area[area])
    inner = np.bincount(np.concatenate([first, second]), minlength=grid.num_nodes) == len(grid.neighbors()[0])
    depth = np.zeros(grid.num_nodes, np.int64)
    while inner.any():  # peels off one layer after another
        depth += inner
        reached = inner.copy()
        np.logical_and.at(reached, first, inner[second])
        np.logical_and.at(reached, second, inner[first])
        inner = reached
    _, number, size = np.unique(area, return_inverse=True, return_counts=True)
    centers = cell_centers(grid)
    middle = np.stack([np.bincount(number, centers[:, axis]) / size for axis in (0, 1)], axis=1)
    away = np.linalg.norm(centers - middle[number], axis=1).round(9)
    order = np.lexsort([nodes, away, -depth, number])
    best = order[np.unique(number[order], return_index=True)[1]]
    return best, depth[best]


def shared_sides(grid: Grid, pairs: NDArray[np.int64]) -> Array:
    """Returns the end points of the side that each pair of cells shares, ``[P, 2, 2]``."""
    a, b = cell_centers(grid)[pairs.T]
    along = (b - a)[:, ::-1] * (-1, 1)  # rotated by a right angle
    half = along * (0.5 if grid.topology == "rectangular" else 0.5 / math.sqrt(3))
    middle = (a + b) / 2
    return np.stack([middle - half, middle + half], axis=1)


def wrap_shift(grid: Grid, origin: NDArray[np.int64], target: NDArray[np.int64]) -> Array:
    """Returns the shift of each target to its image beyond the edge that the shortest path leads to, ``[M, 2]``.

    The shortest path from ``origin`` ``[M]`` to ``target`` ``[M]`` ends at the target plus this shift, which is 0 where
    the path crosses no edge, as on an open grid. Of two equally short paths, the one that crosses no edge is taken.
    """
    if not grid.periodic:
        return np.zeros((len(origin), 2))
    (row, col), (to_row, to_col) = np.divmod(origin, grid.cols), np.divmod(target, grid.cols)
    shift = (to_row % 2 - row % 2) / 2 if grid.topology == "hexagonal" else 0.0
    # A half is rounded to even, here to 0, because no path is longer than the map.
    around = np.stack([np.rint((to_col - col + shift) / grid.cols), np.rint((to_row - row) / grid.rows)], axis=1)
    spacing = math.sqrt(3) / 2 if grid.topology == "hexagonal" else 1.0
    return -around * (grid.cols, grid.rows * spacing)


def sheet_axes(
    ax: Axes | None,
    cells: Array,
    grid: Grid,
    *,
    title: str | None,
    room: float = ROOM_BESIDE,
    caption: str | None = None,
) -> Axes:
    """Returns axes that hold exactly these cells, row 0 on top, with the numbers of rows and columns.

    Args:
        ax: axes to draw on; by default new ones.
        cells: corners of the cells ``[n, 4 or 6, 2]``.
        grid: grid whose rows and columns are numbered.
        title: title for axes that have none yet; None for a panel among many, which also has no axis labels.
        room: inches for a color bar or a legend beside the sheet, or below a wide one.
        caption: text below the sheet that says what the plot shows; not where a color bar or a legend may be below.
    """
    low, high = cells.min(axis=(0, 1)), cells.max(axis=(0, 1))
    width, height = high - low
    if ax is None:
        side = _inches_per_node(width, height)
        wide = is_wide(width, height)
        below = min(room, ROOM_BESIDE) * wide + _CAPTION * (caption is not None)
        size = (
            max(side * width + _ROOM_LEFT + _MARGIN + room * (not wide), _SMALLEST_SHEET * (caption is not None)),
            side * height + _ROOM_ABOVE + _MARGIN + below,
        )
        ax = axes_or_new(ax, size)
    pad = 0.02  # so that lines at the edge are drawn at full width
    ax.set_xlim(low[0] - pad, high[0] + pad)
    ax.set_ylim(high[1] + pad, low[1] - pad)
    ax.set_aspect("equal")
    number_rows_and_columns(ax, grid, names=title is not None)
    if title is not None:
        set_title(ax, title)
    if caption is not None:
        write_caption(ax, caption)
    return ax


def _inches_per_node(width: float, height: float) -> float:
    """Inches per unit of the grid on a new figure, for a sheet of this size in units of the grid."""
    return min(max(_CELL * max(width, height), _SMALLEST_SHEET), _LARGEST_SHEET) / max(width, height)


def number_rows_and_columns(ax: Axes, grid: Grid, *, names: bool = True) -> None:
    """Numbers rows at the left and columns above row 0, from 0, as in tables of nodes; on large maps only some of them.

    The numbers of columns are those of row 0; the odd rows of hexagons are shifted right by half a cell.
    """
    for spine in ax.spines.values():
        spine.set_visible(False)
    per_row, per_column = _points_per_node(ax)
    spacing = math.sqrt(3) / 2 if grid.topology == "hexagonal" else 1.0
    digits = len(str(grid.cols - 1))
    rows = _ticks(grid.rows, _TICK_HEIGHT / (per_row * spacing))
    columns = _ticks(grid.cols, (digits + (1 if names else 2)) * _TICK_WIDTH / per_column)
    ax.set_yticks([row * spacing for row in rows], [str(row) for row in rows])
    ax.set_xticks(columns, [str(column) for column in columns])
    ax.tick_params(
        length=0, pad=2, labelsize="small" if names else "xx-small", top=False, labeltop=True, labelbottom=False
    )
    ax.xaxis.set_label_position("top")
    if names:
        ax.set_ylabel("row", fontsize="small", labelpad=2)
        is_shifted = grid.topology == "hexagonal" and grid.rows > 1
        ax.set_xlabel(
            _fill(ax, "column (odd rows: half a cell to the right)") if is_shifted else "column",
            fontsize="small",
            labelpad=5,
        )


def _ticks(count: int, cells: float) -> list[int]:
    """Numbers from 0 to ``count`` - 1 in steps of 1, 2 or 5 times a power of ten, at least ``cells`` apart."""
    step = next(size * 10**power for power in range(9) for size in (1, 2, 5) if size * 10**power >= cells)
    return list(range(0, count, step))


def set_title(ax: Axes, title: str, *, pad: float | None = None) -> None:
    """Sets the title of axes that have none yet; a title from the caller, or of a plot that is drawn over, stays."""
    if not ax.get_title():
        ax.set_title(title, fontsize="medium", pad=pad)


def write_caption(ax: Axes, caption: str) -> None:
    """Writes a caption below the sheet."""
    ax.annotate(
        _fill(ax, caption),
        (0.5, 0.0),
        (0, -3),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize="x-small",
        annotation_clip=False,
    )


def _fill(ax: Axes, text: str) -> str:
    """Wraps a text into lines about as wide as the sheet, or a little wider."""
    (left, right), inches = ax.get_xlim(), points_per_unit(ax) / 72
    return textwrap.fill(text, max(int(abs(right - left) * inches / _INCHES_PER_LETTER) + 4, 16))


def draw_values(
    ax: Axes, cells: Array, values: Array, *, cmap: str | Colormap, vmin: float | None = None, vmax: float | None = None
) -> PolyCollection:
    """Draws cells colored by their values; cells with NaN stay empty."""
    collection = _add_collection(
        ax, cells, array=np.ma.masked_invalid(values), cmap=cmap, edgecolors="face", linewidths=_SEAM
    )
    collection.set_clim(vmin, vmax)
    draw_outlines(ax, cells[np.isnan(values)])
    return collection


def draw_colors(ax: Axes, cells: Array, colors: Array) -> PolyCollection:
    """Draws cells in these colors, RGBA ``[n, 4]``; cells of opacity 0 stay empty."""
    collection = _add_collection(ax, cells, facecolors=colors, edgecolors="face", linewidths=_SEAM)
    draw_outlines(ax, cells[colors[:, 3] == 0])
    return collection


def draw_outlines(ax: Axes, cells: Array, color: str = OUTLINE, width: float = _OUTLINE) -> None:
    """Draws empty cells; the smaller the cells, the thinner the lines."""
    if len(cells):
        width = min(width, 0.06 * points_per_unit(ax))
        # Above the grid lines.
        _add_collection(ax, cells, facecolors="none", edgecolors=color, linewidths=width, zorder=1.2)


def draw_grid_lines(ax: Axes, cells: Array, color: str = PAPER) -> None:
    """Draws thin lines around cells, above them; they fade as cells get small, so that large maps have none."""
    strength = min((points_per_unit(ax) - _TINY_CELL) / (_LARGE_CELL - _TINY_CELL), 1.0)
    if strength > 0:
        style = {"linewidths": _GRID_LINE * strength, "alpha": _GRID_OPACITY * strength, "zorder": 1.1}
        _add_collection(ax, cells, facecolors="none", edgecolors=color, **style)


def _add_collection(ax: Axes, cells: Array, **style: Any) -> PolyCollection:
    # One collection instead of an artist per cell, which would be slow on large maps.
    collection = PolyCollection(cast("Sequence[Any]", cells), **style)
    ax.add_collection(collection, autolim=False)
    return collection


def draw_borders(ax: Axes, sides: Array) -> None:
    width = min(_BORDER, 0.2 * points_per_unit(ax))
    ax.add_collection(LineCollection(list(sides), colors=INK, linewidths=width, capstyle="round"), autolim=False)


def write_in_cells(ax: Axes, centers: Array, texts: Sequence[str], colors: Array) -> None:
    """Writes into the cells, in a color that stands out from theirs, if letters that fit are large enough to read."""
    size = fitting_font_size(ax, texts)
    if size is None:
        return
    for (x, y), text, ink in zip(centers, texts, ink_on(colors), strict=True):
        ax.text(x, y, text, ha="center", va="center", fontsize=size, color=ink)


def ink_on(colors: Array) -> list[str]:
    """Returns black or white for each color, RGBA ``[n, 4]``: the one with the higher contrast."""
    return [INK if light else PAPER for light in _luminance(colors) > _MIDDLE_LUMINANCE]


def fitting_font_size(ax: Axes, texts: Sequence[str], share: float = 0.85, cells: int = 1) -> float | None:
    """Returns the font size at which the longest text fills a share of ``cells`` cells; None if too small to read."""
    longest = max(map(len, texts), default=0)
    size = share * cells * points_per_unit(ax) / (0.6 * max(longest, 2))
    return min(size, _LARGEST_LETTER) if size >= _SMALLEST_LETTER else None


def points_per_unit(ax: Axes) -> float:
    """Returns the approximate side of a cell in points: margins and color bars are not laid out yet."""
    return min(_points_per_node(ax))


def _points_per_node(ax: Axes) -> tuple[float, float]:
    """Length of the grid's unit in points, downward and to the right: the same if the aspect is equal."""
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    extent, points = ax.get_window_extent(), 72 / ax.figure.dpi
    down, across = extent.height * points / abs(top - bottom), extent.width * points / abs(right - left)
    aspect = ax.get_aspect()
    if aspect == "auto":
        return down, across
    ratio = float(aspect)  # of a unit downward to one across
    across = min(across, down / ratio)
    return across * ratio, across


def add_colorbar(ax: Axes, mappable: ScalarMappable, label: str | None = None, *, integer_ticks: bool = False) -> None:
    """Adds a color bar as long as the sheet, beside it or, if the sheet is wide, below."""
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


def legend_room(grid: Grid, names: Sequence[str], count: int) -> float:
    """Returns the inches that a legend of ``count`` of these names takes beside the sheet of a new figure."""
    width, height = np.ptp(cell_polygons(cell_centers(grid), grid.topology), axis=(0, 1))
    longest = max(map(len, names), default=0)
    columns = math.ceil(min(count, _MOST_NAMES + 1) / _legend_rows(_inches_per_node(width, height) * height))
    return max(ROOM_BESIDE, columns * (_INCHES_PER_LETTER * longest + _ROOM_PER_COLUMN))


def _legend_rows(inches: float) -> int:
    """Number of names that fit beside a sheet of this height, without the lines of the title."""
    return min(max(int((inches + _ABOVE_AND_BELOW) / _LEGEND_LINE) - 2, 4), _MOST_LEGEND_ROWS)


def add_legend(ax: Axes, names: Sequence[str], colors: Array, title: str | None = None) -> None:
    """Adds a legend of names and their colors, beside the sheet or, if the sheet is wide, below.

    Of very many names it lists the first, and the number of the others. If there is a color bar, the legend takes the
    other place.
    """
    handles = [Patch(color=tuple(color), label=name) for name, color in zip(names, colors, strict=True)]
    if len(handles) > _MOST_NAMES:
        rest = Patch(color="none", label=f"and {len(handles) - _MOST_NAMES:,} more")
        handles = [*handles[:_MOST_NAMES], rest]
    style: dict[str, Any] = {
        "handles": handles,
        "title": title,
        "frameon": False,
        "fontsize": "small",
        "title_fontsize": "small",
    }
    width, height = _axes_extent(ax)
    below = is_wide(width, height) != bool(ax.child_axes)
    if below:
        longest = max(len(str(handle.get_label())) for handle in handles)
        across = int(ax.figure.bbox.width / ax.figure.dpi / (0.5 + 0.08 * longest))  # inches per name
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=min(max(across, 1), len(handles)), **style)
    else:
        rows = _legend_rows(height * points_per_unit(ax) / 72)
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=math.ceil(len(handles) / rows), **style)


def _axes_extent(ax: Axes) -> tuple[float, float]:
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    return abs(right - left), abs(top - bottom)


def is_wide(width: float, height: float) -> bool:
    """Returns whether a color bar or legend goes below a sheet of this size and not beside it."""
    return width > 2 * height


def _luminance(colors: Array) -> Array:
    """Relative luminance of sRGB, from 0 to 1."""
    srgb = colors[:, :3]
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])
