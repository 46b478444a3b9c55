"""Scaling of values; it is saved with a model or map, so that new data are treated like the training data.

Needs only torch and numpy.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Iterable
from typing import Any, Literal, TypeVar, get_args, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.data.samples import Samples

Array = NDArray[Any]
ArrayOrTensor = TypeVar("ArrayOrTensor", Array, Tensor)
ScalingKind = Literal["standard", "minmax", "none"]

# Samples are fitted in blocks of this many values (8 MiB in float64).
_VALUES_PER_BLOCK = 2**20


@dataclasses.dataclass(frozen=True)
class Scaling:
    """Maps x to (x - shift) / width along the last axis; NaN stays NaN.

    ============== ==========================================================
    ``"standard"`` to mean 0 and variance 1 of the training data
    ``"minmax"``   to [0, 1], from the smallest to the largest training value
    ``"none"``     x stays as it is; ``shift`` and ``width`` are empty
    ============== ==========================================================

    Data other than the training data may fall outside [0, 1]. They are not clipped, because that would hide them.

    Args:
        kind: see above.
        shift: F numbers, one per feature, or a single one for all values (images).
        width: as many numbers, at least 0. A width of 0 marks a feature that did not vary in the training data:
            :meth:`apply` only shifts it, and :meth:`undo` gives its shift.

    Raises:
        ValueError: an unknown kind, shifts and widths that differ in number, that are missing, or given for
            ``"none"``, a number that is not finite, or a negative width.

    Example:
        >>> import torch
        >>> Scaling("minmax", shift=(0.0, 10.0), width=(4.0, 10.0)).apply(torch.tensor([[1.0, 20.0]]))
        tensor([[0.2500, 1.0000]])
    """

    kind: ScalingKind = "none"
    shift: tuple[float, ...] = ()
    width: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScalingKind):
            raise ValueError(f"Scaling: kind must be 'standard', 'minmax' or 'none', got {self.kind!r}")
        if len(self.shift) != len(self.width) or (self.kind == "none") != (not self.shift):
            expected = "be empty" if self.kind == "none" else "hold the same number of values, at least one,"
            raise ValueError(
                f"Scaling: shift and width must {expected} for {self.kind!r}, got {len(self.shift)} and "
                f"{len(self.width)} values"
            )
        for shift, width in zip(self.shift, self.width, strict=True):
            if not (_is_finite(shift) and _is_finite(width) and width >= 0):
                raise ValueError(
                    "Scaling: shift and width must be finite numbers, and width at least 0, got "
                    f"{shift!r} and {width!r}"
                )
        # Plain floats: JSON may hold integers beyond int64, which torch refuses, and callers may give numpy's numbers.
        for name in ("shift", "width"):
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")  # the constructor refuses what is not finite
    def fit(cls, kind: ScalingKind, blocks: Iterable[Array], dim: int) -> Scaling:
        """Fits a scaling for each feature in one pass over the training data.

        NaN values are left out. A feature without any value gets shift 0 and width 0.

        Args:
            kind: ``"none"`` does not read the data.
            blocks: the rows of the training data, ``[n, D]`` at a time, of any real dtype.
            dim: D.

        Raises:
            ValueError: an unknown kind, or values that are infinite or too large for float64 statistics.
        """
        if kind == "none":
            return cls()
        low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
        moments = _Moments(dim)
        for block in blocks:
            x = block.astype(np.float64)
            present = ~np.isnan(x)
            low = np.minimum(low, np.where(present, x, np.inf).min(axis=0, initial=np.inf))
            high = np.maximum(high, np.where(present, x, -np.inf).max(axis=0, initial=-np.inf))
            if kind == "standard":
                moments.add(x, present)
        has_values = low <= high
        low, high = np.where(has_values, low, 0), np.where(has_values, high, 0)
        # Unlike a variance, which rounding may leave above 0, this finds constant features exactly.
        varies = high > low
        shift = np.where(varies, moments.mean, low) if kind == "standard" else low
        width = np.where(varies, moments.standard_deviation(), 0) if kind == "standard" else high - low
        return cls(kind, tuple(shift.tolist()), tuple(width.tolist()))

    @classmethod
    def from_samples(cls, samples: Samples, *, tabular: bool, kind: ScalingKind | None = None) -> Scaling:
        """Fits a scaling to samples or series; padded frames are left out.

        Tables are scaled feature by feature, images as a whole. For ``"minmax"``, bytes (uint8) are divided by 255,
        whatever their range, and images that lie in [0, 1] already stay as they are.

        Args:
            samples: the training data, ``x`` ``[..., F]``.
            tabular: whether the last axis of ``x`` holds features, rather than pixels.
            kind: ``"minmax"`` by default.

        Raises:
            ValueError: values that :meth:`fit` refuses.
        """
        kind = "minmax" if kind is None else kind
        if kind == "none":
            return cls()
        if kind == "minmax" and samples.x.dtype == torch.uint8:
            return _BYTES
        x = samples.x if samples.mask is None else samples.x[samples.mask]
        if kind == "minmax" and not tabular and x.amin() >= 0 and x.amax() <= 1:
            return cls()
        rows = x.reshape(-1, x.shape[-1] if tabular else 1)
        dim = rows.shape[1]
        blocks = rows.split(max(1, _VALUES_PER_BLOCK // dim))
        # In float64 because numpy lacks bfloat16.
        return cls.fit(kind, (block.double().cpu().numpy() for block in blocks), dim)

    def apply(self, x: ArrayOrTensor) -> ArrayOrTensor:
        """Scales values; computed in float64 and rounded once.

        Args:
            x: ``[..., F]`` if the scaling has F features, any shape if it has one number for all values.

        Returns:
            The scaled values in the shape of ``x``: an array in float32; a tensor on its device in its floating dtype,
            or in float32 where ``x`` holds integers. With kind ``"none"``, ``x`` itself, except for a tensor of bytes
            (uint8): it is divided by 255, as torchvision does.

        Raises:
            ValueError: the number of features of ``x`` is not that of the scaling.
        """
        if isinstance(x, Tensor):
            if self.kind != "none":
                return self._to_scaled_units(x).to(_floating_dtype(x.dtype))
            return _BYTES.apply(x) if x.dtype == torch.uint8 else x
        return x if self.kind == "none" else self._to_scaled_units(x).astype(np.float32)

    def apply_to_samples(self, samples: Samples) -> Samples:
        """Returns samples with their values scaled, in float32."""
        return dataclasses.replace(samples, x=self.apply(samples.x).float())

    @overload
    def undo(self, x: Array) -> NDArray[np.float64]: ...
    @overload
    def undo(self, x: Tensor) -> Tensor: ...
    def undo(self, x: Array | Tensor) -> Array | Tensor:
        """Brings scaled values back to the units of the data; computed in float64.

        Args:
            x: scaled values ``[..., F]``, see :meth:`apply`.

        Returns:
            The values in the shape of ``x``: an array in float64; a tensor on its device in its floating dtype, or in
            float32 where ``x`` holds integers. Finite values of a feature that did not vary become its shift.

        Raises:
            ValueError: the number of features of ``x`` is not that of the scaling.
        """
        if isinstance(x, Tensor):
            return self._to_data_units(x).to(_floating_dtype(x.dtype))
        return self._to_data_units(x).astype(np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Returns the scaling as JSON's types, which :meth:`from_dict` reads."""
        return {"kind": self.kind, "shift": list(self.shift), "width": list(self.width)}

    @classmethod
    def from_dict(cls, values: Any) -> Scaling:
        """Makes the scaling from what :meth:`to_dict` returned.

        Raises:
            ValueError: anything but an object of 'kind', 'shift' and 'width', or values that the constructor refuses.
        """
        if not isinstance(values, dict) or values.keys() != {"kind", "shift", "width"}:
            got = ", ".join(map(repr, values)) or "nothing" if isinstance(values, dict) else repr(values)
            raise ValueError(f"Scaling: must be an object of 'kind', 'shift' and 'width', got {got}")
        for name in ("shift", "width"):
            if not isinstance(values[name], list):
                raise ValueError(f"Scaling: {name} must be a list of numbers, got {values[name]!r}")
        return cls(values["kind"], tuple(values["shift"]), tuple(values["width"]))

    def _to_scaled_units(self, x: ArrayOrTensor) -> ArrayOrTensor:
        self._check_features(x)
        divisor = tuple(width or 1.0 for width in self.width)
        return (x - _float64_like(x, self.shift)) / _float64_like(x, divisor)

    def _to_data_units(self, x: ArrayOrTensor) -> ArrayOrTensor:
        if self.kind == "none":
            return x
        self._check_features(x)
        return x * _float64_like(x, self.width) + _float64_like(x, self.shift)

    def _check_features(self, x: Array | Tensor) -> None:
        if len(self.shift) > 1 and x.shape[-1:] != (len(self.shift),):
            got = x.shape[-1] if x.ndim else "a single value"
            raise ValueError(
                f"Scaling: x must have {len(self.shift)} features like the data that the scaling was fitted to, got "
                f"{got}"
            )


