"""The grid's neighbors and distances, compared with a search among coordinates."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from cases import GRIDS, grids
from hypothesis import given, settings
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from somvae_ext import Grid, nn, ops

SMALL_GRIDS = [
    Grid(rows, cols, topology=topology, periodic=periodic)
    for rows, cols in itertools.product(range(1, 6), range(1, 6))
    for topology in ("rectangular", "hexagonal")
    for periodic in (False, True)
    if not (topology == "hexagonal" and periodic and rows % 2)
]


def test_a_grid_is_described_by_its_size_and_shape() -> None:
    assert Grid(3, 4).describe() == "3 x 4 nodes, rectangular"
    assert Grid(4, 3, "hexagonal", periodic=True).describe() == "4 x 3 nodes, hexagonal, periodic"


def check_grid(grid: Grid) -> None:
    shape = grid.rows, grid.cols, grid.topology
    table = oracle.neighbor_table(*shape, grid.periodic)
    np.testing.assert_array_equal(grid.neighbors().numpy(), table)
    np.testing.assert_array_equal(grid.degree().numpy(), (table >= 0).sum(axis=1))
    np.testing.assert_allclose(grid.coordinates().numpy(), oracle.coordinates(*shape), rtol=0, atol=1e-12 * grid.rows)
    nodes = torch.arange(grid.num_nodes)
    distance = grid.distance(nodes[:, None], nodes)
    # A few roundings of coordinates of at most rows + cols.
    atol = 8 * np.finfo(np.float64).eps * (grid.rows + grid.cols)
    np.testing.assert_allclose(distance.numpy(), oracle.grid_distance(*shape, grid.periodic), rtol=0, atol=atol)


@pytest.mark.parametrize("grid", SMALL_GRIDS, ids=str)
def test_neighbors_and_distances_of_small_grids(grid: Grid) -> None:
    check_grid(grid)


@pytest.mark.slow
@settings(max_examples=60, derandomize=False)
@given(grids(most=10))
def test_neighbors_and_distances_of_larger_grids(grid: Grid) -> None:
    check_grid(grid)


def test_rectangular_slots_are_up_down_right_left() -> None:
    assert Grid(3, 3).neighbors()[4].tolist() == [7, 1, 5, 3]
    assert Grid(3, 3).neighbors()[0].tolist() == [3, -1, 1, -1]
    assert Grid(3, 3, periodic=True).neighbors()[0].tolist() == [3, 6, 1, 2]


def test_hexagonal_slots_depend_on_the_parity_of_the_row() -> None:
    neighbors = Grid(4, 4, topology="hexagonal").neighbors()
    assert neighbors[5].tolist() == [6, 4, 10, 9, 2, 1]  # an odd row: shifted right
    assert neighbors[9].tolist() == [10, 8, 13, 12, 5, 4]  # an even row


@pytest.mark.parametrize("row", [1, 2])
def test_all_six_hexagonal_neighbors_are_at_distance_one(row: int) -> None:
    grid = Grid(4, 4, topology="hexagonal")
    node = torch.tensor(row * 4 + 1)
    neighbors = grid.neighbors()[node]
    assert (neighbors >= 0).all()
    np.testing.assert_allclose(grid.distance(node, neighbors), 1.0, rtol=4 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("grid", SMALL_GRIDS, ids=str)
def test_neighbor_relation_is_symmetric_and_without_repeats(grid: Grid) -> None:
    pairs = [
        (node, neighbor) for node, slots in enumerate(grid.neighbors().tolist()) for neighbor in slots if neighbor != -1
    ]
    assert len(pairs) == len(set(pairs))
    assert {(b, a) for a, b in pairs} == set(pairs)
    assert all(a != b for a, b in pairs)


@pytest.mark.parametrize(
    ("grid", "degree"),
    [
        (Grid(1, 1, periodic=True), 0),
        (Grid(1, 2, periodic=True), 1),
        (Grid(2, 2, periodic=True), 2),
        (Grid(2, 3, periodic=True), 3),
        (Grid(1, 3, periodic=True), 2),
        (Grid(2, 1, topology="hexagonal", periodic=True), 1),
        (Grid(2, 2, topology="hexagonal", periodic=True), 3),
        (Grid(4, 4, topology="hexagonal", periodic=True), 6),
    ],
    ids=str,
)
def test_a_repeated_neighbor_on_a_short_periodic_side_counts_once(grid: Grid, degree: int) -> None:
    assert grid.degree().tolist() == [degree] * grid.num_nodes


# ---- eight neighbors ------------------------------------------------------------------------------------------------


def around(grid: Grid, node: int) -> list[int]:
    """Returns the nodes one step up, down, right, left and diagonally, in slot order; -1 for none or a repetition."""
    row, col = divmod(node, grid.cols)
    slots: list[int] = []
    for up, right in ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)):
        other_row, other_col = row + up, col + right
        if grid.periodic:
            other_row, other_col = other_row % grid.rows, other_col % grid.cols
        if 0 <= other_row < grid.rows and 0 <= other_col < grid.cols:
            other = other_row * grid.cols + other_col
            slots.append(-1 if other == node or other in slots else other)
        else:
            slots.append(-1)
    return slots


def check_eight_neighbors(grid: Grid) -> None:
    table = grid.neighbors(connectivity=8)
    assert table.dtype == torch.int64
    assert table.tolist() == [around(grid, node) for node in range(grid.num_nodes)]
    assert torch.equal(table[:, :4], grid.neighbors())
    distance = oracle.grid_distance(grid.rows, grid.cols, grid.topology, grid.periodic)
    near = (distance > 0) & (distance < math.sqrt(2) + 1e-9)
    assert grid.degree(connectivity=8).tolist() == near.sum(axis=1).tolist()
    nodes = torch.arange(grid.num_nodes)
    pairs = torch.cartesian_prod(nodes, nodes)
    adjacent = grid.are_neighbors(pairs[:, 0], pairs[:, 1], connectivity=8)
    np.testing.assert_array_equal(adjacent.view(grid.num_nodes, -1), near)
    default = grid.are_neighbors(pairs[:, 0], pairs[:, 1]).view(grid.num_nodes, -1)
    np.testing.assert_array_equal(default, (distance > 0) & (distance < 1 + 1e-9))


@pytest.mark.parametrize("grid", [grid for grid in SMALL_GRIDS if grid.topology == "rectangular"], ids=str)
def test_eight_neighbors_of_small_grids(grid: Grid) -> None:
    check_eight_neighbors(grid)


@given(grids(most=9).filter(lambda grid: grid.topology == "rectangular"))
def test_eight_neighbors_of_larger_grids(grid: Grid) -> None:
    check_eight_neighbors(grid)


def test_of_eight_slots_the_published_four_come_first_then_the_diagonals() -> None:
    assert Grid(3, 3).neighbors(connectivity=8)[4].tolist() == [7, 1, 5, 3, 8, 6, 2, 0]
    assert Grid(3, 3).neighbors(connectivity=8)[0].tolist() == [3, -1, 1, -1, 4, -1, -1, -1]


def test_the_default_connectivity_is_that_of_the_ops() -> None:
    for grid in (Grid(3, 4), Grid(3, 4, "hexagonal")):
        assert grid.connectivities[0] == grid.num_slots == grid.neighbors().shape[1]
        assert grid.neighbors(connectivity=grid.connectivities[0]) is grid.neighbors()
    assert Grid(3, 4).connectivities == (4, 8)
    assert Grid(3, 4, "hexagonal").connectivities == (6,)


@pytest.mark.parametrize("table", [Grid.neighbors, Grid.degree])
@pytest.mark.parametrize("wrong", [6, 5, 0, -4, 8.0, True, "8"])
def test_other_connectivities_are_refused(table: Callable[..., Tensor], wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"^Grid: connectivity must be 4 or 8 on a rectangular grid, got {wrong!r}$"):
        table(Grid(3, 4), connectivity=wrong)
    if wrong != 6:
        with pytest.raises(ValueError, match=f"^Grid: connectivity must be 6 on a hexagonal grid, got {wrong!r}$"):
            table(Grid(3, 4, "hexagonal"), connectivity=wrong)


def test_ops_and_losses_keep_their_four_slots() -> None:
    grid, codebook, index = Grid(3, 3), torch.rand(9, 2), torch.tensor([4])
    grid.neighbors(connectivity=8)
    assert ops.som_gather(codebook, index, grid).tolist() == [codebook[[4, 7, 1, 5, 3]].tolist()]
    slots = (codebook[4] - codebook[[4, 7, 1, 5, 3]]).square().sum()
    torch.testing.assert_close(ops.som_losses(codebook[index], codebook, index, grid).som[0], slots)
    for call in (
        lambda: ops.som_gather(codebook, index, grid, connectivity=8),  # type: ignore[call-arg]
        lambda: ops.som_losses(codebook[index], codebook, index, grid, connectivity=8),  # type: ignore[call-arg]
        lambda: ops.som_head(codebook[index], codebook, grid, connectivity=8),  # type: ignore[call-arg]
        lambda: nn.SOMQuantizer(grid, 2, connectivity=8),  # type: ignore[call-arg]
        lambda: Grid(3, 3, connectivity=8),  # type: ignore[call-arg]
    ):
        with pytest.raises(TypeError, match="unexpected keyword argument 'connectivity'"):
            call()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_distance_is_a_metric(grid: Grid) -> None:
    nodes = torch.arange(grid.num_nodes)
    distance = grid.distance(nodes[:, None], nodes)
    assert distance.dtype == torch.float64
    assert torch.equal(distance, distance.T)
    assert torch.equal(distance == 0, torch.eye(grid.num_nodes, dtype=torch.bool))
    # The triangle inequality, up to the rounding of distances no larger than the grid.
    atol = 8 * torch.finfo(torch.float64).eps * (grid.rows + grid.cols)
    assert (distance[:, None] <= distance[:, :, None] + distance[None] + atol).all()


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_squared_distances_along_the_axes_add_up(grid: Grid) -> None:
    row, col = grid.row_col(torch.arange(grid.num_nodes))
    distances, rows, columns = grid.axis_distances()
    phase = row % len(columns)
    along = distances[rows[row[:, None], row]], distances[columns[phase, phase[:, None], col[:, None], col]]
    expected = grid.distance(torch.arange(grid.num_nodes)[:, None], torch.arange(grid.num_nodes))
    torch.testing.assert_close((along[0].square() + along[1].square()).sqrt(), expected)
    assert len(distances) <= grid.rows + 2 * grid.cols


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("grid", SMALL_GRIDS, ids=str)
def test_windows_hold_the_nodes_within_the_radius_once(grid: Grid, radius: int) -> None:
    expected = oracle.windows(grid.rows, grid.cols, grid.topology, grid.periodic, radius)
    windows = grid.window_nodes(radius, torch.arange(grid.num_nodes)).tolist()
    found = [[node for node in window if node >= 0] for window in windows]
    assert [sorted(window) for window in found] == [sorted(window) for window in expected]


@pytest.mark.parametrize("radius", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("grid", SMALL_GRIDS, ids=str)
def test_each_node_of_a_window_has_the_center_in_its_mirrored_slot(grid: Grid, radius: int) -> None:
    window = grid.window(radius)
    nodes = torch.arange(grid.num_nodes)
    near = grid.window_nodes(radius, nodes)
    assert torch.equal(near[:, window.center], nodes)
    node, slot = (near >= 0).nonzero(as_tuple=True)
    assert torch.equal(near[near[node, slot], window.mirror[slot]], node)


def test_window_slots_go_by_row_then_column() -> None:
    assert Grid(9, 9).window(2).offsets[1].tolist() == [
        list(step) for step in itertools.product(range(-2, 3), repeat=2)
    ]
    even, odd = Grid(9, 9, topology="hexagonal").window(1).offsets.tolist()
    assert even == [[-1, -1], [-1, 0], [0, -1], [0, 0], [0, 1], [1, -1], [1, 0]]
    assert odd == [[-1, 0], [-1, 1], [0, -1], [0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize("radius", [1, 3, 8])
def test_window_sizes(radius: int) -> None:
    assert len(Grid(30, 30).window(radius).mirror) == (2 * radius + 1) ** 2
    assert len(Grid(30, 30, topology="hexagonal").window(radius).mirror) == 3 * radius * (radius + 1) + 1


def test_window_is_computed_once() -> None:
    assert Grid(7, 11).window(2).offsets is Grid(7, 11).window(2, "cpu").offsets


@pytest.mark.parametrize("radius", [-1, 1.5, True, "2"])
def test_window_radius_must_be_a_number_of_steps(radius: object) -> None:
    with pytest.raises(ValueError, match=f"^Grid.window: radius must be an integer of at least 0, got {radius!r}$"):
        Grid(2, 2).window(radius)  # type: ignore[arg-type]


def test_sizes() -> None:
    assert (Grid(3, 5).num_nodes, Grid(3, 5).num_slots) == (15, 4)
    assert Grid(3, 5, topology="hexagonal").num_slots == 6


def test_row_col_inverts_row_major_order() -> None:
    row, col = Grid(3, 5).row_col(torch.arange(15).reshape(5, 3))
    assert torch.equal(row * 5 + col, torch.arange(15).reshape(5, 3))
    assert (int(row.max()), int(col.max())) == (2, 4)


def test_grids_are_values() -> None:
    assert Grid(2, 3) == Grid(2, 3, topology="rectangular", periodic=False)
    assert len({Grid(2, 3), Grid(2, 3), Grid(3, 2)}) == 2
    with pytest.raises(AttributeError):
        Grid(2, 3).rows = 4  # type: ignore[misc]


TABLES = pytest.mark.parametrize("table", [Grid.neighbors, Grid.degree])


@TABLES
def test_table_is_computed_once(table: Callable[..., Tensor]) -> None:
    assert table(Grid(7, 11)) is table(Grid(7, 11), "cpu")
    assert table(Grid(7, 11), connectivity=8) is table(Grid(7, 11), "cpu", np.int64(8))


@TABLES
def test_table_first_asked_for_in_inference_mode_can_be_saved_for_backward_later(table: Callable[..., Tensor]) -> None:
    with torch.inference_mode():
        table(Grid(13, 11))
    assert not table(Grid(13, 11)).is_inference()


@TABLES
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_table_is_fake_under_fake_tensors_and_real_afterwards(device: str, table: Callable[..., Tensor]) -> None:
    grid = Grid(11, 7)
    for _ in range(2):  # before and after the real table has been cached
        with FakeTensorMode():
            fake = table(grid, device)
        assert isinstance(fake, FakeTensor)
        assert fake.device == torch.device(device)
        assert table(grid)[0].tolist() == ([7, -1, 1, -1] if table is Grid.neighbors else 2)


@TABLES
def test_compiled_graph_holds_the_table(table: Callable[..., Tensor]) -> None:
    operations = []

    def record(module: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        operations.extend(node.name for node in module.graph.nodes if node.op.startswith("call"))
        return module.forward

    torch.compiler.reset()
    grid, index = Grid(3, 4), torch.tensor([0, 11])
    compiled = torch.compile(lambda nodes: table(grid, nodes.device)[nodes], fullgraph=True, backend=record)
    assert torch.equal(compiled(index), table(grid)[index])
    assert len(operations) == 1  # the lookup
    compiled = torch.compile(lambda nodes: table(grid, nodes.device, 8)[nodes], fullgraph=True, backend=record)
    assert torch.equal(compiled(index), table(grid, connectivity=8)[index])
    assert len(operations) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rows": 0}, "rows must be a positive integer, got 0"),
        ({"cols": -1}, "cols must be a positive integer, got -1"),
        ({"rows": 2.0}, "rows must be a positive integer, got 2.0"),
        ({"cols": True}, "cols must be a positive integer, got True"),
        ({"topology": "ring"}, "topology must be 'rectangular' or 'hexagonal', got 'ring'"),
        ({"periodic": 1}, "periodic must be True or False, got 1"),
        (
            {"rows": 3, "topology": "hexagonal", "periodic": True},
            r"rows must be even for a periodic hexagonal grid .*, got 3",
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_errors_name_the_argument_the_expectation_and_the_value(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Grid: {message}$"):
        Grid(**{"rows": 2, "cols": 2, **arguments})


def test_hexagonal_rows_are_half_the_root_of_three_apart() -> None:
    assert Grid(2, 1, topology="hexagonal").coordinates().tolist() == [[0.0, 0.0], [0.5, math.sqrt(3) / 2]]
