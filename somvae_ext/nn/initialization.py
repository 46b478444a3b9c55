"""A codebook to start from: k-means of some encodings, laid out on the grid in order."""

from __future__ import annotations

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid


def kmeans_centers(z: Tensor, num_centers: int, *, seed: int = 0, max_iterations: int = 50) -> Tensor:
    """Centres of k-means: k-means++ seeding (Arthur and Vassilvitskii 2007), then Lloyd's iterations.

    A centre that no row is nearest to moves to one of the rows that are farthest from their centres. Nothing of size
    N * K is held.

    Args:
        z: rows, float32 or float64 ``[N, D]``, N at least K. They may repeat; where fewer than K are distinct, centres
            repeat too.
        num_centers: number of centres K.
        seed: draws the rows to begin with.
        max_iterations: Lloyd's iterations end when no row changes its centre, or here.

    Returns:
        ``[K, D]`` of the dtype of ``z``, in no particular order; without gradient.

    Raises:
        ValueError: a wrong shape or dtype, fewer rows than centres, or values that are not finite.

    Example:
        >>> z = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
        >>> kmeans_centers(z, 2).sort(dim=0).values.flatten().tolist()
        [0.10000000149011612, 5.099999904632568]
    """
    if z.dim() != 2 or z.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"kmeans_centers: z must be float32 or float64 of shape [N, D], got {z.dtype} of {list(z.shape)}"
        )
    if not 1 <= num_centers <= len(z):
        raise ValueError(f"kmeans_centers: z must have at least num_centers = {num_centers} >= 1 rows, got {len(z)}")
    z = z.detach()
    if not z.isfinite().all():
        raise ValueError("kmeans_centers: z must hold finite values only, got NaN or infinity")

    centers = _plus_plus(z, num_centers, seed)
    previous = None
    for _ in range(max_iterations):
        distance, nearest = ops.bmu(z, centers)
        if previous is not None and nearest.equal(previous):
            break
        previous = nearest
        total, count = ops.segment_sum(z, nearest, num_centers)
        centers = total / count.clamp_min(1)[:, None]
        empty = (count == 0).nonzero()[:, 0]
        centers[empty] = z[distance.topk(len(empty)).indices]
    return centers


def lay_out(centers: Tensor, grid: Grid) -> Tensor:
    """Puts centres on a map so that neighbours are alike: a sheet through them.

    Sorted along their first principal component, the centres are cut into as many runs as the grid's longer side has
    nodes, and each run is sorted along the second component. So the map starts as a flat sheet through the data, which
    the SOM loss can then bend, and has no folds to undo. On a periodic grid opposite sides start far apart: no plane
    closes to a torus.

    Args:
        centers: ``[K, D]``, K = ``grid.num_nodes``.
        grid: the map's grid.

    Returns:
        The same rows, ``[K, D]``, in the row-major order of the grid.

    Example:
        >>> line = torch.tensor([[3.0], [1.0], [0.0], [2.0]])
        >>> lay_out(line, Grid(1, 4)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    centred = centers.double() - centers.double().mean(dim=0)
    _, _, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    # The sign of a component is arbitrary; fixed, so that the same centres always give the same map.
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    scores = centred @ (axes * largest.sign()).T
    first, second = scores[:, 0], scores[:, -1]  # one and the same where D = 1
    long, short = max(grid.rows, grid.cols), min(grid.rows, grid.cols)
    runs = first.argsort(stable=True).view(long, short)
    runs = runs.gather(1, second[runs].argsort(dim=1, stable=True))
    return centers[(runs if grid.rows >= grid.cols else runs.T).reshape(-1)]


def _plus_plus(z: Tensor, num_centers: int, seed: int) -> Tensor:
    """Rows to begin with, each drawn with a chance proportional to its squared distance from those before it."""
    draws = torch.rand(num_centers, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).tolist()
    centers = z.new_empty(num_centers, z.shape[1])
    distance = torch.ones(len(z), dtype=z.dtype, device=z.device)
    for k, draw in enumerate(draws):
        # On the CPU, where a running sum has one order, so that the choice does not depend on the device's.
        weight = distance.double().cpu().cumsum(dim=0)
        if weight[-1] == 0:  # all rows are centres already
            weight = torch.arange(1, len(z) + 1, dtype=torch.float64)
        row = int(torch.searchsorted(weight, draw * weight[-1], right=True).clamp_max(len(z) - 1))
        centers[k] = z[row]
        to_new = ops.bmu(z, centers[k : k + 1]).distance
        distance = to_new if k == 0 else torch.minimum(distance, to_new)
    return centers
