"""Reads arrays that NumPy wrote: one in an ``.npy`` file, several with names in an ``.npz`` archive."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# The arrays that an archive may hold, and the names that each may have.
_NAMES = {"x": ("x",), "label": ("label", "y"), "mask": ("mask",), "lengths": ("lengths",)}


def read_npy(path: Path) -> Array:
    """Reads the array of an ``.npy`` file.

    Raises:
        ValueError: the file holds anything other than one array, or an array of objects.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: must be an array of numbers that numpy.save wrote, got something else") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: must be one array that numpy.save wrote, got an archive; name it .npz")
    return array


def read_npz(path: Path) -> dict[str, Array]:
    """Reads the array ``x`` of an ``.npz`` archive, and ``label``, ``mask`` and ``lengths`` if it has them.

    Raises:
        ValueError: no archive, or an archive without ``x``, with two arrays of labels or with arrays of unknown names.
    """
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: must be an archive that numpy.savez wrote, got something else") from error
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{path}: must be an archive that numpy.savez wrote, got a single array; name it .npy")
    arrays = {}
    with archive:
        array_names = ", ".join(repr(name) for name in archive.files) or "none"
        if "x" not in archive.files:
            raise ValueError(f"{path}: must hold an array named 'x', got {array_names}")
        for field, names in _NAMES.items():
            keys = [name for name in names if name in archive.files]
            if len(keys) > 1:
                raise ValueError(f"{path}: labels must be in one array, got {' and '.join(map(repr, keys))}")
            if keys:
                try:
                    arrays[field] = archive[keys[0]]
                except (ValueError, EOFError, zipfile.BadZipFile) as error:
                    raise ValueError(f"{path}: the array {keys[0]!r} could not be read: {error}") from error
        known = {name for names in _NAMES.values() for name in names}
        unknown = [name for name in archive.files if name not in known]
        if unknown:
            raise ValueError(
                f"{path}: must hold 'x' and at most 'label' or 'y', 'mask' and 'lengths', got {array_names}; leave out "
                f"{', '.join(map(repr, unknown))}"
            )
    return arrays


def frame_mask(path: Path, arrays: dict[str, Array], shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Returns which frames of series are real, ``[B, T]``, by ``mask`` or ``lengths``; None if there is neither.

    Raises:
        ValueError: ``mask`` or ``lengths`` do not fit the series, leave one without a frame, or contradict each other.
    """
    mask = _mask(path, arrays["mask"], shape) if "mask" in arrays else None
    if "lengths" not in arrays:
        return mask
    lengths = arrays["lengths"]
    if lengths.shape != shape[:1] or lengths.dtype.kind not in "iuf" or (lengths != np.floor(lengths)).any():
        raise ValueError(
            f"{path}: lengths must hold an integer for each of the {shape[0]} series, got {lengths.dtype} of shape "
            f"{list(lengths.shape)}"
        )
    wrong = (lengths < 1) | (lengths > shape[1])
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{path}: lengths must be from 1 to the {shape[1]} frames of x, got {lengths[row]} in row {row}"
        )
    by_length: NDArray[np.bool_] = np.arange(shape[1]) < lengths[:, None]
    if mask is not None and not np.array_equal(mask, by_length):
        raise ValueError(f"{path}: mask and lengths must tell the same, but they do not; leave one of them out")
    return by_length


def _mask(path: Path, mask: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape != shape:
        raise ValueError(f"{path}: mask must have shape [B, T] = {list(shape)}, got {list(mask.shape)}")
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{path}: mask must hold true and false, or 1 and 0, got other values")
    mask = mask.astype(bool)
    if not mask.any(axis=1).all():
        empty = (~mask.any(axis=1)).argmax()
        raise ValueError(f"{path}: mask must leave every series at least one frame, got none in row {empty}")
    return mask
