"""Where the rows of a training come from: arrays in memory or on disk, or batches that arrive one by one.

Either gives chunks of the same lengths, so that from the same start the same rows make the same map, wherever they are.
All values are checked before they reach a kernel, in a sentence that names row and column.
"""

from __future__ import annotations

import mmap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.som.processes import Processes

Missing = Literal["error", "ignore"]
Array = Tensor | NDArray[Any]

# Values of a chunk (256 MiB of float32): many rows for one pass over a large map, few enough to copy.
_CHUNK_VALUES = 1 << 26
# Of one in which values may be missing, which takes copies and masks in float64.
_CHUNK_VALUES_WITH_GAPS = 1 << 23

# Rows that are fetched at a time from all over a file: each maps a whole stretch of it around itself.
_SCATTERED_ROWS = 1024

# Of the largest: a row that counts less would only cost digits.
_LEAST_WEIGHT = 1e-18


class Chunk(NamedTuple):
    """Rows ``x`` ``[n, D]``, dtype and device of the training, and their weights ``[n]`` in float64, or None."""

    x: Tensor
    weight: Tensor | None


class Values:
    """What is asked of all rows: dtype, device, and what may be missing.

    Args:
        dtype: float32 or float64, in which the map is trained.
        device: where.
        missing: ``"error"`` refuses NaN, ``"ignore"`` takes it for a value that is not there.
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

    def tensor(self, x: Array) -> Tensor:
        """These rows where they are needed, without a copy where they fit already."""
        if isinstance(x, np.ndarray):
            wanted = np.float64 if self.dtype == torch.float64 else np.float32
            with warnings.catch_warnings(), np.errstate(over="ignore"):
                # The array may be one that must not be written to, as of a file, and it is not.
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                x = torch.from_numpy(np.ascontiguousarray(x, dtype=wanted))
        return x.detach().to(self.device, self.dtype)

    def check(self, x: Tensor, first_row: int) -> tuple[bool, float]:
        """Whether any value is missing, and the largest absolute value.

        Raises:
            ValueError: NaN where it is refused, a row of nothing else, infinity, or values whose squares overflow.
        """
        if x.numel() == 0:
            return False, 0.0
        size = _size(x)
        gaps = bool(size.isnan())
        if gaps:
            if self.missing == "error":
                self._refuse(
                    x, x.isnan(), first_row, "hold finite values", "NaN", "fill the gap, or set missing='ignore'"
                )
            empty = x.isnan().all(dim=1)
            if empty.any():
                row = first_row + int(empty.nonzero()[0])
                raise ValueError(
                    f"SOM: X must hold at least one value in each row, got only NaN in row {row}; drop the row"
                )
            size = _size(x.nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf))
        if bool(size.isinf()):
            self._refuse(x, x.isinf(), first_row, "hold finite values", "infinity", "replace or drop it")
        largest = torch.finfo(x.dtype).max ** 0.5 / (4 * x.shape[1] ** 0.5)
        if float(size) > largest:
            expected = f"hold values of at most {largest:.1e} in size, so that their squares add up in {self._name()}"
            self._refuse(x, x.abs() > largest, first_row, expected, f"{float(size):.3e}", "rescale the feature")
        return gaps, float(size)

    def _refuse(self, x: Tensor, where: Tensor, first_row: int, expected: str, got: str, remedy: str) -> None:
        row, column = where.nonzero()[0].tolist()
        name = column if self._columns is None else repr(str(self._columns[column]))
        raise ValueError(f"SOM: X must {expected}, got {got} in row {first_row + row}, column {name}; {remedy}")

    def _name(self) -> str:
        return str(self.dtype).removeprefix("torch.")


class ArrayRows:
    """Rows of an array, in memory or mapped from a file; checked here, once, and not copied as a whole.

    Args:
        x: ``[N, D]``, N at least 1.
        values: what they become.
        weight: of each row, ``[N]``, at least 0.

    Raises:
        ValueError: what :meth:`Values.check` refuses; weights of another shape, negative or not finite ones.
    """

    def __init__(self, x: Array, values: Values, weight: Array | None = None) -> None:
        self._x = x
        self.values = values
        self.in_order = True
        self._weight: Tensor | None = None
        if weight is not None:
            self._weight = _checked_weight(weight, len(x))
        self._file = mapped_file(x)
        self.num_rows, self.dim = int(x.shape[0]), int(x.shape[1])
        self.gaps = False
        self.largest = 0.0  # absolute value
        first = 0
        for chunk in self.chunks():
            gaps, largest = values.check(chunk.x, first)
            self.gaps |= gaps
            self.largest = max(self.largest, largest)
            first += len(chunk.x)

    def normalize_weights(self, processes: Processes) -> None:
        """Divides the weights by the largest one of all processes, so that products with them keep their digits.

        What is below 1e-18 of it becomes 0.

        Raises:
            ValueError: they are all 0.
        """
        largest = max(processes.gather(1.0 if self._weight is None else float(self._weight.max())))
        if largest == 0:
            raise ValueError("SOM: sample_weight must be above 0 for at least one row, got only zeros")
        if self._weight is None and largest == 1.0:
            return
        weight = torch.ones(self.num_rows, dtype=torch.float64) if self._weight is None else self._weight
        weight = weight / largest
        self._weight = weight.masked_fill(weight < _LEAST_WEIGHT, 0.0)

    def chunks(self) -> Iterator[Chunk]:
        rows = _chunk_rows(self.dim, self.values)
        for first in range(0, self.num_rows, rows):
            yield self._chunk(slice(first, first + rows))
            self._release()

    def batches(self, size: int, generator: torch.Generator) -> Iterator[Chunk]:
        """All rows in a new order, ``size`` at a time."""
        for some in torch.randperm(self.num_rows, generator=generator, device="cpu").split(size):
            yield self._chunk(some)

    def sample(self, rows: int, processes: Processes) -> Chunk:
        """At most so many rows, spread evenly over the rows of all processes, which all get the same."""
        numbers = processes.gather(self.num_rows)
        first, all_rows = sum(numbers[: processes.rank]), sum(numbers)
        chosen = torch.arange(min(rows, all_rows), device="cpu") * all_rows // min(rows, all_rows)
        here = (chosen >= first) & (chosen < first + self.num_rows)
        own = self._chunk(chosen[here] - first)
        if processes.number == 1:
            return own
        x = own.x.new_zeros(len(chosen), self.dim)
        x[here] = own.x
        weight = torch.zeros(len(chosen), dtype=torch.float64, device=x.device)
        weight[here] = 1.0 if own.weight is None else own.weight
        processes.add(x, weight)
        return Chunk(x, weight)

    def _chunk(self, rows: slice | Tensor) -> Chunk:
        if isinstance(rows, slice):
            x = self.values.tensor(self._x[rows])
        elif isinstance(self._x, Tensor):
            x = self.values.tensor(self._x[rows.to(self._x.device)])
        else:
            x = torch.cat([self._rows_from_anywhere(some) for some in rows.split(_SCATTERED_ROWS)])
        weight = None if self._weight is None else self._weight[rows].to(self.values.device)
        return Chunk(x, weight)

    def _rows_from_anywhere(self, rows: Tensor) -> Tensor:
        x = self.values.tensor(self._x[rows.numpy()])
        self._release()
        return x

    def _release(self) -> None:
        """Drops the pages of a mapped file: they stay in the system's cache, but count for this process no longer."""
        if self._file is not None:
            self._file.madvise(mmap.MADV_DONTNEED)


