"""Expected results of the ops and the grid, written from the definitions in float64 NumPy, without torch.

Every gradient is derived by hand. It is returned with its magnitude, the sum of the absolute values of its terms:
rounding errors are proportional to the magnitude, not to a sum in which terms cancel. The functions of the transition
table return each result with its error bound in units of the machine epsilon instead, because their terms result from
different numbers of operations.
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
    """Returns the position (x, y) of each node, ``[K, 2]``."""
    points = []
    for row, col in itertools.product(range(rows), range(cols)):
        if topology == "hexagonal":
            points.append((col + (0.5 if row % 2 else 0.0), row * HALF_SQRT3))
        else:
            points.append((float(col), float(row)))
    return np.array(points)


def periods(rows: int, cols: int, topology: str) -> tuple[float, float]:
    """Returns the width and height of the torus."""
    return float(cols), rows * (HALF_SQRT3 if topology == "hexagonal" else 1.0)


def neighbor_table(rows: int, cols: int, topology: str, periodic: bool) -> Index:
    """Returns the node one step of length 1 away in each slot's direction, ``[K, S]``; -1 if none or a repetition."""
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
    """Returns the distances of all pairs, ``[K, K]``; on a torus, the smallest over all images of the second node."""
    points = coordinates(rows, cols, topology)
    width, height = periods(rows, cols, topology)
    steps = (-2, -1, 0, 1, 2) if periodic else (0,)
    images = [points + np.array([i * width, j * height]) for i in steps for j in steps]
    return np.min([np.linalg.norm(points[:, None] - image[None], axis=2) for image in images], axis=0)


# ---- best matching unit ----------------------------------------------------------------------------------------------


def squared_distances(z: Array, codebook: Array) -> Array:
    """Returns all squared distances, ``[N, K]``."""
    with np.errstate(invalid="ignore", over="ignore"):
        rows = [np.square(row - codebook).sum(axis=1) for row in z]
    return np.array(rows).reshape(len(z), len(codebook))


def scores(z: Array, codebook: Array) -> Array:
    """Returns all squared distances as the search defines them (csrc/bmu/bmu.h): summed by feature, without FMA."""
    score = np.zeros((len(z), len(codebook)))
    with np.errstate(invalid="ignore", over="ignore"):
        for x, e in zip(z.T, codebook.T, strict=True):
            difference = x[:, None] - e
            score = score + difference * difference
    return score


def best_codes(distances: Array, k: int) -> tuple[Array, Index]:
    """Returns the k smallest distances and their codes. NaN never wins, ties go to the smallest index.

    Slots for which no code remains hold NaN and 0.
    """
    distance, index = np.full((len(distances), k), np.nan), np.zeros((len(distances), k), dtype=np.int64)
    for n, row in enumerate(distances):
        ranking = sorted((value, code) for code, value in enumerate(row) if not math.isnan(value))
        for slot, (value, code) in enumerate(ranking[:k]):
            distance[n, slot], index[n, slot] = value, code
    return distance, index


def bmu_gradients(z: Array, codebook: Array, index: Index, grad: Array) -> dict[str, tuple[Array, Array]]:
    """Returns gradients of ``sum(grad * distance)`` and their magnitudes; ``index`` and ``grad`` are ``[N, k]``."""
    grads = {"z": _zeros_like(z), "codebook": _zeros_like(codebook)}
    for n, winners in enumerate(index):
        for slot, code in enumerate(winners):
            term = 2 * grad[n, slot] * (z[n] - codebook[code])
            _add(grads["z"], n, term)
            _add(grads["codebook"], code, -term)
    return grads


# ---- winner and neighbors -------------------------------------------------------------------------------------------


def gather(codebook: Array, index: Index, table: Index) -> Array:
    """Returns the codes of the winner and its neighbors, ``[N, 1 + S, D]``; zeros for an absent neighbor."""
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
    """Returns the commitment and the SOM loss, ``[N]`` each."""
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
    """Returns the gradients of both losses.

    The SOM term treats z as a constant, and an absent neighbor is one, so the gradients do not depend on ``border``.
    """
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
    """Returns the gradients of the losses and of the winners' codes; the latter go to the codes or straight to z."""
    grads = losses_gradients(z, codebook, index, table, grad_commitment, grad_som)
    for n, winner in enumerate(index):
        _add(*(grads["z"], n) if straight_through else (grads["codebook"], winner), grad_quantized[n])
    return grads


# ---- segment sums ----------------------------------------------------------------------------------------------------


def segment_sum(x: Array, index: Index, num_segments: int) -> tuple[tuple[Array, Array], Index]:
    """Returns sums and their magnitudes, ``[K, D]``, and counts, ``[K]``."""
    total, count = _zeros_like(np.empty((num_segments, x.shape[1]))), np.zeros(num_segments, dtype=np.int64)
    for n, segment in enumerate(index):
        _add(total, segment, x[n])
        count[segment] += 1
    return total, count


