"""Reads text files of rows and columns with pyarrow, after detecting their separator, encoding and names of columns.

The layout is detected at the beginning of the file. pyarrow reads the rest; if it cannot, the file is searched line by
line for an error that names the place.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import dataclasses
import functools
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.column_values import MISSING, to_numbers
from somvae_ext.data.header import Cell, Verdict, cell_kind, parse_number, verdict_by_numbers, verdict_by_text
from somvae_ext.data.table_format import TableFormat

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

ENDINGS = (".csv", ".tsv", ".txt", ".dat")
COMPRESSIONS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_SEPARATORS = "\t;|,"  # in order of preference: commas are decimal signs and parts of text, too
SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "white space"}
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
_HEAD_LINES = 50
_HEAD_BYTES = 1 << 16
_LONGEST_LINE = 1 << 26
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES = {
    b"PK\x03\x04": "a spreadsheet or another zip archive; save it as CSV",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x93NUMPY": "a NumPy array; name it .npy",
    b"\x89HDF": "an HDF5 file; save the array as .npy",
    b"\x1f\x8b": "a gzip archive; name it .gz",
}


_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)  # what damaged archives raise
_BLOCK_BYTES = 1 << 23


class _OtherType(Exception):
    """Raised if a column of numbers holds something else from some row on."""


class Columns(NamedTuple):
    """The columns of a file as they were read, with text not yet converted to numbers.

    ``names`` are those of the file, or numbers from 0 if it has none; ``read_as`` says what was understood.
    ``written`` are the columns with each cell as it is in the file, if that was asked for.
    """

    names: list[str]
    has_names: bool
    values: list[pa.ChunkedArray]
    read_as: str
    written: list[pa.ChunkedArray] | None = None


class _Head(NamedTuple):
    """The first records of a file, and how many bytes come before the first and the second of them."""

    records: list[list[str]]
    start: int
    second: int


def read_text_table(path: Path, table_format: TableFormat, names: Collection[str] = ()) -> Columns:
    """Reads the columns of a text file.

    Args:
        path: the file.
        table_format: how it is written.
        names: expected names of columns, if any: a first line that holds all of them names the columns.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no table, or its first line may be names or values; the message says what is wrong in which
            line.
    """
    text = _Text.open(path, table_format)
    layout = _find_layout(text, table_format, names)
    if layout.is_header(lambda: text.parse_columns(layout.start, layout.width, layout.types)):
        values = text.parse_columns(layout.second, layout.width, layout.types)
        return text.columns(_strip_cells(layout.first), True, values)
    values = layout.values or text.parse_columns(layout.start, layout.width, layout.types)
    return text.columns([str(column) for column in range(layout.width)], False, values)


def stream_text_table(
    path: Path, table_format: TableFormat, names: Collection[str] = (), *, as_written: bool = False
) -> Iterator[Columns]:
    """Reads the columns of a text file of any length in blocks of rows; arguments as for :func:`read_text_table`.

    With ``as_written`` the blocks also have all cells as they are in the file. A file in an encoding other than UTF-8,
    with comments or with white space between its cells is held in memory as text. The first block decides whether a
    first line of numbers names columns of numbers.
    """
    text = _Text.open(path, table_format)
    layout = _find_layout(text, table_format, names)

    has_names = layout.is_header(lambda: next(text.stream_columns(layout.start, layout.width, layout.types)))
    names_of_columns = _strip_cells(layout.first) if has_names else [str(column) for column in range(layout.width)]
    start = layout.second if has_names else layout.start
    if not as_written:
        for values in text.stream_columns(start, layout.width, layout.types):
            yield text.columns(names_of_columns, has_names, values)
        return
    for written in text.stream_columns(start, layout.width, {}, keep_missing=True):
        values = [_drop_missing(column, table_format) for column in written]
        yield text.columns(names_of_columns, has_names, values)._replace(written=written)


def _find_layout(text: _Text, table_format: TableFormat, names: Collection[str]) -> _Layout:
    head = text.head()
    first = head.records[0]
    missing = MISSING | {name.strip().lower() for name in table_format.na}
    kinds = [
        [cell_kind(cell, table_format.decimal, table_format.thousands, missing) for cell in record]
        for record in head.records
    ]
    width = len(first)
    names_lack_one = len(head.records) > 1 and {len(record) for record in head.records[1:]} == {width + 1}
    if table_format.header is not False and names_lack_one and "text" in kinds[0]:
        width += 1
        if all(record[-1] == "missing" for record in kinds[1:]):  # the lines below end with a separator
            first, kinds[0] = [*first, ""], [*kinds[0], "missing"]
        else:  # R leaves out the name of the column of row names
            first, kinds[0] = ["", *first], ["missing", *kinds[0]]
    later = [record for record in kinds[1:] if len(record) == width]
    verdict: Verdict = "names" if table_format.header else "values"
    if table_format.header is None:
        verdict = verdict_by_text(kinds[0], later)
        if names and set(names) <= set(_strip_cells(first)):
            verdict = "names"
    if verdict == "unclear" and _uses_first_line(first, table_format):
        verdict = "names"
    types = _expected_types(first, later, table_format)
    return _Layout(text.path, table_format, first, kinds[0], head.start, head.second, width, types, verdict)


@dataclasses.dataclass
class _Layout:
    """The layout of a file's columns, as far as its beginning shows it.

    Args:
        path, table_format: the file and its format.
        first: the cells of its first record.
        kinds: the kinds of these cells.
        start, second: number of bytes before the first and before the second record.
        width: number of columns.
        types: types of columns, by their numbers, as far as they are known.
        verdict: whether the first record names the columns.
    """

    path: Path
    table_format: TableFormat
    first: list[str]
    kinds: list[Cell]
    start: int
    second: int
    width: int
    types: dict[str, str]
    verdict: Verdict
    values: list[pa.ChunkedArray] | None = None  # read for the verdict, with the first record

    def is_header(self, read_values: Callable[[], list[pa.ChunkedArray]]) -> bool:
        """Whether the first record names the columns.

        Args:
            read_values: reads the columns, with the first record; called only if that record may be either.

        Raises:
            ValueError: the first record may be names or values.
        """
        verdict = self.verdict
        if verdict == "unclear":
            self.values = read_values()
            verdict = _header_by_numbers(self.first, self.kinds, self.values, self.table_format)
        if verdict == "unclear":
            raise ValueError(
                f"{self.path}: the first line may name the columns or hold values, {_format_cells(self.first)}; set "
                "header=True if it holds names, header=False if not"
            )
        return verdict == "names"


class _Text:
    """A file as UTF-8 text without comments."""

    def __init__(
        self, path: Path, table_format: TableFormat, encoding: str, content: bytes | None, skipped: int
    ) -> None:
        self.path, self._table_format, self._encoding, self._content = path, table_format, encoding, content
        self._skipped = skipped  # bytes of a byte order mark
        self._separator = table_format.separator or ""
        self._lines_before = 0  # lines before the first record

    @classmethod
    def open(cls, path: Path, table_format: TableFormat) -> _Text:
        with _open_binary(path) as file:
            start = _read(path, file, 64)
            for magic, what in _OTHER_FILES.items():
                if start.startswith(magic):
                    raise ValueError(f"{path}: must be a text file of rows and columns, got {what}")
            mark, encoding = next(
                ((mark, name) for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), (b"", "utf-8")
            )
            if table_format.encoding is not None and not mark:
                encoding = codecs.lookup(table_format.encoding).name
            if encoding == "utf-8" and b"\0" in start:
                raise ValueError(
                    f"{path}: must be a text file of rows and columns, got bytes that are no text; if it is UTF-16, "
                    "set encoding='utf-16'"
                )
            text = cls(path, table_format, encoding, None, len(mark) if encoding == "utf-8" else 0)
            is_plain = encoding in ("utf-8", "ascii") and table_format.comment is None
            if not is_plain or text._is_split_at_white_space():
                content = start + _read(path, file, -1)
                text._content, text._skipped = text._to_plain_utf8(content), 0
        return text

    def _is_split_at_white_space(self) -> bool:
        """Whether white space of any amount separates the cells, which pyarrow cannot split."""
        return self._table_format.separator == " "

    def _to_plain_utf8(self, content: bytes) -> bytes:
        """Converts content to UTF-8 without comments and, if white space separates cells, with single spaces."""
        try:
            text = content.decode("utf-8-sig" if self._encoding == "utf-8" else self._encoding)
        except UnicodeError as error:
            raise ValueError(f"{self.path}: must be text in {self._encoding}, got {error}") from error
        mark = self._table_format.comment
        lines = re.split(r"\r\n|\r|\n", text)
        if mark is not None:
            # A mark within quotes begins no comment: lines with quotes are kept unless they begin with the mark.
            lines = [
                "" if line.lstrip().startswith(mark) else line if '"' in line else line.partition(mark)[0]
                for line in lines
            ]
        if self._is_split_at_white_space():
            lines = [" ".join(line.split()) for line in lines]
        return "\n".join([*lines, ""]).encode()

    def _stream(self) -> BinaryIO:
        return _open_binary(self.path) if self._content is None else io.BytesIO(self._content)

    def head(self) -> _Head:
        """Reads the first records, and decides what separates the cells."""
        with self._stream() as stream:
            lines = self._first_lines(stream)
        texts = [self._decode(line, number) for number, line in enumerate(lines, start=1)]
        if self._skipped:
            texts[0] = texts[0].removeprefix("\ufeff")
        blank = next((number for number, text in enumerate(texts) if text.strip()), len(texts))
        if blank == len(texts):
            raise ValueError(f"{self.path}: must hold at least one row, got an empty file")
        separator_line = _SEPARATOR_LINE.fullmatch(texts[blank].strip())
        if separator_line is not None and len(texts) > blank + 1:  # Excel writes and reads such a line
            self._separator, blank = self._separator or separator_line[1], blank + 1
            self._lines_before = blank
        if not self._separator:
            self._separator = self._detect_separator(texts[blank:])
            if self._turn_to_white_space():
                return self.head()
        reader = csv.reader(texts[blank:], delimiter=self._separator)
        records: list[list[str]] = []
        second = blank
        try:
            for record in reader:
                if not any(cell.strip() for cell in record) and len(record) <= 1:
                    continue
                records.append(record)
                if len(records) == 1:
                    second = blank + reader.line_num
        except csv.Error as error:
            raise ValueError(f"{self.path}: line {blank + reader.line_num} cannot be read: {error}") from error
        sizes = [len(line) for line in lines]
        return _Head(records, sum(sizes[:blank]) + (self._skipped if not blank else 0), sum(sizes[:second]))

    def _turn_to_white_space(self) -> bool:
        """Prepares the content if white space was detected as the separator; returns whether it was."""
        if self._separator != " " or self._is_split_at_white_space():
            return False
        self._table_format = _with_separator(self._table_format, " ")
        with self._stream() as stream:
            self._content = self._to_plain_utf8(_read(self.path, stream, -1))
        self._skipped = 0
        return True

    def _first_lines(self, stream: BinaryIO) -> list[bytes]:
        size = _HEAD_BYTES
        content = _read(self.path, stream, size)
        while len(content) == size and size < _LONGEST_LINE and content.count(b"\n") + content.count(b"\r") < 3:
            content += _read(self.path, stream, size)
            size *= 2
        lines = content.splitlines(keepends=True)
        if len(content) == size and len(lines) > 1:
            lines = lines[:-1]  # the last line may be incomplete
        return lines[:_HEAD_LINES]

    def _decode(self, line: bytes, number: int) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            raise _not_utf8(self.path, number, line) from None

    def _detect_separator(self, lines: Sequence[str]) -> str:
        counts = {}
        for separator in _SEPARATORS:
            if separator in (self._table_format.decimal, self._table_format.thousands):
                continue
            try:
                records = list(csv.reader(lines, delimiter=separator))
            except csv.Error:  # a long line without this separator is a cell too long for csv
                continue
            widths = [len(record) for record in records if any(cell.strip() for cell in record)]
            if widths and widths[0] > 1 and len(set(widths)) == 1:
                return separator
            self._refuse_preamble(widths)
            counts[separator] = widths[0] if widths else 1
        best = max(counts, key=counts.__getitem__, default=",")
        if counts.get(best, 1) > 1:
            return best
        cells = [line.split() for line in lines if line.strip()]
        is_spaced = len(cells[0]) > 1 and len({len(row) for row in cells}) == 1
        numbers = [
            parse_number(cell, self._table_format.decimal, self._table_format.thousands)
            for row in cells[1:] or cells
            for cell in row
        ]
        if is_spaced and all(number is not None for number in numbers):
            return " "
        return next(
            separator
            for separator in ",;|"
            if separator not in (self._table_format.decimal, self._table_format.thousands)
        )

    def _refuse_preamble(self, widths: Sequence[int]) -> None:
        """Refuses lines above a table that are not rows of it."""
        width = widths[-1] if widths else 1
        before = next((number for number, cells in enumerate(widths) if cells == width), 0)
        if width > 1 and before and set(widths[before:]) == {width} and len(widths) - before > 2 and widths[0] == 1:
            raise ValueError(
                f"{self.path}: every line must be a row of the table, got {before} before its first one, which has "
                f"{width} cells; delete them, or begin them with # and set comment='#'"
            )

    def parse_columns(self, start: int, width: int, types: Mapping[str, str]) -> list[pa.ChunkedArray]:
        """Parses the columns of all records from a byte on.

        Args:
            start: the byte.
            width: number of columns.
            types: types of columns, by their numbers, as far as they are known or expected. pyarrow keeps the text of
                other columns until it has seen all of it, to infer their types.
        """
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        try:
            with self._stream() as stream:
                stream.seek(start)
                table = arrow_csv.read_csv(stream, **self._options(width, types))
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                raise self._no_row() from None
            if _is_conversion_error(error) and "float64" in types.values():
                return self.parse_columns(
                    start, width, {column: name for column, name in types.items() if name == "string"}
                )
            raise self._explain_error(width, str(error)) from error
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        values = list(table.columns)
        if any(pa.types.is_binary(column.type) for column in values):
            raise self._explain_error(width, "bytes that are no UTF-8")
        return values

    def stream_columns(
        self, start: int, width: int, types: Mapping[str, str], *, keep_missing: bool = False
    ) -> Iterator[list[pa.ChunkedArray]]:
        """Parses the columns in blocks of rows, at least one; arguments as for :meth:`parse_columns`.

        Columns are read as numbers as long as they hold numbers. From the block with the first other cell on, all
        columns are read as text. Columns of unknown type are text; with ``keep_missing``, text that stands for a
        missing value is kept as it is.
        """
        num_rows = 0
        texts = {str(column): "string" for column in range(width)}
        try:
            for values in self._stream_blocks(start, width, texts | dict(types), keep_missing):
                num_rows += len(values[0])
                yield values
        except _OtherType:
            num_skipped = num_rows
            for values in self._stream_blocks(start, width, texts, keep_missing):
                count = len(values[0])
                if num_skipped < count:
                    num_rows += count - num_skipped
                    yield [column.slice(num_skipped) for column in values]
                num_skipped = max(0, num_skipped - count)
        if num_rows == 0:
            raise self._no_row()

    def _stream_blocks(
        self, start: int, width: int, types: Mapping[str, str], keep_missing: bool
    ) -> Iterator[list[pa.ChunkedArray]]:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        options = self._options(width, types, keep_missing=keep_missing)
        options["read_options"].block_size = _BLOCK_BYTES
        with self._stream() as stream:
            stream.seek(start)
            try:
                with arrow_csv.open_csv(stream, **options) as reader:
                    for batch in reader:
                        if batch.num_rows:
                            yield [pa.chunked_array([column]) for column in batch.columns]
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):
                    return
                if _is_conversion_error(error) and "float64" in types.values():
                    raise _OtherType from error
                raise self._explain_error(width, str(error)) from error
            except _DAMAGE as error:
                raise _damaged(self.path, error) from error

    def _options(self, width: int, types: Mapping[str, str], *, keep_missing: bool = False) -> dict[str, Any]:
        """Returns the arguments of pyarrow's functions for reading the records."""
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        table_format = self._table_format
        return {
            "read_options": arrow_csv.ReadOptions(column_names=[str(column) for column in range(width)]),
            "parse_options": arrow_csv.ParseOptions(
                delimiter=self._separator, newlines_in_values=self._may_have_quotes()
            ),
            "convert_options": arrow_csv.ConvertOptions(
                column_types={column: pa.type_for_alias(name) for column, name in types.items()},
                null_values=sorted(_missing_spellings(table_format)),
                strings_can_be_null=not keep_missing,
                decimal_point=table_format.decimal,
            ),
        }

    def _no_row(self) -> ValueError:
        return ValueError(f"{self.path}: must hold at least one row, got only a line of names")

    def _may_have_quotes(self) -> bool:
        """Whether a cell may hold a newline, which pyarrow supports only on request, at the price of time.

        Otherwise it cuts the text into blocks at any newline, and reads the rest of such a cell as rows.
        """
        if self._content is not None:
            return b'"' in self._content
        if self.path.suffix.lower() in COMPRESSIONS:  # looking for a quote would take longer
            return True
        with self._stream() as stream:
            return any(b'"' in block for block in iter(functools.partial(stream.read, 1 << 20), b""))

    def _explain_error(self, width: int, otherwise: str) -> ValueError:
        """Finds out what is wrong by looking at every line."""
        with self._stream() as stream:
            number, lines = 0, iter(stream)

            def texts() -> Iterator[str]:
                nonlocal number
                for line in lines:
                    number += 1
                    yield self._decode(line, number)

            reader = csv.reader(texts(), delimiter=self._separator)
            try:
                for record in reader:
                    if reader.line_num > self._lines_before and len(record) not in (0, width):
                        return ValueError(
                            f"{self.path}: every line must hold {width} values like the first one, got {len(record)} "
                            f"in line {reader.line_num}; cells are taken to be separated by "
                            f"{SEPARATOR_NAMES.get(self._separator, repr(self._separator))}, if that is wrong, set "
                            "separator=';' or what it is"
                        )
            except csv.Error as error:
                return ValueError(f"{self.path}: line {reader.line_num} cannot be read: {error}")
            except ValueError as error:
                return error
        return ValueError(f"{self.path}: must be a text file of rows and columns, got {otherwise}")

    def columns(self, names: list[str], has_names: bool, values: list[pa.ChunkedArray]) -> Columns:
        parts = [f"separated by {SEPARATOR_NAMES.get(self._separator, repr(self._separator))}"]
        if len(values) == 1:
            parts = []
        if self._encoding not in ("utf-8", "ascii"):
            parts.append(f"in {self._encoding.upper()}")
        parts.append("names in the first line" if has_names else "no names")
        return Columns(names, has_names, values, ", ".join(parts))

    def line_of(self, row: int, has_names: bool) -> int:
        """Returns the line in which a row begins, for messages."""
        with self._stream() as stream:
            reader = csv.reader(io.TextIOWrapper(stream, "utf-8", errors="replace"), delimiter=self._separator)
            record_row, begin = -1 if has_names else 0, 1
            for record in reader:
                if record and reader.line_num > self._lines_before:
                    if record_row == row:
                        return begin
                    record_row += 1
                begin = reader.line_num + 1
        return 0