class StreamRows:
    """Rows that come in batches, again in every epoch.

    Args:
        batches: gives batches ``[n, D]`` (tensors, arrays, or tuples that begin with one, as of a ``DataLoader``) each
            time that it is iterated over.
        dim: D, as :func:`first_batch` shows.
        values: what they become.

    Raises:
        ValueError: while it is read, a batch of another shape, no row, and what :meth:`Values.check` refuses.
    """

    gaps: bool

    def __init__(self, batches: Iterable[Any], dim: int, values: Values) -> None:
        self._batches = batches
        self.values = values
        self.in_order = False  # a loader may shuffle
        self.gaps = values.missing == "ignore"
        self.dim = dim

    def batches(self) -> Iterator[Chunk]:
        """The batches as they come."""
        first = 0
        for item in self._batches:
            x = self.values.tensor(_batch(item, self.dim))
            self.values.check(x, first)
            first += len(x)
            if len(x):
                yield Chunk(x, None)
        if first == 0:
            raise ValueError("SOM: X must give at least one row in every epoch, got none")

    def chunks(self) -> Iterator[Chunk]:
        """The same rows in chunks of the length that arrays come in."""
        rows, waiting, count = _chunk_rows(self.dim, self.values), [], 0
        for batch in self.batches():
            waiting.append(batch.x)
            count += len(batch.x)
            while count >= rows:
                joined = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
                yield Chunk(joined[:rows], None)
                waiting, count = [joined[rows:]], count - rows
        if count:
            yield Chunk(torch.cat(waiting), None)

    def sample(self, rows: int, processes: Processes) -> Chunk:
        """The first rows, at most so many; of several processes those of the first."""
        parts, count = [], 0
        for batch in self.batches():
            parts.append(batch.x)
            count += len(batch.x)
            if count >= rows:
                break
        x = torch.cat(parts)[:rows]
        if processes.number == 1:
            return Chunk(x, None)
        number = processes.gather(len(x))[0]
        shared = x if processes.rank == 0 else x.new_zeros(number, self.dim)
        processes.add(shared)
        return Chunk(shared, None)


