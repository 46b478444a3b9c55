"""Plot of the transitions between nodes as arrows on the map."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_array, as_integers
from somvae_ext.config_checks import Bounds, check_number
from somvae_ext.grid import Grid
from somvae_ext.plotting._arguments import as_counts, as_node_values
from somvae_ext.plotting._cells import (
    add_colorbar,
    add_legend,
    cell_centers,
    cell_polygons,
    draw_grid_lines,
    sheet_axes,
    wrap_shift,
)
from somvae_ext.plotting.palettes import DARK, GUIDE, MOVES, OUTLINE, PALE, PAPER, PLAIN, category_colors

Floats = NDArray[np.floating]

# Lengths in units of the grid, whose nodes are 1 apart. A disc and its ring stay within the cell.
_LARGEST_DISC, _PLAIN_DISC, _SMALLEST_DISC, _UNVISITED = 0.3, 0.2, 0.04, 0.04
_RING_GAP, _RING = 0.02, 0.06
_ARROW, _THINNEST_ARROW, _HEAD, _HEAD_LENGTH, _ARROW_GAP = 0.12, 0.01, 0.05, 0.16, 0.02
_BEND = 0.12  # of an arrow's length, so that arrows in opposite directions lie side by side
_CURVE_POINTS, _ARC_POINTS = 12, 48

_MANY_NODES = 256  # on a larger map only the likeliest moves of each node are drawn
_MOST_MOVES = 3  # per node of such a map
_STEP_TOLERANCE = 1e-3  # rounding may raise a probability above 1 by this much


def plot_transition_graph(
    matrix: ArrayLike | Tensor,
    grid: Grid,
    ax: Axes | None = None,
    *,
    visits: ArrayLike | Tensor | None = None,
    states: ArrayLike | Tensor | None = None,
    min_probability: float = 0.05,
) -> Axes:
    """Shows a chain over the nodes of a map: nodes at their places, and an arrow for each likely move to another node.

    The likelier a move, the wider and darker its arrow; the likeliest move has an equally wide arrow in every plot. The
    arc around a node is the probability of staying there: clockwise from the top, a full circle for 1. On a periodic
    grid, an arrow that is shorter across the edge leaves the sheet there and enters on the other side.

    Args:
        matrix: probabilities P(j | i), ``[K, K]`` with row = from, numpy or torch on any device, such as
            :meth:`TransitionModel.matrix <somvae_ext.nn.TransitionModel.matrix>` gives.
        grid: the map's grid, of K = R * C nodes. They lie at ``grid.coordinates()``, row 0 on top.
        ax: where to draw; by default a new figure's axes. The figure is ``ax.figure``.
        visits: number of visits to each node, ``[K]``; the area of a node is proportional to it, except for the rarest.
            Nodes that were never visited are small and empty, and no arrows leave them. By default all nodes have the
            same size.
        states: group of each node, integers ``[K]`` from 0 on, -1 for none, such as
            :func:`~somvae_ext.evaluation.macro_states` returns; shown as colors of the nodes, with a legend.
        min_probability: smallest probability of a move with an arrow. On maps of more than 256 nodes only the 3
            likeliest moves of each node have arrows.

    Raises:
        ValueError: arguments of wrong shapes, probabilities that are not from 0 to 1, negative visits, states that are
            not integers of at least -1, or a ``min_probability`` that is not from 0 to 1.

    Example:
        >>> import torch
        >>> ax = plot_transition_graph(torch.full((6, 6), 1 / 6), Grid(2, 3, "hexagonal"), visits=[1, 2, 3, 4, 5, 6])
        >>> ax.figure.savefig("transition-graph.png")
    """
    probabilities = _as_chain(matrix, grid)
    counts = None if visits is None else as_counts("plot_transition_graph", "visits", visits, grid)
    state = None if states is None else _as_states(states, grid)
    least = check_number("plot_transition_graph", "min_probability", min_probability, Bounds(at_least=0, at_most=1))
    is_visited = np.full(grid.num_nodes, True) if counts is None else counts > 0
    if counts is None:
        radius = np.full(grid.num_nodes, _PLAIN_DISC)
    else:
        radius = np.maximum(_LARGEST_DISC * np.sqrt(counts / (counts.max() or 1.0)), _SMALLEST_DISC)

    centers = cell_centers(grid)
    cells = cell_polygons(centers, grid.topology)
    ax = sheet_axes(ax, cells, grid, title="Moves between nodes")
    draw_grid_lines(ax, cells, PALE)
    origin, target = _likely_moves(np.where(is_visited[:, None], probabilities, 0), least)
    _draw_moves(ax, grid, origin, target, probabilities[origin, target], radius + _RING_GAP + _RING)
    _draw_stays(ax, centers[is_visited], radius[is_visited] + _RING_GAP, probabilities.diagonal()[is_visited])
    _draw_nodes(ax, centers, radius, is_visited, state)
    return ax


def _likely_moves(probabilities: Floats, least: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns origins and targets of the moves with an arrow, the likeliest move last."""
    moves = np.where((probabilities >= least) & (probabilities > 0), probabilities, 0)
    np.fill_diagonal(moves, 0)
    num_nodes = len(moves)
    if num_nodes > _MANY_NODES:
        rarer = np.argpartition(moves, num_nodes - _MOST_MOVES, axis=1)[:, : num_nodes - _MOST_MOVES]
        np.put_along_axis(moves, rarer, 0, axis=1)
    origin, target = moves.nonzero()
    order = np.argsort(moves[origin, target], kind="stable")
    return origin[order], target[order]


