"""Self-organizing maps by the definition, in float64 and numpy loops: independent of everything under test."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def positions(rows: int, cols: int, topology: str) -> Floats:
    """``[K, 2]``, x and y in the plane."""
    places = []
    for row in range(rows):
        for col in range(cols):
            if topology == "hexagonal":
                places.append((col + 0.5 * (row % 2), row * math.sin(math.pi / 3)))
            else:
                places.append((float(col), float(row)))
    return np.array(places)


def grid_distances(rows: int, cols: int, topology: str = "rectangular", periodic: bool = False) -> Floats:
    """``[K, K]``; on a torus the nearest of the nine copies of a node around the map."""
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
    """Of one row, NaN where a value is missing, to one code."""
    there = ~np.isnan(x)
    x, code, w = x[there], code[there], weights[there]
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
    """``[N, K]``."""
    weights = np.ones(x.shape[1]) if weights is None else weights
    return np.array([[distance(metric, row, code, weights, p) for code in codebook] for row in x])


def batch_epoch(
    x: Floats, codebook: Floats, winners: NDArray[np.int64], h: Floats, weight: Floats | None = None
) -> Floats:
    """Kohonen's batch rule, value by value: the mean of what is there, weighted by the neighbourhood of the winners."""
    weight = np.ones(len(x)) if weight is None else weight
    result = codebook.copy()
    for node in range(len(codebook)):
        for feature in range(x.shape[1]):
            there = ~np.isnan(x[:, feature])
            pull = weight[there] * h[winners[there], node]
            if pull.sum() > 0:
                result[node, feature] = (pull @ x[there, feature]) / pull.sum()
    return result


def step(x: Floats, codebook: Floats, winners: NDArray[np.int64], h: Floats, alpha: float) -> Floats:
    """The on-line rule (Kohonen 1990), of a mini-batch: W_v += alpha mean_b h(u_b, v) (x_b - W_v)."""
    moves = [h[winner][:, None] * (row - codebook) for row, winner in zip(x, winners, strict=True)]
    return codebook + alpha * np.mean(moves, axis=0)


def shortest_paths(edges: Floats) -> Floats:
    """Floyd and Warshall's lengths of all paths, ``[K, K]``, of edges that are infinite where there are none."""
    length = np.array(edges, dtype=np.float64)
    np.fill_diagonal(length, 0.0)
    for middle in range(len(length)):
        for start in range(len(length)):
            for end in range(len(length)):
                length[start, end] = min(length[start, end], length[start, middle] + length[middle, end])
    return length


def combined_error(x: Floats, codebook: Floats, apart: Floats, reach: float, metric: str = "euclidean") -> Floats:
    """Kaski and Lagus's of each row ``[N]``; nodes that are at most ``reach`` apart on the grid share an edge."""
    codes = distances(metric, codebook, codebook)
    paths = shortest_paths(np.where(apart <= reach + 1e-9, codes, np.inf))
    near = distances(metric, x, codebook)
    best, second = near.argsort(axis=1, kind="stable")[:, :2].T
    return near[np.arange(len(x)), best] + paths[best, second]
