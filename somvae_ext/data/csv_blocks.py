"""Reads columns of a long CSV file block by block: memory does not grow with the number of rows.

The layout is fixed: names in the first line, and commas between the cells. Files whose layout has to be detected are
read by :mod:`somvae_ext.data.text_table`.
"""

from __future__ import annotations

import codecs
import csv
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.descriptions import abbreviate_names
from somvae_ext.progress import CountProgress

ColumnType = Literal["int64", "float64", "string"]
Block = dict[str, NDArray[Any]]

NO_INTEGER = int(np.iinfo(np.int64).min)
"""The value of an empty cell in a column of integers; a float64 column has NaN, and a string column None."""

_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_TYPE_NAMES = {"int64": "an integer", "double": "a number"}


def find_csv(folder: Path, name: str) -> Path | None:
    """Finds ``name.csv`` or ``name.csv.gz`` in a folder, ignoring case; returns None if there is neither.

    Raises:
        OSError: the folder cannot be read.
        ValueError: there is more than one.
    """
    wanted = (f"{name}.csv".lower(), f"{name}.csv.gz".lower())
    matches = sorted(entry for entry in os.listdir(folder) if entry.lower() in wanted)
    if len(matches) > 1:
        raise ValueError(f"{folder}: must hold one file {name}.csv or {name}.csv.gz, got {' and '.join(matches)}")
    return folder / matches[0] if matches else None


def read_blocks(
    path: Path, columns: Mapping[str, ColumnType], *, show_progress: bool | None = False
) -> Iterator[Block]:
    """Reads some columns of a CSV file; ``.gz`` is decompressed on the way.

    Args:
        path: the file.
        columns: types by name. Names are compared without regard to case.
        show_progress: see :class:`~somvae_ext.progress.CountProgress`.

    Returns:
        An iterator over dicts of arrays ``[n]`` by the names in ``columns``: int64 with :data:`NO_INTEGER` for an empty
        cell, float64 with NaN, or objects that are text or None.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is empty, damaged or no such CSV file; the message says what is wrong and where.
        ModuleNotFoundError: pyarrow is missing.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path}: must be a file, got {'a folder' if path.is_dir() else 'something else'}")
    names = _read_names(path)
    positions = _find_columns(path, names, columns)
    num_rows = 0
    with CountProgress(path.name, os.path.getsize(path), "B", show=show_progress) as progress:
        for batch, position in _stream_batches(path, names, columns, positions):
            progress.advance_to(position)
            num_rows += batch.num_rows
            yield {name: _to_array(batch.column(str(positions[name]))) for name in columns}
    if num_rows == 0:
        raise ValueError(f"{path}: must hold at least one row, got only a line of names")


def _read_names(path: Path) -> list[str]:
    """Reads the names in the first line, stripped and in lower case."""
    try:
        with _open_stream(path)[1] as stream:
            start = stream.read(_HEADER_BYTES)
    except OSError as error:
        raise _explain_os_error(path, error) from error
    if start.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path}: must be a text file of rows and columns, got a gzip archive; name it .csv.gz")
    if not start.strip():
        raise ValueError(f"{path}: must begin with a line of names, got an empty file")
    line, *rest = re.split(rb"\r\n|\r|\n", start.removeprefix(codecs.BOM_UTF8), maxsplit=1)
    if not rest and len(start) == _HEADER_BYTES:
        raise ValueError(f"{path}: must begin with a line of names, got {_HEADER_BYTES} bytes without an end of line")
    try:
        names = next(csv.reader([line.decode()]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be text in UTF-8, got a first line that cannot be read: {error}") from error
    if not any(name.strip() for name in names) or "\0" in "".join(names):
        got = "bytes that are no text" if b"\0" in line else "an empty one"
        raise ValueError(f"{path}: must begin with a line of names, got {got}")
    if not rest or (not rest[0].strip() and len(start) < _HEADER_BYTES):  # pyarrow would take it for damaged
        raise ValueError(f"{path}: must hold at least one row, got only a line of names")
    return [name.strip().lower() for name in names]


def _find_columns(path: Path, names: list[str], columns: Mapping[str, ColumnType]) -> dict[str, int]:
    missing = [name for name in columns if name not in names]
    if missing:
        noun = "column" if len(missing) == 1 else "columns"
        raise ValueError(
            f"{path}: must have the {noun} {', '.join(missing)} in a first line with commas, got "
            f"{abbreviate_names([repr(_shorten(name)) for name in names])}"
        )
    repeated = next((name for name in columns if names.count(name) > 1), None)
    if repeated is not None:
        raise ValueError(f"{path}: must have one column {repeated}, got {names.count(repeated)} of that name")
    return {name: names.index(name) for name in columns}


def _stream_batches(
    path: Path,
    names: list[str],
    columns: Mapping[str, ColumnType],
    positions: Mapping[str, int],
    *,
    use_threads: bool = True,
) -> Iterator[tuple[Any, int]]:
    """Iterates over record batches, each with the number of bytes of the file read so far."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv as arrow_csv

    types = {str(positions[name]): pa.type_for_alias(kind) for name, kind in columns.items()}
    try:
        file, stream = _open_stream(path)
        with arrow_csv.open_csv(
            stream,
            read_options=arrow_csv.ReadOptions(
                column_names=[str(column) for column in range(len(names))],
                skip_rows=1,
                block_size=_BLOCK_BYTES,
                use_threads=use_threads,
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(types), column_types=types, strings_can_be_null=True
            ),
        ) as reader:
            for batch in reader:
                yield batch, file.tell()
    except pa.ArrowInvalid as error:
        if use_threads and "Row #" not in str(error):  # pyarrow knows the row only when it reads without threads
            for _ in _stream_batches(path, names, columns, positions, use_threads=False):
                pass
        raise _explain_arrow_error(path, names, str(error)) from error
    except OSError as error:
        raise _explain_os_error(path, error) from error


