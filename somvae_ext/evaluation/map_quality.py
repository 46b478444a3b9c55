"""How well a map's codes fit the data, and how well its grid keeps their order."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid
from somvae_ext.som import Distance, Metric, MetricName, Neighborhood, WinnerSearch, smoothed


def quantization_error(x: Tensor, codebook: Tensor, metric: MetricName | Distance | Metric = "euclidean") -> float:
    """Mean distance of the rows to their best matching units: mean_n min_k d(x_n, e_k) (Kohonen 2001, section 2.10).

    Distances are those of the metric itself, not squared, so that the Euclidean one is in the units of the data. For a
    SOM-VAE give it encodings.

    Args:
        x: rows ``[N, D]``, floating.
        codebook: codes ``[K, D]``, of the same dtype and device.
        metric: the map's own: a name, a function, or a :class:`~somvae_ext.som.Metric`.

    Raises:
        ValueError: no rows, or arguments that :func:`somvae_ext.ops.bmu` or the metric refuses.

    Example:
        >>> import torch
        >>> quantization_error(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.zeros(1, 2))
        3.0
    """
    _check_rows("quantization_error", x)
    search = WinnerSearch(codebook.detach(), Grid(1, len(codebook)), _metric(metric))
    return search.find(x.detach()).distance.double().mean().item()


def topographic_error(
    x: Tensor, codebook: Tensor, grid: Grid, metric: MetricName | Distance | Metric = "euclidean"
) -> float:
    """Share of the rows whose best and second best units are not neighbours on the grid (Kiviluoto 1996).

    0 where the map keeps the order of the data. Units that share a corner only are no neighbours on a rectangular grid.

    Args:
        x: rows ``[N, D]``, floating.
        codebook: codes ``[K, D]`` in the grid's order, of the same dtype and device.
        grid: the map's grid, of K = R * C nodes, at least two.
        metric: as for :func:`quantization_error`.

    Raises:
        ValueError: no rows, a grid of one node or of another size than the codebook, or arguments that
            :func:`somvae_ext.ops.bmu` or the metric refuses.

    Example:
        >>> import torch
        >>> codebook = torch.tensor([[0.0], [2.0], [1.0]])  # codes 0 and 1 are grid neighbours, 0 and 2 are not
        >>> topographic_error(torch.tensor([[0.1], [1.9]]), codebook, Grid(1, 3))
        0.5
    """
    _check_rows("topographic_error", x)
    _check_codebook("topographic_error", codebook, grid)
    if grid.num_nodes < 2:
        raise ValueError(f"topographic_error: grid must have at least 2 nodes, got {grid.rows} x {grid.cols}")
    best, second = WinnerSearch(codebook.detach(), grid, _metric(metric)).find(x.detach(), k=2).index.unbind(dim=1)
    return 1 - grid.adjacent(best, second).double().mean().item()


def distortion(
    x: Tensor, codebook: Tensor, grid: Grid, sigma: float, neighborhood: str | Neighborhood = "gaussian"
) -> float:
    """What the batch rule makes smaller: mean_n sum_v h(c(n), v) |x_n - e_v|^2 (Lampinen and Oja 1992).

    Quantization and order in one number; compare it at equal neighbourhoods only.

    Args:
        x: rows ``[N, D]``, floating.
        codebook: codes ``[K, D]`` in the grid's order, of the same dtype and device.
        grid: the map's grid, of K nodes.
        sigma: width of the neighbourhood h, in units of the grid.
        neighborhood: a name or a function, as for :func:`~somvae_ext.som.pull`.

    Raises:
        ValueError: no rows, a grid of another size than the codebook, a width that is not above 0, or arguments that
            :func:`somvae_ext.ops.bmu` refuses.

    Example:
        >>> import torch
        >>> distortion(torch.tensor([[1.0]]), torch.zeros(1, 1), Grid(1, 1), sigma=1.0)
        1.0
    """
    _check_rows("distortion", x)
    _check_codebook("distortion", codebook, grid)
    winner = ops.bmu(x.detach(), codebook.detach()).index
    # sum_n |x_n - e|^2 = sum_n |x_n|^2 - 2 e sum_n x_n + n |e|^2, by winner; about the mean, where it costs few digits.
    mean = codebook.detach().double().mean(dim=0)
    rows, codes = x.detach().double() - mean, codebook.detach().double() - mean
    total, count = ops.segment_sum(rows, winner, grid.num_nodes)
    squares = ops.segment_sum(rows.square().sum(dim=1, keepdim=True), winner, grid.num_nodes).sum
    of_winners = torch.cat([total, squares, count[:, None].double()], dim=1)
    near = smoothed(of_winners, count, grid, neighborhood, sigma)
    sums, squares, weight = near[:, :-2], near[:, -2], near[:, -1]
    per_node = squares - 2 * (codes * sums).sum(dim=1) + weight * codes.square().sum(dim=1)
    return per_node.sum().item() / len(x)


def trustworthiness(x: Tensor, index: Tensor, grid: Grid, *, num_neighbors: int = 5) -> float:
    """How far rows that are close on the map are close in the data (Venna and Kaski 2001), by scikit-learn.

    1 where none of a row's neighbours on the map is far from it in the data. Rows of one node are at the same place on
    the map, so that few rows per node say little. Takes O(N^2) memory.

    Args:
        x: rows ``[N, D]``.
        index: the node of each row, int64 ``[N]``.
        grid: the map's grid, not periodic: a torus has no place in the plane.
        num_neighbors: rows to compare, below N / 2.

    Raises:
        ValueError: a periodic grid, other shapes, or ``num_neighbors`` out of range.
    """
    from sklearn.manifold import trustworthiness as of_embedding  # type: ignore[import-untyped]

    if grid.periodic:
        raise ValueError("trustworthiness: grid must not be periodic, because a torus has no place in the plane")
    if index.dim() != 1 or len(index) != len(x):
        raise ValueError(f"trustworthiness: index must have shape [N] = {[len(x)]}, got {list(index.shape)}")
    if not 1 <= num_neighbors < len(x) / 2:
        raise ValueError(f"trustworthiness: num_neighbors must be at least 1 and below N / 2, got {num_neighbors}")
    place = grid.coordinates()[index.cpu()]
    return float(of_embedding(x.detach().cpu().numpy(), place.numpy(), n_neighbors=num_neighbors))


def _metric(metric: MetricName | Distance | Metric) -> Metric:
    return metric if isinstance(metric, Metric) else Metric(metric)


def _check_rows(metric: str, x: Tensor) -> None:
    if len(x) == 0:
        raise ValueError(f"{metric}: x must hold at least one row, got shape {list(x.shape)}")


def _check_codebook(metric: str, codebook: Tensor, grid: Grid) -> None:
    if len(codebook) != grid.num_nodes:
        raise ValueError(
            f"{metric}: codebook must hold a code for each of the grid's {grid.num_nodes} nodes, got {len(codebook)}"
        )
