"""How well a map's codes fit the data, and how well its grid keeps their order."""

from __future__ import annotations

import math

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext import ops
from somvae_ext.arrays import as_floats, as_indices
from somvae_ext.config_checks import check_integer
from somvae_ext.evaluation._arguments import as_connectivity, as_metric, as_rows_and_codes, as_rows_and_codes_of_grid
from somvae_ext.extras import needed_by
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.som import (
    Distance,
    Metric,
    MetricName,
    Neighborhood,
    WinnerSearch,
    neighborhood_sums,
    path_lengths,
)

# Values of a tile of distances between rows and codes (32 MiB of float64).
_TILE_VALUES = 1 << 22


def quantization_error(
    x: ArrayLike | Tensor, codebook: ArrayLike | Tensor, metric: MetricName | Distance | Metric = "euclidean"
) -> float:
    """Computes the mean distance of the rows to their best matching units (Kohonen 2001, section 2.10).

    The error is mean_n min_k d(x_n, e_k). Distances are those of the metric itself, not squared, so Euclidean ones are
    in the units of the data. For a SOM-VAE, pass encodings.

    Args:
        x: rows ``[N, D]``, an array-like or a tensor on any device. If its dtype and that of ``codebook`` differ, both
            are promoted: to float64 if either is float64 or holds integers of more than 16 bits.
        codebook: codes ``[K, D]``, as ``x``. Tensors must be on the same device.
        metric: the map's metric: a name, a function, or a :class:`~somvae_ext.som.Metric`.

    Raises:
        ValueError: no rows, arguments that are not numbers or have wrong shapes, or anything that
            :func:`somvae_ext.ops.bmu` or the metric rejects.

    Example:
        >>> quantization_error([[3.0, 4.0], [1.0, 0.0]], [[0.0, 0.0]])
        3.0
    """
    rows, codes = as_rows_and_codes("quantization_error", x, codebook)
    search = WinnerSearch(codes, Grid(1, len(codes)), as_metric(metric))
    return search.search(rows).distance.double().mean().item()


def topographic_error(
    x: ArrayLike | Tensor,
    codebook: ArrayLike | Tensor,
    grid: Grid,
    metric: MetricName | Distance | Metric = "euclidean",
    *,
    connectivity: Connectivity | None = None,
) -> float:
    """Computes the share of rows whose best and second best units are not neighbors on the grid (Kiviluoto 1996).

    The error is 0 if the map keeps the order of the data. Always state the connectivity: on rectangular grids the error
    of 4 neighbors is never below that of 8, and often twice as large.

    Args:
        x: rows ``[N, D]``, as for :func:`quantization_error`.
        codebook: codes ``[K, D]`` in the grid's order.
        grid: the map's grid, of K = R * C nodes, at least two.
        metric: as for :func:`quantization_error`.
        connectivity: number of neighbors per node. On rectangles 8, diagonal ones included (the default, as in other
            libraries), or 4, those of the SOM-VAE's loss. On hexagons 6.

    Raises:
        ValueError: no rows, a grid of one node or of another size than the codebook, a connectivity that the grid does
            not have, or anything that :func:`quantization_error` rejects.

    Example:
        >>> codebook = [[0.0], [2.0], [1.0]]  # codes 0 and 1 are grid neighbors, 0 and 2 are not
        >>> topographic_error([[0.1], [1.9]], codebook, Grid(1, 3))
        0.5
    """
    rows, codes = as_rows_and_codes_of_grid("topographic_error", x, codebook, grid)
    if grid.num_nodes < 2:
        raise ValueError(f"topographic_error: grid must have at least 2 nodes, got {grid.rows} x {grid.cols}")
    best, second = WinnerSearch(codes, grid, as_metric(metric)).search(rows, k=2).index.unbind(dim=1)
    return 1 - grid.are_neighbors(best, second, as_connectivity(grid, connectivity)).double().mean().item()


