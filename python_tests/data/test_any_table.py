"""Tables as users have them: each is read correctly, with the options it needs, or refused with the reason.

The expected values are the numbers from which a table was written, not the result of another reader.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import feather

from somvae_ext.data import TableFormat, read_table

ROWS = 60
X = np.random.default_rng(0).normal(20, 8, size=(ROWS, 4)).round(2)
NAMES = ["height", "width", "depth", "age"]
KIND = [("red", "green", "blue")[row % 3] for row in range(ROWS)]


class Case(NamedTuple):
    """A file, the options to read it with, and its numbers and names, or a part of the expected error."""

    name: str
    content: bytes
    how: dict[str, Any] = {}  # noqa: RUF012  # fields of TableFormat
    x: NDArray[np.float64] | None = X
    names: Sequence[str] | None = NAMES
    refused: str = ""


def lines(
    x: NDArray[np.float64] = X,
    names: Sequence[str] | None = NAMES,
    *,
    separator: str = ",",
    decimal: str = ".",
    end: str = "\n",
    before: Sequence[Sequence[str]] = (),
    after: Sequence[Sequence[str]] = (),
    digits: str = ".2f",
) -> str:
    """Formats a table as text; ``before`` and ``after`` are more columns, each ``[name, *cells]``."""
    head = [column[0] for column in before] + list(names or []) + [column[0] for column in after]
    rows = [] if names is None else [separator.join(head)]
    for row, values in enumerate(x):
        cells = ["" if np.isnan(value) else format(value, digits).replace(".", decimal) for value in values]
        cells = [column[row + 1] for column in before] + cells + [column[row + 1] for column in after]
        rows.append(separator.join(cells))
    return end.join(rows) + end


def numbered(first: int = 0, name: str = "") -> list[str]:
    return [name, *(str(first + row) for row in range(ROWS))]


def with_gaps() -> NDArray[np.float64]:
    x = X.copy()
    x[[3, 17, 40], [1, 2, 0]] = np.nan
    return x


GAPS = with_gaps()
BIG = np.random.default_rng(1).uniform(1000, 3_000_000, size=(ROWS, 2)).round(2)
MANY = np.random.default_rng(2).normal(size=(ROWS, 300)).round(3)
SPECTRA = np.random.default_rng(3).random((ROWS, 8)).round(2)
INTEGERS = np.random.default_rng(4).integers(0, 50, size=(ROWS, 3)).astype(float)
DATES = ["date", *(f"2024-{1 + row // 28:02d}-{1 + row % 28:02d}" for row in range(ROWS))]
GERMAN_DATES = ["Datum", *(f"{1 + row % 28:02d}.{1 + row // 28:02d}.2024" for row in range(ROWS))]
KINDS = ["kind", *KIND]
WEST = ["größe", "länge", "höhe", "alter"]


def thousands(sign: str, decimal: str = ".") -> str:
    rows = ["income;value"]
    for row in BIG:
        cells = [f"{value:,.2f}".replace(",", "x").replace(".", decimal).replace("x", sign) for value in row]
        rows.append(";".join(cells))
    return "\n".join(rows) + "\n"


def replaced(text: str, marks: str) -> str:
    """Replaces the empty cells of a table, its missing values, by other marks."""
    rows = [line.split(",") for line in text.splitlines()]
    return "\n".join(",".join(cell or marks for cell in row) for row in rows) + "\n"


def parquet(frame: pd.DataFrame, path: Path) -> bytes:
    frame.to_parquet(path)
    return path.read_bytes()


def encoded(text: str, encoding: str) -> bytes:
    return text.encode(encoding)


BOOLEANS = ["member", *(str(row % 2 == 0) for row in range(ROWS))]
PERCENT = ["share", *(f"{row}.5%" for row in range(ROWS))]
COLORS = np.array([[kind == color for color in ("blue", "green", "red")] for kind in KIND], dtype=float)
NOTES = ["remark", *(f"seen on day {row}" for row in range(ROWS))]

CASES = [
    # Headers of text or numbers, and no header.
    Case("names.csv", lines().encode()),
    Case("no_names.csv", lines(names=None).encode(), names=None),
    Case("no_names_of_integers.csv", lines(INTEGERS, None, digits=".0f").encode(), x=INTEGERS, names=None),
    Case("no_names_and_one_column.csv", lines(X[:, :1], None).encode(), x=X[:, :1], names=None),
    Case("no_names_scientific.csv", lines(X, None, digits=".4e").encode(), names=None),
    Case("no_names_rising.csv", lines(np.sort(X, axis=1), None).encode(), x=np.sort(X, axis=1), names=None),
    Case(
        "no_names_first_row_rises.csv",
        lines(np.vstack([[1.5, 20.25, 21.5, 30.75], X]), None).encode(),
        x=np.vstack([[1.5, 20.25, 21.5, 30.75], X]),
        names=None,
    ),
    Case(
        "no_names_with_kinds.csv",
        lines(X, None, after=[KINDS]).encode(),
        {"label_column": "4"},
        names=["0", "1", "2", "3"],
    ),
    Case("pandas_default.csv", lines(X, ["0", "1", "2", "3"]).encode(), names=["0", "1", "2", "3"]),
    Case(
        "wavelengths.csv",
        lines(SPECTRA, [str(400 + 50 * n) for n in range(8)]).encode(),
        x=SPECTRA,
        names=[str(400 + 50 * n) for n in range(8)],
    ),
    Case("years.csv", lines(X, ["1990", "2000", "2010", "2020"]).encode(), names=["1990", "2000", "2010", "2020"]),
    Case(
        "years_and_a_name.csv",
        lines(X, ["1990", "2000", "2010", "2020"], before=[["country", *KIND]]).encode(),
        {"label_column": "country"},
        names=["1990", "2000", "2010", "2020"],
    ),
    Case(
        "integers_under_counts.csv",
        lines(INTEGERS, ["0", "1", "2"], digits=".0f").encode(),
        x=INTEGERS,
        names=["0", "1", "2"],
        refused="set header=True if it holds names, header=False if not",
    ),
    Case(
        "integers_under_counts_asked_for.csv",
        lines(INTEGERS, ["0", "1", "2"], digits=".0f").encode(),
        {"header": True},
        x=INTEGERS,
        names=["0", "1", "2"],
    ),
    # Separators and decimal marks.
    Case("semicolons.csv", lines(separator=";").encode()),
    Case("tabs.tsv", lines(separator="\t").encode()),
    Case("bars.txt", lines(separator="|").encode()),
    Case("spaces.dat", lines(separator="  ").encode()),
    Case("numpy_savetxt.txt", lines(names=None, separator=" ", digits=".18e").encode(), names=None),
    Case("spaces_after_commas.csv", lines(separator=", ").encode()),
    Case("decimal_comma.csv", lines(separator=";", decimal=",").encode(), {"decimal": ","}),
    Case("decimal_comma_unasked.csv", lines(separator=";", decimal=",").encode(), refused="set decimal=','"),
    Case("thousands_comma.csv", thousands(",").encode(), {"thousands": ","}, x=BIG, names=["income", "value"]),
    Case(
        "thousands_point.csv",
        thousands(".", ",").encode(),
        {"thousands": ".", "decimal": ","},
        x=BIG,
        names=["income", "value"],
    ),
    Case("thousands_swiss.csv", thousands("'").encode(), {"thousands": "'"}, x=BIG, names=["income", "value"]),
    Case("another_separator.csv", lines(separator="^").encode(), {"separator": "^"}),
    # Encodings and line endings.
    Case("utf8.csv", encoded(lines(names=WEST), "utf-8"), names=WEST),
    Case("byte_order_mark.csv", encoded(lines(names=WEST), "utf-8-sig"), names=WEST),
    Case("latin_1.csv", encoded(lines(names=WEST), "latin-1"), {"encoding": "latin-1"}, names=WEST),
    Case("latin_1_unasked.csv", encoded(lines(names=WEST), "latin-1"), refused="encoding='cp1252'"),
    Case("utf16.csv", encoded(lines(names=WEST, separator="\t"), "utf-16"), names=WEST),
    Case("windows_lines.csv", lines(end="\r\n").encode()),
    Case("old_mac_lines.csv", lines(end="\r").encode()),
    # Missing values.
    Case("empty_cells.csv", lines(GAPS).encode(), x=GAPS),
    Case("na.csv", replaced(lines(GAPS), "NA").encode(), x=GAPS),
    Case("question_marks.csv", replaced(lines(GAPS), "?").encode(), {"na": ["?"]}, x=GAPS),
    Case("question_marks_unasked.csv", replaced(lines(GAPS), "?").encode(), refused="set na=['?']"),
    Case("minus_9999.csv", replaced(lines(GAPS), "-9999.0").encode(), {"na": ["-9999"]}, x=GAPS),
    # Columns that are not features.
    Case("pandas_index.csv", lines(before=[numbered()]).encode()),
    Case(
        "pandas_index_of_counts.csv",
        lines(X, ["0", "1", "2", "3"], before=[numbered()]).encode(),
        names=["0", "1", "2", "3"],
    ),
    Case("id.csv", lines(before=[numbered(1001, "id")]).encode(), {"id_column": "id"}),
    Case(
        "names_of_rows_as_r_has_them.csv",
        (
            "\t".join(NAMES) + "\n" + lines(names=None, separator="\t", before=[["", *(f"r{n}" for n in range(ROWS))]])
        ).encode(),
    ),
    Case("texts.csv", lines(before=[NOTES], after=[KINDS]).encode(), {"drop": ["remark"], "label_column": "kind"}),
    Case("texts_unasked.csv", lines(before=[NOTES]).encode(), refused="drop=['remark']"),
    Case("dates.csv", lines(before=[DATES]).encode(), {"drop": ["date"]}),
    Case(
        "german_dates.csv",
        lines(separator=";", decimal=",", before=[GERMAN_DATES]).encode(),
        {"decimal": ",", "id_column": "Datum"},
    ),
    Case("chosen_columns.csv", lines(before=[DATES, NOTES]).encode(), {"columns": NAMES}),
    Case(
        "booleans.csv",
        lines(after=[BOOLEANS]).encode(),
        x=np.column_stack([X, np.arange(ROWS) % 2 == 0]),
        names=[*NAMES, "member"],
    ),
    Case(
        "percent.csv",
        lines(after=[PERCENT]).encode(),
        x=np.column_stack([X, (np.arange(ROWS) + 0.5) / 100]),
        names=[*NAMES, "share"],
    ),
    Case(
        "categories.csv",
        lines(after=[KINDS]).encode(),
        {"one_hot": ["kind"]},
        x=np.column_stack([X, COLORS]),
        names=[*NAMES, "kind=blue", "kind=green", "kind=red"],
    ),
    Case("labels.csv", lines(after=[KINDS]).encode(), {"label_column": "kind"}),
    # Other cases.
    Case("compressed.csv.gz", gzip.compress(lines().encode())),
    Case("compressed.tsv.bz2", bz2.compress(lines(separator="\t").encode())),
    Case("compressed.csv.xz", lzma.compress(lines().encode())),
    Case("comments.csv", ("# measured in May\n" + lines().replace("\n", "  # ok\n", 3)).encode(), {"comment": "#"}),
    Case(
        "quoted.csv",
        lines(names=['"height, cm"', "width", "depth", '"a ""quote"""']).encode(),
        names=["height, cm", "width", "depth", 'a "quote"'],
    ),
    Case("names_twice.csv", lines(names=["a", "b", "a", "b"]).encode(), names=["a", "b", "a.1", "b.1"]),
    Case("one_row.csv", lines(X[:1]).encode(), x=X[:1]),
    Case(
        "wide.csv",
        lines(MANY, [f"gene{n}" for n in range(300)], digits=".3f").encode(),
        x=MANY,
        names=[f"gene{n}" for n in range(300)],
    ),
    Case("separators_at_the_end.csv", lines().replace("\n", ",\n").encode()),
    Case("empty_lines.csv", ("\n" + lines() + "\n,,,\n,,,\n").encode()),
    Case("short_lines.csv", lines().replace(",", " ", 5).encode(), refused="every line must"),
    Case("a_spreadsheet.csv", b"PK\x03\x04 and more", refused="save it as CSV"),
    Case("preamble.csv", b"Station 7\nin May\na;b\n1;2\n3;4\n", refused="got 2 before its first one"),
    Case(
        "told_separator.csv",
        b"sep=;\na;b\n1;2,5\n3;4,5\n",
        {"decimal": ","},
        x=np.array([[1, 2.5], [3, 4.5]]),
        names=["a", "b"],
    ),
    Case("no_names_and_separators_at_the_end.csv", b"1.5,2,\n2.5,1,\n", x=np.array([[1.5, 2], [2.5, 1]]), names=None),
    Case("empty.csv", b"\n\n", refused="must hold at least one row"),
    Case("only_names.csv", b"a,b\n", refused="got only a line of names"),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_table_is_read_correctly_or_refused_with_the_reason(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.content)
    if case.refused:
        with pytest.raises(ValueError, match=re.escape(case.refused)):
            read_table(path, TableFormat(**case.how))
        return
    table = read_table(path, TableFormat(**case.how))
    assert table.columns == (None if case.names is None else tuple(case.names))
    np.testing.assert_allclose(table.x, case.x, rtol=1e-15)


@pytest.mark.parametrize("name", ["table.parquet", "table.arrow", "table.feather"])
def test_tables_of_columns_are_read_like_text(name: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(GAPS, columns=NAMES).assign(kind=pd.Categorical(KIND), member=np.arange(ROWS) % 2 == 0)
    path = tmp_path / name
    if name.endswith(".parquet"):
        frame.to_parquet(path)
    else:
        feather.write_feather(pa.Table.from_pandas(frame), path)
    table = read_table(path, TableFormat(label_column="kind"))
    np.testing.assert_array_equal(table.x, np.column_stack([GAPS, np.arange(ROWS) % 2 == 0]))
    assert table.columns == (*NAMES, "member")
    assert table.label is not None
    assert table.label.tolist() == KIND


def test_newlines_in_cells_are_read_wherever_blocks_end(tmp_path: Path) -> None:
    text = "".join(f'{row},"a note\nof several\nlines, and more",{2 * row}\n' for row in range(60_000))  # 2.7 MiB
    path = tmp_path / "notes.csv"
    path.write_text("a,note,b\n" + text)
    table = read_table(path, TableFormat(drop=("note",)))
    np.testing.assert_array_equal(table.x, np.arange(60_000)[:, None] * [1, 2])
