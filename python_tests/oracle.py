"""What the ops and the grid must give, in float64 NumPy: written from the definitions, with no torch.

Every gradient is derived by hand. Beside it stands its magnitude, the sum of the absolute values of the terms that it
adds up: rounding errors are proportional to that, not to a sum in which terms cancel. The functions of the transition
table return each result with its error bound in units of the machine epsilon, because their terms are not all known to
the same number of operations.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]

HALF_SQRT3 = math.sqrt(3) / 2
# Directions (x, y) of the slots. Rectangular: up, down, right, left. Hexagonal: right, left, up-right, up-left,
# down-right, down-left.
DIRECTIONS = {
    "rectangular": [(0, 1), (0, -1), (1, 0), (-1, 0)],
    "hexagonal": [
        (1, 0),
        (-1, 0),
        (0.5, HALF_SQRT3),
        (-0.5, HALF_SQRT3),
        (0.5, -HALF_SQRT3),
        (-0.5, -HALF_SQRT3),
    ],
}


# ---- the grid, from coordinates alone --------------------------------------------------------------------------------


def coordinates(rows: int, cols: int, topology: str) -> Array:
    """Position (x, y) of each node, ``[K, 2]``."""
    points = []
    for row, col in itertools.product(range(rows), range(cols)):
        if topology == "hexagonal":
            points.append((col + (0.5 if row % 2 else 0.0), row * HALF_SQRT3))
        else:
            points.append((float(col), float(row)))
    return np.array(points)


def periods(rows: int, cols: int, topology: str) -> tuple[float, float]:
    """Width and height of the torus."""
    return float(cols), rows * (HALF_SQRT3 if topology == "hexagonal" else 1.0)


def neighbor_table(rows: int, cols: int, topology: str, periodic: bool) -> Index:
    """The node found by one step of length 1 in each slot's direction, ``[K, S]``; -1: none, or seen before."""
    points = coordinates(rows, cols, topology)
    width, height = periods(rows, cols, topology)
    shifts = list(itertools.product((-width, 0.0, width), (-height, 0.0, height))) if periodic else [(0.0, 0.0)]
    table = np.full((len(points), len(DIRECTIONS[topology])), -1)
    for node, point in enumerate(points):
        for slot, direction in enumerate(DIRECTIONS[topology]):
            gaps = [np.linalg.norm(points + shift - point - direction, axis=1) for shift in np.array(shifts)]
            for other in np.flatnonzero(np.min(gaps, axis=0) < 1e-9):
                if other != node and other not in table[node]:
                    table[node, slot] = other
    return table


def grid_distance(rows: int, cols: int, topology: str, periodic: bool) -> Array:
    """Distances of all pairs, ``[K, K]``: on a torus the shortest over all images of the second node."""
    points = coordinates(rows, cols, topology)
    width, height = periods(rows, cols, topology)
    steps = (-2, -1, 0, 1, 2) if periodic else (0,)
    images = [points + np.array([i * width, j * height]) for i in steps for j in steps]
    return np.min([np.linalg.norm(points[:, None] - image[None], axis=2) for image in images], axis=0)


# ---- best matching unit ----------------------------------------------------------------------------------------------


def squared_distances(z: Array, codebook: Array) -> Array:
    """All squared distances, ``[N, K]``."""
    with np.errstate(invalid="ignore", over="ignore"):
        rows = [np.square(row - codebook).sum(axis=1) for row in z]
    return np.array(rows).reshape(len(z), len(codebook))


def scores(z: Array, codebook: Array) -> Array:
    """The same as the search defines it (csrc/bmu/bmu.h): feature by feature, every operation rounded by itself."""
    score = np.zeros((len(z), len(codebook)))
    with np.errstate(invalid="ignore", over="ignore"):
        for x, e in zip(z.T, codebook.T, strict=True):
            difference = x[:, None] - e
            score = score + difference * difference
    return score


def best_codes(distances: Array, k: int) -> tuple[Array, Index]:
    """The k smallest distances and their codes: NaN never wins, ties go to the smallest code, no code: NaN and 0."""
    distance, index = np.full((len(distances), k), np.nan), np.zeros((len(distances), k), dtype=np.int64)
    for n, row in enumerate(distances):
        ranking = sorted((value, code) for code, value in enumerate(row) if not math.isnan(value))
        for slot, (value, code) in enumerate(ranking[:k]):
            distance[n, slot], index[n, slot] = value, code
    return distance, index