def combined_error(
    x: ArrayLike | Tensor,
    codebook: ArrayLike | Tensor,
    grid: Grid,
    metric: MetricName | Distance | Metric = "euclidean",
    *,
    connectivity: Connectivity | None = None,
) -> float:
    """Computes fit and order of a map in one number (Kaski and Lagus 1996, "Comparing self-organizing maps").

    The combined error is the mean over the rows of the distance to the best matching unit plus the length of the
    shortest path along the map from there to the second best unit: mean_n (d(x_n, e_c(n)) + min_path sum_i
    d(e_i, e_(i+1))), in the units of the data. An edge of a path joins grid neighbors and is as long as the distance
    between their codes. Where the map folds, the path from the best to the second best unit is long. Unlike the
    quantization error, the combined error need not fall as a map grows; compare it for equal metrics and connectivities
    only.

    Args:
        x: rows ``[N, D]``, as for :func:`quantization_error`.
        codebook: codes ``[K, D]`` in the grid's order, finite.
        grid: the map's grid, of K = R * C nodes, at least two.
        metric: as for :func:`quantization_error`.
        connectivity: number of neighbors per node, as for :func:`topographic_error`: 8 or 4 on rectangles, 6 on
            hexagons.

    Raises:
        ValueError: no rows, a grid of one node or of another size than the codebook, codes that are not finite, a
            connectivity that the grid does not have, or anything that :func:`quantization_error` rejects.
        ModuleNotFoundError: scipy (extra ``som``) is missing.

    Example:
        >>> codebook = [[0.0], [2.0], [1.0]]  # from code 0 to code 2, the path leads through code 1
        >>> combined_error([[0.25]], codebook, Grid(1, 3))  # .25 to code 0, then 2 to code 1 and 1 to code 2
        3.25
    """
    rows, codes = as_rows_and_codes_of_grid("combined_error", x, codebook, grid)
    if grid.num_nodes < 2:
        raise ValueError(
            f"combined_error: grid must have at least 2 nodes, because its paths lead to a second best one, got "
            f"{grid.rows} x {grid.cols}; take quantization_error"
        )
    if not codes.isfinite().all():
        raise ValueError("combined_error: codebook must hold finite values, got NaN or infinity")
    metric, connectivity = as_metric(metric), as_connectivity(grid, connectivity)
    grid.degree(connectivity=connectivity)  # raises if the grid does not have it
    distance, index = WinnerSearch(codes, grid, metric).search(rows, k=2)
    best, second = index.unbind(dim=1)
    path = path_lengths(codes, grid, metric, best, second, connectivity=connectivity)
    return (distance[:, 0].double() + path).mean().item()


def distortion(
    x: ArrayLike | Tensor,
    codebook: ArrayLike | Tensor,
    grid: Grid,
    sigma: float,
    neighborhood: str | Neighborhood = "gaussian",
    metric: MetricName | Distance | Metric = "euclidean",
) -> float:
    """Computes the distortion of a map, mean_n sum_v h(c(n), v) d(x_n, e_v)^2 (Lampinen and Oja 1992).

    The distortion measures fit and order in one number. With the Euclidean metric, the update of the batch rule
    minimizes it for fixed winners; choosing the nearest codes as winners may increase it (Heskes 1999). Compare it for
    equal neighborhoods and metrics only. Metrics other than the Euclidean need all N x K distances, computed in
    tiles of rows.

    Args:
        x: rows ``[N, D]``, as for :func:`quantization_error`.
        codebook: codes ``[K, D]`` in the grid's order.
        grid: the map's grid, of K nodes.
        sigma: width of the neighborhood h, in units of the grid.
        neighborhood: a name or a function, as for :func:`~somvae_ext.som.neighborhood_update`.
        metric: d, which also finds the winners c(n); as for :func:`quantization_error`.

    Raises:
        ValueError: no rows, a grid of another size than the codebook, a width that is not above 0, or anything that
            :func:`quantization_error` rejects.

    Example:
        >>> distortion([[1.0]], [[0.0]], Grid(1, 1), sigma=1.0)
        1.0
    """
    rows, codes = as_rows_and_codes_of_grid("distortion", x, codebook, grid)
    metric = as_metric(metric)
    winner = WinnerSearch(codes, grid, metric).search(rows).index
    rows, codes = rows.double(), codes.double()
    if metric.distance == "euclidean":
        metric = metric.with_weights_like(codes)
        total = _squared_distortion(
            metric.scale_features(rows), metric.scale_features(codes), winner, grid, sigma, neighborhood
        )
    else:
        total = _tiled_distortion(rows, codes, winner, grid, sigma, neighborhood, metric)
    return total / len(rows)


