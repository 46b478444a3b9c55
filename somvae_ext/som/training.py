"""Training a map: epochs of the batch rule, and steps of the on-line rule on mini-batches.

Batch rule (Kohonen 2013, "Essentials of the self-organizing map", eq. 8): every code becomes the mean of all rows,
weighted by the neighborhood h of their winners c(n),

    W_v = sum_n h(c(n), v) x_n / sum_n h(c(n), v).

On-line rule (Kohonen 1990), averaged over a mini-batch, with a learning rate alpha:

    W_v += alpha mean_b h(c(b), v) (x_b - W_v).

In both, rows are first summed by winner, so that the neighborhood is applied to nodes and not to rows. An epoch costs
the search, O(N D) for the sums, and :func:`~somvae_ext.som.neighborhood_update`; nothing of size N x K or K x K is
held.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Connectivity, Grid
from somvae_ext.processes import Processes
from somvae_ext.som.metrics import Metric, WinnerSearch
from somvae_ext.som.neighborhoods import Neighborhood, neighborhood_update
from somvae_ext.som.rows import Chunk, Rows

EpochRecord = dict[str, float]
EpochCallback = Callable[[EpochRecord, Tensor], None]
"""Called after each epoch with its record and the codes ``[K, D]`` after it."""


class NodeSums(NamedTuple):
    """Sums over the rows that each node won.

    ``total`` ``[K, D]``: the sum of the rows. ``count``: their number or weight, ``[K]``, or per feature, ``[K, D]``,
    where values are missing.
    """

    total: Tensor
    count: Tensor  # type: ignore[assignment]


class Assignment(NamedTuple):
    """Result of a pass over all rows.

    ``index``: the winner of each row, int64 ``[N]`` on the CPU. ``quantization_error``: the mean distance to the
    winners. ``topographic_error``: the share of rows whose two best units are not neighbors, 0 unless requested.
    """

    index: Tensor  # type: ignore[assignment]
    quantization_error: float
    topographic_error: float


class StepResult(NamedTuple):
    """Result of a mini-batch step.

    ``codebook`` ``[K, D]``: the codes after the step. ``distance`` and ``index`` ``[N]``: those of the winners before
    it.
    """

    codebook: Tensor
    distance: Tensor
    index: Tensor  # type: ignore[assignment]


def node_sums(
    x: Tensor, index: Tensor, num_nodes: int, weight: Tensor | None = None, has_gaps: bool = False
) -> NodeSums:
    """Sums the rows that each node won.

    Args:
        x: rows ``[N, D]``; with ``has_gaps``, NaN where a value is missing.
        index: winners, int64 ``[N]``.
        num_nodes: number of nodes K.
        weight: weight of each row, float64 ``[N]``.
        has_gaps: count the values of each feature separately.
    """
    mass = None if weight is None else weight[:, None]
    if has_gaps:
        present = (~x.isnan()).double()
        x = x.nan_to_num(nan=0.0)
        mass = present if mass is None else present * mass
    if weight is not None:
        x = x * weight.to(x.dtype)[:, None]
    total, count = ops.segment_sum(x, index, num_nodes)
    if mass is not None:
        count = ops.segment_sum(mass, index, num_nodes).sum
    return NodeSums(total, count if has_gaps else count.view(num_nodes))


class _EpochSums:
    """Sums of an epoch over chunks and processes."""

    def __init__(self, codebook: Tensor) -> None:
        self.sums: NodeSums | None = None
        # Weight of all rows, weighted sum of distances, and weight of the rows whose two best units are not neighbors.
        self.scalars = torch.zeros(3, dtype=torch.float64, device=codebook.device)

    def add(self, sums: NodeSums) -> None:
        if self.sums is None:
            self.sums = sums
        else:  # in float64, so that a chunk's sum is rounded once
            self.sums = NodeSums(self.sums.total.double() + sums.total, self.sums.count + sums.count)

    def add_errors(self, distance: Tensor, misplaced: Tensor | None, weight: Tensor | None) -> None:
        self.scalars[0] += len(distance) if weight is None else weight.sum()
        self.scalars[1] += _weighted_sum(distance, weight)
        if misplaced is not None:
            self.scalars[2] += _weighted_sum(misplaced, weight)

    def reduce(self, processes: Processes) -> NodeSums:
        assert self.sums is not None
        if processes.world_size == 1:
            return self.sums
        total, count = self.sums.total.double(), self.sums.count
        total, count, self.scalars = processes.sum(total, count, self.scalars)
        return NodeSums(total, count)


def train_batch(
    rows: Rows,
    codebook: Tensor,
    grid: Grid,
    *,
    metric: Metric,
    neighborhood: str | Neighborhood,
    num_epochs: int,
    sigma: Callable[[int], float],
    track_topographic_error: bool = False,
    connectivity: Connectivity | None = None,
    should_stop: Callable[[list[EpochRecord]], bool] | None = None,
    processes: Processes | None = None,
    on_epoch_end: EpochCallback | None = None,
    previous_records: Sequence[EpochRecord] = (),
) -> tuple[Tensor, list[EpochRecord]]:
    """Trains a map by the batch rule.

    Args:
        rows: rows of the data, or of this process's share.
        codebook: initial codes ``[K, D]``, dtype and device of the rows.
        grid: grid of K nodes.
        metric: metric of the search.
        neighborhood: as for :func:`~somvae_ext.som.neighborhood_update`.
        num_epochs: passes over the rows, at least 1.
        sigma: function from the epoch, counted from 0, to the width of the neighborhood.
        track_topographic_error: also search for the second best units.
        connectivity: number of neighbors per node in the topographic error, see
            :func:`~somvae_ext.evaluation.topographic_error`.
        should_stop: function of the records so far, called after each epoch; True ends the training.
        processes: processes that train this map together; by default this one alone.
        on_epoch_end: see :data:`EpochCallback`.
        previous_records: records of an interrupted training to resume, whose last codes are ``codebook``.

    Returns:
        The trained codes, and a record per epoch: ``epoch`` (from 1), ``sigma``, ``quantization_error`` and, if
        tracked, ``topographic_error_8`` (or that of another connectivity). Both errors are those of the codes at the
        start of the epoch.
    """
    processes = processes or Processes.single(codebook.device)
    history: list[EpochRecord] = list(previous_records)
    hints: dict[int, Tensor] = {}
    tracked_connectivity = (connectivity or grid.connectivities[-1]) if track_topographic_error else None
    has_gaps = any(processes.gather_objects(int(rows.has_gaps)))  # all processes must count alike
    for epoch in _remaining_epochs(history, num_epochs, should_stop):
        search = WinnerSearch(codebook, grid, metric)
        epoch_sums = _EpochSums(codebook)
        for number, chunk in enumerate(rows.chunks()):
            winners = _find_winners(search, grid, chunk, has_gaps, tracked_connectivity, hints.get(number), epoch_sums)
            epoch_sums.add(node_sums(chunk.x, winners, grid.num_nodes, chunk.weight, has_gaps))
            if rows.has_fixed_order:
                hints[number] = winners
        total, count = epoch_sums.reduce(processes)
        width = sigma(epoch)
        codebook = neighborhood_update(codebook, total, count, grid, neighborhood, width)
        history.append(_epoch_record(epoch, width, epoch_sums.scalars, tracked_connectivity))
        if on_epoch_end is not None:
            on_epoch_end(history[-1], codebook)
        if should_stop is not None and should_stop(history):
            break
    return codebook, history


def check_no_empty_columns(rows: Rows, processes: Processes) -> None:
    """Checks that each feature has a value in some process's rows, see :meth:`RowFormat.check_no_empty_columns`."""
    (num_observed,) = processes.sum(rows.observed_features.double())
    rows.row_format.check_no_empty_columns(num_observed > 0)