def bmu_gradients(z: Array, codebook: Array, index: Index, grad: Array) -> dict[str, tuple[Array, Array]]:
    """Gradients of ``sum(grad * distance)`` for winners ``index``, both ``[N, k]``, and their magnitudes."""
    grads = {"z": _zeros_like(z), "codebook": _zeros_like(codebook)}
    for n, winners in enumerate(index):
        for slot, code in enumerate(winners):
            term = 2 * grad[n, slot] * (z[n] - codebook[code])
            _add(grads["z"], n, term)
            _add(grads["codebook"], code, -term)
    return grads


# ---- winner and neighbours -------------------------------------------------------------------------------------------


def gather(codebook: Array, index: Index, table: Index) -> Array:
    """The winner's code and those of its neighbours, ``[N, 1 + S, D]``; zeros where there is none."""
    out = np.zeros((len(index), 1 + table.shape[1], codebook.shape[1]))
    for n, winner in enumerate(index):
        for slot, node in enumerate([winner, *table[winner]]):
            if node >= 0:
                out[n, slot] = codebook[node]
    return out


def gather_gradient(codebook: Array, index: Index, table: Index, grad: Array) -> dict[str, tuple[Array, Array]]:
    grads = {"codebook": _zeros_like(codebook)}
    for n, winner in enumerate(index):
        for slot, node in enumerate([winner, *table[winner]]):
            if node >= 0:
                _add(grads["codebook"], node, grad[n, slot])
    return grads


def losses(z: Array, codebook: Array, index: Index, table: Index, border: str) -> tuple[Array, Array]:
    """Commitment and SOM loss, ``[N]`` each."""
    commitment, som = np.zeros(len(z)), np.zeros(len(z))
    for n, winner in enumerate(index):
        commitment[n] = np.square(z[n] - codebook[winner]).sum()
        som[n] = commitment[n]
        for node in table[winner]:
            if node >= 0:
                som[n] += np.square(z[n] - codebook[node]).sum()
            elif border == "zero":
                som[n] += np.square(z[n]).sum()
    return commitment, som


def losses_gradients(
    z: Array, codebook: Array, index: Index, table: Index, grad_commitment: Array, grad_som: Array
) -> dict[str, tuple[Array, Array]]:
    """The SOM term sees z as a constant, and an absent neighbour is a constant, so ``border`` plays no part."""
    grads = {"z": _zeros_like(z), "codebook": _zeros_like(codebook)}
    for n, winner in enumerate(index):
        _add(grads["z"], n, 2 * grad_commitment[n] * (z[n] - codebook[winner]))
        _add(grads["codebook"], winner, 2 * grad_commitment[n] * (codebook[winner] - z[n]))
        for node in [winner, *table[winner]]:
            if node >= 0:
                _add(grads["codebook"], node, 2 * grad_som[n] * (codebook[node] - z[n]))
    return grads


def head_gradients(
    z: Array,
    codebook: Array,
    index: Index,
    table: Index,
    straight_through: bool,
    grad_quantized: Array,
    grad_commitment: Array,
    grad_som: Array,
) -> dict[str, tuple[Array, Array]]:
    """Those of the losses, and that of the gathered codes: to the winners, or past them to z."""
    grads = losses_gradients(z, codebook, index, table, grad_commitment, grad_som)
    for n, winner in enumerate(index):
        _add(*(grads["z"], n) if straight_through else (grads["codebook"], winner), grad_quantized[n])
    return grads


# ---- segment sums ----------------------------------------------------------------------------------------------------


def segment_sum(x: Array, index: Index, num_segments: int) -> tuple[tuple[Array, Array], Index]:
    """Sums and their magnitudes, ``[K, D]``, and counts, ``[K]``."""
    total, count = _zeros_like(np.empty((num_segments, x.shape[1]))), np.zeros(num_segments, dtype=np.int64)
    for n, segment in enumerate(index):
        _add(total, segment, x[n])
        count[segment] += 1
    return total, count


