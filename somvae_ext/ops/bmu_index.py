"""Exact best-matching-unit search that leaves out most of a map.

The search itself, its bounds and the proof that they lose nothing are in ``csrc/bmu/map_index.h``. Here the codebook is
prepared for it, in float64, and it is decided whether it pays.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.grid import Grid
from somvae_ext.ops import _arguments
from somvae_ext.ops.bmu import BestMatch, bmu

_TILE = 16  # codes per tile and tiles per group; either fills one panel of the kernels
_LARGEST_RANK = 64

# Below these an index cannot earn what building it and trying it out costs, a twentieth of the search at most.
_FEWEST_UNITS = 1024
_FEWEST_ROWS = 1 << 15
_PROBE_ROWS = 256
# A map whose neighbours are this far apart, compared with any two codes, is not smooth enough to try.
_ROUGHEST = 0.5
# Time per multiply-add of projecting, of screening and of scores, in those of a plain search: fitted to maps of MNIST
# and Fashion-MNIST, where screening is mostly tests and lists.
_COST = (1.5, 4.0, 4.0)


class BMUIndex:
    """A codebook prepared for many searches of its best matching units on the CPU.

    On a trained map, whose neighbouring codes lie close to each other, most codes are ruled out by bounds: several
    times faster than :func:`~somvae_ext.ops.bmu` from 64 x 64 nodes on, and more so the larger the map. Results are
    those of ``bmu`` to the last bit, ties included. Where pruning does not pay (small maps, few rows, codes that are
    not smooth over the grid, CUDA, a build without the native library) searches go through ``bmu`` itself.

    Args:
        codebook: codes in row-major order of the grid, ``[K, D]``; float32, float64, float16 or bfloat16. The index
            keeps a packed copy, so it must not change afterwards: make a new index after every update.
        grid: the map's grid, of K nodes; only its rows and columns matter.

    Raises:
        ValueError: wrong rank or dtype, or K other than ``grid.num_nodes``.

    Example:
        >>> import torch
        >>> from somvae_ext import Grid
        >>> index = BMUIndex(torch.tensor([[0.0], [1.0], [5.0], [7.0]]), Grid(2, 2))
        >>> index.search(torch.tensor([[0.9], [4.0]])).index.tolist()
        [1, 2]
    """

    def __init__(self, codebook: Tensor, grid: Grid) -> None:
        _arguments.check_floating("BMUIndex", codebook=codebook)
        _arguments.check_shape("BMUIndex", "codebook", codebook, "K D", {"K": grid.num_nodes})
        self.codebook = codebook
        self.grid = grid
        self._version = codebook._version
        self._parts: list[Tensor] | None = None
        self._rows_searched = 0
        self._pays: dict[int, bool] = {}  # by k

    def search(self, z: Tensor, k: int = 1, hint: Tensor | None = None, prune: bool | None = None) -> BestMatch:
        """Finds what ``bmu(z, codebook, k)`` finds, distances differentiable in ``z`` and the codebook as there.

        Args:
            z: rows, ``[N, D]``, dtype and device of the codebook.
            k: 1 for the best unit, 2 for the best and the second best.
            hint: a unit that is likely to be near each row, such as its winner of the epoch before, int64 ``[N]``.
                Saves looking for a place to begin; a wrong hint costs time, never the result.
            prune: True to prune, False not to; by default it is decided by how rough the map is and a trial on a few
                rows, once per index.

        Raises:
            ValueError: as :func:`~somvae_ext.ops.bmu`; a hint of another shape or dtype, or outside [0, K);
                ``prune=True`` where pruning is impossible.
            RuntimeError: the codebook was changed in place since the index was made.
        """
        if self.codebook._version != self._version:
            raise RuntimeError(
                "BMUIndex: the codebook was changed in place since the index was made; make a new BMUIndex of it"
            )
        if hint is not None:
            _arguments.check_shape("BMUIndex.search", "hint", hint, "N", {"N": len(z)})
            _arguments.check_index("BMUIndex.search", "hint", hint, self.grid.num_nodes)
        if prune and not self._possible(z):
            raise ValueError(
                "BMUIndex.search: prune must not be True here; pruning needs the native library, a codebook on the "
                f"CPU without NaN or infinite codes, and K and D of at least 1; got {list(self.codebook.shape)} on "
                f"{self.codebook.device}"
            )
        if prune if prune is not None else self._decide(z, k, hint):
            distance, index, _ = torch.ops.somvae_ext.bmu_pruned(z, self.codebook, self._built(), hint, k)
            return BestMatch(distance, index)
        return bmu(z, self.codebook, k)

    def prunes(self, k: int = 1) -> bool | None:
        """Whether searches of the ``k`` best units are pruned; None while that is undecided."""
        return self._pays.get(k)

    def _possible(self, z: Tensor) -> bool:
        return (
            _native.available
            and self.codebook.device.type == z.device.type == "cpu"
            and self.codebook.dtype == z.dtype
            and self.codebook.numel() > 0
            and bool(self.codebook.detach().abs().amax() <= _largest_value(self.codebook))
        )

    def _decide(self, z: Tensor, k: int, hint: Tensor | None) -> bool:
        """Whether pruning pays. Finding out takes a twentieth of a plain search at most."""
        units = self.grid.num_nodes
        if k not in self._pays:
            self._rows_searched += len(z)
            if units < _FEWEST_UNITS or self._rows_searched < _FEWEST_ROWS or len(z) < _PROBE_ROWS:
                return False
            if not self._possible(z) or roughness(self.codebook.detach(), self.grid) > _ROUGHEST:
                self._pays[k] = False
            else:
                some = slice(None, None, len(z) // _PROBE_ROWS)
                self._pays[k] = self.work(z[some], k, None if hint is None else hint[some]) < 0.9
        return self._pays[k]

    def work(self, z: Tensor, k: int = 1, hint: Tensor | None = None) -> float:
        """What a pruned search of these rows is estimated to take, as a share of a plain one."""
        with torch.no_grad():
            _, _, work = torch.ops.somvae_ext.bmu_pruned(z, self.codebook, self._built(), hint, k)
        cost = sum(weight * steps for weight, steps in zip(_COST, work.tolist(), strict=True))
        return cost / max(1, len(z) * self.codebook.numel())

    def _built(self) -> list[Tensor]:
        if self._parts is None:
            self._parts = list(_index_parts(self.codebook.detach(), self.grid))
        return self._parts


class _IndexParts(NamedTuple):
    """The tensors of ``MapIndex`` in ``csrc/bmu/map_index.h``, which says what they hold."""

    tiles: Tensor
    tile_of: Tensor
    packed: Tensor
    mean: Tensor
    basis: Tensor
    projections: Tensor
    tile_boxes: Tensor
    group_boxes: Tensor
    tile_centers: Tensor
    group_centers: Tensor
    errors: Tensor


def _index_parts(codebook: Tensor, grid: Grid) -> _IndexParts:
    codes = codebook.to(torch.promote_types(codebook.dtype, torch.float32)).contiguous()
    tiles = tile_table(grid)
    groups = tiles.view(-1, _TILE * _TILE)
    tile_of = torch.empty(len(codes), dtype=torch.int32)
    present = tiles >= 0
    tile_of[tiles[present]] = torch.arange(len(tiles), dtype=torch.int32).repeat_interleave(present.sum(dim=1))

    mean = codes.mean(dim=0, dtype=torch.float64).to(codes.dtype)
    basis = principal_directions(codes, rank_of(codes.shape[1]))
    rank = basis.shape[1]
    projections, code_error = _project(codes, mean, basis)
    gram = basis.double().T @ basis.double()
    basis_error = torch.linalg.matrix_norm(gram - torch.eye(rank, dtype=torch.float64)).item() * (1 + 1e-6)
    columns = torch.zeros(codes.shape[1], _padded(rank), dtype=codes.dtype)
    columns[:, :rank] = basis
    tile_boxes, tile_centers = _boxes(projections, tiles)
    group_boxes, group_centers = _boxes(projections, groups)
    return _IndexParts(
        tiles=tiles.int(),
        tile_of=tile_of,
        packed=_panels(codes, tiles),
        mean=mean,
        basis=columns.view(codes.shape[1], -1, _TILE).transpose(0, 1).contiguous(),
        projections=_panels(projections, tiles),
        tile_boxes=_in_panels(tile_boxes),
        group_boxes=_in_panels(group_boxes),
        tile_centers=_in_panels(tile_centers),
        group_centers=_in_panels(group_centers),
        errors=torch.tensor([basis_error, code_error, torch.finfo(codes.dtype).max / 64], dtype=torch.float64),
    )


def rank_of(dim: int) -> int:
    """Directions to project on: enough for the bounds to be close, few enough to be cheap. All of a few features."""
    return dim if dim <= _TILE else min(_LARGEST_RANK, _padded(int(1.5 * math.sqrt(dim))))


def tile_table(grid: Grid) -> Tensor:
    """Nodes of tiles of grid neighbours, int64 ``[tiles, 16]``, -1 for none.

    Tiles are 4 x 4 nodes, or longer in narrow grids; 16 tiles after each other are the 4 x 4 tiles of a group.
    """
    narrow = min(grid.rows, grid.cols)
    short = 4 if narrow > 2 else narrow
    shape = (short, _TILE // short) if grid.rows <= grid.cols else (_TILE // short, short)
    nodes = torch.arange(grid.num_nodes).view(grid.rows, grid.cols, 1)
    return _blocks(_blocks(nodes, *shape), *shape).view(-1, _TILE)


def _blocks(items: Tensor, height: int, width: int) -> Tensor:
    """[rows, cols, n] -> [rows / height, cols / width, height * width * n], missing ones -1."""
    rows, cols, n = items.shape
    down, across = -(-rows // height), -(-cols // width)
    padded = items.new_full((down * height, across * width, n), -1)
    padded[:rows, :cols] = items
    return padded.view(down, height, across, width, n).transpose(1, 2).reshape(down, across, height * width * n)


def roughness(codebook: Tensor, grid: Grid) -> float:
    """Mean squared distance of neighbouring codes over that of any two: 0 for a smooth map, 1 for a random one."""
    map_of_codes = codebook.view(grid.rows, grid.cols, -1)
    row_step, col_step = max(1, grid.rows // 32), max(1, grid.cols // 32)
    here = map_of_codes[:-1:row_step, ::col_step] if grid.rows > 1 else map_of_codes[:, :-1:col_step]
    there = map_of_codes[1::row_step, ::col_step] if grid.rows > 1 else map_of_codes[:, 1::col_step]
    here, there = here.double(), there.double()
    spread = 2 * here.flatten(0, 1).var(dim=0, correction=0).sum()
    return (((there - here).square().sum(dim=2).mean()) / spread).nan_to_num(1.0).item()


def principal_directions(codes: Tensor, rank: int) -> Tensor:
    """Near enough the codebook's first principal directions, ``[D, rank]``, orthonormal: by subspace iteration.

    Any orthonormal basis is right; this one makes the bounds close. Of few features, simply all.
    """
    dim = codes.shape[1]
    if rank == dim:
        return torch.eye(dim, dtype=codes.dtype)
    some = codes[:: max(1, len(codes) // 1024)]
    some = some - some.mean(dim=0)
    start = torch.randn(dim, rank + 8, dtype=codes.dtype, generator=torch.Generator().manual_seed(0))
    directions = torch.linalg.qr(start).Q
    for _ in range(3):
        directions = torch.linalg.qr(some.T @ (some @ directions)).Q
    main = torch.linalg.eigh(torch.cov((some @ directions).T.double())).eigenvectors[:, -rank:].flip(1)
    return torch.linalg.qr(directions.double() @ main).Q.to(codes.dtype)


def _project(codes: Tensor, mean: Tensor, basis: Tensor) -> tuple[Tensor, float]:
    """``[K, 2 + rank]``: q_lo, q_hi and p of each code, and the largest error of a p (``map_index.h``).

    In float64, whose own errors (of sums of D products, of |y|^2 - |p|^2) are bounded by ``exact`` times |y|, |y|^2.
    """
    dim, rank = basis.shape
    exact = 4 * (dim + rank + 8) * 2.0**-53
    u = torch.finfo(codes.dtype).eps / 2
    directions, origin = basis.double(), mean.double()
    defect = torch.linalg.matrix_norm(directions.T @ directions - torch.eye(rank, dtype=torch.float64))
    projections = codes.new_empty(len(codes), 2 + rank)
    error = 0.0
    rows = max(1, (1 << 21) // dim)  # 16 MiB of float64 at a time
    for block, out in zip(codes.split(rows), projections.split(rows), strict=True):
        y = block.double() - origin
        p = y @ directions
        squared_norm = torch.linalg.vector_norm(y, dim=1).square()
        squared_p = torch.linalg.vector_norm(p, dim=1).square()
        uncertain = (exact * math.sqrt(rank) + defect) * squared_norm
        squared_q = squared_norm - squared_p
        out[:, 0] = (squared_q - uncertain).clamp_min(0).sqrt() * (1 - 2 * u)
        out[:, 1] = (squared_q + uncertain).clamp_min(0).sqrt() * (1 + 2 * u)
        out[:, 2:] = p
        rounded = torch.linalg.vector_norm(p - out[:, 2:], dim=1)
        error = max(error, (rounded + exact * math.sqrt(rank) * squared_norm.sqrt()).max().item())
    return projections, error


def _gather(values: Tensor, tiles: Tensor) -> Tensor:
    """``[tiles, members, ...]``, NaN where there is none."""
    members = values[tiles.clamp_min(0)]
    missing = tiles < 0
    return members.masked_fill_(missing[..., None], torch.nan) if missing.any() else members


def _panels(values: Tensor, tiles: Tensor) -> Tensor:
    """A panel of 16 codes per tile: ``[tiles, features, 16]``."""
    return _gather(values, tiles).transpose(1, 2).contiguous()


def _in_panels(values: Tensor) -> Tensor:
    """Rows 16 at a time: ``[rows / 16, features, 16]``, missing ones NaN."""
    padded = values.new_full((_padded(len(values)), values.shape[1]), torch.nan)
    padded[: len(values)] = values
    return padded.view(-1, _TILE, values.shape[1]).transpose(1, 2).contiguous()


def _boxes(projections: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    """The box around each tile's projections, ``[tiles, 2 + 2 rank]``, and their center ``[tiles, rank]``."""
    members = _gather(projections, tiles)
    missing = members.isnan()
    lo = members.masked_fill(missing, torch.inf).amin(dim=1)
    hi = members.masked_fill(missing, -torch.inf).amax(dim=1)
    box = torch.cat([lo[:, :1], hi[:, 1:2], torch.stack([lo[:, 2:], hi[:, 2:]], dim=2).flatten(1)], dim=1)
    empty = (tiles < 0).all(dim=1)[:, None]  # never visited
    return box.masked_fill(empty, torch.nan), (lo[:, 2:] / 2 + hi[:, 2:] / 2).masked_fill(empty, torch.nan)


def _padded(count: int) -> int:
    return -(-count // _TILE) * _TILE


def _largest_value(codebook: Tensor) -> float:
    """Values of codes up to which squared distances stay far from overflow."""
    dtype = torch.promote_types(codebook.dtype, torch.float32)
    return math.sqrt(torch.finfo(dtype).max / (64 * codebook.shape[1]))
