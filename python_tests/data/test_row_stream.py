"""Reading rows in blocks gives the same as reading them at once, wherever the blocks end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from somvae_ext.data import Missing, TableFormat, read_table
from somvae_ext.data import row_stream as module
from somvae_ext.data.row_stream import RowBlock, RowStream

FEATURES = ("a", "b", "kind=x", "kind=y")
FORMAT = TableFormat(id_column="name", one_hot=("kind",), label_column="class")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes blocks so small that small files have many of them."""
    monkeypatch.setattr("somvae_ext.data.text_table._BLOCK_BYTES", 96)
    monkeypatch.setattr(module, "_BLOCK_VALUES", 16)
    monkeypatch.setattr("somvae_ext.data.tables._CHUNK_VALUES", 16)


def stream(
    path: Path,
    *,
    features: Sequence[str] | None = FEATURES,
    dim: int | None = None,
    table: TableFormat = FORMAT,
    missing: Missing = "error",
    fill: Sequence[float] | None = None,
    with_columns: bool = False,
) -> RowStream:
    dim = len(features or ()) if dim is None else dim
    return RowStream(
        path, dim, kind=None, table=table, missing=missing, features=features, fill=fill, with_columns=with_columns
    )


def joined(blocks: list[RowBlock]) -> NDArray[np.float64]:
    return np.concatenate([block.rows.x for block in blocks])


def keys(blocks: list[RowBlock], name: str) -> list[Any]:
    return [key for block in blocks for key in block.rows.row_keys[name]]


def write(path: Path, lines: list[str], header: str = "name,a,b,kind,class,extra") -> Path:
    path.write_text("\n".join([header, *lines, ""]))
    return path


def table_lines(count: int, gaps: AbstractSet[int] = frozenset()) -> list[str]:
    return [
        f"r{row},{'' if row in gaps else row / 4},{-row},{'xy'[row % 2]},{row % 3},some text {row}"
        for row in range(count)
    ]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    gaps=st.sets(st.integers(0, 39)),
    blank=st.sets(st.integers(0, 39), max_size=3),
    blank_at_end=st.integers(0, 5),
    missing=st.sampled_from(["drop", "mean", "ignore"]),
)
def test_blocks_of_a_text_file_hold_the_rows_of_a_single_read(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    gaps: set[int],
    blank: set[int],
    blank_at_end: int,
    missing: Missing,
) -> None:
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    lines = table_lines(count, gaps)
    lines = [",,,,," if row in blank else line for row, line in enumerate(lines)] + [",,,,,"] * blank_at_end
    write(path, lines)
    fill = (0.5, 1.5, 0.25, 0.75) if missing == "mean" else None
    try:
        whole = read_table(path, FORMAT, missing=missing, features=FEATURES)
        whole.check_values(missing, empty_columns=True)
    except ValueError as error:
        kept = re.escape(str(error).partition(" must")[0])
        with pytest.raises(ValueError, match=kept):
            list(stream(path, missing=missing, fill=fill))
        return
    whole = whole if fill is None else whole.fill_gaps(fill)
    blocks = list(stream(path, missing=missing, fill=fill))
    np.testing.assert_array_equal(joined(blocks), whole.x)
    assert keys(blocks, "name") == list(whole.row_keys["name"])
    assert [number for block in blocks for number in block.rows.row_numbers.tolist()] == whole.row_numbers.tolist()
    assert len(blocks) > 1 or count < 6


@pytest.mark.parametrize("ending", [".parquet", ".arrow", ".feather"])
def test_columnar_files_are_read_in_blocks(tmp_path: Path, ending: str) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"b": rng.random(50), "a": rng.random(50), "name": [f"r{row}" for row in range(50)]})
    path = tmp_path / f"t{ending}"
    if ending == ".parquet":
        frame.to_parquet(path, row_group_size=20)
    elif ending == ".feather":
        frame.to_feather(path)
    else:
        table = pa.Table.from_pandas(frame)
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    rows = stream(path, features=("a", "b"), table=TableFormat(id_column="name"))
    blocks = list(rows)
    np.testing.assert_array_equal(joined(blocks), frame[["a", "b"]].to_numpy())
    assert keys(blocks, "name") == frame["name"].tolist()
    assert max(len(block.rows.x) for block in blocks) <= 8  # pandas writes all rows as one batch of a .feather file
    assert rows.num_rows == (50 if ending == ".parquet" else None)