Rows = ArrayRows | StreamRows


def first_batch(batches: Iterable[Any]) -> Array:
    """
    Raises:
        ValueError: an iterator, which could be read only once; no batch, or one that is no array ``[n, D]``.
    """
    if hasattr(batches, "__next__"):
        raise ValueError(
            "SOM: X must give its batches anew for every epoch, got an iterator, which can be read once; give a "
            "DataLoader or another iterable, or call partial_fit with each batch"
        )
    for item in batches:
        return _batch(item, None)
    raise ValueError("SOM: X must give at least one batch, got none")


def _batch(item: Any, dim: int | None) -> Array:
    x = item[0] if isinstance(item, (tuple, list)) and len(item) else item
    if not isinstance(x, Tensor):
        x = np.asarray(x)
    expected = "[n, D]" if dim is None else f"[n, {dim}]"
    if x.ndim != 2 or x.shape[1] == 0 or x.shape[1] != (dim or x.shape[1]):
        raise ValueError(f"SOM: X must give batches of shape {expected}, got {list(x.shape)}")
    if isinstance(x, np.ndarray) and x.dtype.kind not in "fiub":
        raise ValueError(f"SOM: X must give batches of numbers, got dtype {x.dtype}")
    return x


def _chunk_rows(dim: int, values: Values) -> int:
    return max(1, (_CHUNK_VALUES_WITH_GAPS if values.missing == "ignore" else _CHUNK_VALUES) // dim)


def _checked_weight(weight: Array, rows: int) -> Tensor:
    checked = torch.as_tensor(weight, dtype=torch.float64, device="cpu")
    if checked.shape != (rows,):
        raise ValueError(f"SOM: sample_weight must have shape [N] = {[rows]}, got {list(checked.shape)}")
    wrong = ~(checked.isfinite() & (checked >= 0))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise ValueError(
            f"SOM: sample_weight must hold finite numbers of at least 0, got {float(checked[row])} in row {row}"
        )
    return checked


def _size(x: Tensor) -> Tensor:
    """The largest absolute value, NaN if there is one; without a copy of x."""
    low, high = x.aminmax()
    return torch.maximum(-low, high)


def mapped_file(x: Array) -> mmap.mmap | None:
    """The file behind an array that is mapped, whose pages may be dropped and read again."""
    if not isinstance(x, np.memmap) or x.mode == "c":  # whose pages may hold what no file does
        return None
    base: object = x
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None