def line_number_of_row(path: Path, table_format: TableFormat, row: int, has_names: bool) -> int:
    """Returns the line of a text file, from 1, in which a row, from 0, begins."""
    text = _Text.open(path, table_format)
    text.head()
    return text.line_of(row, has_names)


def _missing_spellings(table_format: TableFormat) -> set[str]:
    """Returns the texts that stand for a missing value, in the upper and lower cases that programs write."""
    spellings = {spelling for name in MISSING for spelling in (name, name.upper(), name.title())}
    return spellings | {"NaN", "N/a", *table_format.na}


def _drop_missing(values: pa.ChunkedArray, table_format: TableFormat) -> pa.ChunkedArray:
    """Replaces the texts that stand for missing values in a column with null."""
    import pyarrow as pa
    from pyarrow import compute

    missing = compute.is_in(values, value_set=pa.array(sorted(_missing_spellings(table_format))))
    return compute.if_else(missing, None, values)


def _expected_types(first: Sequence[str], later: Sequence[Sequence[Cell]], table_format: TableFormat) -> dict[str, str]:
    """Returns the types of columns, by their numbers, as far as they are known or can be seen.

    Labels, row names and categories are text: 007 is not 7, and a number may have more digits than float64 holds. Other
    columns are numbers if all cells seen so far are.
    """
    texts = {table_format.label_column, table_format.id_column, *table_format.one_hot}
    types = {}
    for column, name in enumerate(first):
        kinds = {row[column] for row in later} - {"missing"}
        if {" ".join(name.split()), str(column)} & texts or "text" in kinds:
            types[str(column)] = "string"
        elif table_format.thousands is None and kinds == {"number"}:
            types[str(column)] = "float64"
    return types


