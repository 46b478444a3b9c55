"""Samples and their nodes, as an explorer shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from somvae_ext.report.explorer import AssignedSamples, SeriesPath, Transitions
from somvae_ext.report.sprites import Sprites

MOST_IDS = 100_000
"""Number of samples that can be found by their names; of larger data, this many spread evenly."""

_NEAREST = 5
_MOST_IMAGES = 8192
_MOST_TARGETS = 8
_MOST_PATHS = 200
_MOST_PATH_FRAMES = 100_000


def evenly_spread(count: int, most: int) -> NDArray[np.int64]:
    """Returns at most ``most`` of the numbers from 0 to ``count`` - 1, spread evenly from the first to the last."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, most).round().astype(np.int64)


def nearest_of_each(
    node: NDArray[np.int64], distance: NDArray[np.floating[Any]], num_nodes: int, most: int = _NEAREST
) -> NDArray[np.int64]:
    """Finds the samples of each node that are nearest to it, int64 ``[K, most]``, nearest first; -1 if there are fewer.

    Samples at the same distance keep their order.
    """
    order = np.lexsort((distance, node))
    first = np.searchsorted(node[order], np.arange(num_nodes))
    rank = np.arange(len(node)) - first[node[order]]
    kept = rank < most
    nearest = np.full((num_nodes, most), -1, np.int64)
    nearest[node[order][kept], rank[kept]] = order[kept]
    return nearest


def choose_samples(
    node: NDArray[np.int64],
    measured: NDArray[np.floating[Any]],
    num_nodes: int,
    row_keys: Mapping[str, Sequence[Any] | NDArray[Any]],
    *,
    what: str,
    measure: str = "distance",
    label: NDArray[Any] | None = None,
    split: NDArray[Any] | None = None,
    draw: Callable[[NDArray[np.int64]], Sprites] | None = None,
) -> AssignedSamples:
    """Chooses the samples that can be found: all, or of many an even selection and the nearest of each node.

    Args:
        node: node of each of all samples, int64 ``[N]``.
        measured: distance of each to its code, or probability of its category, ``[N]``.
        num_nodes: K.
        row_keys: keys of the samples, ``[N]`` by name.
        what: noun for a sample.
        measure: ``"distance"``, or ``"probability"``, by which the likelier is the nearer.
        label: classes of the samples, ``[N]``.
        split: names of the samples' splits, ``[N]``.
        draw: draws the samples of these numbers, int64 ``[M]``, as images, black for -1; None if they are no images.
    """
    nearest = nearest_of_each(node, -measured if measure == "probability" else measured, num_nodes)
    kept = evenly_spread(len(node), max(MOST_IDS - int((nearest >= 0).sum()), 0))
    if len(kept) < len(node):
        kept = np.union1d(kept, nearest[nearest >= 0])
    place = np.full(len(node) + 1, -1)
    place[kept] = np.arange(len(kept))
    each = images_per_node(num_nodes)
    keys = list(row_keys.values())
    return AssignedSamples(
        what=what,
        key=" and ".join(row_keys),
        total=len(node),
        ids=[", ".join(str(values[row]) for values in keys) for row in kept.tolist()],
        node=node[kept],
        distance=measured[kept],
        label=None if label is None else [str(value) for value in label[kept].tolist()],
        nearest=place[nearest],
        measure=measure,
        split=None if split is None else split[kept].tolist(),
        images=draw(nearest[:, :each].ravel()) if draw is not None and each else None,
    )


def images_per_node(num_nodes: int) -> int:
    """Returns for how many of the nearest samples of each node an explorer holds images."""
    return min(_MOST_IMAGES // num_nodes, _NEAREST)


def likeliest(matrix_rows: Iterable[NDArray[np.floating[Any]]], source: str) -> Transitions:
    """Finds the most likely next nodes in rows of probabilities ``[K]``, one for each node.

    Of equally likely nodes, the one with the smallest number comes first.
    """
    target, probability = [], []
    for row in matrix_rows:
        best = np.argsort(-row, kind="stable")[:_MOST_TARGETS]
        target.append(best)
        probability.append(row[best])
    return Transitions(source, np.stack(target), np.stack(probability))


def count_transitions(paths: Iterable[NDArray[np.int64]], num_nodes: int, source: str) -> Transitions:
    """Finds the most likely next nodes by counting moves from frame to frame, stays included."""
    pairs = [np.stack([path[:-1], path[1:]], axis=1) for path in paths if len(path) > 1]
    moves = np.concatenate([np.empty((0, 2), np.int64), *pairs])
    (move, count) = np.unique(moves, axis=0, return_counts=True)
    start = np.bincount(moves[:, 0], minlength=num_nodes)
    order = np.lexsort((move[:, 1], -count, move[:, 0]))
    origin, goal, count = move[order, 0], move[order, 1], count[order]
    rank = np.arange(len(origin)) - np.searchsorted(origin, np.arange(num_nodes))[origin]
    kept = rank < _MOST_TARGETS
    target = np.zeros((num_nodes, _MOST_TARGETS), np.int64)
    probability = np.zeros((num_nodes, _MOST_TARGETS))
    target[origin[kept], rank[kept]] = goal[kept]
    probability[origin[kept], rank[kept]] = count[kept] / start[origin[kept]]
    return Transitions(source, target, probability)


def choose_paths(names: Sequence[str], paths: Sequence[NDArray[np.int64]]) -> list[SeriesPath]:
    """Chooses series spread evenly over all, as many as a page can hold."""
    chosen: list[SeriesPath] = []
    frames = 0
    for number in evenly_spread(len(paths), _MOST_PATHS).tolist():
        frames += len(paths[number])
        if chosen and frames > _MOST_PATH_FRAMES:
            break
        chosen.append(SeriesPath(names[number], paths[number]))
    return chosen


def split_by_series(row_keys: Mapping[str, Sequence[Any]]) -> tuple[list[str], list[NDArray[np.int64]]] | None:
    """Returns the names of series and the rows of each, in order; None if the rows are not frames of series."""
    if list(row_keys)[:1] != ["series"] or len(row_keys) < 2:
        return None
    key = np.asarray(row_keys["series"], dtype=object).astype(str)
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(first)  # in the order of the data
    rows = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])
    return [series_name(row_keys["series"][first[at]]) for at in order], [rows[at] for at in order]


def series_name(key: Any) -> str:
    """Returns the name of a series whose key is the name of its file or its number."""
    return key if isinstance(key, str) else f"series {key}"
