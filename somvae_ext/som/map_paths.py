"""Shortest paths between nodes along a map, whose edges are as long as the distances between their codes."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext.extras import needed_by
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.som.metrics import Metric, WinnerSearch
from somvae_ext.som.rows import ArrayRows

# Values of a block of distances from start nodes to all nodes (32 MiB of float64).
_BLOCK_VALUES = 1 << 22
# Limits of the first searches, in median edge lengths: on an ordered map most second best units are a few steps away.
# Paths longer than the last limit are searched over the whole map; more limits cost more than they save.
_REACHES = (4.0, 16.0)
# Metrics with the triangle inequality, under which an edge is never longer than a path around it.
_WITH_TRIANGLE_INEQUALITY = ("euclidean", "manhattan", "chebyshev", "minkowski")


def combined_error(
    rows: ArrayRows, codebook: Tensor, grid: Grid, metric: Metric, *, connectivity: Connectivity | None = None
) -> float:
    """Computes the combined error, see :func:`somvae_ext.evaluation.combined_error`, of weighted rows in chunks.

    A map of one node has no second best unit; its error is the quantization error.

    Args:
        rows: at least one row, with normalized weights.
        codebook: codes ``[K, D]`` in the grid's order, dtype and device of the rows.
        grid: grid of K nodes.
        metric: the map's metric.
        connectivity: number of neighbors per node, by default the largest that the grid has.
    """
    search = WinnerSearch(codebook, grid, metric)
    k = min(2, grid.num_nodes)
    chunks = [(search.search(chunk.x, k, has_gaps=rows.has_gaps), chunk.weight) for chunk in rows.chunks()]
    distance = torch.cat([match.distance.reshape(-1, k) for match, _ in chunks])[:, 0].double()
    nodes = torch.cat([match.index.reshape(-1, k) for match, _ in chunks])
    error = distance + path_lengths(codebook, grid, metric, nodes[:, 0], nodes[:, -1], connectivity=connectivity)
    weights = [weight for _, weight in chunks if weight is not None]
    if not weights:
        return error.mean().item()
    weight = torch.cat(weights)
    return (weight @ error / weight.sum()).item()


def path_lengths(
    codebook: Tensor,
    grid: Grid,
    metric: Metric,
    start: Tensor,
    end: Tensor,
    *,
    connectivity: Connectivity | None = None,
) -> Tensor:
    """Computes the length of the shortest path on the map between each pair of nodes.

    An edge joins grid neighbors and is as long as the distance between their codes. Each distinct pair is searched
    once, together with all pairs of the same start (Dijkstra 1959, by scipy); memory is O(N + K S) and one block. Under
    metrics with the triangle inequality, such as the Euclidean, neighbors need no search.

    Args:
        codebook: finite codes ``[K, D]`` in the grid's order.
        grid: grid of K nodes.
        metric: the metric d; paths are sums of it, for cosine and functions too.
        start, end: nodes, int64 ``[N]``.
        connectivity: number of neighbors per node, by default the largest that the grid has.

    Returns:
        float64 ``[N]`` on the device of ``start``; 0 from a node to itself.

    Raises:
        ModuleNotFoundError: scipy (extra ``som``) is missing.
    """
    connectivity = grid.connectivities[-1] if connectivity is None else connectivity
    codes = codebook.detach().double()
    pairs, pair_of_row = (start * grid.num_nodes + end).unique(return_inverse=True)
    first, last = pairs // grid.num_nodes, pairs % grid.num_nodes
    lengths = codes.new_zeros(len(pairs))
    distinct = first != last
    if metric.distance in _WITH_TRIANGLE_INEQUALITY:
        direct = grid.are_neighbors(first, last, connectivity)
        lengths[direct] = metric.pair_distances(codes, first[direct], last[direct])
        distinct &= ~direct
    if distinct.any():
        paths = _search_paths(codes, grid, metric, first[distinct].cpu(), last[distinct].cpu(), connectivity)
        lengths[distinct] = paths.to(lengths.device)
    return lengths[pair_of_row]


def _search_paths(
    codes: Tensor, grid: Grid, metric: Metric, start: Tensor, end: Tensor, connectivity: Connectivity
) -> Tensor:
    """Lengths of the shortest paths between pairs of nodes on the CPU, float64 ``[P]``."""
    with needed_by("the combined error"):
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
        from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

    neighbors = grid.neighbors("cpu", connectivity)
    node, slot = (neighbors >= 0).nonzero(as_tuple=True)
    neighbor = neighbors[node, slot]
    edges = metric.pair_distances(codes, node.to(codes.device), neighbor.to(codes.device)).cpu()
    # Edges of length 0 stay: in a sparse graph, only entries that are not stored are missing edges.
    graph = csr_matrix((edges.numpy(), (node.numpy(), neighbor.numpy())), shape=(grid.num_nodes, grid.num_nodes))
    median, block = edges.median().item(), max(1, _BLOCK_VALUES // grid.num_nodes)
    lengths = edges.new_full((len(start),), torch.inf)
    for limit in (*(steps * median for steps in _REACHES), torch.inf):
        pending = lengths.isinf().nonzero()[:, 0]
        starts, row_of_pair = start[pending].unique(return_inverse=True)
        for number, block_starts in enumerate(starts.split(block)):
            reached = torch.from_numpy(dijkstra(graph, indices=block_starts.numpy(), limit=limit))
            row = row_of_pair - number * block
            in_block = (row >= 0) & (row < len(block_starts))
            lengths[pending[in_block]] = reached[row[in_block], end[pending[in_block]]]
    return lengths