@needed_by("trustworthiness")
def trustworthiness(
    x: ArrayLike | Tensor,
    index: ArrayLike | Tensor,
    grid: Grid,
    *,
    num_neighbors: int = 5,
    metric: MetricName | Distance | Metric = "euclidean",
) -> float:
    """Computes to what extent rows that are close on the map are close in the data (Venna and Kaski 2001).

    The trustworthiness, by scikit-learn, is 1 if no neighbor of a row on the map is far from it in the data. Rows of
    one node have the same position on the map, so few rows per node say little. Memory is O(N^2).

    Args:
        x: rows ``[N, D]``, finite, as for :func:`quantization_error`.
        index: the node of each row, integers ``[N]``.
        grid: the map's grid, not periodic, because a torus does not fit into the plane.
        num_neighbors: number of neighbors to compare, below N / 2.
        metric: metric of the data, as for :func:`quantization_error`; on the map, distances are those in the plane.

    Raises:
        ValueError: a periodic grid, wrong shapes, values that are not finite, nodes that are not integers or outside
            the grid, or ``num_neighbors`` out of range.
    """
    from sklearn.manifold import trustworthiness as sklearn_trustworthiness  # type: ignore[import-untyped]

    if grid.periodic:
        raise ValueError("trustworthiness: grid must not be periodic, because a torus has no place in the plane")
    rows = as_floats("trustworthiness", "x", x).double()
    if rows.dim() != 2 or not rows.isfinite().all():
        got = f"shape {list(rows.shape)}" if rows.dim() != 2 else "NaN or infinity"
        raise ValueError(f"trustworthiness: x must hold finite rows [N, D], got {got}")
    nodes = as_indices("trustworthiness", "index", index, grid.num_nodes)
    if nodes.dim() != 1 or len(nodes) != len(rows):
        raise ValueError(f"trustworthiness: index must have shape [N] = {[len(rows)]}, got {list(nodes.shape)}")
    num_neighbors = check_integer("trustworthiness", "num_neighbors", num_neighbors)
    if num_neighbors >= len(rows) / 2:
        raise ValueError(f"trustworthiness: num_neighbors must be below N / 2 = {len(rows) / 2:g}, got {num_neighbors}")
    distances = as_metric(metric).pairwise(rows, rows).cpu().numpy()
    place = grid.coordinates()[nodes.cpu()].numpy()
    return float(sklearn_trustworthiness(distances, place, n_neighbors=num_neighbors, metric="precomputed"))


def _squared_distortion(
    x: Tensor, codebook: Tensor, winner: Tensor, grid: Grid, sigma: float, neighborhood: str | Neighborhood
) -> float:
    """sum_n sum_v h(c(n), v) |x_n - e_v|^2, in float64, from sums over the rows of each winner."""
    # By winner, sum_n |x_n - e|^2 = sum_n |x_n|^2 - 2 e sum_n x_n + n |e|^2; centered, so that few digits cancel.
    mean = codebook.mean(dim=0)
    rows, codes = x - mean, codebook - mean
    total, count = ops.segment_sum(rows, winner, grid.num_nodes)
    squares = ops.segment_sum(rows.square().sum(dim=1, keepdim=True), winner, grid.num_nodes).sum
    winner_sums = torch.cat([total, squares, count[:, None].double()], dim=1)
    smoothed = neighborhood_sums(winner_sums, count, grid, neighborhood, sigma)
    sums, squares, weight = smoothed[:, :-2], smoothed[:, -2], smoothed[:, -1]
    per_node = squares - 2 * (codes * sums).sum(dim=1) + weight * codes.square().sum(dim=1)
    return per_node.sum().item()


def _tiled_distortion(
    x: Tensor,
    codebook: Tensor,
    winner: Tensor,
    grid: Grid,
    sigma: float,
    neighborhood: str | Neighborhood,
    metric: Metric,
) -> float:
    """sum_n sum_v h(c(n), v) d(x_n, e_v)^2 in any metric, in float64, in tiles of rows."""
    if x.isnan().any():  # the metric would treat NaN as missing values and leave them out
        return math.nan
    total = 0.0
    # Rows sorted by winner, so that a tile has few winners.
    for tile in winner.argsort(stable=True).split(max(1, _TILE_VALUES // grid.num_nodes)):
        winners, winner_slot = winner[tile].unique(return_inverse=True)
        # The weights h of each winner to all nodes are its indicator, smoothed.
        indicator = x.new_zeros(grid.num_nodes, len(winners))
        indicator[winners, torch.arange(len(winners), device=x.device)] = 1
        weights = neighborhood_sums(indicator, indicator.sum(dim=1), grid, neighborhood, sigma)
        total += (weights.T[winner_slot] * metric.pairwise(x[tile], codebook).square()).sum().item()
    return total
