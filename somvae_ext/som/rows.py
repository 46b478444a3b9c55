"""Sources of training rows: arrays in memory or on disk, or batches that arrive one by one.

All sources give chunks of the same lengths, so that the same rows and initial codes give the same map, wherever the
rows are stored. All values are checked before they reach a kernel; errors name row and column.
"""

from __future__ import annotations

import math
import mmap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.arrays import as_array, as_real_numbers
from somvae_ext.processes import Processes

Missing = Literal["error", "ignore"]


# Largest number of values between two rows that are read and dropped so that one slice gives both rows.
_MAX_VALUES_SKIPPED = 1 << 14


class SlicedArray:
    """An array that is read slice by slice, such as a data set of an HDF5 file or a zarr array.

    Scattered rows are read in as few slices as is sensible, one by one where they are far apart.

    Args:
        array: array with ``shape`` ``[N, D]``, ``dtype`` and slicing by rows; slices are converted to numpy arrays.
    """

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape = tuple(int(size) for size in array.shape)
        self.dtype = np.dtype(array.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[Any]) -> NDArray[Any]:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return np.asarray(self._array[first:last])
        if len(rows) == 0:
            return np.empty((0, self.shape[1]), dtype=self.dtype)
        order = np.argsort(rows, kind="stable")
        ascending = rows[order]
        max_step = max(1, _MAX_VALUES_SKIPPED // max(1, self.shape[1]))
        runs = np.split(ascending, np.flatnonzero(np.diff(ascending) > max_step) + 1)
        blocks = [np.asarray(self._array[int(run[0]) : int(run[-1]) + 1])[run - run[0]] for run in runs]
        result = np.empty((len(rows), self.shape[1]), dtype=self.dtype)
        result[order] = np.concatenate(blocks)
        return result


Array = Tensor | NDArray[Any] | SlicedArray

# Values of a chunk (256 MiB of float32): many rows for one pass over a large map, few enough to copy.
_CHUNK_VALUES = 1 << 26
# The same where values may be missing, which needs copies and masks in float64.
_CHUNK_VALUES_WITH_GAPS = 1 << 23

# Scattered rows that are read from a file at a time: each maps a whole stretch of the file around it.
_SCATTERED_ROWS = 1024

# Rows examined for values that are too close together for the dtype, and the smallest number of the dtype's steps
# between the smallest and the largest value that is not too close.
_SPACING_ROWS = 8192
_FEWEST_STEPS = 100

# Smallest weight, as a share of the largest: a row with less would only cost digits.
_LEAST_WEIGHT = 1e-18


class Chunk(NamedTuple):
    """Rows ``x`` ``[n, D]``, in the dtype and on the device of the training, and float64 weights ``[n]``, or None."""

    x: Tensor
    weight: Tensor | None


class RowFormat:
    """The common format of all rows of a training: dtype, device, and whether values may be missing.

    Args:
        dtype: dtype of the training, float32 or float64.
        device: device of the training.
        missing: ``"error"`` rejects NaN, ``"ignore"`` treats it as a missing value.
        columns: names of the features for error messages; by default their numbers.
    """

    def __init__(
        self,
        dtype: torch.dtype,
        device: torch.device,
        missing: Missing = "error",
        columns: Sequence[str] | None = None,
    ) -> None:
        self.dtype = dtype
        self.device = device
        self.missing = missing
        self._columns = columns

    def to_tensor(self, x: Tensor | NDArray[Any]) -> Tensor:
        """Converts rows to the dtype and device, without a copy if they have them already."""
        if isinstance(x, np.ndarray):
            dtype = np.float64 if self.dtype == torch.float64 else np.float32
            with warnings.catch_warnings(), np.errstate(over="ignore"):
                # The array may be read-only, such as one from a file; the tensor is never written to.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                x = torch.from_numpy(np.ascontiguousarray(x, dtype=dtype))
        return x.detach().to(self.device, self.dtype)

    def check_values(self, x: Tensor, first_row: int) -> tuple[bool, float]:
        """Checks rows and returns whether any value is missing, and the largest absolute value.

        Raises:
            ValueError: NaN where it is rejected, a row of only NaN, infinity, or values whose squares overflow.
        """
        if x.numel() == 0:
            return False, 0.0
        size = _max_abs(x)
        has_gaps = bool(size.isnan())
        if has_gaps:
            if self.missing == "error":
                self._reject(
                    x, x.isnan(), first_row, "hold finite values", "NaN", "fill the gap, or set missing='ignore'"
                )
            empty = x.isnan().all(dim=1)
            if empty.any():
                row = first_row + int(empty.nonzero()[0])
                raise ValueError(
                    f"SOM: X must hold at least one value in each row, got only NaN in row {row}; drop the row"
                )
            size = _max_abs(x.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf))
        if bool(size.isinf()):
            self._reject(x, x.isinf(), first_row, "hold finite values", "infinity", "replace or drop it")
        largest = torch.finfo(x.dtype).max ** 0.5 / (4 * x.shape[1] ** 0.5)
        if float(size) > largest:
            expected = (
                f"hold values of at most {largest:.1e} in size, so that their squares add up in {self._dtype_name()}"
            )
            self._reject(x, x.abs() > largest, first_row, expected, f"{float(size):.3e}", "rescale the feature")
        return has_gaps, float(size)

    def check_no_empty_columns(self, observed: Tensor) -> None:
        """Checks that each feature has a value: codes of one without values would be invented.

        Args:
            observed: whether each feature has a value in any row of positive weight, bool ``[D]``.

        Raises:
            ValueError: a feature without a value.
        """
        if not observed.all():
            column = int((~observed).nonzero()[0])
            raise ValueError(
                "SOM: X must hold at least one value in each column, got only NaN in column "
                f"{self.column_name(column)}; drop the column"
            )

    def warn_if_coarse(self, x: Array, stacklevel: int) -> None:
        """Warns if the values of a feature, as they come in ``x`` ``[n, D]``, span only a few steps of the dtype.

        ``stacklevel`` selects the line that the warning points at, as in ``warnings.warn``.
        """
        eps, dtype = max((_dtype_eps(x.dtype), str(x.dtype)), (_dtype_eps(self.dtype), str(self.dtype)))
        dtype = dtype.removeprefix("torch.")
        rows = as_array("SOM", "X", x[:_SPACING_ROWS])
        coarse_columns = []
        for column, values in enumerate(rows.T):
            values = values[~np.isnan(values)] if values.dtype.kind == "f" else values
            if len(values) == 0 or values.dtype.kind == "b":
                continue
            low, high = values.min().item(), values.max().item()  # integers as Python's, which keep all digits
            largest = float(max(abs(low), abs(high)))
            if not 0 < largest < math.inf:
                continue
            spacing = eps * 2.0 ** math.floor(math.log2(largest))
            # A nearly constant feature is coarse only if the dtype rounds it to whole numbers, which may have merged
            # many values into one; otherwise it is taken to be constant.
            nearly_constant = high - low <= 2 * spacing
            if spacing >= 1 if nearly_constant else high - low < _FEWEST_STEPS * spacing:
                coarse_columns.append((column, spacing))
        if coarse_columns:
            column, spacing = coarse_columns[0]
            others = f", and {len(coarse_columns) - 1} more columns" if len(coarse_columns) > 1 else ""
            remedy = "subtract an offset" if dtype == "float64" else "subtract an offset, or give float64"
            warnings.warn(
                f"SOM: X should hold values that differ by many steps of {dtype}, got column "
                f"{self.column_name(column)}{others}, whose values are multiples of {spacing:g} there; {remedy}",
                stacklevel=stacklevel,
            )

    def column_name(self, column: int) -> str:
        return str(column) if self._columns is None else repr(str(self._columns[column]))

    def _reject(self, x: Tensor, mask: Tensor, first_row: int, expected: str, got: str, remedy: str) -> None:
        row, column = mask.nonzero()[0].tolist()
        place = f"row {first_row + row}, column {self.column_name(column)}"
        raise ValueError(f"SOM: X must {expected}, got {got} in {place}; {remedy}")

    def _dtype_name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


