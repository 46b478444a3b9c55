"""Initial codebooks: a plane through the data, random values, rows, ordered k-means centers, or a batch SOM's codes."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.config_checks import check_integer
from somvae_ext.extras import needed_by
from somvae_ext.grid import Grid
from somvae_ext.processes import Processes
from somvae_ext.som.metrics import Metric
from somvae_ext.som.rows import ArrayRows, RowFormat
from somvae_ext.som.schedules import exponential
from somvae_ext.som.training import train_batch

Init = Literal["pca", "random", "samples", "kmeans"]

_SAMPLE_ROWS = 8192
_SAMPLE_VALUES = 1 << 26
_ROWS_PER_CENTER = 8
# Largest number of codes examined to decide whether all lie on a line.
_MAX_COLLINEARITY_CODES = 1024
# Up to this number of features the covariance is decomposed exactly.
_MAX_EXACT_DIM = 1024
# Ten more or fewer change the topographic error by less than another draw of the rows does.
_SOM_EPOCHS = 20
# Largest number of centers assigned to nodes at once: the time grows with its cube, and a larger one does not lower
# the topographic error.
_MAX_ASSIGNED_NODES = 1024


def init_sample_size(init: Init, num_nodes: int, dim: int) -> int:
    """Returns the number of rows to initialize from: enough for the data's shape, few even if the data fill a disk."""
    needed = {"samples": num_nodes, "kmeans": _ROWS_PER_CENTER * num_nodes}.get(init, 0)
    return max(min(max(needed, _SAMPLE_ROWS), _SAMPLE_VALUES // max(1, dim)), num_nodes)


def initial_codebook(x: Tensor, grid: Grid, init: Init, *, weight: Tensor | None = None, seed: int = 0) -> Tensor:
    """Returns the initial codes of a map.

    ``"pca"``: the plane of the first two principal components, as wide as the data, with the first component along the
    grid's longer side (Kohonen 2001, section 3.7). These codes are ordered, so few epochs are needed. If the data lie
    on a line, the nodes follow it one grid line after another. ``"random"``: uniform between each feature's smallest
    and largest value. ``"samples"``: rows, without repetition if there are enough. ``"kmeans"``:
    :func:`kmeans_centers` in the order of :func:`arrange_on_grid`.

    Args:
        x: some rows of the data, float32 or float64 ``[S, D]``. NaN marks a missing value, which is replaced by the
            feature's mean.
        grid: grid of K nodes.
        init: one of the names above.
        weight: weight of each row, ``[S]``, at least 0; rows of weight 0 are left out.
        seed: seed of the values or rows drawn and of k-means.

    Returns:
        ``[K, D]``, dtype and device of ``x``.

    Raises:
        ValueError: for k-means, fewer rows than nodes; no row with a weight above 0.
        ModuleNotFoundError: for k-means, scipy (extra ``som``) is missing.
    """
    if weight is not None:
        x, weight = x[weight > 0], weight[weight > 0]
    if len(x) == 0:
        raise ValueError("SOM: sample_weight must be above 0 for at least one row, got only zeros")
    x = fill_missing(x, weight)
    if init == "pca":
        return _plane_codes(x, weight, grid)
    generator = torch.Generator().manual_seed(seed)
    if init == "random":
        low, high = x.aminmax(dim=0)
        draws = torch.rand(grid.num_nodes, x.shape[1], dtype=x.dtype, generator=generator, device="cpu").to(x.device)
        return low + draws * (high - low)
    if init == "samples":
        if len(x) < grid.num_nodes:
            indices = torch.randint(len(x), (grid.num_nodes,), generator=generator, device="cpu")
        else:
            indices = torch.randperm(len(x), generator=generator, device="cpu")[: grid.num_nodes]
        return x[indices.to(x.device)]
    if len(x) < grid.num_nodes:
        raise ValueError(
            f"SOM: init must not be 'kmeans' for fewer rows than nodes, got {len(x)} rows for {grid.num_nodes} nodes; "
            "take 'pca' or a smaller map"
        )
    return arrange_on_grid(kmeans_centers(x, grid.num_nodes, seed=seed), grid)


def fill_missing(x: Tensor, weight: Tensor | None) -> Tensor:
    """Replaces missing values by the feature's mean, or by 0 if the feature has no values."""
    missing = x.isnan()
    if not missing.any():
        return x
    weights = (~missing).double() if weight is None else (~missing) * weight.double()[:, None]
    mean = (weights * x.nan_to_num(nan=0.0)).sum(dim=0) / weights.sum(dim=0)
    return torch.where(missing, mean.nan_to_num(nan=0.0).to(x), x)


def _plane_codes(x: Tensor, weight: Tensor | None, grid: Grid) -> Tensor:
    weights = (torch.ones_like(x[:, 0]) if weight is None else weight).double()[:, None]
    weights = weights / weights.sum()
    rows = x.double()
    mean = (weights * rows).sum(dim=0)
    rows = weights.sqrt() * (rows - mean)
    directions, deviations = principal_components(rows)
    # A plane 2 sqrt(3) standard deviations wide has the variance of the data.
    steps = math.sqrt(3.0) * deviations[:, None] * directions
    # Smaller deviations are lost in squared distances, or in the rounding of the values themselves.
    eps = torch.finfo(x.dtype).eps
    vanishing = math.sqrt(eps) * deviations[0] + 4 * eps * mean.abs().max()
    coordinates = _line_coordinates(grid) if deviations[1] <= vanishing else _plane_coordinates(grid)
    return (mean + coordinates.to(x.device) @ steps).to(x.dtype)


def _plane_coordinates(grid: Grid) -> Tensor:
    """Coordinates of the nodes on the plane, float64 ``[K, 2]`` from -1 to 1, the grid's longer side first."""
    coordinates = grid.coordinates()
    low, high = coordinates.aminmax(dim=0)
    coordinates = torch.where(high > low, 2 * (coordinates - low) / (high - low).clamp_min(1e-300) - 1, 0.0)
    is_taller = high[1] > low[1] and high[1] - low[1] > high[0] - low[0]
    return coordinates.flip(1) if is_taller else coordinates


def _line_coordinates(grid: Grid) -> Tensor:
    """Coordinates for data without a second axis: a line on which no two nodes coincide.

    With plane coordinates, several nodes would get the same code, and only the first of equal codes ever wins. A
    neighborhood that separates along the axes would keep them equal forever.
    """
    row, col = grid.row_col(torch.arange(grid.num_nodes))
    rank = row * grid.cols + col if grid.rows > grid.cols else col * grid.rows + row
    position = 2 * rank.double() / max(1, grid.num_nodes - 1) - 1 if grid.num_nodes > 1 else torch.zeros(1).double()
    return torch.stack([position, torch.zeros_like(position)], dim=1)


def are_collinear(codebook: Tensor) -> bool:
    """Returns whether codes ``[K, D]`` lie on a line, up to the precision of their squared distances.

    Of many codes only some are examined.
    """
    codes = codebook.detach()[:: max(1, len(codebook) // _MAX_COLLINEARITY_CODES)].double()
    codes = codes - codes.mean(dim=0)
    lengths = codes.norm(dim=1)
    direction = codes[lengths.argmax()] / lengths.max().clamp_min(1e-300)
    residuals = codes - (codes @ direction)[:, None] * direction
    eps = torch.finfo(codebook.dtype).eps
    return bool(residuals.norm(dim=1).max() <= math.sqrt(eps) * lengths.max() + 4 * eps * codebook.abs().max())


def principal_components(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the first two principal directions of centered rows, ``[2, D]``, and the deviations along them, ``[2]``.

    Where there is no second direction, both are 0.
    """
    dim = rows.shape[1]
    if dim <= _MAX_EXACT_DIM:
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        values, directions = values.flip(0)[:2], vectors.T.flip(0)[:2]
        deviations = values.clamp_min(0).sqrt()
    else:
        with torch.random.fork_rng(devices=[rows.device] if rows.is_cuda else []):
            torch.manual_seed(0)
            _, deviations, vectors = torch.svd_lowrank(rows, q=min(8, *rows.shape), niter=8)
        deviations, directions = deviations[:2], vectors.T[:2]
    # The sign of a direction is arbitrary. Fix it, so that the same rows always give the same map.
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    directions = directions * largest.sign()
    missing = 2 - len(directions)
    return (
        torch.cat([directions, directions.new_zeros(missing, dim)]),
        torch.cat([deviations, deviations.new_zeros(missing)]),
    )


def kmeans_centers(
    z: Tensor, num_centers: int, *, seed: int = 0, max_iterations: int = 50, num_tries: int = 1
) -> Tensor:
    """Computes k-means centers: k-means++ seeding (Arthur and Vassilvitskii 2007), then Lloyd's iterations.

    A center without rows moves to one of the rows that are farthest from their centers. Nothing of size N * K is held.

    Args:
        z: rows, float32 or float64 ``[N, D]``, N at least K. They may repeat; if fewer than K are distinct, centers
            repeat too.
        num_centers: number of centers K.
        seed: seed of the k-means++ draws.
        max_iterations: largest number of Lloyd's iterations, which end earlier when no row changes its center.
        num_tries: number of starts, each with other draws. The centers with the smallest sum of squared distances are
            returned, those of the first start among equals.

    Returns:
        ``[K, D]`` of the dtype of ``z``, in no particular order; without gradient.

    Raises:
        ValueError: a wrong shape or dtype, fewer rows than centers, values that are not finite, or ``num_tries`` below
            1.

    Example:
        >>> z = torch.tensor([[0.0], [0.2], [5.0], [5.2]])
        >>> kmeans_centers(z, 2).sort(dim=0).values.flatten().tolist()
        [0.10000000149011612, 5.099999904632568]
    """
    _check_rows("kmeans_centers", z)
    if not 1 <= num_centers <= len(z):
        raise ValueError(f"kmeans_centers: z must have at least num_centers = {num_centers} >= 1 rows, got {len(z)}")
    num_tries = check_integer("kmeans_centers", "num_tries", num_tries)
    z, generator = z.detach(), torch.Generator().manual_seed(seed)
    best_centers, least_inertia = None, math.inf
    for _ in range(num_tries):
        centers = _lloyd(z, _draw_initial_centers(z, num_centers, generator), max_iterations)
        inertia = ops.bmu(z, centers).distance.double().sum().item() if num_tries > 1 else 0.0
        if best_centers is None or inertia < least_inertia:
            best_centers, least_inertia = centers, inertia
    assert best_centers is not None
    return best_centers


def _lloyd(z: Tensor, centers: Tensor, max_iterations: int) -> Tensor:
    """Runs Lloyd's iterations from these centers."""
    num_centers = len(centers)
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


def som_codes(z: Tensor, grid: Grid) -> Tensor:
    """Trains a batch SOM (Kohonen 2013, eq. 8) and returns its codes.

    Unlike k-means centers that are arranged on a grid, they have the order of a map. Training starts from the plane of
    the first two principal components; the Gaussian neighborhood narrows exponentially from half of the grid's longer
    side to 0.7 in 20 epochs. No random numbers are drawn. Nothing of size N * K is held.

    Args:
        z: rows, float32 or float64 ``[N, D]``, N and D at least 1, on any device.
        grid: the map's grid, of K nodes; N may be below K.

    Returns:
        ``[K, D]`` in the row-major order of the grid, dtype and device of ``z``; without gradient.

    Raises:
        ValueError: a wrong shape or dtype, no rows, or values that are not finite or whose squares overflow.

    Example:
        >>> z = torch.linspace(0, 1, 101)[:, None]
        >>> codes = som_codes(z, Grid(1, 3)).flatten()
        >>> bool((codes[0] - codes[1]).sign() == (codes[1] - codes[2]).sign())
        True
    """
    _check_rows("som_codes", z)
    if z.numel() == 0:
        raise ValueError(f"som_codes: z must have at least one row and one column, got {list(z.shape)}")
    return _train_batch_som(z.detach(), grid, final_sigma=0.7)


def arrange_on_grid(centers: Tensor, grid: Grid) -> Tensor:
    """Arranges centers on a grid such that grid neighbors are similar.

    A batch SOM is trained on the centers. It starts from the plane of their first two principal components, with a
    Gaussian neighborhood that narrows from half of the grid's longer side to 1. Each center is then assigned to a node
    of its own such that the sum of squared distances between centers and codes is smallest (linear assignment). The
    result depends only on the set of centers, not on their order. It is computed on the CPU in float64.

    For up to 1,024 nodes the assignment is exact. A larger grid is halved, together with its centers, until its parts
    are that small: each center goes to the half that holds the nearer code, as far as there is room.

    No order of k-means centers reaches the topographic error of a trained map; for that see :func:`som_codes`. On
    periodic grids the map starts from a plane, too, although they are not planar: opposite sides may stay apart.

    Args:
        centers: floating ``[K, D]``, K = ``grid.num_nodes``, on any device. They may repeat.
        grid: the map's grid.

    Returns:
        The same rows, ``[K, D]``, in the row-major order of the grid; dtype and device of ``centers``.

    Raises:
        ValueError: a wrong shape or dtype, or values that are not finite.
        ModuleNotFoundError: scipy (extra ``som``) is missing.

    Example:
        >>> line = torch.tensor([[3.0], [1.0], [0.0], [2.0]])
        >>> arrange_on_grid(line, Grid(1, 4)).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """
    return centers[grid_order(centers, grid).to(centers.device)]


@needed_by("arranging codes on a grid")
def grid_order(centers: Tensor, grid: Grid) -> Tensor:
    """Returns the center of each node in :func:`arrange_on_grid`, int64 ``[K]`` on the CPU.

    Arguments and errors are the same.
    """
    import scipy.optimize  # type: ignore[import-untyped]  # noqa: F401  # raises before the training if it is missing

    if centers.dim() != 2 or len(centers) != grid.num_nodes or not centers.shape[1] or not centers.is_floating_point():
        raise ValueError(
            f"arrange_on_grid: centers must be floating of shape [K, D] with K = {grid.num_nodes} nodes and D >= 1, "
            f"got {centers.dtype} of {list(centers.shape)}"
        )
    if not centers.isfinite().all():
        raise ValueError("arrange_on_grid: centers must hold finite values only, got NaN or infinity")
    rows = centers.detach().cpu().double()
    # Sorted by value, so that sums and ties do not depend on the order of the centers.
    order = torch.from_numpy(np.lexsort(rows.numpy().T[::-1]))
    # Scaled, so that squares neither overflow nor underflow, and centered, because an offset would cost digits.
    rows = rows[order] / (float(rows.abs().max()) or 1.0)
    rows = rows - rows.mean(dim=0)
    codes = _train_batch_som(rows, grid, final_sigma=1.0)
    return order[_assign_to_nodes(codes, rows, grid)]


def _check_rows(owner: str, z: Tensor) -> None:
    if z.dim() != 2 or z.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{owner}: z must be float32 or float64 of shape [N, D], got {z.dtype} of {list(z.shape)}")
    if not z.isfinite().all():
        raise ValueError(f"{owner}: z must hold finite values only, got NaN or infinity")


def _train_batch_som(z: Tensor, grid: Grid, final_sigma: float) -> Tensor:
    """Trains a batch SOM from a plane, with a sigma that falls from half of the longer side to ``final_sigma``."""
    rows = ArrayRows(z, RowFormat(z.dtype, z.device))
    sample = rows.sample(init_sample_size("pca", grid.num_nodes, rows.dim), Processes.single(z.device)).x
    start = initial_codebook(sample, grid, "pca")
    initial_sigma = max(max(grid.rows, grid.cols) / 2, final_sigma)
    codes, _ = train_batch(
        rows,
        start,
        grid,
        metric=Metric(),
        neighborhood="gaussian",
        num_epochs=_SOM_EPOCHS,
        sigma=lambda epoch: exponential(epoch, _SOM_EPOCHS, initial_sigma, final_sigma),
    )
    return codes


def _assign_to_nodes(codes: Tensor, rows: Tensor, grid: Grid) -> Tensor:
    """Assigns a row to each node, int64 ``[K]``: a permutation, see :func:`arrange_on_grid`."""
    from scipy.optimize import linear_sum_assignment

    row_of_node = torch.empty(grid.num_nodes, dtype=torch.int64, device="cpu")
    indices = torch.arange(grid.num_nodes, device="cpu")
    parts = [(indices.view(grid.rows, grid.cols), indices)]
    while parts:
        block, part_rows = parts.pop()
        if len(part_rows) <= _MAX_ASSIGNED_NODES:
            nodes = block.flatten()
            # In |e - c|^2 = |e|^2 - 2 e c + |c|^2 the squared norms have the same sum for every assignment.
            _, order = linear_sum_assignment((codes[nodes] @ rows[part_rows].T).numpy(), maximize=True)
            row_of_node[nodes] = part_rows[torch.from_numpy(order)]
            continue
        halves = block.tensor_split(2, dim=int(block.shape[1] > block.shape[0]))
        to_first, to_second = (ops.bmu(rows[part_rows], codes[half.flatten()]).distance for half in halves)
        preference = (to_first - to_second).argsort(stable=True)
        first, second = preference.tensor_split([halves[0].numel()])
        parts += [(halves[0], part_rows[first]), (halves[1], part_rows[second])]
    return row_of_node


def _draw_initial_centers(z: Tensor, num_centers: int, generator: torch.Generator) -> Tensor:
    """Draws initial rows, each with probability proportional to its squared distance from those drawn before it."""
    draws = torch.rand(num_centers, dtype=torch.float64, generator=generator, device="cpu").tolist()
    centers = z.new_empty(num_centers, z.shape[1])
    distance = torch.ones(len(z), dtype=z.dtype, device=z.device)
    for k, draw in enumerate(draws):
        # On the CPU, where a running sum has a fixed order, so that the choice does not depend on the device.
        weight = distance.double().cpu().cumsum(dim=0)
        if weight[-1] == 0:  # all rows are centers already
            weight = torch.arange(1, len(z) + 1, dtype=torch.float64, device="cpu")
        row = int(torch.searchsorted(weight, draw * weight[-1], right=True).clamp_max(len(z) - 1))
        centers[k] = z[row]
        new_distance = ops.bmu(z, centers[k : k + 1]).distance
        distance = new_distance if k == 0 else torch.minimum(distance, new_distance)
    return centers
