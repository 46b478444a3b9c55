"""How much a node takes from the rows that another node won: functions of their distance on the grid and of sigma."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid

Neighborhood = Callable[[Tensor, float], Tensor]

_LARGEST_SIGMA = 1e100

# Distances on the grid and widths come rounded: where a neighbourhood ends, they are equal up to this share. Different
# distances on a grid with sides of up to 5,000 nodes differ by more.
_SLACK = 1e-9

# Values of a tile of weights between nodes (32 MiB of float64).
_TILE_VALUES = 1 << 22


def gaussian(distance: Tensor, sigma: float) -> Tensor:
    """exp(-d^2 / (2 sigma^2)): the usual Gaussian neighbourhood (Kohonen 1990)."""
    return torch.exp(-distance.square() / (2 * sigma**2))


def fastsom_gaussian(distance: Tensor, sigma: float) -> Tensor:
    """exp(-d^2 / sigma^2), without the 2: the form of the PyPI library fastsom, narrower by a factor of sqrt(2)."""
    return torch.exp(-distance.square() / sigma**2)


def bubble(distance: Tensor, sigma: float) -> Tensor:
    """1 up to a distance of sigma, 0 beyond: a disc of nodes that all count alike (Kohonen 1990)."""
    return (distance <= sigma * (1 + _SLACK)).to(distance)


def triangle(distance: Tensor, sigma: float) -> Tensor:
    """max(0, 1 - d / sigma): a cone."""
    weights = 1 - distance / sigma
    # A weight that is only rounding would still be all that an otherwise untouched node has.
    return torch.where(weights > _SLACK, weights, 0)


def mexican_hat(distance: Tensor, sigma: float) -> Tensor:
    """(1 - d^2 / sigma^2) exp(-d^2 / (2 sigma^2)): pushes away what is farther than sigma; for steps, not for means."""
    squared = distance.square() / sigma**2
    return (1 - squared) * torch.exp(-squared / 2)


# Neighbourhoods that are a product of one function of the distance along the rows and the same along the columns. The
# square bubble is a function of these two distances, not of the distance on the grid.
_SEPARABLE: dict[str, Neighborhood] = {"gaussian": gaussian, "fastsom_gaussian": fastsom_gaussian, "square": bubble}
_RADIAL: dict[str, Neighborhood] = {"bubble": bubble, "triangle": triangle, "mexican_hat": mexican_hat}

NEIGHBORHOOD_NAMES = (*_SEPARABLE, *_RADIAL)

# Neighbourhoods with negative values, which cannot weight a mean.
SIGNED_NEIGHBORHOODS = ("mexican_hat",)


def check_neighborhood(owner: str, neighborhood: str | Neighborhood) -> None:
    """
    Raises:
        ValueError: neither one of ``NEIGHBORHOOD_NAMES`` nor a function.
    """
    is_known = neighborhood in NEIGHBORHOOD_NAMES if isinstance(neighborhood, str) else callable(neighborhood)
    if not is_known:
        names = ", ".join(repr(name) for name in NEIGHBORHOOD_NAMES)
        raise ValueError(f"{owner}: neighborhood must be one of {names} or a function, got {neighborhood!r}")


def check_sigma(owner: str, sigma: float) -> None:
    """
    Raises:
        ValueError: sigma is not a finite number above 0.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"{owner}: sigma must be a finite number above 0, got {sigma}")
    if not 1 / _LARGEST_SIGMA <= sigma <= _LARGEST_SIGMA:  # its square is a number, too
        raise ValueError(f"{owner}: sigma must be from {1 / _LARGEST_SIGMA} to {_LARGEST_SIGMA}, got {sigma}")


def axis_weights(
    grid: Grid,
    neighborhood: str | Neighborhood,
    sigma: float | Tensor,
    device: torch.device | str = "cpu",
    *,
    negligible: float | None = None,
) -> ops.AxisWeights | None:
    """The neighbourhood as weights along the grid's two axes, if it separates; otherwise None.

    exp(-(dx^2 + dy^2) / s) is exp(-dx^2 / s) exp(-dy^2 / s), on rectangles and, with dx from rows of either shift, on
    hexagons, around the edges of periodic grids too. A width that is a tensor on the device is not waited for. Weights
    up to ``negligible`` along an axis are exactly zero, which costs the ops nothing.
    """
    if not isinstance(neighborhood, str) or neighborhood not in _SEPARABLE:
        return None
    distances, rows, columns = grid.axis_distances(device)
    weights = _SEPARABLE[neighborhood](distances, sigma)  # type: ignore[arg-type]
    if negligible is not None:
        weights = F.threshold(weights, negligible, 0.0)
    return ops.AxisWeights(
        *(weights.index_select(0, places.flatten()).view(places.shape) for places in (rows, columns))
    )


def neighborhood_sums(
    values: Tensor, count: Tensor, grid: Grid, neighborhood: str | Neighborhood, sigma: float
) -> Tensor:
    """sum_u h(u, v) values_u for each node v, ``[K, J]``; nodes u whose ``count`` is 0 hold zeros and are left out."""
    return neighborhood_update(torch.zeros_like(values), values, count, grid, neighborhood, sigma, rate=1.0)


def neighborhood_update(
    codebook: Tensor,
    total: Tensor,
    count: Tensor,
    grid: Grid,
    neighborhood: str | Neighborhood,
    sigma: float,
    *,
    rate: float | None = None,
) -> Tensor:
    """The codes after each has taken its share of the rows that all nodes won, see :func:`~somvae_ext.ops.som_update`.

    Where the neighbourhood separates this costs O(K (R + C) D), otherwise O(K U D) for the U nodes that won rows, in
    tiles of nodes; nothing of size K x K is held.

    Args:
        codebook: ``[K, D]`` in the grid's order.
        total: sums of the rows that each node won, ``[K, D]``.
        count: their number, ``[K]``, or where values are missing their number per feature, ``[K, D]``.
        grid: of K nodes.
        neighborhood: one of ``NEIGHBORHOOD_NAMES``, or a function from distances on the grid ``[M, U]``, float64, of M
            nodes to U winners, and sigma to weights ``[M, U]``.
        sigma: its width in units of the grid, above 0.
        rate: as for :func:`~somvae_ext.ops.som_update`: None for the batch rule, alpha / N for a mini-batch step.

    Raises:
        ValueError: sigma out of range, or a function that does not give finite weights ``[M, U]``.
    """
    check_sigma("SOM", sigma)
    axes = axis_weights(grid, neighborhood, sigma, codebook.device)
    if axes is not None:
        return ops.som_update(codebook, total, count, axes, rate=rate)
    weigh = _RADIAL[neighborhood] if isinstance(neighborhood, str) else neighborhood
    winners = count.reshape(len(count), -1).any(dim=1).nonzero()[:, 0]
    total, count = total[winners], count[winners]
    nodes = torch.arange(grid.num_nodes, device=codebook.device)
    codes = torch.empty_like(codebook)
    for tile in nodes.split(max(1, _TILE_VALUES // max(1, len(winners)))):
        weights = weigh(grid.distance(tile[:, None], winners), sigma)
        if weights.shape != (len(tile), len(winners)):
            raise ValueError(
                f"SOM: neighborhood must give [M, U] = {[len(tile), len(winners)]}, got {list(weights.shape)}"
            )
        weights = weights.double()
        if not weights.isfinite().all():
            raise ValueError(f"SOM: neighborhood must give finite weights, got NaN or infinity at sigma = {sigma}")
        codes[tile] = ops.som_update(codebook[tile], total, count, weights, rate=rate)
    return codes
