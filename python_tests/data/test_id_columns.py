"""Columns that look like ids are reported, and real measurements are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from somvae_ext.data.id_columns import describe_id, note_id_columns
from somvae_ext.data.rows import load_rows

RANDOM = np.random.default_rng(0)
ROWS = 150


def times(unit: int) -> np.ndarray:
    return (1_700_000_000 + np.sort(RANDOM.choice(10**6, ROWS))) * unit


@pytest.mark.parametrize(
    ("values", "what"),
    [
        (np.arange(7), "numbers the rows"),
        (np.arange(100, 250), "numbers the rows"),
        (RANDOM.permutation(ROWS) + 1, f"holds each whole number from 1 to {ROWS} once"),
        (np.arange(ROWS)[::-1], "falls by 1 in every row"),
        (np.arange(ROWS) * 60 + 7, "rises by 60 in every row"),
        (np.arange(ROWS) * 0.1, "rises by 0.1 in every row"),
        (np.cumsum(RANDOM.integers(1, 4, ROWS)), "rises in every row"),
        (RANDOM.choice(10**6, ROWS, replace=False) + 5_550_000, "holds a different number of 7 digits in every row"),
        (RANDOM.integers(10**9, 10**10, ROWS) | 1, "holds a different number of 10 digits in every row"),
        (times(1), "holds times in seconds since 1970"),
        (RANDOM.permutation(times(1000)), "holds times in milliseconds since 1970"),
        (np.repeat(times(10**9), 2), "holds times in nanoseconds since 1970"),
        (np.array([20240131, 20231201, 20220615, 20240131, 20240229]), "holds dates as 20220615"),
    ],
)
def test_ids_row_numbers_and_times_are_reported(values: np.ndarray, what: str) -> None:
    assert describe_id(values) == what


@pytest.mark.parametrize("name", ["id", "ID", "customer_id", "PassengerId", "patient-uid", "Unnamed: 0", "row key"])
def test_a_name_and_different_values_are_enough(name: str) -> None:
    values = np.array([7, 3, 12, 5])
    assert describe_id(values, name) == "looks like an id"
    assert describe_id(values, "height") is None
    assert describe_id(np.array([7, 3, 7, 5]), name) is None
    assert describe_id(np.array([7.5, 3.25, 12, 5]), name) is None


@pytest.mark.parametrize("name", ["acid", "humid", "width", "liquid", "monkey", "avoid", "grid", "plaid"])
def test_words_that_only_end_like_ids_are_not_taken_for_ids(name: str) -> None:
    assert describe_id(np.array([7, 3, 12, 5]), name) is None


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=ROWS),
        np.sort(RANDOM.normal(size=ROWS)),  # a file sorted by a measurement
        RANDOM.integers(0, 100, ROWS),  # counts and ages
        np.sort(RANDOM.integers(0, 100, ROWS)),
        RANDOM.integers(18, 90, 15),
        np.cumsum(RANDOM.integers(1, 100, ROWS)),  # readings of a meter
        1e9 + np.cumsum(RANDOM.normal(0, 0.2, ROWS)),  # small variation about a large offset
        np.exp(RANDOM.normal(11, 2, ROWS)).round(),  # populations and incomes
        RANDOM.integers(200, 999, ROWS) * 1_000_000,  # rounded amounts
        RANDOM.permutation(ROWS) * 2 + RANDOM.integers(0, 2, ROWS),  # distinct small numbers
        np.full(ROWS, 5.0),
        np.full(ROWS, 1_700_000_000),
        np.arange(4),
        np.arange(0, 45, 5),  # doses
        np.where(np.arange(ROWS) == 3, np.nan, np.arange(ROWS)),
        np.full(ROWS, np.nan),
        np.repeat([0, 1], 75),
        np.zeros(0),
    ],
)
def test_measurements_are_not_reported(values: np.ndarray) -> None:
    assert describe_id(values) is None


@pytest.mark.parametrize("name", ["digits", "wine", "iris", "breast_cancer", "diabetes"])
@pytest.mark.parametrize("ending", ["csv", "npy", "npz"])
def test_no_column_of_scikit_learns_data_sets_is_reported(name: str, ending: str, tmp_path: Path) -> None:
    frame = getattr(datasets, f"load_{name}")(as_frame=True).data
    path = tmp_path / f"table.{ending}"
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "npy":
        np.save(path, frame.to_numpy())
    else:
        np.savez(path, x=frame.to_numpy())
    table, _ = load_rows(path)
    assert "note" not in table.description


def test_unscaled_columns_of_scikit_learns_diabetes_are_not_reported() -> None:
    x = datasets.load_diabetes(scaled=False).data
    assert [describe_id(column) for column in x.T] == [None] * x.shape[1]


def test_every_id_column_of_a_table_is_reported_with_a_remedy(tmp_path: Path) -> None:
    frame = pd.DataFrame(RANDOM.normal(size=(40, 2)), columns=["a", "b"])
    frame["phone"] = RANDOM.integers(10**8, 10**9, 40) | 1
    frame["written"] = times(1)[:40]
    frame.to_csv(tmp_path / "table.csv", index=False)
    table, _ = load_rows(tmp_path / "table.csv")
    assert table.description["note"].splitlines() == [
        "column phone holds a different number of 9 digits in every row and is trained on; if it is no feature, set "
        "id_column='phone' or drop=['phone']",
        "column written holds times in seconds since 1970 and is trained on; if it is no feature, set "
        "id_column='written' or drop=['written']",
    ]
    frame.to_csv(tmp_path / "bare.csv", index=False, header=False)
    assert "column 2 holds a different number" in load_rows(tmp_path / "bare.csv")[0].description["note"]


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_id_columns_of_a_matrix_are_reported_too(ending: str, tmp_path: Path) -> None:
    x: Any = np.column_stack([RANDOM.normal(size=(40, 2)), RANDOM.permutation(40)])
    path = tmp_path / f"rows.{ending}"
    if ending == "npy":
        np.save(path, x)
    else:
        np.savez(path, x=x)
    assert load_rows(path)[0].description["note"] == (
        "column 2 holds each whole number from 0 to 39 once and is trained on; if it is no feature, remove that from "
        "the array"
    )


def test_columns_are_not_reported_if_all_of_them_count() -> None:
    assert note_id_columns(np.arange(300).reshape(100, 3)) is None
    assert note_id_columns(np.arange(100)[:, None]) is None
    several = np.column_stack([RANDOM.normal(size=(40, 3)), np.arange(40), 3 * np.arange(40)])
    assert note_id_columns(several) == (
        "column 3 numbers the rows and column 4 rises by 3 in every row and are trained on; if they are no feature, "
        "remove that from the array"
    )


def test_a_count_in_the_first_rows_alone_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("somvae_ext.data.id_columns._MAX_ROWS", 30)
    x = np.column_stack([RANDOM.normal(size=(60, 2)), [*RANDOM.permutation(30), *RANDOM.integers(0, 9, 30)]])
    assert note_id_columns(x) is None
    assert note_id_columns(x[:30]) is not None
