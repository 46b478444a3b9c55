"""The map's grid: the one place that knows which nodes are neighbors and how far apart they are."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import operator
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

Topology = Literal["rectangular", "hexagonal"]
Connectivity = Literal[4, 6, 8]
Function = TypeVar("Function", bound=Callable[..., Any])

# Offsets (row, column) of a node's neighbors, in slot order. Rectangular: up, down, right, left, where "up" is
# row + 1 as in the published SOM-VAE code; with 8 neighbors, up-right, up-left, down-right, down-left follow.
# Hexagonal (odd rows are shifted right by half a node):
# right, left, up-right, up-left, down-right, down-left; the column offsets depend on the row's parity.
_RECTANGULAR = ((1, 0), (-1, 0), (0, 1), (0, -1))
_DIAGONAL = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_HEXAGONAL_EVEN = ((0, 1), (0, -1), (1, 0), (1, -1), (-1, 0), (-1, -1))
_HEXAGONAL_ODD = ((0, 1), (0, -1), (1, 1), (1, 0), (-1, 1), (-1, 0))
# Side x side tables are cached for maps up to this side (32 MiB each, four times that on hexagons).
_LONGEST_CACHED_SIDE = 2048
_MAX_NODES = 1 << 48  # so that sizes in bytes fit int64
_HEXAGON_ROW_SPACING = math.sqrt(3) / 2


class Window(NamedTuple):
    """The nodes near a node as one pattern of W slots for all nodes; see :meth:`Grid.window`.

    ``offsets`` int64 ``[2, W, 2]``: row and column offset of each slot for nodes in even and in odd rows. On a periodic
    grid they wrap around; on an open one a slot that would lie outside is absent. ``mirror`` int64 ``[W]``: for the
    node in each slot, the slot of its own window that holds this node. ``center``: the slot of the node itself.
    """

    offsets: Tensor
    mirror: Tensor
    center: int


@dataclasses.dataclass(frozen=True)
class Grid:
    """A map of ``rows * cols`` nodes, numbered in row-major order.

    Args:
        rows: number of rows R, at least 1.
        cols: number of columns C, at least 1.
        topology: ``"rectangular"`` (4 neighbors, or 8 with those at the corners, see :meth:`neighbors`) or
            ``"hexagonal"`` (6 neighbors, all at distance 1).
        periodic: whether the map wraps around on both axes (a torus). Periodic hexagons need an even number of
            rows, because every other row is shifted.

    Raises:
        ValueError: a size that is not a positive integer, an unknown topology, or a periodic hexagonal grid with
            an odd number of rows.

    Example:
        >>> grid = Grid(2, 3)
        >>> grid.neighbors()[0].tolist()  # up, down, right, left of node 0; -1 is an empty slot
        [3, -1, 1, -1]
    """

    rows: int
    cols: int
    topology: Topology = "rectangular"
    periodic: bool = False

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            size = getattr(self, name)
            if isinstance(size, bool) or not hasattr(size, "__index__") or operator.index(size) < 1:
                raise ValueError(f"Grid: {name} must be a positive integer, got {size!r}")
            object.__setattr__(self, name, operator.index(size))  # numpy's integers become Python's
        if self.rows * self.cols > _MAX_NODES:
            raise ValueError(f"Grid: rows * cols must be at most {_MAX_NODES} nodes, got {self.rows} * {self.cols}")
        if self.topology not in ("rectangular", "hexagonal"):
            raise ValueError(f"Grid: topology must be 'rectangular' or 'hexagonal', got {self.topology!r}")
        if not isinstance(self.periodic, bool):
            raise ValueError(f"Grid: periodic must be True or False, got {self.periodic!r}")
        if self.periodic and self.topology == "hexagonal" and self.rows % 2:
            raise ValueError(
                "Grid: rows must be even for a periodic hexagonal grid (its rows are shifted by turns), "
                f"got {self.rows}"
            )
        _ = self._key  # cached before torch.compile traces the grid

    @functools.cached_property
    def _key(self) -> str:
        """The grid as a string, the only kind of attribute that torch.compile always treats as a constant."""
        return json.dumps([self.rows, self.cols, self.topology, self.periodic])

    @property
    def num_nodes(self) -> int:
        """Number of nodes K = R * C."""
        return self.rows * self.cols

    def describe(self) -> str:
        """Describes size and topology for people: ``3 x 4 nodes, hexagonal, periodic``."""
        return f"{self.rows} x {self.cols} nodes, {self.topology}{', periodic' if self.periodic else ''}"

    @property
    def num_slots(self) -> int:
        """Number of neighbor slots S per node in the ops and losses, 4 or 6; at a border some are empty."""
        return self.connectivities[0]

    @property
    def connectivities(self) -> tuple[Connectivity, ...]:
        """The possible numbers of neighbors of a node away from borders: (4, 8) on rectangles, (6,) on hexagons."""
        return (4, 8) if self.topology == "rectangular" else (6,)

    def neighbors(self, device: torch.device | str = "cpu", connectivity: Connectivity | None = None) -> Tensor:
        """Returns the neighbor table, int64 ``[K, S]``: the node in each slot, or -1 if the slot is empty.

        The relation is symmetric. On periodic sides of 1 or 2 a slot that would repeat an earlier neighbor, or
        the node itself, is empty, so that every neighbor counts once. The table is computed once per device: do not
        write to it.

        Args:
            device: the device of the table.
            connectivity: S, one of :attr:`connectivities`; by default the first, which the ops use. Slots of rectangles
                are up, down, right, left, where up is row + 1; with 8 neighbors, up-right, up-left, down-right,
                down-left follow. Slots of hexagons are right, left, up-right, up-left, down-right, down-left.

        Raises:
            ValueError: a connectivity that the topology does not have.

        Example:
            >>> Grid(3, 3).neighbors(connectivity=8)[4].tolist()
            [7, 1, 5, 3, 8, 6, 2, 0]
        """
        return _neighbor_table(self._key, self._check_connectivity(connectivity), torch.device(device))

    def window(self, radius: int, device: torch.device | str = "cpu") -> Window:
        """Returns the nodes within ``radius`` of each node, the node itself included.

        On rectangles these are the nodes whose row and column both differ by at most ``radius``, (2 radius + 1)^2 of
        them; on hexagons those at most ``radius`` steps away, 3 radius (radius + 1) + 1. Slots go by row offset, then
        by column, ascending. Steps longer than the map have no slot; on a periodic grid, neither do steps that would
        repeat a node. A radius of the map's size thus gives each node all nodes, once. The pattern is computed once per
        device: do not write to it.

        Raises:
            ValueError: a radius that is not an integer of at least 0.

        Example:
            >>> Grid(5, 5).window(1).offsets[0].tolist()
            [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 0], [0, 1], [1, -1], [1, 0], [1, 1]]
        """
        if isinstance(radius, bool) or not hasattr(radius, "__index__") or operator.index(radius) < 0:
            raise ValueError(f"Grid.window: radius must be an integer of at least 0, got {radius!r}")
        radius = operator.index(radius)  # a number that torch.compile treats as a constant
        key = self._key, radius, torch.device(device)
        return Window(_window_offsets(*key), _window_mirror(*key), _window_center(self._key, radius))

    def window_nodes(self, radius: int, nodes: Tensor) -> Tensor:
        """Returns the nodes in the windows of ``nodes`` (int64 ``[...]``): int64 ``[..., W]``, -1 for absent slots."""
        offsets = self.window(radius, nodes.device).offsets
        row, col = self.row_col(nodes)
        steps = offsets[row % 2]
        return self._nodes_at(row[..., None] + steps[..., 0], col[..., None] + steps[..., 1])

    def degree(self, device: torch.device | str = "cpu", connectivity: Connectivity | None = None) -> Tensor:
        """Returns the number of neighbors of each node, int64 ``[K]``.

        The table is computed once per device: do not write to it. ``connectivity`` is that of :meth:`neighbors`.
        """
        return _degree_table(self._key, self._check_connectivity(connectivity), torch.device(device))

    def coordinates(self) -> Tensor:
        """Returns the position of each node in the plane, float64 ``[K, 2]`` as (x, y); neighbors are at distance 1."""
        row, col = self.row_col(torch.arange(self.num_nodes, device="cpu"))
        x, y = col.double(), row.double()
        if self.topology == "hexagonal":
            x, y = x + 0.5 * (row % 2), y * _HEXAGON_ROW_SPACING
        return torch.stack([x, y], dim=1)

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Returns the Euclidean distance on the grid between nodes ``a`` and ``b`` (int64, broadcast), float64.

        On a periodic grid it is that of the shortest way around.
        """
        # Computed in whole rows and half columns, so that neighbors are at a distance of exactly 1.
        (row, col), (other_row, other_col) = self.row_col(a), self.row_col(b)
        hexagonal = self.topology == "hexagonal"
        shift = (row % 2 - other_row % 2) if hexagonal else 0
        rows, half_cols = (row - other_row).abs(), (2 * (col - other_col) + shift).abs()
        if self.periodic:
            rows, half_cols = torch.minimum(rows, self.rows - rows), torch.minimum(half_cols, 2 * self.cols - half_cols)
        squared_spacing = 0.75 if hexagonal else 1.0
        return (squared_spacing * rows.double().square() + 0.25 * half_cols.double().square()).sqrt()

    def axis_distances(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
        """Returns the few distances along each axis of the plane, and their indices for all pairs of rows and columns.

        The squares of the distances along both axes add up to the square of :meth:`distance`. The distance between two
        columns depends on how the two rows are shifted: there are P alternating kinds of rows, one on rectangles and
        two on hexagons, and row r is of kind r % P. A function of the distance has to be computed for O(R + C) values
        instead of O(R^2 + C^2). The tables are computed once per device: do not write to them.

        Returns:
            The distances, float64 ``[U]``, possibly with duplicates, and two int64 tables of indices into them: for
            pairs of rows, ``[R, R]``, and for pairs of columns, ``[P, P, C, C]``, where the distance from column b of
            rows of kind p to column c of rows of kind q is at ``[p, q, c, b]``.

        Example:
            >>> distances, rows, columns = Grid(2, 2, "hexagonal").axis_distances()
            >>> distances[columns][0, 1].tolist()  # from columns of even rows to columns of odd rows
            [[0.5, 0.5], [1.5, 0.5]]
        """
        key = self._key, torch.device(device)
        return _step_distances(*key), _row_steps(*key), _column_steps(*key)

    def are_neighbors(self, a: Tensor, b: Tensor, connectivity: Connectivity | None = None) -> Tensor:
        """Whether nodes ``a`` and ``b`` (int64, the same shape) are neighbors, bool.

        ``connectivity`` is that of :meth:`neighbors`.
        """
        return (self.neighbors(a.device, connectivity)[a] == b[..., None]).any(dim=-1)

    def row_col(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the row and column of each node index (int64, any shape)."""
        return torch.div(index, self.cols, rounding_mode="floor"), index % self.cols

    def _check_connectivity(self, connectivity: Connectivity | None) -> Connectivity:
        if connectivity is None:
            return self.connectivities[0]
        is_integer = hasattr(connectivity, "__index__") and not isinstance(connectivity, bool)
        if not is_integer or connectivity not in self.connectivities:
            expected = " or ".join(str(number) for number in self.connectivities)
            raise ValueError(f"Grid: connectivity must be {expected} on a {self.topology} grid, got {connectivity!r}")
        return operator.index(connectivity)  # type: ignore[return-value]  # numpy's integers become Python's

    def _nodes_at(self, row: Tensor, col: Tensor) -> Tensor:
        """Returns the nodes at these rows and columns, which wrap around on a periodic grid; -1 outside an open one."""
        if self.periodic:
            row, col = row % self.rows, col % self.cols
        inside = (row >= 0) & (row < self.rows) & (col >= 0) & (col < self.cols)
        return torch.where(inside, row * self.cols + col, -1)


def _constant_in_graphs(function: Function) -> Function:
    """Lets a compiled graph store the function's result instead of computing it at each step.

    ``torch.compiler.assume_constant_result`` does the same, but it imports the whole compiler, which would make up much
    of the time and memory of ``import somvae_ext``.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant_in_graphs
def _neighbor_table(key: str, connectivity: int, device: torch.device) -> Tensor:
    return _table(device, _build_neighbor_table, key, connectivity)


@_constant_in_graphs
def _degree_table(key: str, connectivity: int, device: torch.device) -> Tensor:
    return _table(device, _build_degree_table, key, connectivity)


@_constant_in_graphs
def _step_distances(key: str, device: torch.device) -> Tensor:
    return _axis_table(device, _build_step_distances, key)


@_constant_in_graphs
def _row_steps(key: str, device: torch.device) -> Tensor:
    return _axis_table(device, _build_row_steps, key)


@_constant_in_graphs
def _column_steps(key: str, device: torch.device) -> Tensor:
    return _axis_table(device, _build_column_steps, key)


@_constant_in_graphs
def _window_offsets(key: str, radius: int, device: torch.device) -> Tensor:
    return _table(device, _build_window_offsets, key, radius)


@_constant_in_graphs
def _window_mirror(key: str, radius: int, device: torch.device) -> Tensor:
    return _table(device, _build_window_mirror, key, radius)


@_constant_in_graphs
def _window_center(key: str, radius: int) -> int:
    return _window_steps(key, radius).index((0, 0))


def _axis_table(device: torch.device, build: Callable[..., Tensor], key: str) -> Tensor:
    rows, cols, *_ = json.loads(key)
    if max(rows, cols) > _LONGEST_CACHED_SIDE:
        return build(key).to(device)
    return _table(device, build, key)


def _table(device: torch.device, build: Callable[..., Tensor], *arguments: str | int) -> Tensor:
    probe = torch.empty(0, device=device)
    if type(probe) is not Tensor:  # under FakeTensorMode and similar modes, whose tensors must not outlive them
        return build(*arguments).to(probe.device)
    return _cached_table(probe.device, build, *arguments)  # unlike "cuda", probe.device has an index


@functools.lru_cache(maxsize=64)
def _cached_table(device: torch.device, build: Callable[..., Tensor], *arguments: str | int) -> Tensor:
    with torch.inference_mode(False):  # a table made in inference mode could never be saved for a backward pass
        return build(*arguments).to(device)


def _build_degree_table(key: str, connectivity: int) -> Tensor:
    return (_build_neighbor_table(key, connectivity) >= 0).sum(dim=1)


def _build_neighbor_table(key: str, connectivity: int) -> Tensor:
    grid = Grid(*json.loads(key))
    nodes = torch.arange(grid.num_nodes, device="cpu")  # whatever torch's default device is
    row, col = grid.row_col(nodes)
    if grid.topology == "rectangular":
        steps = (*_RECTANGULAR, *_DIAGONAL)[:connectivity]
        offsets = torch.tensor(steps, device="cpu").expand(grid.num_nodes, -1, -1)
    else:
        offsets = torch.tensor([_HEXAGONAL_EVEN, _HEXAGONAL_ODD], device="cpu")[row % 2]
    table = grid._nodes_at(row[:, None] + offsets[..., 0], col[:, None] + offsets[..., 1])
    repeated = table == nodes[:, None]
    for slot in range(1, connectivity):
        repeated[:, slot] |= (table[:, :slot] == table[:, slot : slot + 1]).any(dim=1)
    return table.masked_fill(repeated, -1)


def _build_step_distances(key: str) -> Tensor:
    """Returns the distances of 0 to R - 1 rows, then of 0 to 2 C - 1 half columns."""
    grid = Grid(*json.loads(key))
    spacing = _HEXAGON_ROW_SPACING if grid.topology == "hexagonal" else 1.0
    rows = spacing * torch.arange(grid.rows, dtype=torch.float64, device="cpu")
    return torch.cat([rows, 0.5 * torch.arange(2 * grid.cols, dtype=torch.float64, device="cpu")])


def _build_row_steps(key: str) -> Tensor:
    grid = Grid(*json.loads(key))
    row = torch.arange(grid.rows, device="cpu")
    steps = (row[:, None] - row).abs()
    return torch.minimum(steps, grid.rows - steps) if grid.periodic else steps


def _build_column_steps(key: str) -> Tensor:
    grid = Grid(*json.loads(key))
    halves = torch.arange(2 if grid.topology == "hexagonal" else 1, device="cpu")[:, None]
    halves = halves + 2 * torch.arange(grid.cols, device="cpu")  # (P, C)
    steps = (halves[None, :, :, None] - halves[:, None, None, :]).abs()
    return grid.rows + (torch.minimum(steps, 2 * grid.cols - steps) if grid.periodic else steps)


def _build_window_offsets(key: str, radius: int) -> Tensor:
    steps = _window_steps(key, radius)
    hexagonal = Grid(*json.loads(key)).topology == "hexagonal"

    def offset(parity: int, up: int, along: int) -> tuple[int, int]:
        # A step to a row of the other shift gains or loses half a column.
        shift = parity - (parity + up) % 2 if hexagonal else 0
        return up, (along + shift) // 2

    return torch.tensor([[offset(parity, *step) for step in steps] for parity in (0, 1)], device="cpu")


def _build_window_mirror(key: str, radius: int) -> Tensor:
    grid, steps = Grid(*json.loads(key)), _window_steps(key, radius)
    slot_of = {step: slot for slot, step in enumerate(steps)}
    return torch.tensor([slot_of[_nearest_image(grid, -up, -along)] for up, along in steps], device="cpu")


@functools.lru_cache(maxsize=64)
def _window_steps(key: str, radius: int) -> list[tuple[int, int]]:
    """Returns the steps, as (rows, half columns), from any node to the nodes of its window, in slot order."""
    grid = Grid(*json.loads(key))
    radius = min(radius, grid.rows + grid.cols)  # no two nodes are further apart
    steps = []
    for up in range(-radius, radius + 1):
        if grid.topology == "rectangular":
            reach, first, last = 2 * radius, 2 * (1 - grid.cols), 2 * (grid.cols - 1)
        else:  # each row takes a step, which leads half a column to either side
            reach = 2 * radius - abs(up)
            first, last = 2 * (1 - grid.cols) - up % 2, 2 * (grid.cols - 1) + up % 2
        for along in range(-reach, reach + 1, 2):
            if grid.periodic:
                is_in_window = _nearest_image(grid, up, along) == (up, along)
            else:
                is_in_window = abs(up) < grid.rows and first <= along <= last
            if is_in_window:
                steps.append((up, along))
    return steps


def _nearest_image(grid: Grid, up: int, along: int) -> tuple[int, int]:
    """Returns the shortest of the steps (rows, half columns) that lead to the same node of a periodic grid.

    The fewest rows and the fewest columns take the fewest steps on hexagons, too. Of two equally short steps in
    opposite directions it is the one up, or right.
    """
    if not grid.periodic:
        return up, along
    rows, half_cols = grid.rows, 2 * grid.cols
    return (up + (rows - 1) // 2) % rows - (rows - 1) // 2, (along + grid.cols - 1) % half_cols - (grid.cols - 1)