def _find_winners(
    search: WinnerSearch,
    grid: Grid,
    chunk: Chunk,
    has_gaps: bool,
    connectivity: Connectivity | None,
    hint: Tensor | None,
    epoch_sums: _EpochSums,
) -> Tensor:
    """Finds the best units of a chunk, int64 ``[n]``, and adds their errors to those of the epoch.

    If a ``connectivity`` is given, second best units are also found, for the topographic error.
    """
    distance, index = search.search(chunk.x, k=1 if connectivity is None else 2, hint=hint, has_gaps=has_gaps)
    is_misplaced = None
    if connectivity is not None:
        is_misplaced = ~grid.are_neighbors(index[:, 0], index[:, 1], connectivity)
        distance, index = distance[:, 0], index[:, 0].contiguous()
    epoch_sums.add_errors(distance, is_misplaced, chunk.weight)
    return index


def minibatch_step(
    codebook: Tensor,
    x: Tensor,
    grid: Grid,
    *,
    metric: Metric,
    neighborhood: str | Neighborhood,
    alpha: float,
    sigma: float,
    weight: Tensor | None = None,
    has_gaps: bool = False,
) -> StepResult:
    """Takes one step of the mini-batch rule.

    Args:
        codebook: codes ``[K, D]``.
        x: a batch ``[N, D]``, finite except for NaN where a value is missing, if ``has_gaps``.
        grid: grid of K nodes.
        metric: metric of the search.
        neighborhood: as for :func:`~somvae_ext.som.neighborhood_update`.
        alpha: learning rate, at least 0. Up to 1, a neighborhood of at most 1 never overshoots.
        sigma: width of the neighborhood in units of the grid, above 0.
        weight: weight of each row, float64 ``[N]``.
        has_gaps: whether values may be missing.

    Raises:
        ValueError: ``alpha`` or ``sigma`` out of range.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(f"SOM: alpha must be a finite number of at least 0, got {alpha}")
    distance, index = WinnerSearch(codebook, grid, metric).search(x, has_gaps=has_gaps)
    mass = float(len(x)) if weight is None else float(weight.sum())
    if mass > 0:
        total, count = node_sums(x, index, grid.num_nodes, weight, has_gaps)
        codebook = neighborhood_update(codebook, total, count, grid, neighborhood, sigma, rate=alpha / mass)
    return StepResult(codebook, distance, index)


def train_minibatch(
    batches: Callable[[], Iterable[Chunk]],
    codebook: Tensor,
    grid: Grid,
    *,
    metric: Metric,
    neighborhood: str | Neighborhood,
    num_epochs: int,
    alpha: Callable[[int], float],
    sigma: Callable[[int], float],
    has_gaps: bool = False,
    should_stop: Callable[[list[EpochRecord]], bool] | None = None,
    on_epoch_end: EpochCallback | None = None,
    previous_records: Sequence[EpochRecord] = (),
) -> tuple[Tensor, list[EpochRecord]]:
    """Trains a map by the mini-batch rule.

    Args:
        batches: function that returns the batches of an epoch.
        alpha: function from the epoch, counted from 0, to the learning rate.
        sigma: function from the epoch, counted from 0, to the width of the neighborhood.

    The other arguments are those of :func:`train_batch`.

    Returns:
        The trained codes, and a record per epoch: ``epoch`` (from 1), ``sigma``, ``alpha`` and ``quantization_error``,
        the mean over the rows, each with the codes before its step.
    """
    history: list[EpochRecord] = list(previous_records)
    for epoch in _remaining_epochs(history, num_epochs, should_stop):
        rate, width = alpha(epoch), sigma(epoch)
        errors = _EpochSums(codebook)
        for x, weight in batches():
            result = minibatch_step(
                codebook,
                x,
                grid,
                metric=metric,
                neighborhood=neighborhood,
                alpha=rate,
                sigma=width,
                weight=weight,
                has_gaps=has_gaps,
            )
            codebook = result.codebook
            errors.add_errors(result.distance, None, weight)
        history.append(_epoch_record(epoch, width, errors.scalars, None) | {"alpha": rate})
        if on_epoch_end is not None:
            on_epoch_end(history[-1], codebook)
        if should_stop is not None and should_stop(history):
            break
    return codebook, history


def assign(
    rows: Rows,
    codebook: Tensor,
    grid: Grid,
    metric: Metric,
    *,
    connectivity: Connectivity | None = None,
    processes: Processes | None = None,
) -> Assignment:
    """Finds the winner of every row, and the errors over the rows of all processes.

    The topographic error costs more; it is computed only if its ``connectivity`` is given.
    """
    search = WinnerSearch(codebook, grid, metric)
    errors = _EpochSums(codebook)
    index = [
        _find_winners(search, grid, chunk, rows.has_gaps, connectivity, None, errors).to("cpu", copy=False)
        for chunk in rows.chunks()
    ]
    (scalars,) = (processes or Processes.single(codebook.device)).sum(errors.scalars)
    mass, distance, misplaced = scalars.tolist()
    return Assignment(torch.cat(index), distance / mass, misplaced / mass)


def early_stopping(tol: float, patience: int) -> Callable[[list[EpochRecord]], bool]:
    """Returns a ``should_stop``: true if the quantization error has not fallen by ``tol`` in ``patience`` epochs.

    ``tol`` is a share of the error. The first record is left out: initial codes that are rows of the data fit them
    better than codes trained with a wide neighborhood do.
    """

    def should_stop(history: list[EpochRecord]) -> bool:
        errors = [record["quantization_error"] for record in history[1:]]
        return len(errors) > patience and errors[-1] >= (1 - tol) * errors[-1 - patience]

    return should_stop


def _remaining_epochs(
    history: list[EpochRecord], num_epochs: int, should_stop: Callable[[list[EpochRecord]], bool] | None
) -> range:
    """The epochs to train, none if the earlier training has ended."""
    has_ended = len(history) > 0 and should_stop is not None and should_stop(history)
    return range(0) if has_ended else range(len(history), num_epochs)


def _weighted_sum(values: Tensor, weight: Tensor | None) -> float | Tensor:
    """Weighted sum in float64; on the CPU by numpy in one thread: torch would wake all threads for little work."""
    if values.device.type != "cpu":
        return values.double().sum() if weight is None else weight @ values.double()
    array = values.numpy()
    return float(array.sum(dtype=np.float64) if weight is None else (weight.numpy() * array).sum())


def _epoch_record(epoch: int, sigma: float, scalars: Tensor, connectivity: Connectivity | None) -> EpochRecord:
    mass, distance, misplaced = scalars.tolist()
    record: EpochRecord = {
        "epoch": epoch + 1,
        "sigma": sigma,
        "quantization_error": distance / mass if mass else math.nan,
    }
    if connectivity is not None:
        record[f"topographic_error_{connectivity}"] = misplaced / mass if mass else math.nan
    return record
