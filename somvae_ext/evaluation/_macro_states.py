"""Groups of nodes within which series stay for a long time."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from somvae_ext.arrays import as_floats
from somvae_ext.config_checks import check_integer
from somvae_ext.extras import needed_by

_ROW_SUM_TOLERANCE = 1e-2  # above the rounding of bfloat16: 2^-9 of each entry, and so of their sum
_SEED = 0  # for the start vector of the eigensolver


@needed_by("macro_states")
def macro_states(transitions: ArrayLike | Tensor, visits: ArrayLike | Tensor, num_states: int = 2) -> Tensor:
    """Groups the nodes of a chain into metastable sets: series move within a set, and seldom from one to another.

    With pi the shares of ``visits``, F = diag(pi) P is the flow from node to node in one step. The sets are a
    normalized cut of (F + F^T) / 2 (Shi and Malik 2000), by scikit-learn's ``SpectralClustering`` with labels from a
    pivoted QR factorization (Damle, Minden and Ying 2019), which does not depend on random numbers. Because the flow is
    made symmetric, a chain and its time reversal have the same sets. Steps that stay in a node do not count: nodes are
    grouped by where series go when they move.

    Args:
        transitions: P(j | i), ``[K, K]`` with row = from, an array-like or a tensor on any device, such as
            :meth:`TransitionModel.matrix <somvae_ext.nn.TransitionModel.matrix>` gives. Rows sum to 1.
        visits: number or share of visits to each node, ``[K]``, not negative.
        num_states: number of sets.

    Returns:
        The set of each node, int64 ``[K]`` on the device of ``transitions``. Sets are numbered by decreasing share of
        visits; nodes that were never visited have -1. If the flow consists of ``num_states`` or more unconnected parts,
        the most visited parts are a set each, and the last set holds all others.

    Raises:
        ValueError: arguments of wrong shapes, numbers that are not probabilities or counts, or fewer visited nodes than
            ``num_states``.
        ModuleNotFoundError: scikit-learn is missing.

    Example:
        >>> chain = [[0.5, 0.4, 0.1], [0.4, 0.6, 0.0], [0.1, 0.0, 0.9]]
        >>> macro_states(chain, [10, 10, 12]).tolist()
        [0, 0, 1]
    """
    from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

    num_states = check_integer("macro_states", "num_states", num_states)
    matrix, times = as_floats("macro_states", "transitions", transitions), as_floats("macro_states", "visits", visits)
    device = matrix.device
    matrix, times = matrix.double().cpu(), times.double().cpu()
    _check_chain(matrix, times)
    visited = times.nonzero()[:, 0]
    if len(visited) < num_states:
        raise ValueError(
            f"macro_states: num_states must be at most the number of visited nodes, {len(visited)}, got {num_states}"
        )
    share = (times[visited] / times.sum()).numpy()
    outflow = share[:, None] * matrix[visited][:, visited].numpy()
    flow = (outflow + outflow.T) / 2
    num_parts, part = connected_components(flow, directed=False)
    if num_parts >= num_states:
        label = np.minimum(_by_falling_share(part, share), num_states - 1)
    else:
        label = _normalized_cut(flow, num_states)
    states = torch.full((len(times),), -1)
    states[visited] = torch.from_numpy(_by_falling_share(label, share))
    return states.to(device)


def _normalized_cut(flow: NDArray[np.float64], num_states: int) -> NDArray[np.int64]:
    from sklearn.cluster import SpectralClustering  # type: ignore[import-untyped]

    if len(flow) == num_states:  # the eigensolver does not give as many eigenvectors as there are nodes
        return np.arange(num_states)
    clustering = SpectralClustering(num_states, affinity="precomputed", assign_labels="cluster_qr", random_state=_SEED)
    with warnings.catch_warnings():
        # Unconnected parts are what the cut is meant to find, and its eigenvectors tell them apart.
        warnings.filterwarnings("ignore", message="Graph is not fully connected")
        return clustering.fit_predict(flow).astype(np.int64)


def _by_falling_share(label: NDArray[np.integer], share: NDArray[np.float64]) -> NDArray[np.int64]:
    """Renumbers the labels by the total share of their nodes, the largest first."""
    place = np.empty(label.max() + 1, np.int64)
    place[np.argsort(-np.bincount(label, share), kind="stable")] = np.arange(len(place))
    return place[label]


def _check_chain(transitions: Tensor, visits: Tensor) -> None:
    if visits.dim() != 1 or len(visits) == 0:
        raise ValueError(f"macro_states: visits must have shape [K] with K of at least 1, got {list(visits.shape)}")
    if transitions.shape != (len(visits), len(visits)):
        raise ValueError(
            f"macro_states: transitions must have shape [K, K] = {[len(visits), len(visits)]}, got "
            f"{list(transitions.shape)}"
        )
    if (wrong := ~(visits.isfinite() & (visits >= 0))).any():
        raise ValueError(f"macro_states: visits must be finite and not negative, got {visits[wrong][0].item()}")
    rows = transitions[visits > 0]
    if (wrong := ~(rows.isfinite() & (rows >= 0))).any():
        raise ValueError(f"macro_states: transitions must be finite and not negative, got {rows[wrong][0].item()}")
    totals = rows.sum(dim=1)
    if (wrong := (totals - 1).abs() > _ROW_SUM_TOLERANCE).any():
        row = int((visits > 0).nonzero()[wrong][0])
        raise ValueError(
            f"macro_states: transitions must have rows that sum to 1, got {totals[wrong][0].item():.6g} in row {row}"
        )
