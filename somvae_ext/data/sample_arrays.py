"""Converts arrays in memory, wherever they come from, to those that :class:`~somvae_ext.data.Samples` hold.

Errors begin with an owner: the file that an array was read from, or the class or function that was given it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.splits import Kind

Array = NDArray[Any]


def is_image_shape(shape: Sequence[int]) -> bool:
    """Whether samples of this shape are images that can be drawn: ``(H, W)``, ``(1, H, W)`` or ``(3, H, W)``."""
    return len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3))


def with_sample_axes(owner: str | Path, x: Array, kind: Kind) -> Array:
    """Brings an array to the axes ``[N, F]`` or ``[N, C, H, W]``, for series with ``[B, T]`` in place of N.

    Gray images ``[N, H, W]`` get an axis of one channel, and a single series of frames with features, ``[T, F]``, an
    axis of one series. Images of dtype uint8 stay bytes.

    Raises:
        ValueError: no numbers, another number of axes, or samples without a value.
    """
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{owner}: must hold numbers, got dtype {x.dtype}")
    if kind == "series" and x.ndim == 2:
        x = x[None]
    sample_axes = x.ndim - (2 if kind == "series" else 1)
    if not 1 <= sample_axes <= 3:
        expected = "2 axes [T, F] to 5 [B, T, C, H, W]" if kind == "series" else "2 axes [N, F] to 4 [N, C, H, W]"
        raise ValueError(f"{owner}: {kind} data must have {expected}, got shape {list(x.shape)}")
    if 0 in x.shape[1:]:
        raise ValueError(f"{owner}: rows must hold at least one value, got shape {list(x.shape)}")
    if sample_axes == 2:
        x = np.expand_dims(x, -3)
    elif sample_axes == 1 and x.dtype == np.uint8:  # a table; only images stay bytes
        x = x.astype(np.float32)
    return x


def as_finite_floats(
    owner: str | Path, x: Array, cell: Callable[[int, int], str] = "row {}, column {}".format
) -> Array:
    """Converts ``x`` to float32, or to float64 if its dtype has more digits; bytes stay as they are.

    Values that differ little compared with a common offset would become equal in float32, so they keep their precision
    until scaling removes the offset.

    Args:
        owner: the file, class or function that errors begin with.
        x: numbers of any shape.
        cell: how a row and a column of a table are named.

    Raises:
        ValueError: a value that is not finite in float32; the message says where the first one is.
    """
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):  # to infinity, which is refused below
        single = x.astype(np.float32)
    broken = ~np.isfinite(single)
    if broken.any():
        row, *place = entry = tuple(int(axis[0]) for axis in broken.nonzero())
        where = cell(row, place[0]) if len(place) == 1 else f"row {row}, at {place} in it"
        value = "NaN" if np.isnan(x[entry]) else str(x[entry])
        raise ValueError(f"{owner}: values must be finite float32 numbers, got {value} in {where} (rows count from 0)")
    is_short = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return single if is_short else x.astype(np.float64)


def pad_series(series: Sequence[Array]) -> tuple[Array, NDArray[np.bool_]]:
    """Pads series of frames of one shape, ``[T_b, *rest]``, with zeros at the end.

    Returns:
        One array ``[B, T, *rest]``, and the mask ``[B, T]`` of its real frames.
    """
    longest = max(len(frames) for frames in series)
    dtype = np.result_type(*(frames.dtype for frames in series))
    padded = np.zeros((len(series), longest, *series[0].shape[1:]), dtype=dtype)
    mask = np.zeros((len(series), longest), dtype=bool)
    for row, frames in enumerate(series):
        padded[row, : len(frames)] = frames
        mask[row, : len(frames)] = True
    return padded, mask