def test_a_matrix_is_read_in_blocks_and_its_gaps_are_dropped(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((30, 4), dtype=np.float32)
    x[[0, 7, 29], [1, 2, 3]] = np.nan
    np.save(tmp_path / "x.npy", x)
    rows = stream(tmp_path / "x.npy", features=None, dim=4, table=TableFormat(), missing="drop")
    assert rows.num_rows == 30
    blocks = list(rows)
    np.testing.assert_array_equal(joined(blocks), x[~np.isnan(x).any(axis=1)])
    assert keys(blocks, "index") == [row for row in range(30) if row not in (0, 7, 29)]
    assert rows.omitted == "3 of 30 rows, which have gaps"


def test_all_rows_may_have_gaps_in_a_block_but_not_in_all_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", table_lines(40, set(range(20))))
    assert keys(list(stream(path, missing="drop")), "name") == [f"r{row}" for row in range(20, 40)]
    write(path, table_lines(40, set(range(40))))
    with pytest.raises(ValueError, match="must hold a row without a gap for missing='drop', got none"):
        list(stream(path, missing="drop"))


def test_a_file_of_blank_rows_is_refused_at_its_first_row(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [",,,,,"] * 30)
    with pytest.raises(ValueError, match=re.escape("got NaN in row 0 (line 2)")):
        list(stream(path))


def test_errors_in_later_blocks_name_the_row_and_line_of_the_file(tmp_path: Path) -> None:
    lines = table_lines(60)
    path = write(tmp_path / "t.csv", [*lines, "r60,,1,x,0,", "r61,1,1,x,0,"])
    with pytest.raises(ValueError, match=re.escape("got NaN in row 60 (line 62), column 'a'")):
        list(stream(path))
    write(path, [*lines, "r60,1,1,z,0,"])
    with pytest.raises(ValueError, match=re.escape("x, y of the training data, got 'z' in row 60 (line 62)")):
        list(stream(path))
    write(path, [*lines, "r60,1,many,x,0,"])
    with pytest.raises(ValueError, match=re.escape("must hold numbers, got 'many', first in row 60 (line 62)")):
        list(stream(path))
    write(path, [*lines, "r60,1"])
    with pytest.raises(ValueError, match="every line must hold 6 values like the first one, got 2 in line 62"):
        list(stream(path))


def test_numbers_may_be_written_differently_in_later_blocks(tmp_path: Path) -> None:
    lines = [f"{row},{row / 8}" for row in range(50)]
    path = write(tmp_path / "t.csv", [*lines, "+50, 1e1 ", "51,NA"], header="a,b")
    blocks = list(stream(path, features=("a", "b"), table=TableFormat(), missing="ignore"))
    expected = [[row, row / 8] for row in range(50)] + [[50, 10], [51, np.nan]]
    np.testing.assert_array_equal(joined(blocks), expected)


def test_percentages_in_some_blocks_only_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [f"{row}%,1" for row in range(60)], header="a,b")
    blocks = list(stream(path, features=("a", "b"), table=TableFormat()))
    np.testing.assert_allclose(joined(blocks)[:, 0], np.arange(60) / 100)
    for first, later in (("{}%", "{}"), ("{}", "{}%")):
        write(path, [f"{(first if row < 40 else later).format(row)},1" for row in range(60)], header="a,b")
        in_one_or_two_blocks = "with and without a percent sign|must hold percentages in all rows or in none, got both"
        with pytest.raises(ValueError, match=in_one_or_two_blocks):
            list(stream(path, features=("a", "b"), table=TableFormat()))


def test_booleans_are_ones_and_zeros_in_every_block(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [f"{row % 3 == 0},{row}" for row in range(60)], header="a,b")
    expected = [[float(row % 3 == 0), row] for row in range(60)]
    for with_columns in (False, True):
        blocks = list(stream(path, features=("a", "b"), table=TableFormat(), with_columns=with_columns))
        np.testing.assert_array_equal(joined(blocks), expected)
    np.testing.assert_array_equal(read_table(path).x, expected)
    write(path, ["True,1", "maybe,2"], header="a,b")
    with pytest.raises(ValueError, match="column 'a' must hold numbers, got 'True' and 'maybe'"):
        list(stream(path, features=("a", "b"), table=TableFormat()))


