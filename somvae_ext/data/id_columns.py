"""Finds columns that say which row it is, or when it was written, rather than what was measured."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

# In fewer rows, measurements may count, rise in equal steps or be distinct whole numbers by chance.
_FEWEST_COUNTED, _FEWEST_STEPS, _FEWEST_DIFFERENT = 5, 10, 20
_FEWEST_DIGITS, _MOST_DIGITS = 7, 15  # of phone and account numbers; float64 has no more
_STEP_ERROR = 1e-6  # relative error of equal steps
_ROUNDINGS = 4  # a step may also differ by this many roundings of the largest value
_SPARSEST = 4  # whole numbers per row in a count with gaps; a running total has more
_ID_NAMES = {"id", "ids", "uid", "uuid", "key", "index", "idx", "nr", "no", "number", "row", "unnamed: 0", "rownames"}
_ID_ENDING = re.compile(r".*(?:[_\s.-](?:id|uid|uuid|key|idx)|[a-z](?:Id|ID))", re.DOTALL)
# Units of clocks per second, and their range: from the year 2000 until 32-bit clocks end, in 2038.
_UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
_YEAR_2000, _YEAR_2038 = 946_684_800, 2**31
_FIRST_DATE, _LAST_DATE = 1900_01_01, 2100_12_31
# How many rows and values of an array are looked at, from its beginning.
_MAX_ROWS = 100_000
_MAX_VALUES = 1 << 24


def describe_id(numbers: NDArray[Any], name: str | None = None, *, is_whole_column: bool = True) -> str | None:
    """Says why a column looks like an id, a row number or a time; returns None if it looks like none.

    - ``numbers the rows``: it counts up by 1, over at least 5 rows.
    - ``looks like an id``: its name says so, and its values are whole numbers that all differ.
    - ``rises by 60 in every row``: equal steps, over at least 10 rows.
    - ``holds each whole number from 1 to 150 once``: a shuffled count, or ranks, of at least 20 rows.
    - ``rises in every row``: whole numbers that rise by different small steps, over at least 20 rows.
    - ``holds times in seconds since 1970``: whole numbers of the years 2000 to 2037, also in units of 1e-3, 1e-6 and
      1e-9 seconds. ``holds dates as 20240131``.
    - ``holds a different number of 8 digits in every row``: 7 to 15 digits without a common divisor, such as phone,
      customer and account numbers, over at least 20 rows. Amounts of money seldom all have the same number of digits.

    Values with fractions are measurements unless their steps are equal, and so are whole numbers that repeat or have
    different numbers of digits, such as counts, incomes and populations. A column with a missing value is not an id.

    Args:
        numbers: the values of the column, ``[N]``, NaN where one is missing.
        name: name of the column, if it has one.
        is_whole_column: whether these are all rows and not only the first ones.

    Example:
        >>> describe_id(np.array([3, 1, 2, 5, 4] * 6 + [6])), describe_id(np.arange(0, 600, 60))
        (None, 'rises by 60 in every row')
    """
    count = len(numbers)
    values = numbers.astype(np.float64)
    if count < 3 or not np.isfinite(values).all() or values[0] == values[1] == values[-1]:
        return None
    is_whole = bool((values == np.floor(values)).all())
    steps = np.diff(values)
    if is_whole and count >= _FEWEST_COUNTED and (steps == 1).all():
        return "numbers the rows"
    is_distinct = len(np.unique(values)) == count
    if name is not None and is_whole and is_distinct and (name.lower() in _ID_NAMES or _ID_ENDING.fullmatch(name)):
        return "looks like an id"
    step = (values[-1] - values[0]) / (count - 1)
    rounding = _STEP_ERROR * abs(step) + _ROUNDINGS * np.finfo(np.float64).eps * np.abs(values).max()
    if count >= _FEWEST_STEPS and abs(step) > rounding and np.abs(steps - step).max() <= rounding:
        return f"{'rises' if step > 0 else 'falls'} by {abs(step):g} in every row"
    return _describe_whole_numbers(values, steps, is_distinct, is_whole_column) if is_whole else None


def _describe_whole_numbers(
    values: NDArray[np.float64], steps: NDArray[np.float64], is_distinct: bool, is_whole_column: bool
) -> str | None:
    low, high, count = values.min(), values.max(), len(values)
    if count >= _FEWEST_COUNTED:
        for unit, per_second in _UNITS.items():
            if _YEAR_2000 * per_second <= low and high < _YEAR_2038 * per_second:
                return f"holds times in {unit} since 1970"
        if low >= _FIRST_DATE and high <= _LAST_DATE:
            month, day = values // 100 % 100, values % 100
            if ((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all():
                return f"holds dates as {low:.0f}"
    if not is_distinct or count < _FEWEST_DIFFERENT:
        return None
    if is_whole_column and high - low == count - 1:
        return f"holds each whole number from {low:.0f} to {high:.0f} once"
    if (steps > 0).all() and high - low < _SPARSEST * count:
        return "rises in every row"
    digits = len(f"{low:.0f}")
    has_equal_digits = low > 0 and digits == len(f"{high:.0f}") and _FEWEST_DIGITS <= digits <= _MOST_DIGITS
    if has_equal_digits and np.gcd.reduce(values.astype(np.int64)) == 1:
        return f"holds a different number of {digits} digits in every row"
    return None


def note_id_columns(x: NDArray[Any]) -> str | None:
    """Writes a sentence about the columns of an array ``[N, D]``, which have no names, that look like ids.

    Returns None if no column does, or if most do: then they are the features.
    """
    first = x[: max(1, min(_MAX_ROWS, _MAX_VALUES // x.shape[1]))]
    id_like = [
        (column, what)
        for column in range(x.shape[1])
        if (what := describe_id(first[:, column], is_whole_column=len(first) == len(x))) is not None
    ]
    if not id_like or 2 * len(id_like) > x.shape[1]:
        return None
    columns = " and ".join(f"column {column} {what}" for column, what in id_like)
    verb, subject = ("is", "it is") if len(id_like) == 1 else ("are", "they are")
    return f"{columns} and {verb} trained on; if {subject} no feature, remove that from the array"