def som_update(codebook: Array, total: Array, count: Array, weights: Array, rate: float | None) -> tuple[Array, Array]:
    """New codes, and how far float64 arithmetic may be off.

    A sum of products, in one pass over the nodes or in two, over rows and columns, has at most one rounding for each
    node and one more.
    """
    eps = np.finfo(np.float64).eps
    count = np.broadcast_to(count if count.ndim == 2 else count[:, None], total.shape)
    num, den = weights @ total, weights @ count
    roundings = (total.shape[0] + 1) * eps
    num_error, den_error = roundings * (np.abs(weights) @ np.abs(total)), roundings * (np.abs(weights) @ np.abs(count))
    if rate is not None:
        step = rate * (num - den * codebook)
        error = abs(rate) * (num_error + den_error * np.abs(codebook))
        return codebook + step, error + 4 * eps * (
            np.abs(codebook) + abs(rate) * (np.abs(num) + np.abs(den * codebook))
        )
    reached = den > 0
    mean = np.divide(num, den, out=codebook.copy(), where=reached)
    error = np.divide(num_error + np.abs(mean) * den_error, den, out=np.zeros_like(mean), where=reached)
    return mean, np.where(reached, error + 2 * eps * np.abs(mean), 0)


# ---- transitions -----------------------------------------------------------------------------------------------------


def log_softmax(row: Array) -> Array:
    top = row.max()
    return row - (top + math.log(np.exp(row - top).sum()))


def softmax_operations(row: Array) -> float:
    """Bound, in epsilons, on the error of a row's log-probabilities, which is the relative error of its probabilities.

    A normaliser in one pass adds K exponentials and rescales the sum at each new maximum: at most 4 roundings a step.
    An exponent off by eps times its size changes its exponential by that much relatively: the exponents, of the terms
    and of the rescalings together, reach at most twice the range of the row. Then the normaliser, its logarithm, and
    the differences from it are rounded, and the exponential of such a difference once more.
    """
    finite = row[np.isfinite(row)]
    span = finite.max() - finite.min()
    size = np.abs(finite).max() + np.log(len(row))
    return 4 * len(row) + 4 * span + 4 * size + 16


# What the probabilities below float32's smallest normal number may lose, for they may be taken for zero; in its
# epsilons. Float64 has no such losses worth a thought.
UNDERFLOW = 2.0**-126 / 2.0**-23


def transition_log_prob(logits: Array, prev: Index, cur: Index) -> tuple[Array, Array]:
    """Log-probabilities and their error bounds in epsilons, ``[N]`` each."""
    values = [log_softmax(logits[i])[j] for i, j in zip(prev, cur, strict=True)]
    return np.array(values), np.array([softmax_operations(logits[i]) for i in prev])


def transition_log_prob_gradient(logits: Array, prev: Index, cur: Index, grad: Array) -> dict[str, tuple[Array, Array]]:
    """The gradient of the table as the rows that :func:`scatter_rows` adds up, ``[N, K]``."""
    grads = {"logits": _zeros_like(logits[prev])}
    for n, (i, j) in enumerate(zip(prev, cur, strict=True)):
        probability = np.exp(log_softmax(logits[i]))
        hit = np.arange(len(logits)) == j
        operations = softmax_operations(logits[i]) + len(prev) + 4
        magnitude = (hit + probability) * operations + UNDERFLOW
        _add(grads["logits"], n, grad[n] * (hit - probability), abs(grad[n]) * magnitude)
    return grads


def scatter_rows(rows: tuple[Array, Array], prev: Index, count: int) -> tuple[Array, Array]:
    """The gradient of the ``count`` rows of a table that ``prev`` numbers, of the rows ``[N, K]``."""
    total = _zeros_like(np.empty((count, rows[0].shape[1])))
    for n, i in enumerate(prev):
        _add(total, i, rows[0][n], rows[1][n])
    return total


def expected_distance(logits: Array, prev: Index, z: Array, codebook: Array) -> tuple[Array, Array]:
    """Expectations and their error bounds in epsilons, ``[N]`` each."""
    distances = squared_distances(z, codebook)
    values = np.array([np.exp(log_softmax(logits[i])) @ distances[n] for n, i in enumerate(prev)])
    operations = np.array([softmax_operations(logits[i]) for i in prev]) + codebook.shape[1] + len(codebook) + 4
    return values, values * operations + UNDERFLOW * distances.sum(axis=1)


