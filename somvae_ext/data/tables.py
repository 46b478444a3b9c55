"""Tables of numbers, which may be larger than memory: training data other than images and series."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.descriptions import describe_gaps
from somvae_ext.data.table_format import TableFormat
from somvae_ext.som.rows import mapped_file

Array = NDArray[Any]
Missing = Literal["error", "drop", "mean", "ignore"]
"""What is done about a missing value: it is refused, its row is left out, it becomes the mean of its column in the
training data, or it is left out of distances and means, which only maps can do."""

_CHUNK_VALUES = 1 << 22  # 32 MiB in float64


class Block(NamedTuple):
    """Some rows ``x`` ``[n, D]`` of a table, and the number of the first."""

    first: int
    x: Array


class Table:
    """Rows of features.

    Args:
        source: the file or data set, for messages.
        x: ``[N, D]``, numbers; may be mapped from a file.
        columns: names of the features, if they have any.
        label: label of each row, ``[N]``, integers or text.
        row_keys: what identifies each row in its source, by name: its number, its name, or series and frame; ``[N]``
            each.
        description: what was understood of the file, as text by title.
        image_shape: ``(C, H, W)`` if the rows are images.
        row_numbers: numbers of the rows in the file, ``[N]``, if some were left out.
        line_of: gives the line of the file that holds a row, by its number there; for messages.
    """

    def __init__(
        self,
        source: str | Path,
        x: Array,
        columns: Sequence[str] | None = None,
        label: Array | None = None,
        row_keys: Mapping[str, Sequence[Any]] | None = None,
        description: Mapping[str, str] | None = None,
        image_shape: tuple[int, ...] | None = None,
        row_numbers: NDArray[np.int64] | None = None,
        line_of: Callable[[int], int] | None = None,
    ) -> None:
        self.source, self.x, self.label = source, x, label
        self.columns = None if columns is None else tuple(columns)
        self._row_keys = row_keys
        self.description = dict(description or {})
        self.image_shape = image_shape
        self._row_numbers, self._line_of = row_numbers, line_of
        self.format: TableFormat | None = None  # format of the file, completed with what it showed

    @property
    def num_rows(self) -> int:
        return len(self.x)

    @property
    def dim(self) -> int:
        return int(self.x.shape[1])

    @property
    def is_memory_mapped(self) -> bool:
        """Whether the rows are on disk and not in memory."""
        return mapped_file(self.x) is not None

    @property
    def row_keys(self) -> Mapping[str, Sequence[Any]]:
        """What identifies each row in its source, ``[N]`` by name; by default its number in the file, from 0."""
        if self._row_keys is not None:
            return self._row_keys
        return {"index": range(self.num_rows) if self._row_numbers is None else self._row_numbers.tolist()}

    def rows(self, first: int, last: int) -> Table:
        """Returns the rows from ``first`` up to, but not including, ``last``, without a copy."""
        if (first, last) == (0, self.num_rows):
            return self
        return self._with_rows(slice(first, last))

    @property
    def row_numbers(self) -> NDArray[np.int64]:
        """The numbers that the rows have in the file, ``[N]``."""
        return np.arange(self.num_rows) if self._row_numbers is None else self._row_numbers

    def drop_incomplete_rows(self, *, extra: NDArray[np.bool_] | None = None, may_be_empty: bool = False) -> Table:
        """Returns the rows without a missing value that are not among the ``extra`` ones ``[N]``.

        Raises:
            ValueError: there is none, and ``may_be_empty`` is not set.
        """
        gaps = np.isnan(self.x).any(axis=1) if self.x.dtype.kind == "f" else np.zeros(self.num_rows, dtype=bool)
        if extra is not None:
            gaps = gaps | extra
        count = int(gaps.sum())
        if count == 0:
            return self
        if count == self.num_rows and not may_be_empty:
            raise ValueError(f"{self.source}: must hold a row without a gap for missing='drop', got none")
        kept = self._with_rows(np.flatnonzero(~gaps))
        kept.add_description("left out", f"{count} of {self.num_rows} rows, which have gaps")
        kept.description["gaps"] = describe_gaps(self.gaps_per_column(), self.num_rows, "drop")
        return kept

    def gaps_per_column(self) -> NDArray[np.int64]:
        """Counts the missing values of each column, int64 ``[D]``."""
        if self.x.dtype.kind != "f":
            return np.zeros(self.dim, np.int64)
        return sum((np.isnan(block.x).sum(axis=0) for block in self.blocks()), start=np.zeros(self.dim, np.int64))

    def column_means(self) -> NDArray[np.float64]:
        """Returns the mean ``[D]`` of the values that each column has; NaN if it has none."""
        total, count = np.zeros(self.dim), np.zeros(self.dim)
        for block in self.blocks():
            x = block.x.astype(np.float64)
            present = ~np.isnan(x)
            total += np.where(present, x, 0).sum(axis=0)
            count += present.sum(axis=0)
        with np.errstate(invalid="ignore"):
            return total / count

    def fill_gaps(self, values: Sequence[float]) -> Table:
        """Returns the table with its gaps filled, with one value per column."""
        gaps = np.isnan(self.x) if self.x.dtype.kind == "f" else np.zeros(self.x.shape, dtype=bool)
        if not gaps.any():
            return self
        return self._with_x(np.where(gaps, np.asarray(values), self.x))

    def add_description(self, title: str, text: str) -> None:
        """Adds an entry to the description."""
        self.description[title] = f"{self.description[title]}; {text}" if title in self.description else text

    def fingerprint(self) -> str:
        """Returns a hash, in hexadecimal digits, of all values and labels, by which the table is recognized."""
        columns = None if self.columns is None else list(self.columns)
        digest = hashlib.blake2b(f"{self.x.dtype} {self.x.shape} {columns}".encode(), digest_size=16)
        for block in self.blocks():
            digest.update(np.ascontiguousarray(block.x).data)
        if self.label is not None:
            digest.update(repr(self.label.tolist()).encode())
        return digest.hexdigest()

    def blocks(self) -> Iterator[Block]:
        """Iterates over all rows in blocks small enough to copy."""
        size, file = max(1, _CHUNK_VALUES // self.dim), mapped_file(self.x)
        for first in range(0, self.num_rows, size):
            yield Block(first, self.x[first : first + size])
            if file is not None:
                # The pages stay in the system's cache, but no longer count for this process.
                file.madvise(mmap.MADV_DONTNEED)

    def check_values(
        self, missing: Missing = "error", *, empty_columns: bool = False, remedy: str | None = None
    ) -> None:
        """Checks every value.

        Args:
            missing: NaN is refused with ``"error"``.
            empty_columns: whether a column may have no value at all, as in data that are not trained on.
            remedy: what to do about NaN; by default, to choose another ``missing``.

        Raises:
            ValueError: a value that is not a finite float32 number, or a row or a column without any value; the
                message says where.
        """
        gaps = missing != "error"
        remedy = (
            "fill the gap, or set missing='drop', missing='mean' or, for a map, missing='ignore'"
            if remedy is None
            else remedy
        )
        has_values = np.zeros(self.dim, dtype=bool)
        for first, x in self.blocks():
            with np.errstate(over="ignore"):  # to infinity, which is refused
                single = x.astype(np.float32)
            finite = np.isfinite(single)
            if finite.all():
                has_values[:] = True
                continue
            absent = np.isnan(single)
            broken = ~finite & ~absent if gaps else ~finite
            if broken.any():
                row, column = (int(axis[0]) for axis in broken.nonzero())
                value = x[row, column]
                got, advice = ("NaN", f"; {remedy}") if np.isnan(value) else (f"{value:g}", "")
                raise ValueError(
                    f"{self.source}: values must be finite float32 numbers, got {got} in {self.row_name(first + row)}, "
                    f"column {self._column(column)} (rows count from 0){advice}"
                )
            if missing == "ignore" and absent.all(axis=1).any():
                row = first + int(absent.all(axis=1).argmax())
                raise ValueError(
                    f"{self.source}: every row must hold at least one value, got none in {self.row_name(row)}; drop "
                    "the row"
                )
            has_values |= finite.any(axis=0)
        if not (has_values.all() or empty_columns):
            empty = self._column(int((~has_values).argmax()))
            advice = f"; leave it out with drop=[{empty}]" if self.columns is not None else ""
            raise ValueError(
                f"{self.source}: every column must hold at least one value, got none in column {empty}{advice}"
            )

    def row_name(self, row: int) -> str:
        """Returns what a message calls a row: ``row 3 (line 5)``."""
        number = int(self.row_numbers[row])
        line = 0 if self._line_of is None else self._line_of(number)
        return f"row {number} (line {line})" if line else f"row {number}"

    def _column(self, column: int) -> str:
        return str(column) if self.columns is None else repr(self.columns[column])

    def _with_x(self, x: Array) -> Table:
        table = Table(
            self.source, x, self.columns, self.label, self._row_keys, self.description, self.image_shape,
            self._row_numbers, self._line_of,
        )  # fmt: skip
        table.format = self.format
        return table

    def _with_rows(self, rows: slice | NDArray[np.int64]) -> Table:
        label = None if self.label is None else self.label[rows]
        row_keys = None
        if self._row_keys is not None:
            row_keys = {
                name: np.asarray(values, dtype=object)[rows].tolist() for name, values in self._row_keys.items()
            }
        table = Table(
            self.source, self.x[rows], self.columns, label, row_keys, self.description, self.image_shape,
            self.row_numbers[rows], self._line_of,
        )  # fmt: skip
        table.format = self.format
        return table