def _open_stream(path: Path) -> tuple[Any, Any]:
    """Opens the file, and the stream of its text."""
    import pyarrow as pa

    file = pa.OSFile(os.fspath(path))
    return file, pa.CompressedInputStream(file, "gzip") if path.suffix.lower() == ".gz" else file


def _to_array(column: Any) -> NDArray[Any]:
    import pyarrow as pa

    if pa.types.is_int64(column.type):
        column = column.fill_null(NO_INTEGER)
    array: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return array


def _explain_os_error(path: Path, error: OSError) -> Exception:
    if error.errno is None:  # raised by pyarrow about the contents of the archive
        return ValueError(f"{path}: must be a complete gzip archive, got a damaged one: {_shorten(str(error))}")
    return error


def _explain_arrow_error(path: Path, names: list[str], message: str) -> ValueError:
    row = re.search(r"Row #(\d+)", message)
    where = f" in row {row[1]}, the names being row 1" if row else ""
    value = re.search(r"In CSV column #(\d+):.* conversion error to (\w+): invalid value '(.*)'", message, re.DOTALL)
    if value is not None:
        expected = _TYPE_NAMES.get(value[2], value[2])
        return ValueError(f"{path}: {names[int(value[1])]} must be {expected}, got {_shorten(value[3])!r}{where}")
    if "invalid UTF8" in message:
        return ValueError(f"{path}: must be text in UTF-8, got other bytes{where}")
    width = re.search(r"Expected (\d+) columns, got (\d+)", message)
    if width is not None:
        return ValueError(f"{path}: every row must hold {width[1]} cells like the first line, got {width[2]}{where}")
    return ValueError(f"{path}: must be a CSV file with a row in each line, got {_shorten(message)}")


def _shorten(text: str) -> str:
    """Puts text into one line, for messages, and cuts it after 80 characters, with an ellipsis."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else f"{text[:80]}..."
