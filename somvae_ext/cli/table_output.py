"""Writes tables block by block, as CSV or Parquet depending on the name of the file."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TextIO

from somvae_ext.cli.output import is_special, open_output
from somvae_ext.store import atomic_file

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

ENDINGS = (".csv", ".parquet")


class TableWriter(Protocol):
    """Writes a table in blocks of rows."""

    def write(self, columns: Mapping[str, Any]) -> None:
        """Adds rows.

        Args:
            columns: numpy or pyarrow arrays, or sequences, of one length, by name; each block has the same names.
        """


def is_parquet(path: str | None) -> bool:
    """Whether an ``--output`` is written as Parquet, and not as CSV."""
    return path is not None and Path(path).suffix.lower() == ".parquet"


def check_ending(path: str | None) -> None:
    """Checks that the name of an ``--output`` says how to write it.

    Raises:
        ValueError: another ending, or Parquet for a stream or device.
    """
    if path is None:
        return
    if is_special(path):
        if is_parquet(path):
            raise ValueError(f"--output must be a regular file for Parquet, got {path}")
    elif Path(path).suffix.lower() not in ENDINGS:
        raise ValueError(f"--output must end with {' or '.join(ENDINGS)}, got {path}")


@contextlib.contextmanager
def open_table(path: str | None) -> Iterator[TableWriter]:
    """Opens a table in a file, which is complete or absent afterwards, or on standard output."""
    if path is not None and is_parquet(path):
        with atomic_file(Path(path)) as file, contextlib.closing(_ParquetTable(file, path)) as table:
            yield table
    else:
        with open_output(path) as text:
            yield _CSVTable(text)


class _CSVTable:
    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self._names: list[str] | None = None

    def write(self, columns: Mapping[str, Any]) -> None:
        if self._names is None:
            self._names = list(columns)
            self._writer.writerow(self._names)
        _check_names(self._names, columns)
        self._writer.writerows(zip(*map(_to_cells, columns.values()), strict=True))


class _ParquetTable:
    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file, self._path = file, path
        self._writer: Any = None

    def write(self, columns: Mapping[str, Any]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table({name: _to_arrow(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, table.schema)
        schema = self._writer.schema
        _check_names(schema.names, columns)
        if table.schema != schema:
            try:
                table = table.cast(schema)
            except pa.ArrowException as error:
                raise ValueError(
                    f"{self._path}: a column of a Parquet file must hold values of one type, but: {error}; write a "
                    ".csv file instead"
                ) from error
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _check_names(names: list[str], columns: Mapping[str, Any]) -> None:
    if names != list(columns):
        raise ValueError(
            f"all rows must have the same columns, got {', '.join(columns)} after {', '.join(names)}; name the column "
            "with the names of the rows by --id-column"
        )


def _to_cells(values: Any) -> list[Any]:
    """Returns values that the csv module writes with all significant digits and no others; None for missing ones."""
    import numpy as np

    if isinstance(values, np.ndarray) and values.dtype.kind == "f":
        # A Python float is written with the digits of float64, and a float32 needs fewer.
        cells: list[Any] = values.tolist() if values.dtype == np.float64 else values.astype(str).tolist()
        for row in np.flatnonzero(np.isnan(values)).tolist():
            cells[row] = None
        return cells
    if isinstance(values, np.ndarray):  # a masked array has None for missing values
        return values.tolist()
    return values.to_pylist() if hasattr(values, "to_pylist") else list(values)


def _to_arrow(values: Any) -> pa.Array | pa.ChunkedArray:
    import numpy as np
    import pyarrow as pa

    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        return values
    if not isinstance(values, np.ndarray):
        return pa.array(values)
    kind = pa.string() if values.dtype == object else None  # a block without any text would not tell the type
    return pa.array(values, type=kind, from_pandas=True)  # NaN is null
