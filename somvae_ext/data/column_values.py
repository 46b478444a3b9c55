"""Converts a column of a file to numbers or classes, and gives advice about cells that are not numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data.header import grouped_number_pattern, parse_number
from somvae_ext.data.table_format import TableFormat

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

# How programs write missing values; case is ignored.
MISSING = frozenset({"", "na", "n/a", "#n/a", "nan", "null", "none"})

# What data loggers and spreadsheets write for a missing value. A column that holds one gets a note and stays as it is.
_FILL_VALUES = (-99.0, -999.0, -9999.0, -99999.0, -999999.0)
_SHOWN = 3
_MAX_CATEGORIES = 50  # of a column for which the advice includes one_hot


def to_numbers(values: pa.ChunkedArray, table_format: TableFormat) -> NDArray[np.float64] | None:
    """Converts a column to numbers ``[N]``, NaN where one is missing; returns None if some cell is not a number.

    Booleans become 0 and 1, and percentages are divided by 100.
    """
    import pyarrow as pa
    from pyarrow import compute

    values = _without_dictionary(values)
    kind = values.type
    if pa.types.is_null(kind):
        return np.full(len(values), np.nan)
    if _is_text(kind):
        return _numbers_of_text(values, table_format)
    if pa.types.is_boolean(kind):
        return _to_float64(compute.cast(compute.cast(values, pa.uint8()), pa.float64()))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        return None
    return _drop_fill_values(_to_float64(compute.cast(values, pa.float64(), safe=False)), table_format)


def has_percent_signs(values: pa.ChunkedArray) -> bool | None:
    """Whether some cell of a column ends with a percent sign; None if all are missing."""
    from pyarrow import compute

    if values.null_count == len(values):
        return None
    values = _without_dictionary(values)
    if not _is_text(values.type):
        return False
    return bool(compute.any(compute.ends_with(compute.utf8_rtrim_whitespace(values), "%")).as_py())


def to_texts(values: pa.ChunkedArray) -> list[str | None]:
    """Returns the cells as text, whole numbers without a fraction, and None where one is missing."""
    import pyarrow as pa
    from pyarrow import compute

    if pa.types.is_floating(values.type):
        numbers = values.to_pylist()
        return [
            None if number is None or number != number else f"{number:.0f}" if number % 1 == 0 else str(number)
            for number in numbers
        ]
    texts = [
        None if text is None else text.strip()
        for text in compute.cast(_without_dictionary(values), pa.string()).to_pylist()
    ]
    return [None if text is not None and text.lower() in MISSING else text for text in texts]


def to_classes(values: pa.ChunkedArray) -> NDArray[Any] | None:
    """Converts a column to labels ``[N]``: int64 if all are whole numbers, else text; None if one is missing."""
    texts = to_texts(values)
    if any(text is None for text in texts):
        return None
    labels = np.array(texts)
    try:
        whole = labels.astype(np.int64)
    except (ValueError, OverflowError):
        return labels
    # Text that differs from its number as written, such as 007, stays text.
    return whole if [str(number) for number in whole.tolist()] == texts else labels


def find_fill_value(numbers: NDArray[np.float64]) -> tuple[float, int] | None:
    """Finds a number far below all others that may stand for missing ones; also returns how often it occurs."""
    low = np.fmin.reduce(numbers, initial=np.inf)
    if low not in _FILL_VALUES:
        return None
    others = numbers[numbers != low]
    rest = np.fmin.reduce(others, initial=np.inf)
    return (float(low), int((numbers == low).sum())) if rest > low / 2 else None


class NonNumericColumn(NamedTuple):
    """What a column holds instead of numbers, and advice with placeholders ``{name}`` and ``{names}``."""

    what: str
    advice: str


def describe_non_numeric(values: pa.ChunkedArray, table_format: TableFormat) -> NonNumericColumn:
    """Describes the values of a column that holds no numbers."""
    import pyarrow as pa

    kind = values.type
    if pa.types.is_temporal(kind) or (_is_text(kind) and _all_match(values, _DATE)):
        what = "times" if pa.types.is_time(kind) else "dates"
        return NonNumericColumn(
            f"{what} such as {_first_value(values)!r}", "leave it out with drop={names}, or set id_column={name}"
        )
    if not _is_text(kind):
        return NonNumericColumn(f"values of type {kind}", "leave it out with drop={names}")
    present = [text for text in to_texts(values) if text is not None]
    others = [text for text in present if _plain_number(text, table_format) is None]
    distinct = list(dict.fromkeys(others))
    if not distinct:
        return NonNumericColumn("numbers with and without a percent sign", "write all of them with one, or none")
    shown = " and ".join(repr(text) for text in distinct[:_SHOWN]) + (" and others" if len(distinct) > _SHOWN else "")
    if table_format.decimal == ".":
        with_comma = [text for text in distinct if _DECIMAL_COMMA.fullmatch(text)]
        if 2 * len(with_comma) > len(distinct):
            if all(_THOUSANDS_COMMA.fullmatch(text) for text in with_comma):
                advice = "set decimal=',' if the comma is the decimal sign, thousands=',' if it parts thousands"
            elif any("." in text for text in with_comma):
                advice = "if these are numbers, set decimal=',' thousands='.'"
            else:
                advice = "if the comma is the decimal sign, set decimal=','"
            return NonNumericColumn(shown, advice)
    if table_format.decimal == ",":
        with_point = [text for text in distinct if _DECIMAL_POINT.fullmatch(text)]
        if 2 * len(with_point) > len(distinct) and not all(_THOUSANDS_POINT.fullmatch(text) for text in with_point):
            return NonNumericColumn(shown, "if the point is the decimal sign, set decimal='.'")
    for sign in (",", ".", "'", " ", "\u00a0", "\u202f"):
        if sign != table_format.decimal and all(
            _plain_number(text.replace(sign, ""), table_format) is not None for text in distinct
        ):
            return NonNumericColumn(shown, f"if it parts thousands, set thousands={sign!r}")
    if len(distinct) <= _SHOWN and len(others) < min(len(present), len(values) / 2):
        return NonNumericColumn(shown, f"if that stands for missing values, set na={distinct!r}")
    if len(distinct) == len(values):
        return NonNumericColumn(shown, "if it calls the rows by names, set id_column={name}, else drop={names}")
    if len(distinct) <= _MAX_CATEGORIES:
        return NonNumericColumn(
            shown,
            "set one_hot={names} if its categories count as features, label_column={name} if they are classes, or "
            "drop={names}",
        )
    return NonNumericColumn(shown, "leave it out with drop={names}, or set id_column={name}")


_DATE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T].*)?|\d{1,2}:\d\d(:\d\d)?")
_DECIMAL_COMMA = re.compile(r"[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?")
_DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_THOUSANDS_POINT = re.compile(r"[+-]?\d{1,3}\.\d{3}")
_THOUSANDS_COMMA = re.compile(r"[+-]?\d{1,3}(,\d{3})+")


def _to_float64(values: pa.ChunkedArray) -> NDArray[np.float64]:
    """Converts float64 of Arrow to numpy, null to NaN. pyarrow's own conversion imports pandas, which takes a while."""
    result = np.empty(len(values))
    first = 0
    for chunk in values.chunks:
        if len(chunk) == 0:
            continue
        last, rows = first + len(chunk), slice(chunk.offset, chunk.offset + len(chunk))
        valid, numbers = chunk.buffers()
        result[first:last] = np.frombuffer(numbers, dtype=np.float64)[rows]
        if chunk.null_count:
            bits = np.unpackbits(np.frombuffer(valid, dtype=np.uint8), bitorder="little")[rows]
            result[first:last][bits == 0] = np.nan
        first = last
    return result