def _draw_moves(
    ax: Axes, grid: Grid, origin: NDArray[np.int64], target: NDArray[np.int64], probability: Floats, radius: Floats
) -> None:
    """Draws the arrows; arrows across the edge of a periodic grid come from both sides, cut off at the edge."""
    if len(origin) == 0:
        return
    centers, shift = cell_centers(grid), wrap_shift(grid, origin, target)
    width = np.maximum(_ARROW * probability / probability.max(), _THINNEST_ARROW)
    arrows = _arrow_polygons(
        centers[origin], centers[target] + shift, radius[origin], radius[target] + _ARROW_GAP, width
    )
    wraps = shift.any(axis=1)
    polygons = np.concatenate([arrows, arrows[wraps] - shift[wraps][:, None]])
    collection = PolyCollection(
        list(polygons), array=np.concatenate([probability, probability[wraps]]), cmap=MOVES, linewidths=0, zorder=2
    )
    collection.set_clim(0, probability.max())
    ax.add_collection(collection, autolim=False)
    add_colorbar(ax, collection, "probability of the move\n(ring: of staying)")


def _arrow_polygons(start: Floats, end: Floats, leave: Floats, arrive: Floats, width: Floats) -> Floats:
    """Returns the polygons ``[M, P, 2]`` of bent arrows from ``start`` to ``end`` ``[M, 2]``.

    Arrows begin and end at the distances ``leave`` and ``arrive`` from these points. Each is a quadratic Bezier curve;
    its tangents at both ends lead to the middle control point.
    """
    along = end - start
    middle = (start + end) / 2 + _BEND * along[:, ::-1] * (1, -1)
    start = start + _unit(middle - start) * leave[:, None]
    end = end + _unit(middle - end) * arrive[:, None]
    length = np.linalg.norm(end - start, axis=1)
    neck = 1 - np.minimum(_HEAD_LENGTH / np.maximum(length, _HEAD_LENGTH), 0.6)  # where the head begins, from 0 to 1
    t = (np.linspace(0, 1, _CURVE_POINTS) * neck[:, None])[..., None]
    start, middle, end = start[:, None], middle[:, None], end[:, None]
    points = (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    tangent = _unit((1 - t) * (middle - start) + t * (end - middle))
    normal = tangent[..., ::-1] * (1, -1)
    half = normal * width[:, None, None] / 2
    # The head points straight from the neck of the curve to the tip.
    head = _unit(end - points[:, -1:])[..., ::-1] * (1, -1) * (_HEAD + 0.6 * width[:, None, None])
    return np.concatenate(
        [points + half, points[:, -1:] + head, end, points[:, -1:] - head, (points - half)[:, ::-1]], axis=1
    )


def _draw_stays(ax: Axes, centers: Floats, radius: Floats, probability: Floats) -> None:
    """Draws a pale ring around each node, and over it an arc for the probability of staying."""
    for share, color in ((np.ones(len(centers)), OUTLINE), (np.minimum(probability, 1), DARK)):
        angle = 2 * math.pi * share[:, None] * np.linspace(0, 1, _ARC_POINTS)
        arc = np.stack([np.sin(angle), -np.cos(angle)], axis=2)  # y grows downward: clockwise from the top
        inner, outer = arc * radius[:, None, None], arc * (radius[:, None, None] + _RING)
        rings = centers[:, None] + np.concatenate([outer, inner[:, ::-1]], axis=1)
        ax.add_collection(PolyCollection(list(rings), facecolors=color, linewidths=0, zorder=3), autolim=False)


def _draw_nodes(
    ax: Axes, centers: Floats, radius: Floats, is_visited: NDArray[np.bool_], state: NDArray[np.int64] | None
) -> None:
    angle = np.linspace(0, 2 * math.pi, _ARC_POINTS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    if not is_visited.all():
        empty = centers[~is_visited][:, None] + _UNVISITED * circle
        ax.add_collection(
            PolyCollection(list(empty), facecolors=PAPER, edgecolors=GUIDE, linewidths=0.8, zorder=4), autolim=False
        )
    colors = np.tile(to_rgba(PLAIN), (len(centers), 1))
    if state is not None:
        palette = category_colors(max(state.max() + 1, 1))
        colors = np.where(state[:, None] >= 0, palette[np.maximum(state, 0)], to_rgba(OUTLINE))
        occurring = np.unique(state[state >= 0]).tolist()
        add_legend(ax, [str(number) for number in occurring], palette[occurring], "state")
    discs = centers[is_visited][:, None] + radius[is_visited][:, None, None] * circle
    ax.add_collection(PolyCollection(list(discs), facecolors=colors[is_visited], linewidths=0, zorder=4), autolim=False)


def _as_chain(matrix: ArrayLike | Tensor, grid: Grid) -> NDArray[np.float64]:
    probabilities = as_array("plot_transition_graph", "matrix", matrix)
    if probabilities.shape != (grid.num_nodes, grid.num_nodes):
        raise ValueError(
            f"plot_transition_graph: matrix must have shape [K, K] = {[grid.num_nodes, grid.num_nodes]} for the grid's "
            f"nodes, got {list(probabilities.shape)}"
        )
    probabilities = probabilities.astype(np.float64)
    if (wrong := ~((probabilities >= 0) & (probabilities <= 1 + _STEP_TOLERANCE))).any():
        raise ValueError(
            f"plot_transition_graph: matrix must hold probabilities from 0 to 1, got {probabilities[wrong][0]}"
        )
    return probabilities


def _as_states(states: ArrayLike | Tensor, grid: Grid) -> NDArray[np.int64]:
    array = as_node_values("plot_transition_graph", "states", states, grid)
    state = as_integers("plot_transition_graph", "states", array).numpy()
    if state.min() < -1:
        raise ValueError(f"plot_transition_graph: states must be at least -1, got {state.min()}")
    return state


def _unit(vectors: Floats) -> Floats:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
