"""Tables that commands write: CSV and Parquet, with every digit, and never incomplete."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pyarrow import parquet

from somvae_ext.cli.output import is_special
from somvae_ext.cli.table_output import check_ending, open_table


def write_blocks(path: Path, *blocks: dict[str, Any]) -> None:
    with open_table(str(path)) as table:
        for block in blocks:
            table.write(block)


@settings(max_examples=50, deadline=None)
@given(
    x=arrays.arrays(np.float64, st.integers(1, 20), elements=st.floats(allow_infinity=False)),
    single=st.booleans(),
    ending=st.sampled_from([".csv", ".parquet"]),
)
def test_numbers_come_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, x: np.ndarray, single: bool, ending: str
) -> None:
    path = tmp_path_factory.mktemp("table") / f"t{ending}"
    with np.errstate(over="ignore"):
        x = x.astype(np.float32 if single else np.float64)
    x[np.isinf(x)] = np.nan
    with open_table(str(path)) as table:
        table.write({"row": np.arange(len(x)), "x": x})
        table.write({"row": np.arange(len(x)), "x": x})
    back = pd.read_csv(path) if ending == ".csv" else pd.read_parquet(path)
    np.testing.assert_array_equal(back["x"].to_numpy().astype(x.dtype), np.concatenate([x, x]))
    assert back["row"].tolist() == [*range(len(x)), *range(len(x))]


def test_text_is_quoted_where_necessary_and_missing_values_are_empty(tmp_path: Path) -> None:
    texts = ["plain", 'with "quotes"', "with, comma", "two\nlines", None, "ä"]
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"t{ending}"
        with open_table(str(path)) as table:
            table.write({"text": np.array(texts, dtype=object), "arrow": pa.array(texts), "list": texts})
        back = pd.read_csv(path, keep_default_na=False) if ending == ".csv" else pd.read_parquet(path)
        for column in ("text", "arrow", "list"):
            missing = "" if ending == ".csv" else None
            back[column] = back[column].astype(object).where(back[column].notna(), None)
            assert back[column].tolist() == [missing if text is None else text for text in texts]


def test_a_failed_write_leaves_the_existing_file(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        path = tmp_path / f"t{ending}"
        path.write_bytes(b"before")
        with pytest.raises(ValueError, match="same columns"):
            write_blocks(path, {"x": [1, 2]}, {"y": [1, 2]})
        assert path.read_bytes() == b"before"
        assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_columns_that_change_are_refused(tmp_path: Path) -> None:
    for ending in (".csv", ".parquet"):
        with pytest.raises(ValueError, match="all rows must have the same columns, got y after x"):
            write_blocks(tmp_path / f"t{ending}", {"x": [1]}, {"y": [1]})
    with pytest.raises(ValueError, match=r"values of one type.*write a \.csv file"):
        write_blocks(tmp_path / "t.parquet", {"x": np.array([1.5])}, {"x": ["many"]})


def test_a_column_without_values_in_its_first_block_has_a_type(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    none, some = np.array([None, None], dtype=object), np.array(["a", None], dtype=object)
    masked = np.ma.masked_less(np.array([-1, -1]), 0), np.ma.masked_less(np.array([4, -1]), 0)
    write_blocks(path, {"text": none, "number": masked[0]}, {"text": some, "number": masked[1]})
    table = parquet.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string", "int64"]
    assert table["text"].to_pylist() == [None, None, "a", None]
    assert table["number"].to_pylist() == [None, None, 4, None]


def test_only_standard_streams_are_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(ValueError, match="--output must be a regular file for Parquet"):
        check_ending(str(tmp_path / "pipe.parquet"))
    for path, expected in (
        ("/dev/stdout", True),
        ("/dev/fd/1", True),
        ("/proc/self/fd/1", True),
        ("/dev/shm/x", False),
    ):
        assert is_special(path) == expected


def test_the_extension_determines_the_format() -> None:
    for path in (None, "a.csv", "b.PARQUET", "/dev/stdout"):
        check_ending(path)
    for path in ("a.xlsx", "nodes", "a.csv.gz"):
        with pytest.raises(ValueError, match=r"--output must end with \.csv or \.parquet, got"):
            check_ending(path)
