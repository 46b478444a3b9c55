"""Tables of numbers, small or larger than memory: what a map is trained on from the shell."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.files import read_csv
from somvae_ext.som.rows import mapped_file

Array = NDArray[Any]

_CHUNK_VALUES = 1 << 22  # 32 MiB in float64


class Block(NamedTuple):
    """Some rows ``x`` ``[n, D]`` of a table, and the number of the first."""

    first: int
    x: Array


class Table:
    """Rows of features, from a file.

    Args:
        path: of the file, for messages.
        x: ``[N, D]``, numbers; may be mapped from the file.
        columns: names of the features, where there are any.
        label: of each row, ``[N]``, numbers or text.
        lines: of the file that hold the rows, for messages.
    """

    def __init__(
        self,
        path: Path,
        x: Array,
        columns: list[str] | None = None,
        label: Array | None = None,
        lines: Sequence[int] | None = None,
    ) -> None:
        self.path, self.x, self.columns, self.label = path, x, columns, label
        self._lines = lines

    @property
    def num_rows(self) -> int:
        return len(self.x)

    @property
    def dim(self) -> int:
        return int(self.x.shape[1])

    @property
    def is_mapped(self) -> bool:
        """Whether the rows are on disk and not in memory."""
        return mapped_file(self.x) is not None

    def rows(self, first: int, last: int) -> Table:
        """The rows from one number up to another, without a copy."""
        if (first, last) == (0, self.num_rows):
            return self
        label = None if self.label is None else self.label[first:last]
        lines = None if self._lines is None else self._lines[first:last]
        return Table(self.path, self.x[first:last], self.columns, label, lines)

    def fingerprint(self) -> str:
        """A number, in hexadecimal digits, that other tables do not have: a hash of all values and labels."""
        digest = hashlib.blake2b(f"{self.x.dtype} {self.x.shape} {self.columns}".encode(), digest_size=16)
        for block in self.blocks():
            digest.update(np.ascontiguousarray(block.x).data)
        if self.label is not None:
            digest.update(repr(self.label.tolist()).encode())
        return digest.hexdigest()

    def blocks(self) -> Iterator[Block]:
        """All rows, so many at a time that a copy of them takes little memory."""
        size, file = max(1, _CHUNK_VALUES // self.dim), mapped_file(self.x)
        for first in range(0, self.num_rows, size):
            yield Block(first, self.x[first : first + size])
            if file is not None:
                # Its pages stay in the system's cache, but count for this process no longer.
                file.madvise(mmap.MADV_DONTNEED)

    def check(self, *, gaps: bool, remedy: str) -> None:
        """Looks at every value.

        Args:
            gaps: whether NaN may stand for a missing value.
            remedy: what to do against NaN, where it may not.

        Raises:
            ValueError: a value that is not a finite float32 number, or with ``gaps`` a row or a column without any
                value; the sentence says where.
        """
        seen = np.zeros(self.dim, dtype=bool)
        for first, x in self.blocks():
            with np.errstate(over="ignore"):  # to infinity, which is refused
                single = x.astype(np.float32)
            finite = np.isfinite(single)
            if finite.all():
                seen[:] = True
                continue
            missing = np.isnan(single)
            broken = ~finite & ~missing if gaps else ~finite
            if broken.any():
                row, column = (int(axis[0]) for axis in broken.nonzero())
                value = x[row, column]
                got, advice = ("NaN", f"; {remedy}") if np.isnan(value) else (f"{value:g}", "")
                raise ValueError(
                    f"{self.path}: values must be finite float32 numbers, got {got} in {self._row(first + row)}, "
                    f"column {self._column(column)} (rows count from 0){advice}"
                )
            if missing.all(axis=1).any():
                row = first + int(missing.all(axis=1).argmax())
                raise ValueError(
                    f"{self.path}: every row must hold at least one value, got none in {self._row(row)}; drop the row"
                )
            seen |= finite.any(axis=0)
        if not seen.all():
            empty = self._column(int((~seen).argmax()))
            raise ValueError(f"{self.path}: every column must hold at least one value, got none in column {empty}")

    def in_order_of(self, columns: Sequence[str] | None, dim: int, model: str) -> Table:
        """The same rows with the columns of a model's training data, by their names where both have some.

        Raises:
            ValueError: other columns, which are named, or another number of them.
        """
        if columns is not None and self.columns is not None:
            absent = [name for name in columns if name not in self.columns]
            unknown = [name for name in self.columns if name not in columns]
            if absent or unknown:
                parts = [
                    f"{what} {', '.join(map(repr, names))}"
                    for what, names in (("without", absent), ("with the unknown", unknown))
                    if names
                ]
                raise ValueError(
                    f"{self.path}: columns must be those that {model} was trained on, in any order, got a table "
                    f"{' and '.join(parts)}"
                )
            if self.columns == list(columns):
                return self
            order = [self.columns.index(name) for name in columns]
            return Table(self.path, self.x[:, order], list(columns), self.label, self._lines)
        if self.dim != dim:
            raise ValueError(
                f"{self.path}: rows must have {dim} features, as those that {model} was trained on, got {self.dim}"
            )
        return self

    def _row(self, row: int) -> str:
        return f"row {row}" if self._lines is None else f"row {row} (line {self._lines[row]})"

    def _column(self, column: int) -> str:
        return str(column) if self.columns is None else repr(self.columns[column])


def read_table(path: Path, *, label_column: str | None = None, ignored_column: str | None = None) -> Table:
    """Reads a table without a look at its values, see :meth:`Table.check`.

    - ``.csv``: as :func:`~somvae_ext.data.load_array` reads it.
    - ``.npy``: an array ``[N, D]``, which stays on disk.
    - ``.parquet``: columns of numbers or booleans; needs pandas and pyarrow, which the extra ``table`` brings.

    Args:
        path: of the file.
        label_column: column of CSV and Parquet files that holds labels.
        ignored_column: column that is left out if it is there.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: the file holds something else, or no row.
        ModuleNotFoundError: pandas or pyarrow is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    suffix = path.suffix.lower()
    if path.is_dir() or suffix not in (".csv", ".npy", ".parquet"):
        got = "a folder" if path.is_dir() else repr(suffix) if suffix else "a name without an ending"
        raise ValueError(f"{path}: must be a .csv, .npy or .parquet file, got {got}")
    if suffix == ".npy":
        if label_column is not None:
            raise ValueError(f"{path}: --label-column names a column of .csv and .parquet files, got a .npy file")
        return _map_npy(path)
    table = (_read_csv if suffix == ".csv" else _read_parquet)(path, label_column, ignored_column)
    names = table.columns or []
    if "" in names:
        raise ValueError(
            f"{path}: every column must have a name, got none for column {names.index('')} (from 0); if it only "
            "numbers the rows, drop it (in pandas: to_csv(index=False))"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: columns must have different names, got {twice!r} {names.count(twice)} times")
    return table


def _read_csv(path: Path, label_column: str | None, ignored_column: str | None) -> Table:
    table = read_csv(path, label_column, ignored_column)
    return Table(path, table.x, table.columns if table.has_names else None, table.label, table.lines)


def _map_npy(path: Path) -> Table:
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: must be an array of numbers that numpy.save wrote, got something else") from error
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{path}: must be one array that numpy.save wrote, got an archive of several")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{path}: must hold numbers, got dtype {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        remedy = "; flatten images with x.reshape(len(x), -1)" if x.ndim > 2 else ""
        raise ValueError(
            f"{path}: must have shape [N, D] with at least one row and one feature, got {list(x.shape)}{remedy}"
        )
    return Table(path, x)


def _read_parquet(path: Path, label_column: str | None, ignored_column: str | None) -> Table:
    import pandas as pd  # type: ignore[import-untyped]
    import pyarrow  # type: ignore[import-untyped]

    try:
        frame = pd.read_parquet(path, engine="pyarrow")
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path}: must be a Parquet file, got something else") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    frame = frame.drop(columns=[name for name in frame.columns if name == ignored_column])
    label = None
    if label_column is not None:
        if label_column not in frame.columns:
            raise ValueError(
                f"{path}: label_column (--label-column) must be one of its columns {', '.join(frame.columns)}, got "
                f"{label_column!r}"
            )
        column = frame.pop(label_column)
        if column.isna().any():
            raise ValueError(f"{path}: every row must have a label, got none in row {int(column.isna().argmax())}")
        label = column.to_numpy()
        if label.dtype.kind not in "biu":
            label = column.astype(str).to_numpy(dtype=str)
    if 0 in frame.shape:
        raise ValueError(
            f"{path}: must hold at least one row and one column of numbers, got {frame.shape[0]} rows and "
            f"{frame.shape[1]} columns"
        )
    x = np.empty(frame.shape)
    for number, (name, column) in enumerate(frame.items()):
        if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise ValueError(
                f"{path}: column {name!r} must hold numbers, got {column.dtype}; remove the column, or if it holds "
                "labels, name it with label_column (--label-column)"
            )
        x[:, number] = column.to_numpy(dtype=np.float64, na_value=np.nan)
    return Table(path, x, list(frame.columns), label)