def test_the_columns_of_a_text_file_come_as_written(tmp_path: Path) -> None:
    cells = ["NA", "", " null ", "None", "-9999", "9007199254740993", "0.10", "up 5%"]
    lines = [f"r{row},0{row},{row}.50,x,1,{cells[row % 8]}" for row in range(32)]
    path = write(tmp_path / "t.csv", [*lines, ",,,,,"])
    table = TableFormat(id_column="name", one_hot=("kind",), label_column="class", na=("-9999",))
    blocks = list(stream(path, table=table, with_columns=True))
    assert list(blocks[0].columns) == ["a", "b", "kind", "class", "extra"]
    written = {name: [cell for block in blocks for cell in block.columns[name].to_pylist()] for name in ("a", "extra")}
    assert written == {"a": [f"0{row}" for row in range(32)], "extra": [cells[row % 8] for row in range(32)]}
    np.testing.assert_array_equal(joined(blocks)[:, 0], np.arange(32))


def test_text_that_is_no_feature_may_hold_percent_signs(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", [f"r{row},1,2,x,0,{'up 5%' if row == 30 else 'same'}" for row in range(60)])
    assert len(joined(list(stream(path)))) == 60


@pytest.mark.parametrize("later", [False, True])
def test_an_unnamed_column_identifies_all_rows_or_none(tmp_path: Path, later: bool) -> None:
    names = [str(row) if (row < 30) == later else f"r{row}" for row in range(60)]  # text in some blocks only
    path = write(tmp_path / "t.csv", [f"{name},{row}" for row, name in enumerate(names)], header=",a")
    blocks = list(stream(path, features=("a",), table=TableFormat()))
    if later:  # the first block looks like row numbers
        assert keys(blocks, "index") == list(range(60))
    else:
        assert keys(blocks, "id") == names


def test_dropped_rows_are_dropped_from_the_copied_columns_too(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", table_lines(40, {0, 3, 38}))
    blocks = list(stream(path, missing="drop", with_columns=True))
    texts = [text for block in blocks for text in block.columns["extra"].to_pylist()]
    assert texts == [f"some text {row}" for row in range(40) if row not in (0, 3, 38)]
    x = np.arange(40.0).reshape(20, 2)
    x[4, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    matrix = stream(tmp_path / "x.npy", features=None, dim=2, table=TableFormat(), missing="drop", with_columns=True)
    values = [value for block in matrix for value in block.columns["0"].tolist()]
    assert values == [value for row, value in enumerate(x[:, 0].tolist()) if row != 4]


def test_a_column_without_a_name_that_was_trained_on_is_found_in_each_block(tmp_path: Path) -> None:
    # Within one block the column's distinct integers look like row numbers.
    path = write(tmp_path / "t.csv", [f"{(row * 7) % 40},{row}.5" for row in range(80)], header=",a")
    trained = read_table(path)
    assert trained.columns == ("0", "a")
    blocks = list(stream(path, features=trained.columns, table=trained.format or TableFormat()))
    np.testing.assert_array_equal(joined(blocks), trained.x)


def test_missing_files_and_other_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        stream(tmp_path / "absent.csv")
    path = write(tmp_path / "t.csv", ["1,2"], header="a,c")
    with pytest.raises(ValueError, match="got a table without 'b', 'kind' and with the unknown 'c'"):
        list(stream(path))
    np.save(tmp_path / "x.npy", np.zeros((5, 3)))
    with pytest.raises(ValueError, match="rows must have 4 features, as the training data had, got 3"):
        list(stream(tmp_path / "x.npy", features=None, dim=4, table=TableFormat()))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(ValueError, match="must be a Parquet file, got something else"):
        stream(tmp_path / "bad.parquet")
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(ValueError, match="must hold at least one row, got none"):
        stream(tmp_path / "empty.parquet")


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.bz2", ".csv.xz"])
def test_archives_are_read_in_blocks_and_damaged_ones_refused(tmp_path: Path, ending: str) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).random((2000, 2)).round(6), columns=["a", "b"])
    path = tmp_path / f"t{ending}"
    frame.to_csv(path, index=False)
    blocks = list(stream(path, features=("a", "b"), table=TableFormat()))
    np.testing.assert_allclose(joined(blocks), frame.to_numpy())
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="must be a complete archive, got a damaged one"):
        list(stream(path, features=("a", "b"), table=TableFormat()))


def test_percentages_that_start_in_a_later_block_are_refused(tmp_path: Path) -> None:
    frames = [pd.DataFrame({"a": [f"{row}{sign}" for row in range(16)]}) for sign in ("", "%")]
    path = tmp_path / "t.parquet"
    pd.concat(frames).to_parquet(path, row_group_size=16, index=False)
    with pytest.raises(ValueError, match="column 'a' must hold percentages in all rows or in none, got both"):
        list(stream(path, features=("a",), table=TableFormat()))
