"""Self-organizing maps straight from the definitions, in float64 NumPy loops, independent of the code under test."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def positions(rows: int, cols: int, topology: str) -> Floats:
    """Returns the x and y of each node in the plane, ``[K, 2]``."""
    places = []
    for row in range(rows):
        for col in range(cols):
            if topology == "hexagonal":
                places.append((col + 0.5 * (row % 2), row * math.sin(math.pi / 3)))
            else:
                places.append((float(col), float(row)))
    return np.array(places)


def grid_distances(rows: int, cols: int, topology: str = "rectangular", periodic: bool = False) -> Floats:
    """Returns the distances of all pairs of nodes, ``[K, K]``; on a torus, to the nearest of a node's nine copies."""
    place = positions(rows, cols, topology)
    width, height = float(cols), rows * (math.sin(math.pi / 3) if topology == "hexagonal" else 1.0)
    shifts = (-1, 0, 1) if periodic else (0,)
    copies = [np.array([a * width, b * height]) for a in shifts for b in shifts]
    differences = [place[:, None] - (place[None] + copy) for copy in copies]
    return np.min([np.hypot(d[..., 0], d[..., 1]) for d in differences], axis=0)


NEIGHBORHOODS: dict[str, Callable[[float, float], float]] = {
    "gaussian": lambda d, s: math.exp(-(d**2) / (2 * s**2)),
    "fastsom_gaussian": lambda d, s: math.exp(-(d**2) / s**2),
    "bubble": lambda d, s: 1.0 if d <= s else 0.0,
    "triangle": lambda d, s: max(0.0, 1 - d / s),
    "mexican_hat": lambda d, s: (1 - d**2 / s**2) * math.exp(-(d**2) / (2 * s**2)),
}


def neighborhood(name: str, distances: Floats, sigma: float) -> Floats:
    return np.vectorize(lambda d: NEIGHBORHOODS[name](d, sigma))(distances)


def distance(metric: str, x: Floats, code: Floats, weights: Floats, p: float = 2.0) -> float:
    """Returns the distance of one row, NaN where a value is missing, to one code."""
    present = ~np.isnan(x)
    x, code, w = x[present], code[present], weights[present]
    scale = weights.sum() / w.sum()
    if metric == "euclidean":
        return math.sqrt(scale * sum(w * (x - code) ** 2))
    if metric == "manhattan":
        return scale * sum(w * abs(x - code))
    if metric == "minkowski":
        return (scale * sum(w * abs(x - code) ** p)) ** (1 / p)
    if metric == "chebyshev":
        return max(w * abs(x - code))
    assert metric == "cosine"
    norms = math.sqrt(sum(w * x * x)) * math.sqrt(sum(w * code * code))
    return 1 - sum(w * x * code) / norms if norms > 0 else 1.0


def distances(metric: str, x: Floats, codebook: Floats, weights: Floats | None = None, p: float = 2.0) -> Floats:
    """Returns the distances of all rows to all codes, ``[N, K]``."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    return np.array([[distance(metric, row, code, weights, p) for code in codebook] for row in x])


def batch_epoch(
    x: Floats, codebook: Floats, winners: NDArray[np.int64], h: Floats, weight: Floats | None = None
) -> Floats:
    """Applies Kohonen's batch rule value by value: the neighborhood-weighted mean of the values that are present."""
    weight = np.ones(len(x)) if weight is None else weight
    result = codebook.copy()
    for node in range(len(codebook)):
        for feature in range(x.shape[1]):
            present = ~np.isnan(x[:, feature])
            pull = weight[present] * h[winners[present], node]
            if pull.sum() > 0:
                result[node, feature] = (pull @ x[present, feature]) / pull.sum()
    return result


def step(x: Floats, codebook: Floats, winners: NDArray[np.int64], h: Floats, alpha: float) -> Floats:
    """Applies the on-line rule (Kohonen 1990) to a mini-batch: W_v += alpha mean_b h(u_b, v) (x_b - W_v)."""
    moves = [h[winner][:, None] * (row - codebook) for row, winner in zip(x, winners, strict=True)]
    return codebook + alpha * np.mean(moves, axis=0)


def shortest_paths(edges: Floats) -> Floats:
    """Returns the lengths of all shortest paths, ``[K, K]``, by Floyd and Warshall; an absent edge is infinite."""
    length = np.array(edges, dtype=np.float64)
    np.fill_diagonal(length, 0.0)
    for middle in range(len(length)):
        for start in range(len(length)):
            for end in range(len(length)):
                length[start, end] = min(length[start, end], length[start, middle] + length[middle, end])
    return length


def combined_error(x: Floats, codebook: Floats, on_grid: Floats, radius: float, metric: str = "euclidean") -> Floats:
    """Returns Kaski and Lagus's combined error of each row, ``[N]``.

    An edge joins two nodes whose distance on the grid, ``on_grid[K, K]``, is at most ``radius``.
    """
    codes = distances(metric, codebook, codebook)
    paths = shortest_paths(np.where(on_grid <= radius + 1e-9, codes, np.inf))
    near = distances(metric, x, codebook)
    best, second = near.argsort(axis=1, kind="stable")[:, :2].T
    return near[np.arange(len(x)), best] + paths[best, second]