def expected_distance_gradients(
    logits: Array, prev: Index, z: Array, codebook: Array, grad: Array
) -> dict[str, tuple[Array, Array]]:
    """That of the table as rows again.

    The other two are sums of differences ``z_n - e_j``, or of products of codes and of rows from which the codes' mean
    was subtracted: either way the terms are at most as large as these two together.
    """
    grads = {"logits": _zeros_like(logits[prev]), "z": _zeros_like(z), "codebook": _zeros_like(codebook)}
    rows, (nodes, dim) = len(prev), codebook.shape
    distances = squared_distances(z, codebook)
    center = codebook.mean(axis=0)
    for n, i in enumerate(prev):
        probability = np.exp(log_softmax(logits[i]))
        expectation = probability @ distances[n]
        operations = softmax_operations(logits[i]) + nodes + 8
        spread = np.abs(distances[n]) + expectation
        _add(
            grads["logits"],
            n,
            grad[n] * probability * (distances[n] - expectation),
            abs(grad[n]) * spread * (probability * (2 * operations + dim + rows) + UNDERFLOW),
        )
        terms = 2 * grad[n] * probability[:, None] * (z[n] - codebook)  # [K, D]
        sizes = 2 * abs(grad[n]) * (np.abs(z[n] - center) + np.abs(codebook - center))
        weights = (probability * (operations + rows) + UNDERFLOW)[:, None]
        _add(grads["z"], n, terms.sum(axis=0), (weights * sizes).sum(axis=0))
        _add(grads["codebook"], slice(None), -terms, weights * sizes)
    return grads


def transition_losses_gradients(
    logits: Array, prev: Index, cur: Index, z: Array, codebook: Array, grad_log_prob: Array, grad_expectation: Array
) -> dict[str, tuple[Array, Array]]:
    """Those of both losses together. Only the table has a part in both, and their sum is one more rounding."""
    of_log_prob = transition_log_prob_gradient(logits, prev, cur, grad_log_prob)["logits"]
    grads = expected_distance_gradients(logits, prev, z, codebook, grad_expectation)
    _add(grads["logits"], slice(None), of_log_prob[0], of_log_prob[1] + np.abs(grads["logits"][0]))
    return grads


# ---- local transitions -----------------------------------------------------------------------------------------------


def windows(rows: int, cols: int, topology: str, periodic: bool, radius: int) -> list[set[int]]:
    """The nodes in each node's window: by steps from neighbour to neighbour, or by rows and columns on rectangles."""
    nodes = range(rows * cols)
    if topology == "hexagonal":
        table = neighbor_table(rows, cols, topology, periodic)
        reached = [{node} for node in nodes]
        for _ in range(radius):
            reached = [near.union(*(set(table[node]) - {-1} for node in near)) for near in reached]
        return reached

    def apart(a: int, b: int, period: int) -> int:
        return min(abs(a - b), period - abs(a - b)) if periodic else abs(a - b)

    return [
        {b for b in nodes if max(apart(a // cols, b // cols, rows), apart(a % cols, b % cols, cols)) <= radius}
        for a in nodes
    ]


def dense_logits(logits: Array, near: Index) -> Array:
    """The K x K table that a local one equals; ``near`` ``[K, W]``: the node in each slot, -1 where there is none."""
    nodes = len(near)
    dense = np.empty((nodes, nodes))
    for i, window in enumerate(near):
        inside = window[window >= 0]
        outside = nodes - len(inside)
        dense[i] = logits[i, -1] - np.log(outside) if outside else np.nan
        dense[i, inside] = logits[i, :-1][window >= 0]
    return dense


def local_gradient(rows: tuple[Array, Array], nodes: Index, near: Index) -> tuple[Array, Array]:
    """What gradients ``[N, K]`` of rows of that table are for the local one, ``[N, W + 1]``."""
    total = _zeros_like(np.empty((len(nodes), near.shape[1] + 1)))
    for n, i in enumerate(nodes):
        present = near[i] >= 0
        for out, row in zip(total, rows, strict=True):
            out[n, :-1][present] = row[n, near[i][present]]
            out[n, -1] = np.delete(row[n], near[i][present]).sum()
    return total


def _zeros_like(array: Array) -> tuple[Array, Array]:
    return np.zeros_like(array, dtype=np.float64), np.zeros_like(array, dtype=np.float64)


def _add(total: tuple[Array, Array], where: object, term: Array, magnitude: Array | None = None) -> None:
    """Adds a term to a sum, and its size to the sum's magnitude."""
    total[0][where] += term
    total[1][where] += np.abs(term) if magnitude is None else magnitude
