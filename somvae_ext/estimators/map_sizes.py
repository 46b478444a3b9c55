"""Choice of a map's size by cross-validation: sizes are compared by their errors on held-out rows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone  # type: ignore[import-untyped]
from torch import Tensor

from somvae_ext.arrays import as_array, as_real_numbers
from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.scaling import Scaling
from somvae_ext.estimators.som import SOM
from somvae_ext.grid import Connectivity
from somvae_ext.progress import Progress
from somvae_ext.som import MapSize, suggest_map_size

Array = NDArray[Any]

# Numbers of nodes of the sizes that are tried by default, as multiples of the suggested size's.
_SIZE_FACTORS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4)


class Estimate(NamedTuple):
    """The mean of an error over the folds, and the standard error of that mean."""

    mean: float
    standard_error: float


class MeasuredSize(NamedTuple):
    """Errors of maps of one size on held-out rows, see :func:`tune_size`."""

    size: MapSize
    quantization_error: Estimate
    topographic_error: Estimate
    combined_error: Estimate

    @property
    def num_nodes(self) -> int:
        return self.size.rows * self.size.cols


@dataclasses.dataclass(frozen=True)
class SizeComparison:
    """Sizes of a map and their errors, see :func:`tune_size`.

    Args:
        table: the sizes and their errors, at least one, in ascending order of the number of nodes.
        suggested: the size that :func:`~somvae_ext.som.suggest_map_size` suggests for these data; it need not be in
            the table.
        connectivity: number of neighbors per node in the topographic and the combined error.
    """

    table: tuple[MeasuredSize, ...]
    suggested: MapSize
    connectivity: Connectivity

    @property
    def least(self) -> MeasuredSize:
        """The size with the smallest combined error."""
        return min(self.table, key=lambda row: row.combined_error.mean)

    @property
    def best(self) -> MeasuredSize:
        """The smallest map whose combined error is within one standard error of that of :attr:`least`."""
        mean, standard_error = self.least.combined_error
        return next(row for row in self.table if row.combined_error.mean <= mean + standard_error)

    @property
    def reason(self) -> str:
        """A sentence that explains the choice of :attr:`best`."""
        best, least = self.best, self.least
        error, size = f"combined error, {best.combined_error.mean:.4g}", _format(best.size)
        if best is not least:
            text = (
                f"{size} is the smallest map whose {error}, is within a standard error, "
                f"{least.combined_error.standard_error:.2g}, of the least, {least.combined_error.mean:.4g} of "
                f"{_format(least.size)}"
            )
        elif best is self.table[0]:
            text = f"{size} has the least {error}"
        else:
            text = f"{size} has the least {error}, and no smaller map comes within its standard error"
        if len(self.table) > 1 and best is self.table[-1]:
            return f"{text}; it is the largest one tried, and a larger one may be better"
        if len(self.table) > 1 and best is self.table[0]:
            return f"{text}; it is the smallest one tried, and a smaller one may do as well"
        return text


def tune_size(
    X: ArrayLike | Tensor,
    sizes: Iterable[tuple[int, int] | Literal["auto"]] | None = None,
    *,
    som: SOM | None = None,
    folds: int = 3,
    groups: ArrayLike | Tensor | None = None,
    fit_scaling: Callable[[Array], Scaling] | None = None,
    random_state: int = 0,
    verbose: bool = False,
) -> SizeComparison:
    """Compares sizes of a map by cross-validation: trains maps on some of the rows and measures them on the others.

    The rows are assigned to folds at random. For each size and fold a map is trained on the other folds and measured
    on that one, by the quantization error, the topographic error and the combined error (Kaski and Lagus 1996, see
    :func:`somvae_ext.evaluation.combined_error`).

    The quantization error falls with every added node, so it cannot select a size. The combined error rises again
    where a map folds to get closer to data with more dimensions than the map has. The best size is the smallest whose
    combined error is within one standard error of the smallest error (the rule of Breiman, Friedman, Olshen and Stone
    1984, section 3.4.3): smaller differences may be due to the random folds. On data with hardly more than two
    dimensions a map need not fold, and the error falls up to the largest size tried.

    Args:
        X: rows ``[N, D]``, an array, table or tensor. The folds are copied, even from a memory-mapped file.
        sizes: rows and columns of each size, at least two nodes, or ``"auto"`` for the size that
            :func:`~somvae_ext.som.suggest_map_size` suggests. By default the suggested size and those with an eighth,
            a quarter, half, two and four times its nodes, as far as there is a training row for each node.
        som: estimator with the map's other parameters; by default ``SOM(random_state=random_state)``.
        folds: number of folds, at least 2.
        groups: group of each row, ``[N]``, such as its series: all rows of a group are in the same fold.
        fit_scaling: function that fits the scaling to the training rows ``[n, D]`` of a fold, such as ``lambda x:
            Scaling.fit("standard", [x], x.shape[1])``; by default rows are not scaled.
        random_state: seed of the random folds.
        verbose: whether to print a line for each map on stderr, or show a progress bar on a terminal (needs tqdm).

    Returns:
        The errors of each size, and the best size.

    Raises:
        ValueError: a size of fewer than two nodes, more folds than rows or groups, or anything that ``SOM.fit``
            rejects.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 6))
        >>> comparison = tune_size(x, [(2, 3), (4, 5), "auto"], folds=2)
        >>> len(comparison.table), comparison.suggested
        (3, MapSize(rows=8, cols=8))
    """
    rows = as_real_numbers("tune_size", "X", X)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(
            f"tune_size: X must have shape [N, D] with at least one row and column, got {list(rows.shape)}"
        )
    som = SOM(random_state=random_state) if som is None else som
    som.check_parameters()
    fold_of_row = _assign_folds(len(rows), folds, groups, random_state)
    scaling = Scaling() if fit_scaling is None else fit_scaling(_as_numpy(rows))
    periodic = bool(som.periodic)
    suggested = suggest_map_size(_scaled(scaling, rows), topology=som.topology, periodic=periodic)
    if sizes is None:
        train_rows = len(rows) - int(np.bincount(fold_of_row).max())
        chosen = _default_sizes(suggested, train_rows, has_even_rows=periodic and som.topology == "hexagonal")
    else:
        chosen = [_as_size(size, suggested) for size in sizes]
    chosen = sorted(set(chosen), key=lambda size: (size.rows * size.cols, size))
    if not chosen:
        raise ValueError("tune_size: sizes must hold at least one size, got none")
    for size in chosen:
        clone(som).set_params(n_rows=size.rows, n_cols=size.cols).check_parameters()  # all, before any training
    errors: dict[MapSize, list[tuple[float, float, float]]] = {size: [] for size in chosen}
    with Progress(len(chosen) * folds, show=verbose, unit="map") as progress:
        for (train, held_out), size in itertools.product(_folds(rows, fold_of_row, folds, fit_scaling), chosen):
            errors[size].append(_measure(som, size, train, held_out))
            quantization, topographic, combined = errors[size][-1]
            progress.after_epoch(
                {
                    "size": f"{size.rows}x{size.cols}",
                    "quantization_error": quantization,
                    "topographic_error": topographic,
                    "combined_error": combined,
                }
            )
    table = tuple(MeasuredSize(size, *map(_estimate, zip(*errors[size], strict=True))) for size in chosen)
    return SizeComparison(table, suggested, som._grid().connectivities[-1])


def _assign_folds(num_rows: int, folds: int, groups: ArrayLike | Tensor | None, seed: int) -> NDArray[np.int64]:
    """Draws the fold of each row, ``[N]``, counted from 0."""
    group = np.arange(num_rows)
    if groups is not None:
        values = as_array("tune_size", "groups", groups)
        if values.shape != (num_rows,):
            raise ValueError(f"tune_size: groups must have shape [N] = {[num_rows]}, got {list(values.shape)}")
        group = np.unique(values, return_inverse=True)[1]
    num_groups, unit = int(group.max()) + 1, "rows" if groups is None else "groups of rows"
    folds = check_integer("tune_size", "folds", folds, Bounds(at_least=2))
    if folds > num_groups:
        raise ValueError(f"tune_size: folds must be at most the {num_groups} {unit}, got {folds}")
    return (np.random.default_rng(seed).permutation(num_groups) % folds)[group]


def _folds(
    rows: Tensor | Array, fold_of_row: NDArray[np.int64], folds: int, fit_scaling: Callable[[Array], Scaling] | None
) -> Iterator[tuple[Any, Any]]:
    """Yields the training rows and the held-out rows of each fold, both with the scaling of the training rows."""
    for fold in range(folds):
        train, held_out = (
            rows[_index(np.flatnonzero(mask), rows)] for mask in (fold_of_row != fold, fold_of_row == fold)
        )
        scaling = Scaling() if fit_scaling is None else fit_scaling(_as_numpy(train))
        yield _scaled(scaling, train), _scaled(scaling, held_out)


def _measure(som: SOM, size: MapSize, train: Any, held_out: Any) -> tuple[float, float, float]:
    """Trains a new map and returns its quantization, topographic and combined error on held-out rows."""
    trained = clone(som).set_params(n_rows=size.rows, n_cols=size.cols, verbose=False, compute_labels=False).fit(train)
    return (
        trained.quantization_error(held_out),
        trained.topographic_error(held_out),
        trained.combined_error(held_out),
    )


def _default_sizes(suggested: MapSize, max_nodes: int, *, has_even_rows: bool) -> list[MapSize]:
    """Sizes of about the suggested shape with fewer and more nodes, up to ``max_nodes``; if none, the suggested one."""
    sizes = []
    for factor in _SIZE_FACTORS:
        rows, cols = (max(1, round(side * math.sqrt(factor))) for side in suggested)
        if 1 in suggested:  # a line: only its length changes
            rows, cols = min(suggested), max(2, round(max(suggested) * factor))
        if has_even_rows:
            rows = max(2, 2 * round(rows / 2))
        if 2 <= rows * cols <= max_nodes:
            sizes.append(MapSize(rows, cols))
    return sizes or [suggested]


def _as_size(size: tuple[int, int] | str, suggested: MapSize) -> MapSize:
    if isinstance(size, str):
        if size != "auto":
            raise ValueError(f"tune_size: sizes must hold rows and columns or 'auto', got {size!r}")
        return suggested
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"tune_size: sizes must hold rows and columns or 'auto', got {size!r}")
    rows, cols = (check_integer("tune_size", "sizes", side) for side in size)
    if rows * cols < 2:
        raise ValueError("tune_size: sizes must have at least 2 nodes, because a single node has no order")
    return MapSize(rows, cols)


def _estimate(errors: Sequence[float]) -> Estimate:
    return Estimate(float(np.mean(errors)), float(np.std(errors, ddof=1) / math.sqrt(len(errors))))


def _scaled(scaling: Scaling, rows: Any) -> Any:
    return rows if scaling.kind == "none" else scaling.apply(rows)


def _index(numbers: NDArray[np.int64], rows: Tensor | Array) -> Any:
    return torch.from_numpy(numbers).to(rows.device) if isinstance(rows, Tensor) else numbers


def _as_numpy(rows: Tensor | Array) -> Array:
    return rows.detach().cpu().numpy() if isinstance(rows, Tensor) else rows


def _format(size: MapSize) -> str:
    return f"{size.rows} x {size.cols}"
