"""The sheet of an explorer as a figure of Bokeh, whose colours and marks ``explorer.js`` sets."""

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
from somvae_ext.report.explorer import Explorer

_MOST_TICKS = 12
_MOST_WITH_LINES = 40
_MARGIN = 0.1


def sheet_plot(explorer: Explorer) -> Any:
    """The sheet as JSON that ``Bokeh.embed.embed_item`` draws.

    Its sources, by name: ``nodes`` with a ``color`` and the texts of the tooltip for each node; ``strips``, images of
    whole rows of nodes; ``path`` and ``stops``, a series; ``cursor``, the node that is looked at. y is minus the
    grid's, so that row 0 is on top.
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
    place = [("row, column", "@row, @column")] if is_map else []
    hover = HoverTool(
        tooltips=[(noun, "@node"), *place, ("hits", "@hits"), ("colour", "@value")],
        point_policy="follow_mouse",
    )
    plot = figure(
        x_range=Range1d(start=left, end=right, bounds="auto"),
        y_range=Range1d(start=bottom, end=top, bounds="auto"),
        aspect_ratio=(right - left) / (top - bottom),
        sizing_mode="scale_width",
        match_aspect=True,
        tools=[hover, TapTool(renderers=[]), PanTool(name="pan")],
        toolbar_location=None,
        x_axis_location="above",  # as in the pictures
        name="sheet",
        min_border=0,
        outline_line_color=None,
    )
    plot.toolbar.active_drag = None  # a finger that scrolls the page does not move the map
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
            "color": ["#dddddd"] * num_nodes, "hits": ["-"] * num_nodes, "value": [""] * num_nodes,
        },
        name="nodes",
    )  # fmt: skip
    # Lines between the cells; of many small ones their own colour, which covers what antialiasing lets through.
    line = ("white", 1.0) if max(grid.rows, grid.cols) <= _MOST_WITH_LINES else ("color", 0.7)
    drawn = _draw_cells(plot, nodes, grid, fill_color="color", line_color=line[0], line_width=line[1], name="cells")
    hover.renderers = [drawn]
    strips = ColumnDataSource({"url": [], "x": [], "y": [], "w": [], "h": []}, name="strips")
    plot.image_url("url", "x", "y", "w", "h", source=strips, anchor="top_left", name="images")
    path = ColumnDataSource({"x0": [], "y0": [], "x1": [], "y1": [], "color": []}, name="path")
    for color, width in (("white", 6), ("color", 3.5)):
        plot.segment("x0", "y0", "x1", "y1", source=path, line_color=color, line_width=width, line_cap="round")
    stops = ColumnDataSource({"x": [], "y": [], "color": [], "size": []}, name="stops")
    plot.scatter("x", "y", size="size", source=stops, fill_color="color", line_color="black", line_width=1.5)
    cursor = ColumnDataSource({"x": [], "y": [], "q": [], "r": []}, name="cursor")
    for color, width in (("white", 5.0), ("black", 2.5)):
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
    """Numbers of rows or columns, at as many of them as there is room for."""
    step = next(step for step in _steps() if len(places) / step <= _MOST_TICKS)
    numbers = range(0, len(places), step)
    axis.ticker = FixedTicker(ticks=[float(places[number]) for number in numbers], minor_ticks=[])
    axis.major_label_overrides = {float(places[number]): str(number) for number in numbers}
    axis.axis_label = title


def _steps() -> Any:
    return (factor * 10**power for power in range(9) for factor in (1, 2, 5))
