"""Rows for maps from tables, images and series, and other data read like the training data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from somvae_ext.data import Scaling, TableFormat, digits, load
from somvae_ext.data.own_data import read_own_data
from somvae_ext.data.record import RowsRecord
from somvae_ext.data.row_stream import RowStream
from somvae_ext.data.rows import fit_scaling, load_rows

TABLE = """id;height;color;weight;kind
k1;1,5;red;10;a
k2;;blue;20;b
k3;2,5;red;30;a
k4;3,5;green;;b
"""
HOW = TableFormat(decimal=",", id_column="id", label_column="kind", one_hot=("color",))


class Rows(NamedTuple):
    """The concatenated blocks of a stream."""

    x: NDArray[np.float64]
    row_keys: dict[str, list[Any]]


def read_all(stream: RowStream) -> Rows:
    blocks = list(stream)
    keys = {name: [key for block in blocks for key in block.rows.row_keys[name]] for name in blocks[0].rows.row_keys}
    return Rows(np.concatenate([block.rows.x for block in blocks]), keys)


def read_like(path: Path, dim: int, table: TableFormat, features: Sequence[str] | None) -> Rows:
    """Reads rows without gaps that have the features of a training table."""
    return read_all(RowStream(path, dim, kind=None, table=table, missing="error", features=features, fill=None))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def test_missing_values_are_refused_dropped_or_kept(table: Path) -> None:
    nan = np.nan
    red, blue, green = [0, 0, 1], [1, 0, 0], [0, 1, 0]
    rows = [[1.5, *red, 10], [nan, *blue, 20], [2.5, *red, 30], [3.5, *green, nan]]
    ignored, _ = load_rows(table, table=HOW, missing="ignore")
    np.testing.assert_array_equal(ignored.x, rows)
    assert ignored.columns == ("height", "color=blue", "color=green", "color=red", "weight")
    dropped, _ = load_rows(table, table=HOW, missing="drop")
    np.testing.assert_array_equal(dropped.x, [rows[0], rows[2]])
    assert dropped.row_keys == {"id": ["k1", "k3"]}
    assert dropped.label is not None
    assert dropped.label.tolist() == ["a", "a"]
    assert "2 of 4 rows, which have gaps" in dropped.description["left out"]
    filled, fill = load_rows(table, table=HOW, missing="mean")
    np.testing.assert_array_equal(filled.x, [rows[0], [2.5, *blue, 20], rows[2], [3.5, *green, 20]])
    assert fill == (2.5, 0.25, 0.25, 0.5, 20)
    with pytest.raises(ValueError, match=re.escape("got NaN in row 1 (line 3), column 'height'")):
        load_rows(table, table=HOW)


def test_columns_of_other_rows_are_reordered_and_filled_by_name(table: Path, tmp_path: Path) -> None:
    rows, fill = load_rows(table, table=HOW, missing="mean")
    new = tmp_path / "new.csv"
    new.write_text("weight,extra,color,height,id\n7,x,blue,,n1\n8,y,red,9.5,n2\n")
    record = RowsRecord.from_table(
        {"name": str(table), "root": "data", "kind": None, "table": HOW, "missing": "mean"}, rows, fill
    )
    assert RowsRecord.from_dict(record.to_dict()) == record
    stream = record.stream(new, rows.dim, rows.columns, TableFormat(id_column="id", one_hot=("color",)))
    like = read_all(stream)
    np.testing.assert_array_equal(like.x, [[2.5, 1, 0, 0, 7], [9.5, 0, 0, 1, 8]])
    assert like.row_keys == {"id": ["n1", "n2"]}
    assert stream.omitted == "extra"
    new.write_text("weight,color,height\n7,violet,1\n")
    with pytest.raises(ValueError, match=re.escape("one of the categories blue, green, red of the training data, got")):
        read_all(record.stream(new, rows.dim, rows.columns, TableFormat(one_hot=("color",))))


def test_rows_without_names_keep_the_numbers_of_their_columns(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,1,2\nb,5,3\na,4,9\n")
    rows, _ = load_rows(path, table=TableFormat(label_column="0", header=False))
    assert rows.columns == ("1", "2")
    like = read_like(path, 2, TableFormat(label_column="0", header=False), rows.columns)
    np.testing.assert_array_equal(like.x, [[1, 2], [5, 3], [4, 9]])
    path.write_text("1,2\n5,3\n")  # without the column of labels
    like = read_like(path, 2, TableFormat(label_column="0", header=False), rows.columns)
    np.testing.assert_array_equal(like.x, [[1, 2], [5, 3]])
    path.write_text("1,2,3,4\n5,3,2,1\n")
    with pytest.raises(ValueError, match="rows must have 2 features, as the training data had, got 4 columns"):
        read_like(path, 2, TableFormat(label_column="0", header=False), rows.columns)


def test_images_and_frames_of_series_are_rows_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(6, 4, 5), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    rows, _ = load_rows(tmp_path / "images.npy")
    np.testing.assert_array_equal(rows.x, images.reshape(6, 20))
    assert rows.image_shape == (1, 4, 5)
    assert fit_scaling(rows, None) == Scaling("minmax", (0.0,), (255.0,))
    series = rng.normal(size=(3, 4, 2)).astype(np.float32)
    np.savez(tmp_path / "series.npz", x=series, lengths=[4, 2, 3], label=[7, 8, 9])
    rows, _ = load_rows(tmp_path / "series.npz")
    mask = np.arange(4) < np.array([4, 2, 3])[:, None]
    np.testing.assert_array_equal(rows.x, series[mask])
    assert rows.row_keys == {"series": np.nonzero(mask)[0].tolist(), "frame": np.nonzero(mask)[1].tolist()}
    assert rows.label is not None
    assert rows.label.tolist() == [7] * 4 + [8] * 2 + [9] * 3
    (tmp_path / "wards").mkdir()
    for name, length in (("bed-1", 2), ("bed-2", 3)):
        np.save(tmp_path / f"wards/{name}.npy", series[0, :length])
    rows, _ = load_rows(tmp_path / "wards")
    assert rows.row_keys == {"series": ["bed-1"] * 2 + ["bed-2"] * 3, "frame": [0, 1, 0, 1, 2]}


def test_a_named_data_set_gives_all_rows_outside_the_test_split() -> None:
    rows, _ = load_rows("digits")
    train = digits(split="all").train
    np.testing.assert_array_equal(rows.x, train.x.reshape(len(train), -1).numpy())
    assert rows.label is not None
    assert rows.label.tolist() == train.label.tolist()  # type: ignore[union-attr]
    assert rows.row_keys == {"index": train.row_keys["index"].tolist()}  # type: ignore[index]
    assert fit_scaling(rows, None) == Scaling()
    with pytest.raises(ValueError, match="digits-series: holds series, but a map takes single samples; name a set of"):
        load_rows("digits-series")


def test_a_path_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    np.save("digits/a.npy", np.ones((3, 2)))
    for path in ("./digits", Path("digits")):
        rows, _ = load_rows(path)
        assert rows.x.tolist() == [[1, 1]] * 3
    assert load_rows("digits")[0].dim == 64


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"separator": ",,"}, "separator must be one character, got ',,'"),
        ({"decimal": ";"}, "decimal must be '.' or ',', got ';'"),
        ({"decimal": ",", "separator": ","}, "decimal must differ from separator, got ',' twice"),
        ({"thousands": "."}, "thousands must differ from decimal, got '.' twice"),
        ({"encoding": "latin" + "-x"}, "encoding must be one that Python knows, such as 'latin-1', got 'latin-x'"),
        ({"label_column": "a", "drop": ["a"]}, "a column must have one use, got 'a' in label_column and drop"),
        ({"header": "yes"}, "header must be True or False, or None, got 'yes'"),
        ({"na": "?"}, "na must hold texts, got '?'"),
    ],
)
def test_formats_that_contradict_themselves(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"TableFormat: {sentence}")):
        TableFormat(**fields)  # type: ignore[arg-type]


def test_the_description_says_how_the_data_were_read(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        "nr;id;when;v;v;kind\n"
        + "".join(f"{n};{7 * n % 31};2024-01-{n:02d};{n % 5};-999;{'ab'[n % 2]}\n" for n in range(1, 30)).replace(
            "2;-999", "2;3.5"
        )
    )
    rows, _ = load_rows(path, table=TableFormat(drop=("when",), label_column="kind"))
    assert rows.description == {
        "data": f"{path}: 29 rows of 4 features, separated by semicolons, names in the first line",
        "features": "nr, id, v, v.1",
        "labels": "kind: 2 classes (a, b)",
        "left out": "when",
        "note": "column v.1 holds -999 23 times; if that stands for missing values, set na=['-999']\n"
        "column nr numbers the rows and is trained on; if it is no feature, set id_column='nr' or drop=['nr']\n"
        "column id looks like an id and is trained on; if it is no feature, set id_column='id' or drop=['id']\n"
        "names that come twice have become v.1",
    }


def test_numeric_names_are_not_taken_for_positions(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("0,1,2\n.5,.25,.125\n.75,.5,.25\n")
    rows, _ = load_rows(path, table=TableFormat(header=True))
    other = tmp_path / "other.csv"
    other.write_text("2,x,0,1\n3,9,1,2\n")
    like = read_like(other, 3, TableFormat(header=True), rows.columns)
    assert like.x.tolist() == [[1, 2, 3]]
    other.write_text("a,b,c\n1,2,3\n")
    with pytest.raises(ValueError, match="got a table without '0', '1', '2' and with the unknown 'a', 'b', 'c'"):
        read_like(other, 3, TableFormat(), rows.columns)


def test_ids_categories_and_classes_keep_their_digits(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    ids = ["007", "12345678901234567891", "1e3", "0.10"]
    path.write_text("id,a,zip,kind\n" + "".join(f"{name},{row},0{row % 2}1,0{row}\n" for row, name in enumerate(ids)))
    rows, _ = load_rows(path, table=TableFormat(id_column="id", one_hot=("zip",), label_column="kind"))
    assert rows.row_keys == {"id": ids}
    assert rows.columns == ("a", "zip=001", "zip=011")
    assert rows.label is not None
    assert rows.label.tolist() == ["00", "01", "02", "03"]


def test_whole_numbers_as_labels_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,kind\n1,3\n2,-1\n")
    rows, _ = load_rows(path, table=TableFormat(label_column="kind"))
    assert rows.label is not None
    assert (rows.label.dtype, rows.label.tolist()) == (np.int64, [3, -1])


def test_a_number_with_underscores_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1_000,2\n2,3\n3,4\n")
    with pytest.raises(ValueError, match="column 'a' must hold numbers, got '1_000', first in row 0"):
        load_rows(path)


def test_the_line_of_a_row_counts_all_lines(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text('sep=;\n\n# a comment\na;"b\nc"\n1;2\n\n"3";\n')
    with pytest.raises(ValueError, match=re.escape("got NaN in row 1 (line 8), column 'b c'")):
        load_rows(path, table=TableFormat(comment="#"))
    path.write_text("sep=;\na;b\n1;2\n3;4;5\n")
    with pytest.raises(ValueError, match="every line must hold 2 values like the first one, got 3 in line 4"):
        load_rows(path)


def read_again(path: Path, how: TableFormat, text: str) -> tuple[list[list[float]], dict[str, list[str]]]:
    """Reads rows of another text like the training rows at ``path``; returns the rows and their keys."""
    rows, fill = load_rows(path, table=how)
    record = RowsRecord.from_table(
        {"name": str(path), "root": "data", "kind": None, "table": how, "missing": "error"}, rows, fill
    )
    other = path.with_name("other.csv")
    other.write_text(text)
    like = read_all(record.stream(other, rows.dim, rows.columns))
    return like.x.tolist(), like.row_keys


def test_names_that_were_seen_in_training_are_names_in_other_data(tmp_path: Path) -> None:
    path = tmp_path / "spectra.csv"
    x = np.random.default_rng(0).random((60, 3)).round(3)
    np.savetxt(path, x, delimiter=",", header="400,450,500", comments="", fmt="%g")
    # From a single row one cannot tell whether the line above it is a header.
    assert read_again(path, TableFormat(), "400,450,500\n1,2,3\n")[0] == [[1, 2, 3]]


def test_columns_selected_by_position_are_found_by_name_in_other_data(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("id,color,a\nk1,red,1\nk2,blue,2\n")
    how = TableFormat(id_column="0", one_hot=("1",))
    x, places = read_again(path, how, "a,color,id\n5,blue,n1\n")
    assert (x, places) == ([[1, 0, 5]], {"id": ["n1"]})
    for wrong in (
        TableFormat(columns=("id", "a"), id_column="0", one_hot=("color",)),
        TableFormat(columns=("a",), drop=("2",)),
        TableFormat(one_hot=("color",), label_column="1"),
    ):
        with pytest.raises(ValueError, match="a column must have one use, got"):
            load_rows(path, table=wrong)
    assert load_rows(path, table=TableFormat(columns=("a", "a", "2")))[0].x.tolist() == [[1], [2]]


def test_a_thousands_separator_must_separate_groups_of_three_digits(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a;b\n1.234,5;7\n-12.345.678;8\n3;9\n")
    how = TableFormat(decimal=",", thousands=".")
    assert load_rows(path, table=how)[0].x.tolist() == [[1234.5, 7], [-12345678, 8], [3, 9]]
    path.write_text("a;b\n3.14;7\n2.71;8\n")
    with pytest.raises(ValueError, match=r"column 'a' must hold numbers, got '3\.14' and '2\.71'"):
        load_rows(path, table=how)


def test_a_decimal_comma_does_not_separate_cells(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("x\n1,5\n2,5\n3,7\n")
    assert load_rows(path, table=TableFormat(decimal=","))[0].x.tolist() == [[1.5], [2.5], [3.7]]


def test_a_mark_for_missing_numbers_does_not_match_false_or_a_percentage(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,c\n0,True,5%\n5,False,0%\n")
    rows, _ = load_rows(path, table=TableFormat(na=("0",)), missing="ignore")
    np.testing.assert_array_equal(rows.x, [[np.nan, 1, 0.05], [5, 0, 0]])
    path.write_text("a,b\n50%,1\n50,2\n")
    with pytest.raises(ValueError, match="column 'a' must hold numbers"):
        load_rows(path)


@pytest.mark.parametrize("index", [["7", "3", "9"], ["0", "1", "2"]])
def test_an_index_without_a_name_is_left_out_in_any_order(index: list[str], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(",a\n" + "".join(f"{name},{row}.5\n" for row, name in enumerate(index)))
    rows, _ = load_rows(path)
    assert (rows.columns, rows.x.tolist()) == (("a",), [[0.5], [1.5], [2.5]])
    pd.DataFrame({"a": [0.5, 1.5, 2.5]}, index=[int(name) for name in index]).to_parquet(tmp_path / "table.parquet")
    rows, _ = load_rows(tmp_path / "table.parquet")
    assert (rows.columns, rows.x.tolist()) == (("a",), [[0.5], [1.5], [2.5]])


def test_lines_that_end_with_a_separator_below_names_that_do_not(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b,c\n1,2,3,\n4,5,6,\n")
    rows, _ = load_rows(path)
    assert (rows.columns, rows.x.tolist()) == (("a", "b", "c"), [[1, 2, 3], [4, 5, 6]])


def test_columns_that_cannot_be_text_cannot_be_ids(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pd.DataFrame({"a": [1.0, 2.0], "list": [[1], [2]], "id": [1.5, np.inf]}).to_parquet(path)
    with pytest.raises(ValueError, match="id_column must name a column of text or numbers, got list<"):
        load_rows(path, table=TableFormat(id_column="list"))
    rows, _ = load_rows(path, table=TableFormat(id_column="id", drop=("list",)))
    assert rows.row_keys == {"id": ["1.5", "inf"]}


def test_models_take_arrays_with_gaps_as_maps_do(tmp_path: Path) -> None:
    x = np.arange(20.0).reshape(10, 2)
    x[3, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert len(read_own_data(tmp_path / "x.npy", None, missing="drop").samples) == 9
    splits = load(tmp_path / "x.npy", missing="mean")
    assert not any(part.x.isnan().any() for part in splits)


def test_many_columns_are_found_by_name_in_other_data(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = [f"gene{number}" for number in range(5_000)]
    path.write_text(",".join(names) + "\n" + ("1.5," * 4_999 + "2\n") * 3)
    rows, _ = load_rows(path)
    assert rows.columns == tuple(names)
    x, _ = read_again(path, TableFormat(), path.read_text())
    assert x == rows.x.tolist()
