"""How far a floating-point result may be from the exact one. All tolerances of the tests come from here.

The bounds are the standard ones (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., lemma 3.1): n
roundings in a row change a value relatively by at most gamma_n = n u / (1 - n u). As u we take the machine epsilon,
twice the unit roundoff, which lets an exponential or a logarithm be off by a whole unit in the last place.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Returns the dtype in which an op computes and returns losses: float32 for the 16-bit types."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def gamma(operations: float, dtype: torch.dtype) -> float:
    error = operations * torch.finfo(compute_dtype(dtype)).eps
    assert error < 0.5, "too many operations for a meaningful first-order bound"
    return error / (1 - error)


def assert_within(
    actual: Tensor, expected: ArrayLike, magnitude: ArrayLike, operations: float, dtype: torch.dtype
) -> None:
    """Asserts that ``actual`` differs from ``expected`` by at most ``operations`` roundings of ``magnitude``.

    ``dtype`` is the dtype of the op's inputs and determines the dtype in which it computes. A result stored with 16
    bits may be off by another half unit in the last place of its dtype. The bound also allows for the oracle's own
    rounding and for the loss of subnormal results. NaN and infinities must be where they are expected.
    """
    got = actual.detach().to("cpu", torch.float64).numpy()
    expected, magnitude = np.asarray(expected, dtype=np.float64), np.asarray(magnitude, dtype=np.float64)
    assert got.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[~finite], expected[~finite])
    got, expected = got[finite], expected[finite]
    magnitude = np.broadcast_to(magnitude, finite.shape)[finite]
    relative = gamma(operations, dtype) + gamma(operations, torch.float64)
    bound = relative * magnitude + torch.finfo(compute_dtype(dtype)).smallest_normal * (1 + magnitude)
    if actual.dtype in (torch.float16, torch.bfloat16):
        info = torch.finfo(actual.dtype)
        bound = bound + info.eps / 2 * (np.abs(expected) + bound) + info.smallest_normal * info.eps / 2
    error = np.abs(got - expected)
    worst = np.argmax(error - bound) if error.size else None
    assert (error <= bound).all(), (
        f"off by {error[worst]:.3g} where {bound[worst]:.3g} is allowed: {got[worst]!r} for {expected[worst]!r}"
    )