def som_update(codebook: Array, total: Array, count: Array, weights: Array, rate: float | None) -> tuple[Array, Array]:
    """Returns the new codes and a bound on their rounding error in float64.

    A sum of products, whether computed in one pass over the nodes or in two passes over rows and columns, has at most
    one rounding per node and one more.
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
    """Bounds, in epsilons, the error of a row's log-probabilities, which is the relative error of its probabilities.

    A one-pass normalizer adds K exponentials and rescales the sum at each new maximum: at most 4 roundings per step.
    An error of eps times an exponent's size changes the exponential by that relative amount; the exponents of the terms
    and of the rescalings together reach at most twice the range of the row. After that, the normalizer, its logarithm
    and the differences from it are rounded, and the exponential of a difference is rounded once more.
    """
    finite = row[np.isfinite(row)]
    span = finite.max() - finite.min()
    size = np.abs(finite).max() + np.log(len(row))
    return 4 * len(row) + 4 * span + 4 * size + 16


# Absolute error, in epsilons of float32, of probabilities below float32's smallest normal number, because they may be
# flushed to zero. In float64 this error is negligible.
UNDERFLOW = 2.0**-126 / 2.0**-23


def transition_log_prob(logits: Array, prev: Index, cur: Index) -> tuple[Array, Array]:
    """Returns log-probabilities and their error bounds in epsilons, ``[N]`` each."""
    values = [log_softmax(logits[i])[j] for i, j in zip(prev, cur, strict=True)]
    return np.array(values), np.array([softmax_operations(logits[i]) for i in prev])


def transition_log_prob_gradient(logits: Array, prev: Index, cur: Index, grad: Array) -> dict[str, tuple[Array, Array]]:
    """Returns the gradient of the table as one row per sample, ``[N, K]``, for :func:`scatter_rows` to add up."""
    grads = {"logits": _zeros_like(logits[prev])}
    for n, (i, j) in enumerate(zip(prev, cur, strict=True)):
        probability = np.exp(log_softmax(logits[i]))
        hit = np.arange(len(logits)) == j
        operations = softmax_operations(logits[i]) + len(prev) + 4
        magnitude = (hit + probability) * operations + UNDERFLOW
        _add(grads["logits"], n, grad[n] * (hit - probability), abs(grad[n]) * magnitude)
    return grads


def scatter_rows(rows: tuple[Array, Array], prev: Index, count: int) -> tuple[Array, Array]:
    """Adds the samples' rows, ``[N, K]``, to the rows ``prev`` of a table with ``count`` rows."""
    total = _zeros_like(np.empty((count, rows[0].shape[1])))
    for n, i in enumerate(prev):
        _add(total, i, rows[0][n], rows[1][n])
    return total


def expected_distance(logits: Array, prev: Index, z: Array, codebook: Array) -> tuple[Array, Array]:
    """Returns expectations and their error bounds in epsilons, ``[N]`` each."""
    distances = squared_distances(z, codebook)
    values = np.array([np.exp(log_softmax(logits[i])) @ distances[n] for n, i in enumerate(prev)])
    operations = np.array([softmax_operations(logits[i]) for i in prev]) + codebook.shape[1] + len(codebook) + 4
    return values, values * operations + UNDERFLOW * distances.sum(axis=1)


def expected_distance_gradients(
    logits: Array, prev: Index, z: Array, codebook: Array, grad: Array
) -> dict[str, tuple[Array, Array]]:
    """Returns the gradients; that of the table as one row per sample, as above.

    The gradients of ``z`` and ``codebook`` may be computed as sums of differences ``z_n - e_j``, or from products with
    codes and rows from which the codes' mean was subtracted. Either way the terms are at most as large as the centered
    row and the centered code together.
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
    """Returns the gradients of both losses. Only the table receives two terms; adding them is one more rounding."""
    of_log_prob = transition_log_prob_gradient(logits, prev, cur, grad_log_prob)["logits"]
    grads = expected_distance_gradients(logits, prev, z, codebook, grad_expectation)
    _add(grads["logits"], slice(None), of_log_prob[0], of_log_prob[1] + np.abs(grads["logits"][0]))
    return grads


# ---- local transitions -----------------------------------------------------------------------------------------------


def windows(rows: int, cols: int, topology: str, periodic: bool, radius: int) -> list[set[int]]:
    """Returns the nodes in each node's window, by steps between neighbors on hexagons, else by rows and columns."""
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
    """Returns the K x K table equal to a local one; ``near[K, W]`` holds the node in each slot, or -1 if none."""
    nodes = len(near)
    dense = np.empty((nodes, nodes))
    for i, window in enumerate(near):
        inside = window[window >= 0]
        outside = nodes - len(inside)
        dense[i] = logits[i, -1] - np.log(outside) if outside else np.nan
        dense[i, inside] = logits[i, :-1][window >= 0]
    return dense


def local_gradient(rows: tuple[Array, Array], nodes: Index, near: Index) -> tuple[Array, Array]:
    """Returns the gradients of a local table's rows, ``[N, W + 1]``, from those of the dense table's, ``[N, K]``."""
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
    """Adds a term to a sum, and its absolute value to the sum's magnitude."""
    total[0][where] += term
    total[1][where] += np.abs(term) if magnitude is None else magnitude