class _Moments:
    """Mean and variance of each feature of rows that come in blocks, in float64.

    The moments of two blocks are merged as in Chan, Golub and LeVeque, Updating formulae and a pairwise algorithm for
    computing sample variances (1979): no difference of large sums is taken.

    Args:
        dim: D.
    """

    def __init__(self, dim: int) -> None:
        self.mean = np.zeros(dim)
        self._count = np.zeros(dim)
        self._squares = np.zeros(dim)  # sums of the squared deviations from the mean

    def add(self, x: NDArray[np.float64], present: NDArray[np.bool_]) -> None:
        """Takes the next block.

        Args:
            x: rows ``[n, D]``.
            present: which values count, ``[n, D]``.
        """
        block_count = present.sum(axis=0)
        block_mean = np.where(present, x, 0).sum(axis=0) / np.maximum(block_count, 1)
        block_squares = np.square(np.where(present, x - block_mean, 0)).sum(axis=0)
        difference = block_mean - self.mean
        total = np.maximum(self._count + block_count, 1)
        self._squares += block_squares + difference**2 * self._count * block_count / total
        self.mean += difference * block_count / total
        self._count += block_count

    def standard_deviation(self) -> NDArray[np.float64]:
        """Returns the standard deviation of the values, not a population estimate: the divisor is their number."""
        return np.sqrt(self._squares / np.maximum(self._count, 1))


def _float64_like(x: ArrayOrTensor, values: tuple[float, ...]) -> ArrayOrTensor:
    """Returns values in float64, as an array or on the device of ``x``; float32 differences could overflow."""
    if isinstance(x, Tensor):
        return torch.tensor(values, dtype=torch.float64, device=x.device)
    return np.array(values, dtype=np.float64)


def _floating_dtype(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.float32


def _is_finite(value: object) -> bool:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float, which JSON can hold
        return False


# Bytes to [0, 1], as torchvision does. Last, because the constructor calls the functions above.
_BYTES = Scaling("minmax", shift=(0.0,), width=(255.0,))
