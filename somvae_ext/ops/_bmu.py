"""Best matching unit: the nearest code of each row."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from somvae_ext import _native
from somvae_ext.exportable import exportable
from somvae_ext.ops import _arguments

# Number of scores, of a block of rows and all codes, that the reference holds at a time: 2 MiB, which stay in the cache
# while the features are added up.
_REFERENCE_BLOCK_SCORES = 1 << 18


@exportable
class BestMatch(NamedTuple):
    """Squared distances to the best matching units, and their indices."""

    distance: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index


def bmu(z: Tensor, codebook: Tensor, k: int = 1) -> BestMatch:
    """Finds for each row of ``z`` the code at the smallest squared Euclidean distance (Kohonen 1990, eq. 1).

    Args:
        z: rows, ``[N, D]``; float32, float64, float16 or bfloat16. N may be 0.
        codebook: codes, ``[K, D]``, same dtype and device as ``z``. K is at least ``k``.
        k: 1 for the nearest code, 2 for the nearest two (which the topographic error needs).

    Returns:
        ``distance``, float32 (float64 for float64 inputs), and ``index``, int64; ``[N]`` for k = 1, ``[N, 2]`` sorted
        for k = 2. ``distance`` is differentiable in ``z`` and ``codebook``; ``index`` is not.

        The score of a pair is sum_d (z_d - e_d)^2 in float64, added up in the order of d, each operation rounded
        separately. The winner is the code with the smallest score, or the one with the smallest index among equal
        scores, and the distance is its score rounded once. Results are the same bits whatever N, the blocking, the
        number of threads and the device. Distances are never negative, and neither an offset that data and codes share
        nor a feature that dwarfs the others changes the winner. (There may be a first pass in the inputs' precision, or
        on tensor cores; it rules out only codes that cannot win, given a bound on its rounding error.)

        A code with a NaN never wins. A row with a NaN has distance NaN and index 0, and its gradient, NaN too, goes to
        code 0: remove such rows before the call.

    Raises:
        ValueError: wrong rank, dtype, device or mismatched D; dtypes that differ; k other than 1 or 2; K < k.

    Under autocast the search runs in float32. Memory beyond inputs and outputs is O(N + K * D), never N * K.

    Example:
        >>> import torch
        >>> z, codebook = torch.tensor([[0.9], [4.0]]), torch.tensor([[0.0], [1.0], [5.0]])
        >>> bmu(z, codebook).index.tolist()
        [1, 2]
    """
    _arguments.check_tensors("bmu", z=z, codebook=codebook)
    if _native.available:
        return BestMatch(*torch.ops.somvae_ext.bmu(z, codebook, k))
    return bmu_reference(_arguments.autocast(z), _arguments.autocast(codebook), k)


def bmu_reference(z: Tensor, codebook: Tensor, k: int = 1) -> BestMatch:
    """Computes :func:`bmu` in pure torch: all scores of a block of rows, then a stable sort, which puts NaN last.

    It needs a device that supports float64, which MPS does not.
    """
    sizes: dict[str, int] = {}
    _arguments.check_floating("bmu", z=z, codebook=codebook)
    _arguments.check_shape("bmu", "z", z, "N D", sizes)
    _arguments.check_shape("bmu", "codebook", codebook, "K D", sizes)
    if k not in (1, 2):
        raise ValueError(f"bmu: k must be 1 or 2, got {k}")
    if sizes["K"] < k:
        raise ValueError(f"bmu: codebook must have at least k = {k} rows, got {sizes['K']}")

    z, codebook = _arguments.full_precision(z), _arguments.full_precision(codebook)
    block = max(1, _REFERENCE_BLOCK_SCORES // max(1, len(codebook)))
    columns = codebook.detach().double().T.contiguous()
    nearest = [_scores(rows, columns).sort(dim=1, stable=True) for rows in z.detach().split(block)]
    score = torch.cat([values[:, :k] for values, _ in nearest])
    index = torch.cat([order[:, :k] for _, order in nearest]).masked_fill(score.isnan(), 0)

    # Recompute the winners' scores for the gradient; this adds zero to a finite score and leaves infinity and NaN as
    # they are. F.embedding, not codebook[index], whose gradient the CPU adds up in the order of its threads.
    recomputed = (z.double()[:, None] - F.embedding(index, codebook).double()).square().sum(dim=2)
    zero = recomputed - recomputed.detach()
    distance = (score + torch.where(recomputed.isfinite(), zero, recomputed)).to(z.dtype)
    return BestMatch(distance.squeeze(1), index.squeeze(1)) if k == 1 else BestMatch(distance, index)


def _scores(rows: Tensor, columns: Tensor) -> Tensor:
    """Squared distances ``[N, K]`` in float64, added feature by feature, of rows ``[N, D]`` to columns ``[D, K]``."""
    score = columns.new_zeros(len(rows), columns.shape[1])
    for x, codes in zip(rows.double().unbind(dim=1), columns, strict=True):
        score = score + (x[:, None] - codes).square()
    return score