class ArrayRows:
    """Rows of an array, in memory or mapped from a file; checked once, at construction, and not copied as a whole.

    Args:
        x: ``[N, D]``, N at least 1.
        row_format: dtype and device of the rows, and whether values may be missing.
        weight: weight of each row, ``[N]``, at least 0.

    Raises:
        ValueError: rows that :meth:`RowFormat.check_values` rejects; weights of a wrong shape, negative or not finite.
    """

    def __init__(self, x: Array, row_format: RowFormat, weight: Tensor | NDArray[Any] | None = None) -> None:
        self._x = x
        self.row_format = row_format
        self.has_fixed_order = True
        self._weight: Tensor | None = None
        if weight is not None:
            self._weight = _check_weight(weight, len(x))
        self._file = mapped_file(x)
        self.num_rows, self.dim = int(x.shape[0]), int(x.shape[1])
        self.has_gaps = False
        self.max_abs = 0.0
        # Features that have a value in a row of positive weight.
        self.observed_features = torch.zeros(self.dim, dtype=torch.bool, device=row_format.device)
        first = 0
        for chunk in self.chunks():
            has_gaps, max_abs = row_format.check_values(chunk.x, first)
            self.has_gaps |= has_gaps
            self.observed_features |= _observed_features(chunk, has_gaps)
            self.max_abs = max(self.max_abs, max_abs)
            first += len(chunk.x)

    def normalize_weights(self, processes: Processes) -> None:
        """Divides the weights by the largest one of all processes, so that products with them keep their digits.

        Weights below 1e-18 of the largest become 0.

        Raises:
            ValueError: all weights are 0.
        """
        largest = max(processes.gather_objects(1.0 if self._weight is None else float(self._weight.max())))
        if largest == 0:
            raise ValueError("SOM: sample_weight must be above 0 for at least one row, got only zeros")
        if self._weight is None and largest == 1.0:
            return
        weight = torch.ones(self.num_rows, dtype=torch.float64) if self._weight is None else self._weight
        weight = weight / largest
        self._weight = weight.masked_fill(weight < _LEAST_WEIGHT, 0.0)

    def chunks(self) -> Iterator[Chunk]:
        rows = _chunk_rows(self.dim, self.row_format)
        for first in range(0, self.num_rows, rows):
            yield self._chunk(slice(first, first + rows))
            self._release()

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Chunk]:
        """Yields all rows in a new random order, ``size`` at a time."""
        for batch in torch.randperm(self.num_rows, generator=generator, device="cpu").split(size):
            yield self._chunk(batch)

    def sample(self, num_rows: int, processes: Processes) -> Chunk:
        """Returns at most ``num_rows`` rows, evenly spaced over the rows of all processes, the same in each process."""
        numbers = processes.gather_objects(self.num_rows)
        first, num_all_rows = sum(numbers[: processes.rank]), sum(numbers)
        indices = evenly_spaced_rows(num_all_rows, num_rows)
        is_own = (indices >= first) & (indices < first + self.num_rows)
        own = self._chunk(indices[is_own] - first)
        if processes.world_size == 1:
            return own
        x = own.x.new_zeros(len(indices), self.dim)
        x[is_own] = own.x
        weight = torch.zeros(len(indices), dtype=torch.float64, device=x.device)
        weight[is_own] = 1.0 if own.weight is None else own.weight
        x, weight = processes.sum(x, weight)
        return Chunk(x, weight)

    def _chunk(self, rows: slice | Tensor) -> Chunk:
        if isinstance(rows, slice):
            x = self.row_format.to_tensor(self._x[rows])
        elif isinstance(self._x, Tensor):
            x = self.row_format.to_tensor(self._x[rows.to(self._x.device)])
        else:
            x = torch.cat([self._read_scattered_rows(part) for part in rows.split(_SCATTERED_ROWS)])
        weight = None if self._weight is None else self._weight[rows].to(self.row_format.device)
        return Chunk(x, weight)

    def _read_scattered_rows(self, rows: Tensor) -> Tensor:
        x = self.row_format.to_tensor(self._x[rows.numpy()])
        self._release()
        return x

    def _release(self) -> None:
        """Drops the pages of a mapped file: they stay in the system's cache but no longer count as process memory."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)


class StreamRows:
    """Rows that come in batches, anew in every epoch.

    Args:
        batches: iterable that gives batches ``[n, D]`` each time it is iterated over: tensors, arrays, or tuples that
            begin with one, as from a ``DataLoader``.
        dim: number of features D of the batch that :func:`read_first_batch` returns.
        row_format: dtype and device of the rows, and whether values may be missing.

    Raises:
        ValueError: on reading, a batch of a wrong shape, no rows, or rows that :meth:`RowFormat.check_values` rejects.
    """

    has_gaps: bool

    def __init__(self, batches: Iterable[Any], dim: int, row_format: RowFormat) -> None:
        self._batches = batches
        self.row_format = row_format
        self.has_fixed_order = False  # a loader may shuffle
        self.has_gaps = row_format.missing == "ignore"
        self.dim = dim
        self.observed_features = torch.zeros(dim, dtype=torch.bool, device=row_format.device)  # so far

    def batches(self) -> Iterator[Chunk]:
        """Yields the batches as they come."""
        first = 0
        for item in self._batches:
            x = self.row_format.to_tensor(_rows_of_batch(item, self.dim))
            has_gaps, _ = self.row_format.check_values(x, first)
            first += len(x)
            if len(x):
                self.observed_features |= _observed_features(Chunk(x, None), has_gaps)
                yield Chunk(x, None)
        if first == 0:
            raise ValueError("SOM: X must give at least one row in every epoch, got none")

    def chunks(self) -> Iterator[Chunk]:
        """Yields the rows in chunks as long as those of :class:`ArrayRows`."""
        rows, pending, count = _chunk_rows(self.dim, self.row_format), [], 0
        for batch in self.batches():
            pending.append(batch.x)
            count += len(batch.x)
            while count >= rows:
                joined = torch.cat(pending) if len(pending) > 1 else pending[0]
                yield Chunk(joined[:rows], None)
                pending, count = [joined[rows:]], count - rows
        if count:
            yield Chunk(torch.cat(pending), None)

    def sample(self, num_rows: int, processes: Processes) -> Chunk:
        """Returns the first rows, at most ``num_rows``; with several processes, those of the first process."""
        parts, count = [], 0
        for batch in self.batches():
            parts.append(batch.x)
            count += len(batch.x)
            if count >= num_rows:
                break
        x = torch.cat(parts)[:num_rows]
        if processes.world_size == 1:
            return Chunk(x, None)
        number = processes.gather_objects(len(x))[0]
        shared = x if processes.is_first else x.new_empty(number, self.dim)
        processes.broadcast_in_place(shared)
        return Chunk(shared, None)


Rows = ArrayRows | StreamRows


def evenly_spaced_rows(num_rows: int, max_rows: int) -> Tensor:
    """Returns the indices of at most ``max_rows`` evenly spaced rows, int64, ascending, on the CPU."""
    size = min(max_rows, num_rows)
    return torch.arange(size, device="cpu") * num_rows // size


def read_first_batch(batches: Iterable[Any]) -> Tensor | NDArray[Any]:
    """Returns the rows of the first batch.

    Raises:
        ValueError: an iterator, which could be read only once; no batch, or one that is not an array ``[n, D]``.
    """
    if hasattr(batches, "__next__"):
        raise ValueError(
            "SOM: X must give its batches anew for every epoch, got an iterator, which can be read once; give a "
            "DataLoader or another iterable, or call partial_fit with each batch"
        )
    for item in batches:
        return _rows_of_batch(item, None)
    raise ValueError("SOM: X must give at least one batch, got none")


def _rows_of_batch(item: Any, dim: int | None) -> Tensor | NDArray[Any]:
    x = item[0] if isinstance(item, (tuple, list)) and len(item) else item
    x = as_real_numbers("SOM", "X", x)
    expected = "[n, D]" if dim is None else f"[n, {dim}]"
    if x.ndim != 2 or x.shape[1] == 0 or x.shape[1] != (dim or x.shape[1]):
        raise ValueError(f"SOM: X must give batches of shape {expected}, got {list(x.shape)}")
    return x


def _observed_features(chunk: Chunk, has_gaps: bool) -> Tensor | bool:
    """Which features have a value in a row of positive weight, bool ``[D]``; one bool if all or none have."""
    if not has_gaps:
        return chunk.weight is None or bool((chunk.weight > 0).any())
    x = chunk.x if chunk.weight is None else chunk.x[chunk.weight > 0]
    return (~x.isnan()).any(dim=0)


def _chunk_rows(dim: int, row_format: RowFormat) -> int:
    return max(1, (_CHUNK_VALUES_WITH_GAPS if row_format.missing == "ignore" else _CHUNK_VALUES) // dim)


def _dtype_eps(dtype: Any) -> float:
    """Machine epsilon of a floating dtype of numpy or torch; 0 for integers."""
    if isinstance(dtype, torch.dtype):
        return torch.finfo(dtype).eps if dtype.is_floating_point else 0.0
    return float(np.finfo(dtype).eps) if np.dtype(dtype).kind == "f" else 0.0


def _check_weight(weight: Tensor | NDArray[Any], rows: int) -> Tensor:
    result = torch.as_tensor(weight, dtype=torch.float64, device="cpu")
    if result.shape != (rows,):
        raise ValueError(f"SOM: sample_weight must have shape [N] = {[rows]}, got {list(result.shape)}")
    wrong = ~(result.isfinite() & (result >= 0))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"SOM: sample_weight must hold finite numbers of at least 0, got {float(result[row])} in row {row}"
        )
    return result


def _max_abs(x: Tensor) -> Tensor:
    """The largest absolute value, or NaN if x holds NaN; does not copy x."""
    low, high = x.aminmax()
    return torch.maximum(-low, high)


def mapped_file(x: object) -> mmap.mmap | None:
    """Returns the mapped file behind an array if its pages may be dropped and read again, otherwise None."""
    if not isinstance(x, np.memmap) or x.mode == "c":  # copy-on-write pages may differ from the file
        return None
    base: object = x
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
