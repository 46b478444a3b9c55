"""Decides whether the first line of a text file names its columns or is a row of values.

Text above numbers is a name. Numbers may be names, too: wavelengths, years, pandas' 0, 1, 2. They are taken for names
only if they count from 0, or increase as no later row does, and if they are unlike the values below them. If a human
reader could not tell either, the file is refused.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Cell = Literal["missing", "number", "value", "text"]
Verdict = Literal["names", "values", "unclear"]

# That so many columns count or increase by chance, and in this row alone, has a probability below 1 in 5000.
_MANY = 7
_FEW = 5  # rows

# Neither names nor plain numbers: percentages, booleans, dates.
_VALUE = re.compile(r"[+-]?[\d.,]+\s*%|true|false|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}([ T]\d{1,2}:\d\d(:\d\d)?.*)?", re.I)


def verdict_by_text(first: Sequence[Cell], later: Sequence[Sequence[Cell]]) -> Verdict:
    """Judges the first line by the kinds of its cells and of those below.

    Args:
        first: kinds of the cells of the first line.
        later: kinds of the cells of some lines after it.

    Returns:
        The verdict; ``"unclear"`` if it depends on the numbers.
    """
    texts = [column for column, kind in enumerate(first) if kind == "text"]
    if not any(kind in ("number", "value") for kind in first):
        return "names" if texts else "values"
    above_numbers = [column for column in texts if _mostly_numbers([row[column] for row in later])]
    if above_numbers:
        return "names"
    return "values" if "value" in first else "unclear"


def verdict_by_numbers(first: NDArray[np.float64], later: NDArray[np.float64]) -> Verdict:
    """Judges a first line of numbers by their values.

    Args:
        first: the numbers ``[n]`` in the first line, of the columns that have one there.
        later: all rows after it, ``[N, n]``, NaN where there is no number.
    """
    counts = bool((first == np.arange(len(first))).all())
    if len(later) == 0 or (bool((later == first).all(axis=1).any()) and not (counts and len(first) > 2)):
        return "values"
    is_whole, (is_outside, is_far) = _is_whole_above_fractions(first, later), _is_out_of_range(first, later)
    is_unlike = is_whole | is_outside
    if len(first) == 1:
        # pandas calls a column without a name 0, and few measurements begin with a whole number.
        return "unclear" if first[0] == 0 and bool(is_whole.all()) else "values"
    steps = np.diff(first)
    if not (steps > 0).all():
        return "values"
    is_even = len(first) > 2 and bool(np.allclose(steps, steps[0], rtol=1e-6, atol=0))
    if not (np.diff(later, axis=1) > 0).all(axis=1).any():
        # A few numbers may increase by chance, and a trend may set the first row apart from all others, so names need
        # more evidence.
        has_many = len(first) >= _MANY and (is_even or is_unlike.mean() > 0.5)
        if has_many or is_whole.all() or (is_even and is_unlike.all()):
            return "names"
        return "unclear" if counts or bool(is_unlike.all()) else "values"
    rows_are_even = bool(np.allclose(np.diff(later, axis=1), np.diff(later[:, :2], axis=1), rtol=1e-6, atol=0))
    if len(first) > 2 and (is_far.all() or counts) and is_unlike.all() and not rows_are_even:
        return "names" if is_whole.all() or counts else "unclear"
    return "unclear" if counts else "values"


def cell_kind(cell: str, decimal: str, thousands: str | None, missing: frozenset[str]) -> Cell:
    """Returns the kind of a cell, judged by its text."""
    text = cell.strip()
    if text.lower() in missing:
        return "missing"
    if parse_number(text, decimal, thousands) is not None:
        return "number"
    return "value" if _VALUE.fullmatch(text) else "text"


def parse_number(text: str, decimal: str, thousands: str | None) -> float | None:
    """Parses a number; returns None if the text is not one."""
    if thousands is not None and thousands in text:
        if not grouped_number_pattern(decimal, thousands).fullmatch(text):
            return None
        text = text.replace(thousands, "")
    if decimal != ".":
        text = text.replace(".", "x").replace(decimal, ".")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


@functools.cache
def grouped_number_pattern(decimal: str, thousands: str) -> re.Pattern[str]:
    """Returns the pattern of numbers and percentages with a sign between groups of three digits."""
    sign, point = re.escape(thousands), re.escape(decimal)
    return re.compile(rf"[+-]?\d{{1,3}}({sign}\d{{3}})+({point}\d*)?([eE][+-]?\d+)?\s*%?")


def _mostly_numbers(kinds: Sequence[Cell]) -> bool:
    present = [kind for kind in kinds if kind != "missing"]
    return sum(kind in ("number", "value") for kind in present) > len(present) / 2


def _is_out_of_range(
    first: NDArray[np.float64], later: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether the first number of each column is out of range of the others, and whether by more than that range."""
    present = ~np.isnan(later)
    low = np.where(present, later, np.inf).min(axis=0)
    high = np.where(present, later, -np.inf).max(axis=0)
    with np.errstate(invalid="ignore"):  # from infinities, which are refused later
        distance, spread = np.maximum(low - first, first - high), high - low
    # The range of a few rows says little.
    return (distance > 0) & (len(later) >= _FEW), (distance > spread) & (len(later) >= _FEW)


def _is_whole_above_fractions(first: NDArray[np.float64], later: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the first number of each column is an integer and most others are not."""
    present = ~np.isnan(later)
    fractions = ((later != np.floor(later)) & present).sum(axis=0) > 0.5 * present.sum(axis=0)
    is_whole: NDArray[np.bool_] = first == np.floor(first)
    return is_whole & fractions & (len(later) >= _FEW)
