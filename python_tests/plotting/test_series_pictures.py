"""Tests of the pictures of series on a map: trajectories, chains drawn as arrows, and durations of stays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import EllipseCollection, LineCollection, PolyCollection

from somvae_ext import Grid
from somvae_ext.evaluation import StateDurations, state_durations
from somvae_ext.plotting import plot_durations, plot_trajectory, plot_transition_graph
from somvae_ext.plotting._cells import wrap_shift

GRIDS = [
    Grid(3, 5),
    Grid(3, 5, "hexagonal"),
    Grid(3, 5, periodic=True),
    Grid(4, 5, "hexagonal", periodic=True),
    Grid(1, 6),
    Grid(6, 1, periodic=True),
    Grid(1, 1),
]
ATOL = 1e-12  # coordinates of a few units, each rounded a few times


def places_of(grid: Grid) -> Any:
    return oracle.coordinates(grid.rows, grid.cols, grid.topology)


def dots_of(ax: Any) -> EllipseCollection:
    (dots,) = (drawn for drawn in ax.collections if isinstance(drawn, EllipseCollection))
    return dots


def lines_of(ax: Any) -> tuple[Any, Any]:
    """Returns the end points of the lines, ``[L, 2, 2]``, and their times."""
    (lines,) = (drawn for drawn in ax.collections if isinstance(drawn, LineCollection))
    return np.array(lines.get_segments()).reshape(-1, 2, 2), np.asarray(lines.get_array())


def nearest_node(grid: Grid, place: Any) -> int:
    return int(np.linalg.norm(places_of(grid) - place, axis=1).argmin())


def check_nothing_is_cut_off(figure: Any) -> None:
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


def random_chain(num_nodes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).dirichlet(np.full(num_nodes, 0.5), size=num_nodes)


# ---- ways around a periodic grid -------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [*GRIDS, Grid(4, 4, periodic=True), Grid(2, 2, "hexagonal", periodic=True)], ids=str)
def test_wrap_shift_gives_ways_as_long_as_the_distance_on_the_grid(grid: Grid) -> None:
    origin, target = np.indices((grid.num_nodes, grid.num_nodes)).reshape(2, -1)
    shift, places = wrap_shift(grid, origin, target), places_of(grid)
    length = np.linalg.norm(places[target] + shift - places[origin], axis=1)
    expected = oracle.grid_distance(grid.rows, grid.cols, grid.topology, grid.periodic)[origin, target]
    np.testing.assert_allclose(length, expected, rtol=0, atol=ATOL)
    # Of ways of equal length, the one within the sheet is taken: nothing is shifted without need.
    within = np.linalg.norm(places[target] - places[origin], axis=1)
    assert not shift[np.abs(within - expected) < ATOL].any()


# ---- trajectories ----------------------------------------------------------------------------------------------------


@given(st.sampled_from(GRIDS), st.integers(1, 60), st.integers(0, 99))
def test_each_stay_is_a_dot_within_its_cell_and_no_two_dots_coincide(grid: Grid, num_frames: int, seed: int) -> None:
    nodes = np.random.default_rng(seed).integers(grid.num_nodes, size=num_frames)
    stays = state_durations(nodes[None], grid.num_nodes)
    ax = plot_trajectory(nodes, grid)
    dots = dots_of(ax)
    places = np.asarray(dots.get_offsets())
    assert [nearest_node(grid, place) for place in places] == stays.node.tolist()
    assert np.linalg.norm(places - places_of(grid)[stays.node], axis=1).max() <= 0.3 + ATOL
    assert len(np.unique(np.round(places, 6), axis=0)) == len(places)
    stay = np.concatenate([[0], np.cumsum(nodes[1:] != nodes[:-1])])  # index of each frame's stay
    middle = [np.flatnonzero(stay == number).mean() for number in range(len(places))]
    np.testing.assert_allclose(dots.get_array(), middle, rtol=0, atol=ATOL)


def test_the_first_stay_is_drawn_at_its_node_and_areas_are_proportional_to_durations() -> None:
    dots = dots_of(plot_trajectory([0] * 8 + [4] * 2 + [5] * 4 + [0] * 2, Grid(2, 3)))
    places = np.asarray(dots.get_offsets())
    np.testing.assert_array_equal(places[:3], places_of(Grid(2, 3))[[0, 4, 5]])
    assert tuple(places[3]) != (0, 0)
    np.testing.assert_allclose((dots.get_widths() / dots.get_widths()[0]) ** 2, [1, 1 / 4, 1 / 2, 1 / 4])


def test_lines_connect_successive_stays_and_are_colored_by_time() -> None:
    ax = plot_trajectory(torch.tensor([0, 0, 1, 1, 1, 4, 0]), Grid(2, 3))
    ends, time = lines_of(ax)
    places = np.asarray(dots_of(ax).get_offsets())
    np.testing.assert_array_equal(ends, np.stack([places[:-1], places[1:]], axis=1))
    assert time.tolist() == [1.5, 4.5, 5.5]
    assert {text.get_text(): text.xy for text in ax.texts} == {  # type: ignore[attr-defined]
        "start": tuple(places[0]),
        "end": tuple(places[-1]),
    }


def test_a_move_around_the_edge_is_drawn_on_both_sides() -> None:
    grid = Grid(3, 5, periodic=True)
    ends, time = lines_of(plot_trajectory([5, 9, 4], grid))  # across the left edge, then up
    np.testing.assert_allclose(ends, [[(0, 1), (-1, 1)], [(4, 1), (4, 0)], [(5, 1), (4, 1)]], atol=ATOL)
    assert time.tolist() == [0.5, 1.5, 0.5]
    assert len(lines_of(plot_trajectory([5, 9, 4], Grid(3, 5)))[0]) == 2


def test_a_series_is_drawn_reproducibly_and_may_have_a_single_stay() -> None:
    nodes = np.random.default_rng(0).integers(15, size=80)
    first, second = (np.asarray(dots_of(plot_trajectory(nodes, GRIDS[1])).get_offsets()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for still in ([3], [3] * 9):
        ax = plot_trajectory(still, GRIDS[0])
        assert len(lines_of(ax)[0]) == 0
        assert len(dots_of(ax).get_offsets()) == 1


def test_cells_show_hits_and_labels() -> None:
    hits = np.array([0, 4, 2, 1, 0, 0])
    ax = plot_trajectory([0, 1, 2], Grid(2, 3), hits=torch.from_numpy(hits), labels=["a", None, "b", "", 3, "c"])
    cells = ax.collections[0]
    assert isinstance(cells, PolyCollection)
    np.testing.assert_array_equal(cells.get_array(), hits)
    assert [text.get_text() for text in ax.texts] == ["a", "b", "3", "c", "start", "end"]
    assert [round(text.get_position()[0]) for text in ax.texts[:4]] == [0, 2, 1, 2]
    many = plot_trajectory([0], Grid(40, 40), labels=np.arange(1600))
    assert len(many.texts) == 2  # "start" and "end" only: labels would be too small to read


# ---- transitions as a graph ------------------------------------------------------------------------------------------


def arrows_of(ax: Any) -> dict[tuple[int, int], float]:
    """Returns the probability of each arrow by the nodes next to its tail and tip, on a grid without periodic edges."""
    collection = next(drawn for drawn in ax.collections if drawn.get_array() is not None)
    return {
        _ends_of_arrow(path.vertices[:-1], ax): value
        for path, value in zip(collection.get_paths(), collection.get_array().tolist(), strict=True)
    }


def _ends_of_arrow(corners: Any, ax: Any) -> tuple[int, int]:
    tip = (len(corners) - 3) // 2 + 1
    tail = (corners[0] + corners[-1]) / 2
    return nearest_node(ax.grid_of_test, tail), nearest_node(ax.grid_of_test, corners[tip])


def graph(matrix: Any, grid: Grid, **options: Any) -> Any:
    ax: Any = plot_transition_graph(matrix, grid, **options)
    ax.grid_of_test = grid
    return ax


def test_likely_moves_have_an_arrow_from_node_to_node() -> None:
    grid = Grid(2, 3, "hexagonal")
    matrix = np.diag([0.9, 0.5, 1.0, 0.4, 1.0, 0.98])
    matrix[0, 4], matrix[1, 0], matrix[1, 2], matrix[3, 5], matrix[5, 3] = 0.1, 0.3, 0.2, 0.6, 0.02
    assert arrows_of(graph(matrix, grid)) == {(0, 4): 0.1, (1, 0): 0.3, (1, 2): 0.2, (3, 5): 0.6}
    assert arrows_of(graph(torch.tensor(matrix), grid, min_probability=0.3)) == {(1, 0): 0.3, (3, 5): 0.6}
    assert len(arrows_of(graph(matrix, grid, min_probability=0))) == 5  # moves of probability 0 get no arrow
    assert set(arrows_of(graph(matrix, grid, visits=[1, 0, 1, 1, 1, 1]))) == {(0, 4), (3, 5)}


def test_without_likely_moves_only_the_nodes_are_drawn() -> None:
    for grid in (Grid(1, 1), Grid(2, 3)):
        ax = plot_transition_graph(np.eye(grid.num_nodes), grid)
        assert all(drawn.get_array() is None for drawn in ax.collections)
        assert ax.child_axes == []


def test_arrows_end_outside_their_nodes_and_opposite_arrows_do_not_overlap() -> None:
    ax = graph([[0.5, 0.5], [0.5, 0.5]], Grid(1, 2), visits=[4, 1])
    collection = next(drawn for drawn in ax.collections if drawn.get_array() is not None)
    for path in collection.get_paths():
        corners = path.vertices[:-1]
        assert np.linalg.norm(corners - (0, 0), axis=1).min() > 0.3
        assert np.linalg.norm(corners - (1, 0), axis=1).min() > 0.15
    sides = {float(np.sign(path.vertices[:-1, 1].mean())) for path in collection.get_paths()}
    assert sides == {-1.0, 1.0}


def test_an_arrow_around_the_edge_is_drawn_on_both_sides() -> None:
    matrix = np.eye(15)
    matrix[5, 5], matrix[5, 9] = 0.2, 0.8
    for grid, middles in ((Grid(3, 5, periodic=True), [-0.5, 4.5]), (Grid(3, 5), [2.0])):
        collection = next(
            drawn for drawn in plot_transition_graph(matrix, grid).collections if drawn.get_array() is not None
        )
        assert np.asarray(collection.get_array()).tolist() == [0.8] * len(middles)
        ends = [path.vertices[[0, 13], 0] for path in collection.get_paths()]  # x of the tail and of the tip
        np.testing.assert_allclose(sorted(np.mean(ends, axis=1)), middles, atol=0.02)


def test_discs_show_visits_and_arcs_show_stays() -> None:
    visits = np.array([4, 1, 0, 2])
    matrix = np.array([[0.25, 0.75, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0.5, 0, 0.5]])
    ax = plot_transition_graph(matrix, Grid(2, 2), visits=visits)
    *_, rings, arcs, empty, discs = ax.collections

    def areas(drawn: Any) -> Any:
        corners = np.array([path.vertices[:-1] for path in drawn.get_paths()])
        x, y = corners[..., 0], corners[..., 1]
        return np.abs((x * np.roll(y, 1, axis=1) - y * np.roll(x, 1, axis=1)).sum(axis=1)) / 2

    np.testing.assert_allclose(areas(discs) / areas(discs)[0], [1, 1 / 4, 1 / 2], rtol=1e-12)
    # An arc has as many corners as a whole ring, so the areas agree approximately.
    np.testing.assert_allclose(areas(arcs) / areas(rings), [0.25, 1, 0.5], rtol=0.01)
    assert len(empty.get_paths()) == 1
    quarter = arcs.get_paths()[0].vertices
    assert quarter[:, 0].min() >= -ATOL  # clockwise from the top, where y is negative
    assert quarter[:, 1].max() <= ATOL


def test_states_are_shown_as_colors_with_a_legend() -> None:
    ax = plot_transition_graph(np.eye(4), Grid(2, 2), states=torch.tensor([2, 0, -1, 2]))
    colors = ax.collections[-1].get_facecolor()
    assert isinstance(colors, np.ndarray)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["0", "2"]
    zero, two = (patch.get_facecolor() for patch in legend.get_patches())
    np.testing.assert_array_equal(colors[[0, 1, 3]], [two, zero, two])
    assert tuple(colors[2]) not in (zero, two)


def test_large_maps_show_only_the_likeliest_moves_of_each_node() -> None:
    grid = Grid(17, 17)
    ax = plot_transition_graph(random_chain(289), grid, min_probability=0)
    collection = next(drawn for drawn in ax.collections if drawn.get_array() is not None)
    chain = random_chain(289)
    np.fill_diagonal(chain, 0)
    assert sorted(np.asarray(collection.get_array())) == sorted(np.sort(chain, axis=1)[:, -3:].ravel())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_pictures_fit_on_the_page(grid: Grid) -> None:
    nodes, states = np.arange(grid.num_nodes), np.arange(grid.num_nodes) % 2
    for ax in (
        plot_trajectory(nodes, grid, hits=nodes),
        plot_transition_graph(random_chain(grid.num_nodes), grid, visits=nodes, states=states),
    ):
        figure: Any = ax.figure
        figure.draw_without_rendering()
        check_nothing_is_cut_off(figure)


# ---- durations -------------------------------------------------------------------------------------------------------


def test_the_curve_is_the_share_of_complete_stays_with_at_least_that_many_frames() -> None:
    complete = torch.tensor([True, True, True, True, False])
    ax = plot_durations(StateDurations(torch.zeros(5).long(), torch.tensor([1, 1, 2, 4, 9]), complete))
    curve, memoryless = ax.lines
    assert np.asarray(curve.get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(curve.get_ydata()).tolist() == [1, 0.5, 0.25, 0.25]
    np.testing.assert_allclose(memoryless.get_ydata(), 0.5 ** np.arange(4))  # the mean is 2
    legend = ax.get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == "4 stays, median 1.5 frames (1 cut off, left out)"


def test_geometric_durations_follow_the_dashed_line() -> None:
    draws = torch.rand(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    length = (draws.log() / math.log(0.8)).floor().long() + 1  # geometric
    curve, memoryless = plot_durations(StateDurations(length, length, length > 0)).lines
    share, expected = np.asarray(curve.get_ydata())[:20], np.asarray(memoryless.get_ydata())[:20]
    # Five standard deviations of a share of this many draws and of the mean that determines the line.
    np.testing.assert_allclose(share, expected, rtol=0, atol=10 * math.sqrt(0.25 / 200_000))


def test_stays_of_one_frame_are_drawn_as_a_point() -> None:
    (curve,) = plot_durations(state_durations([[0, 1, 2, 0]], 3)).lines
    assert np.asarray(curve.get_ydata()).tolist() == [1]


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_invalid_series_are_refused() -> None:
    grid = Grid(2, 3)
    for indices, message in (
        ([], r"indices must have shape \[T\] with at least one frame, got \[0\]"),
        ([[0, 1]], r"indices must have shape \[T\] with at least one frame, got \[1, 2\]"),
        ([0, 6], "indices must hold values from 0 to 5, got 6"),
        ([0.5], "indices must be integers, got float64"),
    ):
        with pytest.raises(ValueError, match=f"plot_trajectory: {message}"):
            plot_trajectory(indices, grid)
    with pytest.raises(ValueError, match=r"plot_trajectory: hits must have shape \[K\]"):
        plot_trajectory([0], grid, hits=[1, 2])
    with pytest.raises(ValueError, match="plot_trajectory: hits must be finite and not negative, got -1"):
        plot_trajectory([0], grid, hits=[1, -1, 0, 0, 0, 0])
    with pytest.raises(ValueError, match=r"plot_trajectory: labels must have shape \[K\]"):
        plot_trajectory([0], grid, labels=["a"])
    with pytest.raises(ValueError, match="plot_durations: durations must hold a complete stay, got none in 2 stays"):
        plot_durations(state_durations([[0, 1]], 2))


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.eye(3), {}, r"matrix must have shape \[K, K\] = \[2, 2\] for the grid's nodes, got \[3, 3\]"),
        ([[1.5, 0], [0, 1]], {}, "matrix must hold probabilities from 0 to 1, got 1.5"),
        ([[1, math.nan], [0, 1]], {}, "matrix must hold probabilities from 0 to 1, got nan"),
        (np.eye(2), {"visits": [1, -2]}, "visits must be finite and not negative, got -2.0 at node 1"),
        (np.eye(2), {"visits": [1]}, r"visits must have shape \[K\]"),
        (np.eye(2), {"states": [0, -2]}, "states must be at least -1, got -2"),
        (np.eye(2), {"states": [0, 0.5]}, "states must be integers, got float64"),
        (np.eye(2), {"min_probability": 2}, "min_probability must be a finite number"),
    ],
)
def test_invalid_transition_matrices_are_refused(matrix: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"plot_transition_graph: {message}"):
        plot_transition_graph(matrix, Grid(1, 2), **options)
