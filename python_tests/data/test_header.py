"""Whether the first line of a file of numbers is taken for names or values, and how often that is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from somvae_ext.data.header import cell_kind, verdict_by_numbers, verdict_by_text

Array = NDArray[np.float64]
TRIALS = 400


def integers(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.integers(0, 100, size=(rows, columns)).astype(float)


def few_integers(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.integers(0, 3, size=(rows, columns)).astype(float)


def normal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return rng.normal(size=(rows, columns)).round(2)


def trend(rng: np.random.Generator, rows: int, columns: int) -> Array:
    noise = rng.normal(scale=0.2, size=(rows, columns))
    return (np.linspace(0, 10, rows)[:, None] + noise + np.arange(columns)).round(2)


def sums(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return np.cumsum(rng.random((rows, columns)), axis=0).round(2)


def over_time(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return np.column_stack([np.arange(rows) * 0.5, normal(rng, rows, columns)])


def rising(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return np.sort(normal(rng, rows, columns), axis=1)


def pixels(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return (rng.random((rows, columns)) < 0.5) * rng.integers(0, 256, size=(rows, columns)).astype(float)


def even_rows(rng: np.random.Generator, rows: int, columns: int) -> Array:
    return np.arange(rows * (columns + 1)).reshape(rows, columns + 1).astype(float) + rng.integers(1, 9)


KINDS = [even_rows, normal, integers, few_integers, trend, sums, over_time, rising, pixels]


@pytest.mark.parametrize("make", KINDS, ids=[make.__name__ for make in KINDS])
def test_rows_without_names_above_them_are_not_taken_for_names(
    make: Callable[[np.random.Generator, int, int], Array],
) -> None:
    rng = np.random.default_rng(0)
    verdicts: Counter[str] = Counter()
    for _ in range(TRIALS):
        x = make(rng, int(rng.integers(2, 80)), int(rng.integers(1, 12)))
        verdicts[verdict_by_numbers(x[0], x[1:])] += 1
    assert verdicts["names"] == 0
    assert verdicts["unclear"] <= 0.03 * TRIALS


@pytest.mark.parametrize("columns", [3, 4, 7, 50])
def test_typical_numeric_headers_are_recognized_above_measurements(columns: int) -> None:
    rng = np.random.default_rng(1)
    verdicts: Counter[str] = Counter()
    for _ in range(TRIALS):
        x = rng.normal(20, 8, size=(60, columns)).round(2)
        for names in (np.arange(columns), 1990 + np.arange(columns), 400 + 25.0 * np.arange(columns)):
            verdicts[verdict_by_numbers(names.astype(float), x)] += 1
    assert verdicts["names"] == 3 * TRIALS


def test_ambiguous_numbers_are_reported_as_unclear() -> None:
    rng = np.random.default_rng(2)
    counts = integers(rng, 60, 3)
    assert verdict_by_numbers(np.array([0.0, 1, 2]), counts) == "unclear"
    column = normal(rng, 60, 1)
    assert verdict_by_numbers(np.array([0.0]), column) == "unclear"
    # A row that occurs again holds values, unless it is 0, 1, 2, ..., which pandas writes as a header.
    assert verdict_by_numbers(np.array([0.0, 1, 2]), np.vstack([counts, [0, 1, 2]])) == "unclear"
    assert verdict_by_numbers(np.array([0.0, 1]), np.array([[1.0, 0], [0, 1], [1, 1]])) == "values"
    assert verdict_by_numbers(np.array([1.0, 2, 3]), np.vstack([counts, [1, 2, 3]])) == "values"


def test_a_single_row_holds_values() -> None:
    assert verdict_by_numbers(np.array([0.0, 1, 2]), np.empty((0, 3))) == "values"


@pytest.mark.parametrize(
    ("first", "later", "verdict"),
    [
        ("a,b,c", ["1,2,3"], "names"),
        ("a,b,c", ["x,y,z"], "names"),
        ("country,1990,2000", ["France,3,4"], "unclear"),
        ("country,1990,2000", ["7,3,4"], "names"),
        ("5.1,3.5,setosa", ["4.9,3.0,setosa"], "unclear"),
        ("12%,3,a", ["13%,4,b"], "values"),
        ("True,3,a", ["False,4,b"], "values"),
        ("2024-01-01,a", ["2024-01-02,b"], "values"),
        ("1,2", ["3,4"], "unclear"),
        (",a,b", ["0,1,2"], "names"),
        ("NA,", ["1,2"], "values"),
    ],
)
def test_the_kinds_of_cells_decide_about_a_line_with_text(first: str, later: list[str], verdict: str) -> None:
    kinds = [
        [cell_kind(cell, ".", None, frozenset({"", "na"})) for cell in line.split(",")] for line in (first, *later)
    ]
    assert verdict_by_text(kinds[0], kinds[1:]) == verdict
