"""Exact best-matching-unit search that skips most of a map.

The search, its bounds and the proof that they miss no winner are in ``csrc/bmu/pruned/map_index.h``. This module
prepares the codebook for the search, in float64, and decides whether pruning pays.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.grid import Grid
from somvae_ext.ops import _arguments
from somvae_ext.ops._bmu import BestMatch, bmu

_TILE = 16  # codes per tile, and tiles per group; either number fills one panel of the kernels
_LARGEST_RANK = 64
_BLOCK_VALUES = 1 << 20  # values processed at a time, in float64

# Below these limits an index cannot pay for building and trying it, which may cost a twentieth of the search at most.
_FEWEST_NODES = 1024
_LEAST_WORK = 1.6e10  # rows * nodes * (D + 32) of all searches so far; 32 is the cost of a score besides its features
_PROBE_ROWS = 128
_LARGEST_DIM = 1 << 20  # the error bounds of longer sums are too loose to be useful
# A map whose _roughness exceeds this is not smooth enough to try.
_ROUGHEST = 0.5
# Time per multiply-add of projection, screening and scoring, relative to a multiply-add of a plain search. Fitted to
# maps of MNIST and Fashion-MNIST, on which screening is mostly tests and lists.
_COST = (1.5, 4.0, 4.0)


class BMUIndex:
    """A codebook prepared for many best-matching-unit searches on the CPU.

    On a trained map, whose neighboring codes lie close to each other, bounds rule out most codes. From 64 x 64 nodes
    on, a search is several times faster than :func:`~somvae_ext.ops.bmu`, and more so the larger the map. Results equal
    those of ``bmu`` bit for bit, ties included. Where pruning does not pay (small maps, few rows, codes that are not
    smooth over the grid, CUDA, a build without the native library) searches call ``bmu`` itself.

    Args:
        codebook: codes in row-major order of the grid, ``[K, D]``; float32, float64, float16 or bfloat16. The index
            keeps a packed copy, so the codebook must not change afterwards: make a new index after every update. A
            copied or unpickled index is a new index of the codebook as it is then.
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
        _arguments.check_tensors("BMUIndex", codebook=codebook)
        _arguments.check_grid("BMUIndex", grid)
        _arguments.check_floating("BMUIndex", codebook=codebook)
        _arguments.check_shape("BMUIndex", "codebook", codebook, "K D", {"K": grid.num_nodes})
        self.codebook = codebook
        self.grid = grid
        self._version = _version(codebook)
        self._parts: list[Tensor] | None = None
        self._rows_searched = 0
        self._pays: dict[int, bool] = {}  # by k

    def __reduce__(self) -> tuple[type[BMUIndex], tuple[Tensor, Grid]]:
        # A copy is a new index: the version counter of a copied codebook, on which the check for changes rests, starts
        # again, and whether pruning is possible depends on the build in the process that loads the index.
        return type(self), (self.codebook, self.grid)

    def search(self, z: Tensor, k: int = 1, hint: Tensor | None = None, prune: bool | None = None) -> BestMatch:
        """Finds the best matching units of rows, with the results and gradients of ``bmu(z, codebook, k)``.

        Args:
            z: rows, ``[N, D]``, in the dtype and on the device of the codebook.
            k: 1 for the nearest code, 2 for the nearest two.
            hint: a node that is likely to be near each row, such as its winner in the previous epoch, int64 ``[N]``.
                It saves the search for a starting point; a wrong hint costs time but never changes the result.
            prune: True to prune, False not to. By default the roughness of the map and a trial on a few rows decide,
                once per index and ``k``.

        Raises:
            ValueError: as :func:`~somvae_ext.ops.bmu`; a hint of another shape or dtype, or outside [0, K);
                ``prune=True`` where pruning is impossible.
            RuntimeError: the codebook was changed in place since the index was made.
        """
        if _version(self.codebook) != self._version:
            raise RuntimeError(
                "BMUIndex: the codebook was changed in place since the index was made; make a new BMUIndex of it"
            )
        _arguments.check_tensors("BMUIndex.search", z=z)
        sizes = {"D": self.codebook.shape[1]}
        _arguments.check_shape("BMUIndex.search", "z", z, "N D", sizes)
        if hint is not None:
            _arguments.check_tensors("BMUIndex.search", hint=hint)
            _arguments.check_shape("BMUIndex.search", "hint", hint, "N", sizes)
            _arguments.check_index("BMUIndex.search", "hint", hint, self.grid.num_nodes)
        if prune and not self._possible(z):
            raise ValueError(
                "BMUIndex.search: prune must not be True here; pruning needs the native library, z and a codebook of "
                f"the same dtype on the CPU, no NaN, infinite or very large codes, and D from 1 to {_LARGEST_DIM}; got "
                f"z {z.dtype} on {z.device}, codebook {self.codebook.dtype} {list(self.codebook.shape)} on "
                f"{self.codebook.device}"
            )
        if prune if prune is not None else self._decide(z, k, hint):
            distance, index, _ = torch.ops.somvae_ext.bmu_pruned(z, self.codebook, self._built(), hint, k)
            return BestMatch(distance, index)
        return bmu(z, self.codebook, k)

    def prunes(self, k: int = 1) -> bool | None:
        """Whether searches for the ``k`` nearest codes are pruned; None while that is undecided."""
        return self._pays.get(k)

    def _possible(self, z: Tensor) -> bool:
        return z.device == self.codebook.device and z.dtype == self.codebook.dtype and self._can_be_built

    @functools.cached_property
    def _can_be_built(self) -> bool:
        return (
            _native.available
            and self.codebook.device.type == "cpu"
            and 1 <= self.codebook.shape[1] <= _LARGEST_DIM
            and self.codebook.detach().abs().amax().item() <= _largest_value(self.codebook)
        )

    def _decide(self, z: Tensor, k: int, hint: Tensor | None) -> bool:
        """Decides whether pruning pays, at the cost of at most a twentieth of a plain search."""
        nodes = self.grid.num_nodes
        if z.device != self.codebook.device or z.dtype != self.codebook.dtype:
            return False  # bmu reports what is wrong with them, or casts them under autocast
        if k not in self._pays:
            self._rows_searched += len(z)
            work = self._rows_searched * nodes * (self.codebook.shape[1] + 32)
            if nodes < _FEWEST_NODES or work < _LEAST_WORK or len(z) < _PROBE_ROWS:
                return False
            if not self._can_be_built or _roughness(self.codebook.detach(), self.grid) > _ROUGHEST:
                self._pays[k] = False
            else:
                probe = slice(None, None, len(z) // _PROBE_ROWS)
                self._pays[k] = self.work(z[probe], k, None if hint is None else hint[probe]) < 0.9
        return self._pays[k]

    def work(self, z: Tensor, k: int = 1, hint: Tensor | None = None) -> float:
        """Estimates the cost of a pruned search of these rows, as a fraction of that of a plain search."""
        with torch.no_grad():
            _, _, work = torch.ops.somvae_ext.bmu_pruned(z, self.codebook, self._built(), hint, k)
        cost = sum(weight * steps for weight, steps in zip(_COST, work.tolist(), strict=True))
        return cost / max(1, len(z) * self.codebook.numel())

    def _built(self) -> list[Tensor]:
        if self._parts is None:
            self._parts = list(_index_parts(self.codebook.detach(), self.grid))
        return self._parts


class _IndexParts(NamedTuple):
    """The tensors of ``MapIndex``, as documented in ``csrc/bmu/pruned/map_index.h``."""

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
    nodes, dim = codebook.shape
    dtype = torch.promote_types(codebook.dtype, torch.float32)
    tiles = _tile_table(grid)
    groups = tiles.view(-1, _TILE * _TILE)
    tile_of = torch.empty(nodes, dtype=torch.int32)
    present = tiles >= 0
    tile_of[tiles[present]] = torch.arange(len(tiles), dtype=torch.int32).repeat_interleave(present.sum(dim=1))

    mean = codebook.mean(dim=0, dtype=torch.float64).to(dtype)
    basis = _principal_directions(codebook, _rank(dim)).to(dtype)
    rank = basis.shape[1]
    basis_error = _basis_error(basis)
    projections, code_error = _project(codebook, mean, basis, basis_error)
    columns = torch.zeros(dim, _round_up_to_tile(rank), dtype=dtype)
    columns[:, :rank] = basis
    tile_boxes, tile_centers = _boxes(projections, tiles)
    group_boxes, group_centers = _boxes(projections, groups)
    return _IndexParts(
        tiles=tiles.int(),
        tile_of=tile_of,
        packed=_panels(codebook, tiles, dtype),
        mean=mean,
        basis=columns.view(dim, -1, _TILE).transpose(0, 1).contiguous(),
        projections=_panels(projections, tiles, dtype),
        tile_boxes=_to_panels(tile_boxes),
        group_boxes=_to_panels(group_boxes),
        tile_centers=_to_panels(tile_centers),
        group_centers=_to_panels(group_centers),
        errors=torch.tensor([basis_error, code_error, torch.finfo(dtype).max / 64], dtype=torch.float64),
    )


def _rank(dim: int) -> int:
    """Number of directions to project on: enough for tight bounds, few enough to be cheap; all D if there are few."""
    return dim if dim <= _TILE else min(_LARGEST_RANK, _round_up_to_tile(int(1.5 * math.sqrt(dim))))


def _tile_table(grid: Grid) -> Tensor:
    """Nodes of each tile of grid neighbors, int64 ``[tiles, 16]``, -1 for none; 16 consecutive tiles form a group."""
    nodes = torch.arange(grid.num_nodes).view(grid.rows, grid.cols, 1)
    return _blocks(_blocks(nodes)).view(-1, _TILE)


def _blocks(items: Tensor) -> Tensor:
    """Gathers blocks of 16 neighbors, padded with -1: 4 x 4, or 2 x 8 or 1 x 16 if the shorter side is 2 or 1.

    ``[rows, cols, n]`` -> ``[rows / height, cols / width, 16 n]``
    """
    rows, cols, n = items.shape
    short = 4 if min(rows, cols) > 2 else min(rows, cols)
    height, width = (short, _TILE // short) if rows <= cols else (_TILE // short, short)
    down, across = -(-rows // height), -(-cols // width)
    padded = items.new_full((down * height, across * width, n), -1)
    padded[:rows, :cols] = items
    return padded.view(down, height, across, width, n).transpose(1, 2).reshape(down, across, height * width * n)


def _roughness(codebook: Tensor, grid: Grid) -> float:
    """Mean squared distance of neighboring codes relative to that of any two: 0 for a smooth map, 1 for a random one.

    It is estimated from a few hundred pairs, enough to tell one from the other.
    """
    along_rows = grid.cols > 1
    lines, starts = (grid.rows, grid.cols - 1) if along_rows else (grid.cols, grid.rows - 1)
    if starts == 0:
        return 1.0
    pair = torch.arange(256) * (lines * starts) // 256
    line, start = pair // starts, pair % starts
    node = line * grid.cols + start if along_rows else start * grid.cols + line
    codes = codebook[node].double()
    neighbors = codebook[node + (1 if along_rows else grid.cols)].double()
    spread = 2 * codes.var(dim=0, correction=0).sum()
    return ((neighbors - codes).square().sum(dim=1).mean() / spread).nan_to_num(1.0).item()


def _principal_directions(codebook: Tensor, rank: int) -> Tensor:
    """Approximates the codebook's first principal directions by subspace iteration: orthonormal, ``[D, rank]``.

    Any orthonormal basis is valid; this one makes the bounds tight. With rank D it is the identity.
    """
    dim = codebook.shape[1]
    if rank == dim:
        return torch.eye(dim, dtype=torch.float64)
    sample = codebook[:: max(1, len(codebook) // 1024)]
    sample = sample.to(torch.promote_types(sample.dtype, torch.float32))
    sample = sample / sample.abs().amax().clamp_min(torch.finfo(sample.dtype).tiny)  # so that no square overflows
    sample = sample - sample.mean(dim=0)
    start = torch.randn(dim, rank + 8, dtype=sample.dtype, generator=torch.Generator().manual_seed(0))
    directions = torch.linalg.qr(start).Q
    for _ in range(3):
        directions = torch.linalg.qr(sample.T @ (sample @ directions)).Q
    reduced = (sample @ directions).double()
    main = torch.linalg.eigh(reduced.T @ reduced).eigenvectors[:, -rank:].flip(1)
    return torch.linalg.qr(directions.double() @ main).Q


def _basis_error(basis: Tensor) -> float:
    """Upper bound of |V'V - I|: computed in float64, plus the rounding error of this computation."""
    dim, rank = basis.shape
    columns = basis.double()
    defect = torch.linalg.matrix_norm(columns.T @ columns - torch.eye(rank, dtype=torch.float64)).item()
    return defect * (1 + 1e-6) + rank * (dim + 4) * 2.0**-52


def _project(codebook: Tensor, mean: Tensor, basis: Tensor, basis_error: float) -> tuple[Tensor, float]:
    """Computes q_lo, q_hi and p of each code, ``[K, 2 + rank]``, and the largest error of a p (``map_index.h``).

    The rounding errors of float64 (in sums of D products, in |y|^2 - |p|^2) are bounded by ``relative_error`` times |y|
    or |y|^2, and by ``underflow`` where squares underflow.
    """
    dim, rank = basis.shape
    relative_error = 4 * (dim + rank + 8) * 2.0**-53 * math.sqrt(rank)
    underflow = 4 * dim * torch.finfo(torch.float64).tiny
    u = torch.finfo(mean.dtype).eps / 2
    directions, origin = basis.double(), mean.double()
    projections = mean.new_empty(len(codebook), 2 + rank)
    error = 0.0
    rows = max(1, _BLOCK_VALUES // dim)
    for block, out in zip(codebook.split(rows), projections.split(rows), strict=True):
        y = block.double() - origin
        p = y @ directions
        squared_norm = torch.linalg.vector_norm(y, dim=1).square()
        squared_q = squared_norm - torch.linalg.vector_norm(p, dim=1).square()
        uncertainty = (relative_error + basis_error) * squared_norm + underflow
        out[:, 0] = (squared_q - uncertainty).clamp_min(0).sqrt() * (1 - 2 * u)
        out[:, 1] = (squared_q + uncertainty).clamp_min(0).sqrt() * (1 + 2 * u)
        out[:, 2:] = p
        rounding = torch.linalg.vector_norm(p - out[:, 2:], dim=1)
        error = max(error, (rounding + relative_error * squared_norm.sqrt()).max().item())
    return projections, error


def _panels(values: Tensor, tiles: Tensor, dtype: torch.dtype) -> Tensor:
    """Packs the 16 codes of each tile into a panel, ``[tiles, features, 16]``."""
    panels = torch.empty(len(tiles), values.shape[1], _TILE, dtype=dtype)
    tiles_at_once = max(1, _BLOCK_VALUES // (_TILE * values.shape[1]))
    for out, members in zip(panels.split(tiles_at_once), tiles.split(tiles_at_once), strict=True):
        out.copy_(_gather(values, members).transpose(1, 2))
    return panels


def _gather(values: Tensor, tiles: Tensor) -> Tensor:
    """Gathers the members of each tile, ``[tiles, members, ...]``, with NaN for missing ones."""
    members = values[tiles.clamp_min(0)]
    missing = tiles < 0
    return members.masked_fill_(missing[..., None], torch.nan) if missing.any() else members


def _to_panels(values: Tensor) -> Tensor:
    """Packs each 16 rows into a panel, ``[rows / 16, features, 16]``, with NaN for missing ones."""
    padded = values.new_full((_round_up_to_tile(len(values)), values.shape[1]), torch.nan)
    padded[: len(values)] = values
    return padded.view(-1, _TILE, values.shape[1]).transpose(1, 2).contiguous()


def _boxes(projections: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
    """The box around each tile's projections, ``[tiles, 2 + 2 rank]``, and its center ``[tiles, rank]``."""
    members = _gather(projections, tiles)
    missing = members.isnan()
    lo = members.masked_fill(missing, torch.inf).amin(dim=1)
    hi = members.masked_fill(missing, -torch.inf).amax(dim=1)
    box = torch.cat([lo[:, :1], hi[:, 1:2], torch.stack([lo[:, 2:], hi[:, 2:]], dim=2).flatten(1)], dim=1)
    empty = (tiles < 0).all(dim=1)[:, None]  # a box of NaN is never visited
    return box.masked_fill(empty, torch.nan), (lo[:, 2:] / 2 + hi[:, 2:] / 2).masked_fill(empty, torch.nan)


def _round_up_to_tile(count: int) -> int:
    return -(-count // _TILE) * _TILE


def _version(codebook: Tensor) -> int | None:
    """A counter of the codebook's in-place changes, or None for an inference tensor, which does not count them."""
    return None if codebook.is_inference() else codebook._version


def _largest_value(codebook: Tensor) -> float:
    """Largest magnitude of the codes' values at which squared distances stay far from overflow."""
    dtype = torch.promote_types(codebook.dtype, torch.float32)
    return math.sqrt(torch.finfo(dtype).max / (64 * codebook.shape[1]))
