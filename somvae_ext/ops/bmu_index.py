"""Exact best-matching-unit search that leaves out most of a map."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.grid import Grid
from somvae_ext.ops import _arguments
from somvae_ext.ops.bmu import BestMatch, bmu

_TILE = 16  # codes per tile, and tiles per group: both fill one panel of the kernels
_BLOCK_BYTES = 1 << 24  # of float64 values that are worked on at a time


class BMUIndex:
    def __init__(self, codebook: Tensor, grid: Grid) -> None:
        self.codebook, self.grid = codebook, grid
        self._parts = build_parts(codebook.detach(), grid)

    def search(self, z, k=1, hint=None):
        distance, index, self.work = torch.ops.somvae_ext.bmu_pruned(z, self.codebook, self._parts, hint, k)
        return BestMatch(distance, index)


def build_parts(codebook: Tensor, grid: Grid) -> list[Tensor]:
    dtype = torch.float64 if codebook.dtype == torch.float64 else torch.float32
    codes = codebook.to(dtype).contiguous()
    tiles = tile_table(grid)
    basis = principal_directions(codes, rank_for(codes.shape[1]))
    mean = codes.mean(dim=0, dtype=torch.float64).to(dtype)
    projection, q_lo, q_hi, code_error, largest = project(codes, mean, basis)
    projections = torch.cat([q_lo[:, None], q_hi[:, None], projection.to(dtype)], dim=1)
    tile_boxes, tile_centers = boxes(tiles, projections)
    group_boxes, group_centers = boxes(tiles.view(-1, _TILE * _TILE), projections)
    V = basis.double()
    basis_error = torch.linalg.matrix_norm(V.T @ V - torch.eye(V.shape[1], dtype=torch.float64)).item() * (1 + 1e-6)
    limit = torch.finfo(dtype).max / 64
    errors = torch.tensor([basis_error, code_error, limit], dtype=torch.float64)
    tile_of = torch.empty(len(codes), dtype=torch.int32)
    present = tiles >= 0
    tile_of[tiles[present].long()] = torch.arange(len(tiles), dtype=torch.int32)[:, None].expand_as(tiles)[present]
    padded = torch.zeros(codes.shape[1], -(-basis.shape[1] // _TILE) * _TILE, dtype=dtype)
    padded[:, : basis.shape[1]] = basis
    return [
        tiles.int().contiguous(),
        tile_of,
        panels(codes, tiles),
        mean,
        padded.view(codes.shape[1], -1, _TILE).transpose(0, 1).contiguous(),
        panels(projections, tiles),
        in_panels(tile_boxes),
        in_panels(group_boxes),
        in_panels(tile_centers),
        in_panels(group_centers),
        errors,
    ]


def rank_for(dim):
    return dim if dim <= 16 else min(64, -(-int(1.5 * dim**0.5) // 16) * 16)


def tile_table(grid: Grid) -> Tensor:
    """[tiles, 16] nodes, -1: none; a multiple of 16 tiles, 16 after each other are neighbours too."""

    def blocks(rows: int, cols: int, height: int, width: int, ids: Tensor) -> Tensor:
        down, across = -(-rows // height), -(-cols // width)
        padded = torch.full((down * height, across * width, *ids.shape[2:]), -1, dtype=torch.int64)
        padded[:rows, :cols] = ids
        return (
            padded.view(down, height, across, width, *ids.shape[2:])
            .transpose(1, 2)
            .reshape(down, across, height * width, *ids.shape[2:])
        )

    ids = torch.arange(grid.num_nodes).view(grid.rows, grid.cols)
    height = 4 if min(grid.rows, grid.cols) >= 3 else (2 if min(grid.rows, grid.cols) == 2 else 1)
    shape = (height, 16 // height) if grid.rows <= grid.cols else (16 // height, height)
    tiles = blocks(grid.rows, grid.cols, *shape, ids)
    groups = blocks(tiles.shape[0], tiles.shape[1], *shape, tiles)
    return groups.reshape(-1, _TILE)


def principal_directions(codes: Tensor, rank: int) -> Tensor:
    dim = codes.shape[1]
    if rank == dim:
        return torch.eye(dim, dtype=codes.dtype)
    some = codes[:: max(1, len(codes) // 2048)].double()
    some = some - some.mean(dim=0)
    generator = torch.Generator().manual_seed(0)
    V = torch.randn(dim, rank + 8, dtype=torch.float64, generator=generator)
    for _ in range(3):
        V = torch.linalg.qr(some.T @ (some @ V)).Q
    _, _, rotation = torch.linalg.svd(some @ V, full_matrices=False)
    return (V @ rotation[:rank].T).to(codes.dtype)


def project(codes: Tensor, mean: Tensor, basis: Tensor):
    projection, lo, hi = [], [], []
    u = torch.finfo(codes.dtype).eps / 2
    V = basis.double()
    error = largest = 0.0
    for block in codes.split(max(1, _BLOCK_BYTES // (8 * codes.shape[1]))):
        y = block.double() - mean.double()
        p = y @ V
        q = torch.linalg.vector_norm(y - p @ V.T, dim=1)
        norm = torch.linalg.vector_norm(y, dim=1)
        exact = 2.0**-53 * (codes.shape[1] + 64) * norm * V.shape[1] ** 0.5 * 2
        rounded = p.to(codes.dtype)
        d = exact + torch.linalg.vector_norm(p - rounded.double(), dim=1)
        error = max(error, d.max().item())
        largest = max(largest, norm.max().item() ** 2)
        projection.append(rounded)
        lo.append(((q - 2 * exact).clamp_min(0) * (1 - 2 * u)).to(codes.dtype))
        hi.append(((q + 2 * exact) * (1 + 2 * u)).to(codes.dtype))
    return torch.cat(projection), torch.cat(lo), torch.cat(hi), error, largest


def gather(values: Tensor, tiles: Tensor) -> Tensor:
    """[tiles, 16, ...] with NaN where there is no code."""
    return torch.where((tiles >= 0)[..., None], values[tiles.clamp_min(0)], torch.nan)


def panels(values: Tensor, tiles: Tensor) -> Tensor:
    return gather(values, tiles).transpose(1, 2).contiguous()


def boxes(tiles: Tensor, projections: Tensor):
    """[tiles, 2 + 2 rank]: q_lo, q_hi, lo_0, hi_0, ... and centers [tiles, rank]."""
    members = gather(projections, tiles)
    center = members[..., 2:].nanmean(dim=1)
    empty = (tiles < 0).all(dim=1)
    lo = members.nan_to_num(torch.inf).amin(dim=1)
    hi = members.nan_to_num(-torch.inf).amax(dim=1)
    box = torch.cat([lo[:, :1], hi[:, 1:2], torch.stack([lo[:, 2:], hi[:, 2:]], dim=2).flatten(1)], dim=1)
    return box.masked_fill(empty[:, None], torch.nan), center


def in_panels(values: Tensor) -> Tensor:
    count = -(-len(values) // _TILE) * _TILE
    padded = torch.full((count, values.shape[1]), torch.nan, dtype=values.dtype)
    padded[: len(values)] = values
    return padded.view(-1, _TILE, values.shape[1]).transpose(1, 2).contiguous()
