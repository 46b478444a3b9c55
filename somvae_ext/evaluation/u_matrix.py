"""How far apart the codes of neighbouring nodes are: where the map has valleys, and where ridges part them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from somvae_ext.grid import Grid


class UMatrix(NamedTuple):
    """Distances between the codes of neighbours, see :func:`u_matrix`. All float64, on the codebook's device.

    ``node`` ``[K]``: mean distance of a node's code to those of its neighbours; 0 for a node without any. ``pairs``
    int64 ``[P, 2]``: each pair of neighbours once, the smaller node first, in ascending order of it. ``pair`` ``[P]``:
    their distance. ``diagonal`` ``[R - 1, C - 1]`` of a rectangular grid: between the four nodes from row r and column
    c on, the mean of the two diagonal distances per unit of length, (\\|e_rc - e_(r+1)(c+1)\\| + \\|e_r(c+1) -
    e_(r+1)c\\|) / (2 sqrt 2); ``[0, 0]`` on hexagons, which meet without corners in between.
    """

    node: Tensor
    pairs: Tensor
    pair: Tensor
    diagonal: Tensor


def u_matrix(codebook: Tensor, grid: Grid) -> UMatrix:
    """The unified distance matrix of a map (Ultsch and Siemon 1990).

    Large values are ridges between groups of alike codes. On a periodic grid the neighbours around the edge count as
    any others. Distances are Euclidean.

    Args:
        codebook: codes ``[K, D]``, floating, in the grid's order.
        grid: the map's grid, of K = R * C nodes.

    Raises:
        ValueError: a codebook that is not of shape ``[K, D]``.

    Example:
        >>> import torch
        >>> distances = u_matrix(torch.tensor([[0.0], [1.0], [4.0]]), Grid(1, 3))
        >>> distances.node.tolist(), distances.pairs.tolist(), distances.pair.tolist()
        ([1.0, 2.0, 3.0], [[0, 1], [1, 2]], [1.0, 3.0])
    """
    if codebook.dim() != 2 or len(codebook) != grid.num_nodes:
        raise ValueError(
            f"u_matrix: codebook must have shape [K, D] with a code for each of the grid's {grid.num_nodes} nodes, got "
            f"{list(codebook.shape)}"
        )
    codes = codebook.detach().double()
    neighbors = grid.neighbors(codes.device)
    # Slot by slot, so that no more than a second codebook is held; both ends of a pair get the same bits.
    by_slot = torch.stack([_distance(codes, codes[slot.clamp(min=0)]) for slot in neighbors.unbind(dim=1)], dim=1)
    by_slot = by_slot.masked_fill(neighbors < 0, 0)
    node = by_slot.sum(dim=1) / grid.degree(codes.device).clamp(min=1)
    first, slot = (neighbors > torch.arange(len(codes), device=codes.device)[:, None]).nonzero(as_tuple=True)
    sheet = codes.view(grid.rows, grid.cols, -1)
    if grid.topology == "rectangular":
        falling = _distance(sheet[:-1, :-1], sheet[1:, 1:])
        rising = _distance(sheet[:-1, 1:], sheet[1:, :-1])
        diagonal = (falling + rising) / (2 * math.sqrt(2))
    else:
        diagonal = codes.new_zeros(0, 0)
    return UMatrix(node, torch.stack([first, neighbors[first, slot]], dim=1), by_slot[first, slot], diagonal)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().sum(dim=-1).sqrt()
