"""Distances between rows and codes, and the search for the nearest codes under each metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.grid import Grid

MetricName = Literal["euclidean", "cosine", "manhattan", "chebyshev", "minkowski"]
Distance = Callable[[Tensor, Tensor], Tensor]

# Largest number of elements in the temporaries of a tile of rows (64 MiB of float32).
_TILE_VALUES = 1 << 24
# Values of paired codes that are subtracted at a time (8 MiB of float64), and pairs whose distances are computed at a
# time, as the diagonal of a square block.
_PAIR_VALUES = 1 << 20
_PAIR_BLOCK = 32

# Largest p for which (1e-4)**p does not underflow float64.
_LARGEST_EXPONENT = 64
# Largest feature weight; the smallest is its inverse. The squares of both are exact enough in float32.
_LARGEST_WEIGHT = 1e6


@dataclasses.dataclass(frozen=True, eq=False)
class Metric:
    """A distance between a row x and a code e.

    ======================== ==================================================================================
    ``"euclidean"``          sqrt(sum_d w_d (x_d - e_d)^2)
    ``"cosine"``             1 - cos(x, e), from 0 to 2, of features times sqrt(w_d); 1 where either is zero
    ``"manhattan"``          sum_d w_d abs(x_d - e_d)
    ``"chebyshev"``          max_d w_d abs(x_d - e_d)
    ``"minkowski"``          (sum_d w_d abs(x_d - e_d)^p)^(1/p)
    a function               from expanded tensors ``[N, 1, D]`` and ``[1, K, D]`` to ``[N, K]``
    ======================== ==================================================================================

    A function need not deal with batches; any monotonic function of a distance finds the same nodes.

    Distances of a row with missing values (NaN) are those over its other features; sums are divided by the share of
    the weights that these have, as in scikit-learn's ``nan_euclidean_distances``.

    Args:
        distance: one of these names, or a function.
        p: exponent of ``"minkowski"``, from 1 to 64.
        feature_weights: w, ``[D]``, at least 0 and not all 0; all 1 by default. Not for a function, which can apply
            weights itself.

    Raises:
        ValueError: any other arguments.
    """

    distance: MetricName | Distance = "euclidean"
    p: float = 2.0
    feature_weights: Tensor | None = None

    def __post_init__(self) -> None:
        if isinstance(self.distance, str) and self.distance not in get_args(MetricName):
            names = ", ".join(repr(name) for name in get_args(MetricName))
            raise ValueError(f"SOM: metric must be one of {names} or a function, got {self.distance!r}")
        if not isinstance(self.distance, str) and not callable(self.distance):
            raise ValueError(f"SOM: metric must be a name or a function, got {self.distance!r}")
        if not 1 <= self.p <= _LARGEST_EXPONENT:
            raise ValueError(f"SOM: p must be from 1 to {_LARGEST_EXPONENT}, got {self.p}; 'chebyshev' is its limit")
        weights = self.feature_weights
        if weights is None:
            return
        if not isinstance(self.distance, str):
            raise ValueError("SOM: feature_weights must be None where the metric is a function; weigh in the function")
        if weights.dim() != 1 or not (weights.isfinite().all() and (weights >= 0).all() and weights.any()):
            raise ValueError(
                "SOM: feature_weights must hold one finite number of at least 0 for each feature, not all of them 0, "
                f"got {weights.tolist() if weights.dim() == 1 else list(weights.shape)}"
            )
        positive = weights[weights > 0]
        if positive.min() < 1 / _LARGEST_WEIGHT or positive.max() > _LARGEST_WEIGHT:
            raise ValueError(
                f"SOM: feature_weights must be 0 or from {1 / _LARGEST_WEIGHT:.0e} to {_LARGEST_WEIGHT:.0e}, got "
                f"{positive.min().item()} to {positive.max().item()}"
            )
        object.__setattr__(self, "feature_weights", weights.detach())

    def with_weights_like(self, values: Tensor) -> Metric:
        """Returns this metric with its weights in the dtype and on the device of ``values``, ``[N, D]``.

        Raises:
            ValueError: the number of weights is not the number of features.
        """
        if self.feature_weights is None:
            return self
        if len(self.feature_weights) != values.shape[1]:
            raise ValueError(
                f"SOM: feature_weights must hold one number for each of the {values.shape[1]} features, got "
                f"{len(self.feature_weights)}"
            )
        return dataclasses.replace(self, feature_weights=self.feature_weights.to(values))

    def scale_features(self, values: Tensor) -> Tensor:
        """Scales values ``[N, D]`` so that their plain distance is the weighted one; for cosine, to length 1 or 0."""
        weights = self.feature_weights
        if weights is not None:
            root = {"euclidean": 2.0, "cosine": 2.0, "minkowski": self.p}.get(str(self.distance), 1.0)
            values = values * weights ** (1 / root)
        if self.distance == "cosine":
            # Divided by the largest value first, so that squares neither overflow nor underflow.
            largest = values.abs().amax(dim=1, keepdim=True)
            values = torch.where(largest > 0, values / largest, values)
            norm = torch.linalg.vector_norm(values, dim=1, keepdim=True)
            values = torch.where(norm > 0, values / norm, values)
        return values

    def pairwise(self, x: Tensor, codebook: Tensor) -> Tensor:
        """Computes all distances, ``[N, K]``.

        Args:
            x: rows ``[N, D]``; NaN where a value is missing.
            codebook: codes ``[K, D]`` of the same dtype and device.

        Raises:
            ValueError: a function that does not return ``[N, K]``, or missing values where the metric is a function.
        """
        metric = self.with_weights_like(codebook)
        result = x.new_empty(len(x), len(codebook))
        is_complete = ~x.isnan().any(dim=1)
        if is_complete.all():
            for rows, out in zip(
                _tiles(x, codebook, metric.distance), _tiles(result, codebook, metric.distance), strict=True
            ):
                out.copy_(metric._complete_distances(rows, codebook))
            return result
        if not isinstance(self.distance, str):
            raise ValueError(
                "SOM: a metric that is a function cannot leave out missing values; fill them, or use a name"
            )
        result[is_complete] = self.pairwise(x[is_complete], codebook)
        incomplete = (~is_complete).nonzero()[:, 0]
        rows_at_once = max(1, _TILE_VALUES // max(1, codebook.numel()))
        for tile in incomplete.split(rows_at_once):
            result[tile] = metric._masked_distances(x[tile, None], codebook[None])
        return result

    def pair_distances(self, codebook: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Computes the distance between the codes of each pair of nodes, ``[P]``; NaN where a code holds NaN.

        Args:
            codebook: codes ``[K, D]``.
            first, second: nodes, int64 ``[P]``.
        """
        metric = self.with_weights_like(codebook)
        if metric.distance == "euclidean":
            scaled, tile = metric.scale_features(codebook), max(1, _PAIR_VALUES // max(1, codebook.shape[1]))
            parts = zip(first.split(tile), second.split(tile), strict=True)
            return torch.cat([(scaled[a] - scaled[b]).square().sum(dim=1).sqrt() for a, b in parts])
        is_complete = ~codebook.isnan().any(dim=1)
        pairs = (is_complete[first] & is_complete[second]).nonzero()[:, 0]
        result = codebook.new_full((len(first),), torch.nan)
        for part in pairs.split(_PAIR_BLOCK):
            result[part] = metric.pairwise(codebook[first[part]], codebook[second[part]]).diagonal()
        return result

    def _complete_distances(self, x: Tensor, codebook: Tensor) -> Tensor:
        if not isinstance(self.distance, str):
            distances = self.distance(x[:, None], codebook[None])
            if distances.shape != (len(x), len(codebook)):
                raise ValueError(
                    f"SOM: metric must give [N, K] = {[len(x), len(codebook)]}, got {list(distances.shape)}"
                )
            return distances.to(codebook.dtype)
        if codebook.dtype in (torch.float16, torch.bfloat16):
            x, codebook = x.float(), codebook.float()
        x, codebook = self.scale_features(x), self.scale_features(codebook)
        if self.distance == "cosine":
            return (1 - x @ codebook.T).clamp_min(0)  # rounding may go below 0
        if self.distance == "minkowski":
            return self._minkowski(x, codebook)
        order = {"euclidean": 2.0, "manhattan": 1.0, "chebyshev": math.inf}[self.distance]
        # Not by matrix products, in which small distances would be lost in rounding.
        return torch.cdist(x, codebook, p=order, compute_mode="donot_use_mm_for_euclid_dist")

    def _minkowski(self, x: Tensor, codebook: Tensor) -> Tensor:
        """Takes powers in float64, of values scaled to at most 1, so that they neither overflow nor underflow."""
        size = max(float(values.abs().amax()) if values.numel() else 0.0 for values in (x, codebook)) or 1.0
        return (size * torch.cdist(x.double() / size, codebook.double() / size, p=self.p)).to(x.dtype)

    def _masked_distances(self, x: Tensor, codebook: Tensor) -> Tensor:
        """Distances over the last axis of tensors that broadcast to ``[N, K, D]``, without values that are NaN in x."""
        present = ~x.isnan()
        weights = torch.ones_like(codebook) if self.feature_weights is None else self.feature_weights
        weights = weights * present
        present_weight = weights.sum(dim=-1)
        if not present_weight.all():
            row = int((present_weight.reshape(len(x), -1) == 0).any(dim=1).nonzero()[0])
            raise ValueError(
                "SOM: X must hold a value of a feature with a weight above 0 in each row, got none in row "
                f"{row} of those with gaps"
            )
        x = x.nan_to_num(nan=0.0)
        if self.distance == "cosine":
            products, x_squares, code_squares = x * codebook, x.square(), codebook.square()
            product, length, code_length = (
                (weights * part).sum(dim=-1) for part in (products, x_squares, code_squares)
            )
            norm = length.sqrt() * code_length.sqrt()
            return torch.where(norm > 0, 1 - product / norm, 1.0)
        difference = (x - codebook).abs()
        if self.distance == "chebyshev":
            return (weights * difference).amax(dim=-1)
        order = {"euclidean": 2.0, "manhattan": 1.0}.get(str(self.distance), self.p)
        all_weights = x.shape[-1] if self.feature_weights is None else self.feature_weights.sum()
        scale = all_weights / present_weight
        size = difference.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # keeps powers in range
        return size[..., 0] * (scale * (weights * (difference / size) ** order).sum(dim=-1)) ** (1 / order)


class WinnerSearch:
    """A codebook prepared for the search for best matching units under a metric.

    Euclidean and cosine distances use :class:`~somvae_ext.ops.BMUIndex`, the fused search, which is pruned on large
    maps: among vectors of length 1, the nearest in angle is the nearest in distance. All other metrics are computed in
    tiles of rows. ``[N, K]`` is never held.

    Args:
        codebook: ``[K, D]``, floating, in the grid's order; must not change while the search is used.
        grid: grid of K nodes.
        metric: metric of the search.
    """

    def __init__(self, codebook: Tensor, grid: Grid, metric: Metric) -> None:
        self._codebook = codebook
        self._metric = metric.with_weights_like(codebook)
        self._index: ops.BMUIndex | None = None
        if metric.distance in ("euclidean", "cosine"):
            codes = self._metric.scale_features(codebook)
            if metric.distance == "cosine":
                codes = codes.masked_fill(~codes.any(dim=1, keepdim=True), torch.nan)  # zeros have no angle, never win
            self._index = ops.BMUIndex(codes, grid)

    @torch.no_grad()
    def search(self, x: Tensor, k: int = 1, hint: Tensor | None = None, has_gaps: bool = False) -> ops.BestMatch:
        """Finds the k nearest codes of each row and their distances in the metric itself, not squared.

        Args:
            x: ``[N, D]``, dtype and device of the codebook.
            k: 1, or 2 to also find the second nearest; results are then ``[N, 2]``.
            hint: nodes that are likely to be near, int64 ``[N]``, such as the winners of the epoch before.
            has_gaps: whether rows may hold NaN where a value is missing, though no row may be all NaN; needs a named
                metric.

        Returns:
            ``(distance, index)``. Equal distances go to the smaller index.
        """
        if has_gaps:
            is_complete = ~x.isnan().any(dim=1)
            result = self._empty_result(len(x), k)
            for rows, search in ((is_complete, self._search_complete), (~is_complete, self._search_with_gaps)):
                if rows.any():
                    part = search(x[rows], k, None if hint is None else hint[rows])
                    result.distance[rows], result.index[rows] = part
            return result
        return self._search_complete(x, k, hint)

    def _empty_result(self, rows: int, k: int) -> ops.BestMatch:
        shape = (rows,) if k == 1 else (rows, k)
        return ops.BestMatch(self._codebook.new_empty(shape), self._codebook.new_empty(shape, dtype=torch.int64))

    def _search_complete(self, x: Tensor, k: int, hint: Tensor | None) -> ops.BestMatch:
        if self._index is None:
            return self._search_in_tiles(x, k, self._metric._complete_distances)
        squared, index = self._index.search(self._metric.scale_features(x), k, hint)
        if self._metric.distance == "euclidean":
            return ops.BestMatch(_square_roots(squared), index)
        # For vectors of length 1, |u - v|^2 = 2 (1 - cos). A row of zeros is equally far from all codes.
        is_zero = ~x.any(dim=1).view(-1, *[1] * (k - 1))
        return ops.BestMatch((squared / 2).nan_to_num(nan=1.0).masked_fill(is_zero, 1.0), index)

    def _search_with_gaps(self, x: Tensor, k: int, hint: Tensor | None) -> ops.BestMatch:
        if not isinstance(self._metric.distance, str):
            raise ValueError(
                "SOM: a metric that is a function cannot leave out missing values; fill them, or use a name"
            )
        score = self._scores_with_gaps if self._index is not None else self._metric.pairwise
        _, index = self._search_in_tiles(x, k, score)
        nearest = self._codebook[index]
        distance = self._metric._masked_distances(x if k == 1 else x[:, None], nearest)
        return ops.BestMatch(distance, index)

    def _scores_with_gaps(self, x: Tensor, codebook: Tensor) -> Tensor:
        """Scores that order the codes as distances over the present features do, by matrix products in float64.

        Euclidean: sum_d w m (e^2 - 2 x e) with m = 1 where x is present, else 0. Cosine: -sum_d w m x e /
        sqrt(sum_d w m e^2).
        """
        present = ~x.isnan()
        weights = present.double()
        if self._metric.feature_weights is not None:
            weights *= self._metric.feature_weights
        codes = codebook.double()
        if self._metric.distance == "euclidean":
            center = codes.mean(dim=0)  # a common offset would cost digits
            codes = codes - center
            rows = (x.double() - center).nan_to_num(nan=0.0)
            return weights @ codes.square().T - 2 * (weights * rows) @ codes.T
        rows = x.double().nan_to_num(nan=0.0)
        length = (weights @ codes.square().T).sqrt()
        return torch.where(length > 0, -((weights * rows) @ codes.T) / length, 0.0)

    def _search_in_tiles(self, x: Tensor, k: int, distances: Distance) -> ops.BestMatch:
        result = self._empty_result(len(x), k)
        first = 0
        for rows in _tiles(x, self._codebook, self._metric.distance):
            # argmin takes a NaN for the smallest value.
            scores = distances(rows, self._codebook)
            scores = scores.masked_fill(scores.isnan(), torch.inf)
            nearest = scores.min(dim=1)
            tile = slice(first, first + len(rows))
            if k == 1:
                result.distance[tile], result.index[tile] = nearest.values.to(result.distance), nearest.indices
            else:
                second = scores.scatter(1, nearest.indices[:, None], torch.inf).min(dim=1)
                result.distance[tile] = torch.stack([nearest.values, second.values], dim=1).to(result.distance)
                result.index[tile] = torch.stack([nearest.indices, second.indices], dim=1)
            first += len(rows)
        return result


def _square_roots(x: Tensor) -> Tensor:
    """Takes square roots; on the CPU by numpy in one thread, because torch would wake all threads for little work."""
    return x.sqrt() if x.device.type != "cpu" or x.requires_grad else torch.from_numpy(np.sqrt(x.numpy()))


def _tiles(x: Tensor, codebook: Tensor, distance: str | Distance) -> tuple[Tensor, ...]:
    """Splits rows into tiles by the size of temporaries: ``[n, K, D]`` for functions, ``[n, K]`` for named metrics."""
    values = len(codebook) if isinstance(distance, str) else codebook.numel()
    return x.split(max(1, _TILE_VALUES // max(1, values)))
