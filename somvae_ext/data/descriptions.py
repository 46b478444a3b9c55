"""Describes data for people: their numbers and shapes, and what was done to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from somvae_ext.data.scaling import Scaling

_LISTED = 8


def pluralize(number: int, noun: str) -> str:
    """Puts a number before its noun: ``1 row``, ``2 rows``."""
    return f"{number} {noun if number == 1 or noun.endswith('s') else noun + 's'}"


def abbreviate_names(names: Sequence[str]) -> str:
    """Lists the first names, and says how many more there are."""
    return ", ".join(names[:_LISTED]) + (f", ... and {len(names) - _LISTED} more" if len(names) > _LISTED else "")


def describe_shape(sample_shape: Sequence[int], plural: str) -> str:
    """Describes samples: ``gray images of 8 x 8 pixels``, or ``frames of 3 features``.

    Args:
        sample_shape: shape of a sample or frame: ``(F,)`` or ``(C, H, W)``.
        plural: what samples are called if they are not images.
    """
    if len(sample_shape) == 1:
        return f"{plural} of {pluralize(sample_shape[0], 'feature')}"
    channels, height, width = sample_shape
    colors = {1: "gray images", 3: "color images"}.get(channels, f"images of {channels} channels")
    return f"{colors} of {height} x {width} pixels"


def describe_missing(missing: str) -> str:
    """Says what was done about missing values: ``left out of distances and means``."""
    return {
        "error": "refused",
        "drop": "rows with gaps left out",
        "mean": "filled with the means of their columns in the training data",
        "ignore": "left out of distances and means",
    }[missing]


def describe_gaps(gaps: NDArray[np.integer[Any]], num_rows: int, missing: str) -> str:
    """Counts gaps: ``3 of 1,200 values in 2 columns: left out of distances and means (missing='ignore')``, or ``none``.

    Args:
        gaps: number of gaps in each column, ``[D]``.
        num_rows: N.
        missing: what was done about them.
    """
    if not gaps.any():
        return "none"
    columns = pluralize(int((gaps > 0).sum()), "column")
    count = f"{int(gaps.sum()):,} of {num_rows * len(gaps):,} values in {columns}"
    return f"{count}: {describe_missing(missing)} (missing={missing!r})"


def describe_scaling(scaling: Scaling) -> str:
    """Describes a scaling: ``each feature to mean 0 and variance 1``."""
    what = {"minmax": "to the range from 0 to 1", "standard": "to mean 0 and variance 1", "none": "none"}[scaling.kind]
    return f"each feature {what}" if len(scaling.shift) > 1 else what
