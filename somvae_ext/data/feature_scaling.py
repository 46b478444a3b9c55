"""Features brought to a common scale, kept with a map so that new data are treated like its training data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ScalingKind = Literal["standard", "minmax", "none"]


@dataclasses.dataclass(frozen=True)
class FeatureScaling:
    """x -> (x - shift) / width for each feature; NaN stays NaN.

    ============== ========================================================
    ``"standard"`` to mean 0 and variance 1
    ``"minmax"``   to the range from 0 to 1
    ``"none"``     as it is; ``shift`` and ``width`` are empty
    ============== ========================================================

    Features that do not vary are only shifted, to 0.

    Raises:
        ValueError: an unknown kind, shifts and widths that differ in number or are not finite, or a width that is not
            positive.
    """

    kind: ScalingKind = "none"
    shift: tuple[float, ...] = ()
    width: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in ("standard", "minmax", "none"):
            raise ValueError(f"FeatureScaling: kind must be standard, minmax or none, got {self.kind!r}")
        if len(self.shift) != len(self.width) or (self.kind == "none") != (not self.shift):
            raise ValueError(
                "FeatureScaling: shift and width must hold a number for each feature, and be empty for none, got "
                f"{len(self.shift)} and {len(self.width)} for {self.kind}"
            )
        for shift, width in zip(self.shift, self.width, strict=True):
            if not (math.isfinite(shift) and 0 < width < math.inf):
                raise ValueError(
                    f"FeatureScaling: shift and width must be finite, and width above 0, got {shift} and {width}"
                )

    @classmethod
    def fit(cls, kind: ScalingKind, blocks: Iterable[Array], dim: int) -> Self:
        """From the training data, ``[n, D]`` at a time, NaN left out.

        Means and variances of blocks are merged as by Chan, Golub and LeVeque (1979), in float64.
        """
        if kind == "none":
            return cls()
        count, mean, squares = np.zeros(dim), np.zeros(dim), np.zeros(dim)
        low, high = np.full(dim, np.inf), np.full(dim, -np.inf)
        for block in blocks:
            x = block.astype(np.float64)
            there = ~np.isnan(x)
            low = np.minimum(low, np.where(there, x, np.inf).min(axis=0))
            high = np.maximum(high, np.where(there, x, -np.inf).max(axis=0))
            more = there.sum(axis=0)
            total = np.maximum(count + more, 1)
            block_mean = np.where(there, x, 0).sum(axis=0) / np.maximum(more, 1)
            x -= block_mean
            difference = block_mean - mean
            squares += (
                np.square(x, where=there, out=np.zeros_like(x)).sum(axis=0) + difference**2 * count * more / total
            )
            mean += difference * more / total
            count += more
        varies = high > low  # exactly, unlike a variance
        shift = np.where(varies, mean, low) if kind == "standard" else low
        width = np.sqrt(squares / np.maximum(count, 1)) if kind == "standard" else high - low
        return cls(kind, tuple(shift.tolist()), tuple(np.where(varies & (width > 0), width, 1.0).tolist()))

    def apply(self, x: Array) -> Array:
        """The scaled values ``[n, D]`` in float32; for ``"none"``, ``x`` itself."""
        if self.kind == "none":
            return x
        return ((x - np.array(self.shift)) / np.array(self.width)).astype(np.float32)

    def undo(self, x: Array) -> NDArray[np.float64]:
        """Scaled values ``[n, D]`` in the units of the data."""
        if self.kind == "none":
            return x.astype(np.float64)
        return x * np.array(self.width) + np.array(self.shift)

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold; :meth:`from_dict` reads it."""
        return {"kind": self.kind, "shift": list(self.shift), "width": list(self.width)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The scaling that :meth:`to_dict` wrote down."""
        return cls(values["kind"], tuple(values["shift"]), tuple(values["width"]))