def _header_by_numbers(
    first: Sequence[str], kinds: Sequence[Cell], values: Sequence[pa.ChunkedArray], table_format: TableFormat
) -> Verdict:
    columns = [column for column, kind in enumerate(kinds) if kind == "number"]
    above = np.array(
        [parse_number(first[column].strip(), table_format.decimal, table_format.thousands) for column in columns]
    )
    later: list[NDArray[np.float64]] = []
    for column in columns:
        read = to_numbers(values[column], table_format)
        later.append(np.full(len(values[column]), np.nan) if read is None else read)
    return verdict_by_numbers(above, np.stack(later, axis=1)[1:])


def _uses_first_line(first: Sequence[str], table_format: TableFormat) -> bool:
    """Whether the format refers to a column by a cell of the first line that is not a number."""
    names = {cell.strip() for cell in first}
    return any(name in names and not name.isdecimal() for name in table_format.named_columns)


def _strip_cells(cells: Sequence[str]) -> list[str]:
    return [" ".join(cell.split()) for cell in cells]


def _format_cells(cells: Sequence[str]) -> str:
    return ", ".join(cell.strip() for cell in cells[:4]) + (", ..." if len(cells) > 4 else "")


def _with_separator(table_format: TableFormat, separator: str) -> TableFormat:
    return dataclasses.replace(table_format, separator=separator)


def _open_binary(path: Path) -> BinaryIO:
    opener = COMPRESSIONS.get(path.suffix.lower(), open)
    return cast(BinaryIO, opener(path, "rb"))


def _read(path: Path, file: BinaryIO, size: int) -> bytes:
    try:
        return file.read(size)
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    except OSError as error:
        if error.errno is None:  # raised by bz2
            raise _damaged(path, error) from error
        raise


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: must be a complete archive, got a damaged one: {error}")


def _is_conversion_error(error: Exception) -> bool:
    return "conversion error" in str(error)


def _not_utf8(path: Path, number: int, line: bytes) -> ValueError:
    byte = re.search(rb"[\x80-\xff]", line)
    shown = f"byte {byte[0][0]:#04x}" if byte else "others"
    return ValueError(
        f"{path}: must be text in UTF-8, got {shown} in line {number}; older programs in Western Europe write "
        "encoding='cp1252' or encoding='latin-1'"
    )
