"""New codes of a map from the sums of the rows that its nodes won."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from somvae_ext import _native
from somvae_ext.ops import _arguments

SMALLEST_NORMAL = torch.finfo(torch.float64).smallest_normal


class AxisWeights(NamedTuple):
    """A neighborhood that separates along the axes of a grid of R rows and C columns, as a Gaussian does.

    Row r of the grid has phase r mod P. P is 1, or 2 on hexagons: their odd rows are shifted by half a node, so that
    the distance along the columns depends on the phases of both rows. The weight of node (s, b) at node (r, c) is
    ``rows[r, s] * columns[s % P, r % P, c, b]``.
    """

    rows: Tensor  # [R, R]: target row, source row
    columns: Tensor  # [P, P, C, C]: phases of the source row and of the target row, target column, source column


def som_update(
    codebook: Tensor,
    total: Tensor,
    count: Tensor,
    weights: Tensor | AxisWeights,
    *,
    rate: float | None = None,
) -> Tensor:
    """Moves the codes of a map toward the rows that their nodes and the nodes around them won.

    Let h be the weights, S and n the sums and counts of the rows that each node won (:func:`segment_sum`), and::

        num[m] = sum over nodes k of h[m, k] S[k]
        den[m] = sum over nodes k of h[m, k] n[k]

    The batch map (Kohonen 2013, "Essentials of the self-organizing map") replaces each code by the weighted mean of the
    rows, ``num / den``; a code that no row reaches stays as it is. With a ``rate`` each code takes a step toward that
    mean instead, ``codebook + rate * (num - den * codebook)``. With a rate of alpha / B this is the on-line rule for a
    mini-batch of B rows x: each code moves by alpha times the mean over the rows of h[m, winner of x] (x - code).

    Args:
        codebook: the codes, ``[K, D]``; float32, float64, float16 or bfloat16. With dense weights also ``[M, D]``, the
            codes of any M nodes, so that a general neighborhood can be applied in blocks of targets.
        total: S, ``[K, D]``; float32 or float64, whatever the dtype of the codes.
        count: n, ``[K]``; int64, or float32 or float64 if rows have weights. If values are missing, ``[K, D]`` in any
            of these dtypes: the number (or total weight) of the values of each feature.
        weights: ``[M, K]``, the weight of node k's rows at target m; or :class:`AxisWeights` with K = M = R * C, for
            which the update takes O(K (R + C) D) operations instead of O(K^2 D) and stores no ``[K, K]`` tensor.
            float32 or float64; float64 is used as it is, float32 is copied. A weight of exactly zero excludes the rows
            of its node, whatever they hold; ranges of such weights cost nothing.
        rate: the step size of the on-line rule, or None for the batch map.

    Returns:
        The new codes, in the shape and dtype of ``codebook``. Sums are taken in float64, one multiply-add for each
        weight in the order of the nodes (along the columns first, with :class:`AxisWeights`), and rounded once: the
        result does not depend on the number of threads. ``den`` counts as zero below the smallest normal number, about
        2.2e-308, where sums have lost the digits that a quotient would need. A NaN or infinity in ``total`` affects the
        codes that give its node weight, and no others.

        Not differentiable: the result never requires a gradient, whatever the inputs do.

    Raises:
        ValueError: wrong rank, dtype, device or size, or a rate that is not finite.

    Memory beyond inputs and output is O(K) for each CPU thread and O(K D) on CUDA.

    Example:
        >>> import torch
        >>> codebook = torch.tensor([[0.0], [1.0], [9.0]])
        >>> total, count = torch.tensor([[4.0], [0.0], [0.0]]), torch.tensor([2, 0, 0])
        >>> weights = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]])
        >>> som_update(codebook, total, count, weights).flatten().tolist()
        [2.0, 2.0, 9.0]
        >>> som_update(codebook, total, count, weights, rate=0.25).flatten().tolist()
        [1.0, 1.25, 9.0]
    """
    _arguments.check_tensors("som_update", codebook=codebook, total=total, count=count)
    if _native.available:
        if isinstance(weights, AxisWeights):
            return torch.ops.somvae_ext.som_update_axes(codebook, total, count, *weights, rate)
        return torch.ops.somvae_ext.som_update(codebook, total, count, weights, rate)
    return som_update_reference(codebook, total, count, weights, rate=rate)


@torch.no_grad()
def som_update_reference(
    codebook: Tensor,
    total: Tensor,
    count: Tensor,
    weights: Tensor | AxisWeights,
    *,
    rate: float | None = None,
) -> Tensor:
    """Computes :func:`som_update` in pure torch, as matrix products in float64."""
    _check(codebook, total, count, weights, rate)
    num = neighborhood_sum(weights, total.double())  # (M, D)
    codes, n = codebook.double(), count.double()
    den = neighborhood_sum(weights, n if n.dim() == 2 else n[:, None])  # (M, D) or (M, 1)
    mean = torch.where(den >= SMALLEST_NORMAL, num / den, codes)
    new = mean if rate is None else codes + rate * (num - den * codes)
    return new.to(codebook.dtype)


def neighborhood_sum(weights: Tensor | AxisWeights, values: Tensor) -> Tensor:
    """Computes the sum over nodes k of h[m, k] values[k], ``[M, J]``, from float64 values ``[K, J]``."""
    if isinstance(weights, Tensor):
        return _weighted_sum(weights.double(), values)
    rows, columns = weights.rows.double(), weights.columns.double()
    phases, n_rows, n_cols = len(columns), len(rows), columns.shape[2]
    values = values.unflatten(0, (n_rows, n_cols))
    out = torch.empty_like(values)
    for target in range(min(phases, n_rows)):
        along_columns = torch.empty_like(values)
        for source in range(min(phases, n_rows)):
            along_columns[source::phases] = _weighted_sum(columns[source, target], values[source::phases])
        along_rows = _weighted_sum(rows[target::phases], along_columns.flatten(start_dim=1))
        out[target::phases] = along_rows.unflatten(1, values.shape[1:])
    return out.flatten(end_dim=1)


def _weighted_sum(weights: Tensor, values: Tensor) -> Tensor:
    """``weights @ values``, in which a weight of zero times NaN or infinity is zero."""
    finite = values.isfinite()
    has_bad_term = (weights != 0).double() @ (~finite).double() > 0
    return (weights @ values.where(finite, 0)).masked_fill(has_bad_term, torch.nan)


def _check(codebook: Tensor, total: Tensor, count: Tensor, weights: Tensor | AxisWeights, rate: float | None) -> None:
    op = "som_update"
    wide = (torch.float32, torch.float64)
    sizes: dict[str, int] = {}

    def check(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], symbols: str) -> None:
        _arguments.check_dtype(op, name, tensor, *dtypes)
        _arguments.check_device(op, name, tensor, "codebook", codebook)
        _arguments.check_shape(op, name, tensor, symbols, sizes)

    separable = isinstance(weights, AxisWeights)
    _arguments.check_floating(op, codebook=codebook)
    _arguments.check_shape(op, "codebook", codebook, "K D" if separable else "M D", sizes)
    check("total", total, wide, "K D")
    check("count", count, (torch.int64, *wide), "K D" if count.dim() == 2 else "K")
    if rate is not None and not math.isfinite(rate):
        raise ValueError(f"{op}: rate must be finite, got {rate}")
    if not isinstance(weights, AxisWeights):
        check("weights", weights, wide, "M K")
        return
    check_axis_weights(op, codebook, weights, sizes)


def check_axis_weights(op: str, codebook: Tensor, weights: AxisWeights, sizes: dict[str, int]) -> None:
    """Checks the weights of a grid with a node for each code.

    Raises:
        ValueError: wrong dtype, device or shape, or a grid of another number of nodes.
    """
    for name, tensor, symbols in (("rows", weights.rows, "R R"), ("columns", weights.columns, "P P C C")):
        _arguments.check_dtype(op, name, tensor, torch.float32, torch.float64)
        _arguments.check_device(op, name, tensor, "codebook", codebook)
        _arguments.check_shape(op, name, tensor, symbols, sizes)
    if sizes["P"] not in (1, 2):
        raise ValueError(f"{op}: columns must have 1 or 2 phases, got {sizes['P']}")
    if sizes["R"] * sizes["C"] != sizes["K"]:
        raise ValueError(
            f"{op}: codebook must have a row for each node of the grid of rows and columns, "
            f"{sizes['R'] * sizes['C']}, got {sizes['K']}"
        )