def _numbers_of_text(values: pa.ChunkedArray, table_format: TableFormat) -> NDArray[np.float64] | None:
    import pyarrow as pa
    from pyarrow import compute

    texts = compute.utf8_trim_whitespace(compute.cast(values, pa.string()))
    missing = compute.is_in(compute.utf8_lower(texts), value_set=pa.array(sorted(_missing_texts(table_format))))
    texts = compute.if_else(missing, None, texts)
    words = compute.utf8_lower(texts)
    has_truth = compute.any(compute.is_in(words, value_set=pa.array(["true", "false"]))).as_py()
    if has_truth and _all_true(compute.is_in(words, value_set=pa.array(["true", "false", "1", "0", None]))):
        return _to_float64(compute.cast(compute.cast(compute.cast(words, pa.bool_()), pa.uint8()), pa.float64()))
    if table_format.thousands is not None:
        grouped = grouped_number_pattern(table_format.decimal, table_format.thousands).pattern
        pattern = f"^(?:{grouped}|[^{re.escape(table_format.thousands)}]*)$"
        if not _all_true(compute.match_substring_regex(texts, pattern)):
            return None  # the sign is elsewhere, where it may be a decimal sign
        texts = compute.replace_substring(texts, table_format.thousands, "")
    if table_format.decimal != ".":
        texts = compute.replace_substring(compute.replace_substring(texts, ".", "x"), table_format.decimal, ".")
    percent = compute.ends_with(texts, "%")
    is_percent = bool(compute.any(percent).as_py())
    if is_percent:
        if not _all_true(percent):
            return None  # some have a percent sign, others none
        texts = compute.utf8_rtrim(texts, "% \t")
    numbers: NDArray[np.float64] | None
    try:
        numbers = _to_float64(compute.cast(texts, pa.float64()))
    except pa.ArrowInvalid:
        numbers = _parse_with_python(texts)
    if numbers is None:
        return None
    return numbers / 100 if is_percent else _drop_fill_values(numbers, table_format)


def _all_true(flags: pa.ChunkedArray) -> bool:
    """Whether all flags that are not null are true."""
    from pyarrow import compute

    return compute.all(flags).as_py() is not False


def _parse_with_python(texts: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """Parses numbers that Python reads and pyarrow does not, such as +4 and infinity; None if some text is none."""
    numbers = [np.nan if text is None else parse_number(text, ".", None) for text in texts.to_pylist()]
    return None if None in numbers else np.array(numbers, dtype=np.float64)


def _drop_fill_values(numbers: NDArray[np.float64], table_format: TableFormat) -> NDArray[np.float64]:
    """Replaces the numbers that stand for missing values with NaN."""
    fill = [
        number
        for name in table_format.na
        if (number := parse_number(name.strip(), table_format.decimal, table_format.thousands)) is not None
    ]
    return np.where(np.isin(numbers, fill), np.nan, numbers) if fill else numbers


def _plain_number(text: str, table_format: TableFormat) -> float | None:
    return parse_number(text.strip().rstrip("% "), table_format.decimal, table_format.thousands)


def _missing_texts(table_format: TableFormat) -> frozenset[str]:
    return MISSING | {name.strip().lower() for name in table_format.na}


def _without_dictionary(values: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    from pyarrow import compute

    return compute.cast(values, values.type.value_type) if pa.types.is_dictionary(values.type) else values


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _all_match(values: pa.ChunkedArray, pattern: re.Pattern[str]) -> bool:
    texts: Sequence[str | None] = to_texts(values)
    return all(text is None or pattern.fullmatch(text) is not None for text in texts)


def _first_value(values: pa.ChunkedArray) -> str:
    return next((text for text in to_texts(values) if text is not None), "")
