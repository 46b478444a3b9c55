"""Reads rows like those of the training data block by block: memory does not grow with their number."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data._read_table import is_table_file, memory_map_npy, stream_arrow, table_ending
from somvae_ext.data.assemble_table import TableAssembler, source_columns
from somvae_ext.data.column_values import has_percent_signs
from somvae_ext.data.rows import flat_rows, is_matrix
from somvae_ext.data.splits import Kind
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table
from somvae_ext.data.text_table import ENDINGS, Columns, line_number_of_row, stream_text_table

_BLOCK_VALUES = 1 << 22  # 32 MiB in float64


class RowBlock(NamedTuple):
    """A block of rows, and the columns of the file for them.

    Args:
        rows: the rows, unscaled, checked and with their gaps filled. Their numbers in the file are
            ``rows.row_numbers``.
        columns: the columns of the file by name, if they were asked for: arrays of numpy or pyarrow, ``[n]`` each,
            without the column of row names.
        has_ids: whether there is a column of row names.
    """

    rows: Table
    columns: Mapping[str, Any]
    has_ids: bool = False


class RowStream:
    """Streams rows with the features of the training data.

    Tables and matrices in ``.npy`` files are read block by block; images, archives and series are read whole.

    Args:
        path: the file or folder of the rows.
        dim: number of features D.
        kind: how arrays are read, see :func:`~somvae_ext.data.load_array`.
        table: how a table is written, and what its columns are.
        missing: what is done about missing values. Rows with gaps that were dropped are dropped here, too.
        features: names of the features of the training data, if they have any.
        fill: values that gaps are filled with, ``[D]``.
        with_columns: whether the blocks have the columns of the file; those of a text file are text, each cell as it is
            written.

    Raises:
        FileNotFoundError: nothing is at the path.
        ValueError: the file cannot be read.

    Attributes:
        num_rows: number of rows according to the file, or None if it does not say.
        omitted: text about what has been left out so far; empty if nothing has been.
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        *,
        kind: Kind | None,
        table: TableFormat,
        missing: Missing,
        features: Sequence[str] | None,
        fill: Sequence[float] | None,
        with_columns: bool = False,
    ) -> None:
        self._path, self._dim, self._kind, self._format = path, dim, kind, table
        self._missing, self._features, self._fill, self._with_columns = missing, features, fill, with_columns
        self.num_rows: int | None = None
        self._num_read = self._num_dropped = 0
        self._columns_left_out: str | None = None
        self._blocks = self._open()

    def __iter__(self) -> Iterator[RowBlock]:
        """Iterates over the blocks, once.

        Raises:
            ValueError: rows that cannot be read or used, or have other features; the message says where.
        """
        num_kept = 0
        for block in self._blocks:
            rows = block.rows
            if rows.dim != self._dim:
                raise ValueError(
                    f"{self._path}: rows must have {self._dim} features, as the training data had, got {rows.dim}"
                )
            rows.check_values(self._missing, empty_columns=True, remedy="the training data had no gaps, so fill it")
            if self._fill is not None:
                rows = rows.fill_gaps(self._fill)
            num_kept += rows.num_rows
            if rows.num_rows:
                yield block._replace(rows=rows)
        if num_kept == 0:
            raise ValueError(f"{self._path}: must hold a row without a gap for missing='drop', got none")

    @property
    def omitted(self) -> str:
        parts = [] if self._columns_left_out is None else [self._columns_left_out]
        if self._num_dropped:
            parts.append(f"{self._num_dropped} of {self._num_read} rows, which have gaps")
        return "; ".join(parts)

    def _open(self) -> Iterator[RowBlock]:
        path = self._path
        if self._kind != "series" and is_row_file(path):
            if is_table_file(path):
                return self._table_blocks(self._table_columns())
            matrix = memory_map_npy(path, self._format, self._features)
            self.num_rows = matrix.num_rows
            return self._matrix_blocks(matrix)
        rows = flat_rows(path, self._kind, self._format, self._missing, self._features)
        self.num_rows = rows.num_rows
        self._columns_left_out = rows.description.get("left out")
        return self._parts(rows)

    def _parts(self, rows: Table) -> Iterator[RowBlock]:
        """Iterates over rows in memory, block by block."""
        size = max(1, _BLOCK_VALUES // rows.dim)
        for first in range(0, rows.num_rows, size):
            part = rows.rows(first, min(first + size, rows.num_rows))
            yield RowBlock(part, self._array_columns(part.x))

    def _matrix_blocks(self, rows: Table) -> Iterator[RowBlock]:
        for first, x in rows.blocks():
            columns = self._array_columns(x)
            part = Table(self._path, x, row_numbers=np.arange(first, first + len(x)))
            part = part.drop_incomplete_rows(may_be_empty=True) if self._missing == "drop" else part
            yield self._kept_rows(part, columns, first, len(x))

    def _table_columns(self) -> Iterator[Columns]:
        ending = table_ending(self._path)
        if ending in ENDINGS:
            sources = source_columns(self._features or (), self._format)
            return stream_text_table(self._path, self._format, sources, as_written=self._with_columns)
        self.num_rows, blocks = stream_arrow(self._path, ending, _BLOCK_VALUES)
        return blocks

    def _table_blocks(self, blocks: Iterator[Columns]) -> Iterator[RowBlock]:
        ending = table_ending(self._path)
        first, first_part = 0, None
        shares: dict[str, bool] = {}  # which columns hold percentages
        for columns in _without_blank_end(blocks):
            line_of: Callable[[int], int] | None = None
            if ending in ENDINGS:
                line_of = functools.partial(line_number_of_row, self._path, self._format, has_names=columns.has_names)
            values, count = list(columns.values), len(columns.values[0])
            assembler = TableAssembler(
                self._path, columns, self._format, self._missing, self._features, first, first_part
            )
            part = assembler.table(line_of)
            self._check_percentages({assembler.names[at]: values[at] for at in assembler.number_columns}, shares, first)
            written = values if columns.written is None else columns.written
            raw = dict(zip(assembler.column_names, written, strict=True)) if self._with_columns else {}
            raw.pop(assembler.id_column or "", None)  # it is among the row keys
            if self._columns_left_out is None and assembler.left_out:
                self._columns_left_out = ", ".join(assembler.left_out)
            yield self._kept_rows(part, raw, first, count)._replace(has_ids=assembler.id_column is not None)
            first, first_part = first + count, first_part or assembler

    def _kept_rows(self, part: Table, columns: Mapping[str, Any], first: int, count: int) -> RowBlock:
        """Makes a block of ``count`` rows of the file from ``first`` on, some of which ``part`` may lack."""
        self._num_read += count
        self._num_dropped += count - part.num_rows
        if part.num_rows < count:
            rows = part.row_numbers - first
            columns = {name: _take(values, rows) for name, values in columns.items()}
        return RowBlock(part, columns)

    def _array_columns(self, x: NDArray[Any]) -> dict[str, NDArray[Any]]:
        return {str(column): x[:, column] for column in range(x.shape[1])} if self._with_columns else {}

    def _check_percentages(self, columns: Mapping[str, Any], known: dict[str, bool], first: int) -> None:
        """Refuses a column that holds percentages in some blocks only: its numbers would differ by a factor of 100."""
        for name, values in columns.items():
            has_percent = has_percent_signs(values)
            if has_percent is not None and known.setdefault(name, has_percent) != has_percent:
                raise ValueError(
                    f"{self._path}: column {name!r} must hold percentages in all rows or in none, got both, the change "
                    f"not before row {first}"
                )


def is_row_file(path: Path) -> bool:
    """Whether a file is a table or a matrix, which a :class:`RowStream` reads block by block."""
    return path.is_file() and (is_table_file(path) or (path.suffix.lower() == ".npy" and is_matrix(path)))


def _without_blank_end(blocks: Iterator[Columns]) -> Iterator[Columns]:
    """Drops empty rows at the end of the file, which spreadsheets write, from the blocks.

    The first row is kept in any case.
    """
    num_blank, is_first = 0, True
    for block in blocks:
        whole = _with_blank_start(block, num_blank)
        end = len(whole.values[0])
        while end > is_first and not any(column[end - 1].is_valid for column in whole.values):
            end -= 1
        num_blank, is_first = len(whole.values[0]) - end, False
        if end:
            written = whole.written and [column.slice(0, end) for column in whole.written]
            yield whole._replace(values=[column.slice(0, end) for column in whole.values], written=written)


def _with_blank_start(block: Columns, count: int) -> Columns:
    import pyarrow as pa  # type: ignore[import-untyped]

    def extend(columns: Sequence[Any]) -> list[Any]:
        return [
            pa.chunked_array([pa.nulls(count, column.type), *column.chunks], type=column.type) for column in columns
        ]

    return block._replace(values=extend(block.values), written=block.written and extend(block.written))


def _take(values: Any, rows: NDArray[np.int64]) -> Any:
    return values[rows] if isinstance(values, np.ndarray) else values.take(rows)
