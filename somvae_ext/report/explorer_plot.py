"""The sheet of an explorer as a Bokeh figure; ``explorer.js`` sets its colors and marks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from bokeh.embed import json_item
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    PanTool,
    Plot,
    Range1d,
    TapTool,
)
from bokeh.plotting import figure

from somvae_ext.grid import Grid
from somvae_ext.plotting.palettes import INK, PAPER
from somvae_ext.report.explorer import Explorer

AXIS_ROOM = 56
"""Pixels beside and above the sheet of a map for the numbers of its rows and columns."""

_BORDER = 6
_MOST_WITH_LINES = 40
_MARGIN = 0.1


def sheet_plot(explorer: Explorer) -> Any:
    """Returns the sheet as JSON that ``Bokeh.embed.embed_item`` draws.

    Its data sources, by name: ``nodes`` with a ``color`` and the ``text`` of the tooltip for each node; ``strips``,
    images of whole rows of nodes; ``path`` and ``stops``, a series; ``cursor``, the selected node. The grid's y is
    negated, so that row 0 is on top.
    """
    return json_item(_plot(explorer.grid, explorer.num_nodes, explorer.noun, is_map=explorer.is_map))


def _plot(grid: Grid, num_nodes: int, noun: str, *, is_map: bool) -> Plot:
    centers = grid.coordinates().numpy()
    x, y = centers[:num_nodes, 0], -centers[:num_nodes, 1]
    node = np.arange(num_nodes)
    row, column = np.divmod(node, grid.cols)
    half_height = 0.5 if grid.topology == "rectangular" else 1 / math.sqrt(3)
    left, right = centers[:, 0].min() - 0.5 - _MARGIN, centers[:, 0].max() + 0.5 + _MARGIN
    bottom, top = -centers[:, 1].max() - half_height - _MARGIN, half_height + _MARGIN
    place = " (row @row, column @column)" if is_map else ""
    hover = HoverTool(tooltips=f"<div>{noun} @node{place}<br>@text</div>", point_policy="follow_mouse")
    axis_room = AXIS_ROOM if is_map else _BORDER
    plot = figure(
        x_range=Range1d(start=left, end=right, bounds="auto"),
        y_range=Range1d(start=bottom, end=top, bounds="auto"),
        sizing_mode="stretch_width",
        height=600,  # until explorer.js knows the width
        tools=[hover, TapTool(renderers=[]), PanTool(name="pan")],
        toolbar_location=None,
        x_axis_location="above",  # as in the pictures
        name="sheet",
        min_border_left=axis_room,
        min_border_top=axis_room,
        min_border_right=_BORDER,
        min_border_bottom=_BORDER,
        outline_line_color=None,
    )
    plot.toolbar.active_drag = None  # scrolling the page by touch must not move the map
    plot.grid.visible = False
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_line_color = None
    if is_map:
        _label_axis(plot.xaxis, centers[: grid.cols, 0], "column")
        _label_axis(plot.yaxis, -centers[:: grid.cols, 1], "row")
    else:
        plot.axis.visible = False
    nodes = ColumnDataSource(
        {
            "x": x, "y": y, "node": node, "row": row, "column": column,
            "q": column - row // 2, "r": row,
            "color": [PAPER] * num_nodes, "text": [""] * num_nodes,
        },
        name="nodes",
    )  # fmt: skip
    # Lines between the cells. Those of small cells have the cell's color and cover the seams of antialiasing.
    line = (PAPER, 1.0) if max(grid.rows, grid.cols) <= _MOST_WITH_LINES else ("color", 0.7)
    drawn = _draw_cells(plot, nodes, grid, fill_color="color", line_color=line[0], line_width=line[1], name="cells")
    hover.renderers = [drawn]
    strips = ColumnDataSource({"url": [], "x": [], "y": [], "w": [], "h": []}, name="strips")
    plot.image_url("url", "x", "y", "w", "h", source=strips, anchor="top_left", name="images")
    path = ColumnDataSource({"x0": [], "y0": [], "x1": [], "y1": [], "color": []}, name="path")
    for color, width in ((PAPER, 6), ("color", 3.5)):
        plot.segment("x0", "y0", "x1", "y1", source=path, line_color=color, line_width=width, line_cap="round")
    stops = ColumnDataSource({"x": [], "y": [], "color": [], "size": []}, name="stops")
    plot.scatter("x", "y", size="size", source=stops, fill_color="color", line_color=INK, line_width=1.5)
    cursor = ColumnDataSource({"x": [], "y": [], "q": [], "r": []}, name="cursor")
    for color, width in ((PAPER, 5.0), (INK, 2.5)):
        _draw_cells(plot, cursor, grid, fill_color=None, line_color=color, line_width=width)
    return plot


def _draw_cells(plot: Any, source: ColumnDataSource, grid: Grid, **style: Any) -> Any:
    if grid.topology == "rectangular":
        cells = plot.rect("x", "y", 1, 1, source=source, **style)
    else:
        cells = plot.hex_tile("q", "r", size=1 / math.sqrt(3), orientation="pointytop", source=source, **style)
    cells.nonselection_glyph = cells.selection_glyph = None
    return cells


def _label_axis(axis: Any, places: np.ndarray, title: str) -> None:
    """Labels an axis with numbers of rows or columns; ``explorer.js`` keeps as many ticks as there is room for."""
    ticks = places.tolist()
    axis.name = f"{title}s"
    axis.ticker = FixedTicker(ticks=ticks, minor_ticks=[])
    axis.major_label_overrides = {place: str(number) for number, place in enumerate(ticks)}
    axis.axis_label = title
