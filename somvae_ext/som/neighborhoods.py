"""Neighborhoods: the weight of rows that another node won, as a function of the distance on the grid and of sigma."""

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

# Grid distances and widths are rounded: at the edge of a neighborhood, they count as equal up to this relative
# difference. Different distances on a grid with sides of up to 5,000 nodes differ by more.
_SLACK = 1e-9

# Values of a tile of weights between nodes (32 MiB of float64).
_TILE_VALUES = 1 << 22


def gaussian(distance: Tensor, sigma: float) -> Tensor:
    """The usual Gaussian neighborhood, exp(-d^2 / (2 sigma^2)) (Kohonen 1990)."""
    return torch.exp(-distance.square() / (2 * sigma**2))


def fastsom_gaussian(distance: Tensor, sigma: float) -> Tensor:
    """The Gaussian of the PyPI library fastsom, exp(-d^2 / sigma^2): without the 2, narrower by a factor of sqrt(2)."""
    return torch.exp(-distance.square() / sigma**2)


def bubble(distance: Tensor, sigma: float) -> Tensor:
    """A disc of nodes with equal weights: 1 up to a distance of sigma, 0 beyond (Kohonen 1990)."""
    return (distance <= sigma * (1 + _SLACK)).to(distance)


def triangle(distance: Tensor, sigma: float) -> Tensor:
    """A cone, max(0, 1 - d / sigma)."""
    weights = 1 - distance / sigma
    # A weight that is only a rounding error would still decide the code of a node that nothing else reaches.
    return torch.where(weights > _SLACK, weights, 0)


def mexican_hat(distance: Tensor, sigma: float) -> Tensor:
    """The Mexican hat, (1 - d^2 / sigma^2) exp(-d^2 / (2 sigma^2)).

    It pushes away nodes farther than sigma. As a weight it is suitable for steps, not for means.
    """
    squared = distance.square() / sigma**2
    return (1 - squared) * torch.exp(-squared / 2)


# Neighborhoods that are the product of one function of the distance along the rows and the same function of that along
# the columns. The square bubble depends on these two distances, not on the distance on the grid.
_SEPARABLE: dict[str, Neighborhood] = {"gaussian": gaussian, "fastsom_gaussian": fastsom_gaussian, "square": bubble}
_RADIAL: dict[str, Neighborhood] = {"bubble": bubble, "triangle": triangle, "mexican_hat": mexican_hat}

NEIGHBORHOOD_NAMES = (*_SEPARABLE, *_RADIAL)

# Neighborhoods with negative values, which cannot weight a mean.
SIGNED_NEIGHBORHOODS = ("mexican_hat",)


def check_neighborhood(owner: str, neighborhood: str | Neighborhood) -> None:
    """Checks a neighborhood.

    Raises:
        ValueError: neither one of ``NEIGHBORHOOD_NAMES`` nor a function.
    """
    is_known = neighborhood in NEIGHBORHOOD_NAMES if isinstance(neighborhood, str) else callable(neighborhood)
    if not is_known:
        names = ", ".join(repr(name) for name in NEIGHBORHOOD_NAMES)
        raise ValueError(f"{owner}: neighborhood must be one of {names} or a function, got {neighborhood!r}")


def check_sigma(owner: str, sigma: float) -> None:
    """Checks the width of a neighborhood.

    Raises:
        ValueError: sigma is not a finite number above 0, or so small or large that its square is not.
    """
    if not (math.isfinite(sigma) and sigma > 0):
        raise ValueError(f"{owner}: sigma must be a finite number above 0, got {sigma}")
    if not 1 / _LARGEST_SIGMA <= sigma <= _LARGEST_SIGMA:  # keeps its square in range
        raise ValueError(f"{owner}: sigma must be from {1 / _LARGEST_SIGMA} to {_LARGEST_SIGMA}, got {sigma}")


def axis_weights(
    grid: Grid,
    neighborhood: str | Neighborhood,
    sigma: float | Tensor,
    device: torch.device | str = "cpu",
    *,
    negligible: float | None = None,
) -> ops.AxisWeights | None:
    """Returns the neighborhood as weights along the grid's two axes if it separates, otherwise None.

    exp(-(dx^2 + dy^2) / s) is exp(-dx^2 / s) exp(-dy^2 / s): on rectangles, on hexagons with dx for each combination of
    row shifts, and across the edges of periodic grids too. A sigma that is a tensor on the device causes no
    synchronization. Weights of at most ``negligible`` along an axis become exactly zero; zeros cost the ops nothing.
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
    """Computes sum_u h(u, v) values_u for each node v, ``[K, J]``.

    Nodes u whose ``count`` is 0 must hold zeros, and are left out.
    """
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
    """Updates the codes from the rows that all nodes won, see :func:`~somvae_ext.ops.som_update`.

    The cost is O(K (R + C) D) if the neighborhood separates, otherwise O(K U D) for the U nodes that won rows, in tiles
    of nodes; nothing of size K x K is held.

    Args:
        codebook: ``[K, D]`` in the grid's order.
        total: sums of the rows that each node won, ``[K, D]``.
        count: number of rows that each node won, ``[K]``, or per feature, ``[K, D]``, where values are missing.
        grid: grid of K nodes.
        neighborhood: one of ``NEIGHBORHOOD_NAMES``, or a function from the distances on the grid between M nodes and U
            winners, float64 ``[M, U]``, and sigma to weights ``[M, U]``.
        sigma: width of the neighborhood in units of the grid, above 0.
        rate: as for :func:`~somvae_ext.ops.som_update`: None for the batch rule, alpha / N for a mini-batch step.

    Raises:
        ValueError: sigma out of range, or a function that does not return finite weights ``[M, U]``.
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
