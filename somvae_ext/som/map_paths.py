"""Ways from node to node along a map, as long as the distances between the codes that they lead through."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext.extras import needed_by
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.som.metrics import Metric, WinnerSearch
from somvae_ext.som.rows import ArrayRows

# Distances of a block of starts to all nodes (32 MiB of float64).
_BLOCK_VALUES = 1 << 22
# How far paths are sought at first, in medians of an edge's length: on a map in order most second units are a few steps
# away. What is farther is sought over the whole map; more reaches cost more than they save.
_REACHES = (4.0, 16.0)
# Under these a step is never longer than a way around it.
_WITH_TRIANGLE_INEQUALITY = ("euclidean", "manhattan", "chebyshev", "minkowski")


def combined_error(
    rows: ArrayRows, codebook: Tensor, grid: Grid, metric: Metric, *, connectivity: Connectivity | None = None
) -> float:
    """The combined error of :func:`somvae_ext.evaluation.combined_error` of rows that come in chunks, by their weights.

    A map of one node has no second unit; its error is the quantization error.

    Args:
        rows: at least one, whose weights are normalized.
        codebook: codes ``[K, D]`` in the grid's order, dtype and device of the rows.
        grid: of K nodes.
        metric: the map's own.
        connectivity: neighbours of a node, by default as many as the grid can have.
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
    """Length of the shortest path on the map between two nodes.

    An edge joins grid neighbours and is as long as the distance of their codes. Each pair is sought once, pairs of one
    start together (Dijkstra 1959, by scipy), so that memory stays within O(N + K S) and a block. Where a step is never
    longer than a way around it, as under the Euclidean metric, neighbours need no search.

    Args:
        codebook: finite codes ``[K, D]`` in the grid's order.
        grid: of K nodes.
        metric: d; of cosine and of functions, too, paths are sums of it.
        start, end: nodes, int64 ``[N]``.
        connectivity: neighbours of a node, by default as many as the grid can have.

    Returns:
        float64 ``[N]`` on the device of ``start``; 0 from a node to itself.

    Raises:
        ModuleNotFoundError: scipy, which the extra ``som`` brings, is missing.
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
        found = _search_paths(codes, grid, metric, first[distinct].cpu(), last[distinct].cpu(), connectivity)
        lengths[distinct] = found.to(lengths.device)
    return lengths[pair_of_row]


def _search_paths(
    codes: Tensor, grid: Grid, metric: Metric, start: Tensor, end: Tensor, connectivity: Connectivity
) -> Tensor:
    """Shortest paths between pairs of nodes on the CPU, float64 ``[P]``."""
    with needed_by("the combined error"):
        from scipy.sparse import csr_matrix  # type: ignore[import-untyped]
        from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

    neighbors = grid.neighbors("cpu", connectivity)
    node, slot = (neighbors >= 0).nonzero(as_tuple=True)
    neighbor = neighbors[node, slot]
    edges = metric.pair_distances(codes, node.to(codes.device), neighbor.to(codes.device)).cpu()
    # Edges of length 0 stay: of a sparse graph only what is not stored is no edge.
    graph = csr_matrix((edges.numpy(), (node.numpy(), neighbor.numpy())), shape=(grid.num_nodes, grid.num_nodes))
    median, block = edges.median().item(), max(1, _BLOCK_VALUES // grid.num_nodes)
    lengths = edges.new_full((len(start),), torch.inf)
    for limit in (*(steps * median for steps in _REACHES), torch.inf):
        pending = lengths.isinf().nonzero()[:, 0]
        starts, row_of_pair = start[pending].unique(return_inverse=True)
        for first, of_block in enumerate(starts.split(block)):
            reached = torch.from_numpy(dijkstra(graph, indices=of_block.numpy(), limit=limit))
            row = row_of_pair - first * block
            is_own = (row >= 0) & (row < len(of_block))
            lengths[pending[is_own]] = reached[row[is_own], end[pending[is_own]]]
    return lengths
