"""One's own data: arrays, tables and folders of series."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext.data.sample_arrays import finite, pad, with_sample_axes
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Kind

Array = NDArray[Any]

_PADDING_LABEL = -1
_MISSING = {"", "na", "n/a", "#n/a", "nan", "null", "none"}  # how programs write missing values, in any case
_NAMES = {"x": ("x",), "label": ("label", "y"), "mask": ("mask",)}  # of the arrays in an .npz file


class CsvTable(NamedTuple):
    """What a CSV file holds."""

    x: Array  # [N, F]
    label: Array | None  # [N], as text
    columns: list[str]
    lines: list[int]  # of the file, for each row
    has_names: bool  # or the columns are numbered

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        return tuple(self.columns) if self.has_names else None


def load_array(path: str | os.PathLike[str], *, kind: Kind | None = None, label_column: str | None = None) -> Samples:
    """Reads samples or series from a file or a folder, without splitting or scaling them.

    ========  =============================================  ===========================================
    axes      ``kind="static"``                              ``kind="series"``
    ========  =============================================  ===========================================
    2         samples with features ``[N, F]``               one series of frames ``[T, F]``
    3         grey images ``[N, H, W]``                      series ``[B, T, F]``
    4         images ``[N, C, H, W]``                        series of grey images ``[B, T, H, W]``
    5         -                                              series of images ``[B, T, C, H, W]``
    ========  =============================================  ===========================================

    Grey images get an axis of one channel. Images of dtype uint8 stay bytes, which :meth:`Scaling.apply` brings to the
    scale of a model's training data; everything else is converted to float32 as it is.

    - ``.npy``: one array.
    - ``.npz``: the array ``x``, and if there are any, ``label`` (or ``y``) ``[N]`` or, for frames, ``[B, T]``, and
      ``mask`` ``[B, T]``, true for real frames.
    - ``.csv``: rows of numbers, separated by commas, semicolons or tabs, under a line of the columns' names or without
      one. Names are not numbers, except beside a ``label_column``. Empty cells, NA, NaN, null and the like are missing
      values, which are refused.
    - a folder: every ``.npy`` ``[T, ...]`` or ``.csv`` file in it is one series, in the order of their names. Shorter
      ones are padded with zeros, and ``mask`` says where they end.

    Labels that are not integers are numbered in their sorted order. Padding frames have label -1.

    Args:
        path: the file or folder.
        kind: how the axes are read. By default a folder, an array with a mask and one of five axes hold series, all
            others static samples.
        label_column: name of the column of CSV files that holds labels. It needs a line of names.

    Returns:
        ``x`` float32, or uint8 for images of bytes, and where there are any, ``label`` int64, ``mask`` and, from CSV
        files, ``feature_names``.

    Raises:
        FileNotFoundError: nothing is at ``path``, or no series in the folder.
        ValueError: whatever is wrong with what is in there, such as a value that is not a finite number and its place.
    """
    samples, _ = read(Path(path), kind, label_column)
    return samples if samples.x.dtype == torch.uint8 else dataclasses.replace(samples, x=samples.x.float())


def read(path: Path, kind: Kind | None, label_column: str | None) -> tuple[Samples, Kind]:
    """The same, in float64 where the file tells more values apart than float32, and how the axes were read."""
    if kind not in (None, "static", "series"):
        raise ValueError(f"{path}: kind must be 'static' or 'series', got {kind!r}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir():
        if kind == "static":
            raise ValueError(f"{path}: a folder holds series, so kind must be 'series', got 'static'")
        return _read_folder(path, label_column), "series"
    suffix = path.suffix.lower()
    if suffix == ".csv":
        kind = kind or "static"
        table = read_csv(path, label_column)
        x, label = _finite_cells(path, table), table.label
        if kind == "series":
            x, label = x[None], None if label is None else label[None]
        return _samples(path, kind, x, label, None, table.feature_names), kind
    if label_column is not None:
        raise ValueError(f"{path}: label_column (--label-column) names a column of CSV files, got a {path.suffix} file")
    if suffix == ".npy":
        arrays = {"x": _read_npy(path)}
    elif suffix == ".npz":
        arrays = _read_npz(path)
    else:
        raise ValueError(f"{path}: must be a .npy, .npz or .csv file or a folder of series, got '{path.suffix}'")
    mask = arrays.get("mask")
    if kind is None:
        kind = "series" if mask is not None or arrays["x"].ndim == 5 else "static"
    x = with_sample_axes(path, arrays["x"], kind)
    label = arrays.get("label")
    if mask is not None:
        if kind == "static":
            raise ValueError(f"{path}: mask says which frames of series are real, so kind must be 'series'")
        mask = _boolean(path, mask, x.shape[:2])
        x = np.where(mask.reshape(*mask.shape, *(1 for _ in x.shape[2:])), x, x.dtype.type(0))  # padding may be NaN
    return _samples(path, kind, finite(path, x), label, mask), kind


def _samples(
    path: Path,
    kind: Kind,
    x: Array,
    label: Array | None,
    mask: Array | None,
    feature_names: tuple[str, ...] | None = None,
) -> Samples:
    if len(x) == 0:
        raise ValueError(f"{path}: must hold at least one row, got none")
    shapes = (x.shape[:1], x.shape[:2]) if kind == "series" else (x.shape[:1],)
    if label is not None and label.shape not in shapes:
        raise ValueError(
            f"{path}: labels must have shape {' or '.join(str(list(shape)) for shape in shapes)} for x of shape "
            f"{list(x.shape)}, got {list(label.shape)}"
        )
    return Samples(
        torch.from_numpy(np.ascontiguousarray(x)),
        None if label is None else torch.from_numpy(_numbered(path, label, mask)),
        None if mask is None else torch.from_numpy(mask),
        feature_names,
    )


def _numbered(path: Path, label: Array, mask: Array | None = None) -> NDArray[np.int64]:
    if mask is not None and label.shape == mask.shape:  # padding may hold anything
        numbered = np.full(label.shape, _PADDING_LABEL, dtype=np.int64)
        numbered[mask] = _numbered(path, label[mask])
        return numbered
    if label.dtype.kind in "biu":
        return label.astype(np.int64)
    if label.dtype.kind == "f" and not np.isfinite(label).all():
        raise ValueError(f"{path}: labels must be numbers or text, got {label[~np.isfinite(label)][0]}")
    if label.dtype.kind not in "fSU":
        raise ValueError(f"{path}: labels must be numbers or text, got dtype {label.dtype}")
    return np.unique(label, return_inverse=True)[1].reshape(label.shape).astype(np.int64)


def _boolean(path: Path, mask: Array, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if mask.shape != shape:
        raise ValueError(f"{path}: mask must have shape [B, T] = {list(shape)}, got {list(mask.shape)}")
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{path}: mask must hold true and false, or 1 and 0, got other values")
    mask = mask.astype(bool)
    if not mask.any(axis=1).all():
        empty = (~mask.any(axis=1)).argmax()
        raise ValueError(f"{path}: mask must leave every series at least one frame, got none in row {empty}")
    return mask


def _finite_cells(path: Path, table: CsvTable) -> Array:
    def cell(row: int, column: int) -> str:
        return f"row {row} (line {table.lines[row]}), column {table.columns[column]!r}"

    return finite(path, table.x, cell)


def _read_npy(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: must be an array of numbers that numpy.save wrote, got something else") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: must be one array that numpy.save wrote, got an archive; name it .npz")
    return array


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        archive = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: must be an archive that numpy.savez wrote, got something else") from error
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{path}: must be an archive that numpy.savez wrote, got a single array; name it .npy")
    arrays = {}
    with archive:
        for field, names in _NAMES.items():
            name = next((name for name in names if name in archive.files), None)
            if name is None:
                continue
            try:
                arrays[field] = archive[name]
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                raise ValueError(f"{path}: the array {name!r} could not be read: {error}") from error
        if "x" not in arrays:
            held = ", ".join(repr(name) for name in archive.files) or "none"
            raise ValueError(f"{path}: must hold an array named 'x', got {held}")
    return arrays


def _read_folder(folder: Path, label_column: str | None) -> Samples:
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".npy", ".csv") and path.is_file())
    if not paths:
        raise FileNotFoundError(f"{folder}: must hold a .npy or .csv file for each series, got neither")
    series: list[Array] = []
    feature_names: tuple[str, ...] | None = None
    labels: list[Array] = []
    for path in paths:
        if path.suffix.lower() == ".csv":
            table = read_csv(path, label_column)
            x = _finite_cells(path, table)
            if table.label is not None:
                labels.append(table.label)
            if feature_names is None:
                feature_names = table.feature_names
            elif table.feature_names not in (None, feature_names):
                raise ValueError(
                    f"{path}: columns must be {', '.join(feature_names)} as in the files before it, got "
                    f"{', '.join(table.columns)}"
                )
        else:
            frames = _read_npy(path)
            frames = frames[:, None] if frames.ndim == 1 else frames
            # One series without its axis B has the axes of static samples.
            x = finite(path, with_sample_axes(path, frames, "static"))
        if len(x) == 0:
            raise ValueError(f"{path}: must hold at least one frame, got none")
        if series and x.shape[1:] != series[0].shape[1:]:
            raise ValueError(
                f"{path}: frames must have shape {list(series[0].shape[1:])} as in {paths[0].name}, got "
                f"{list(x.shape[1:])}"
            )
        series.append(x)
    if labels and len(labels) != len(series):
        raise ValueError(
            f"{folder}: labels must be in all {len(series)} series or in none, got {len(labels)} with them"
        )

    padded, mask = pad(series)
    label = None
    if labels:
        label = np.full(mask.shape, _PADDING_LABEL, dtype=np.int64)
        label[mask] = _numbered(folder, np.concatenate(labels))
    return _samples(folder, "series", padded, label, None if mask.all() else mask, feature_names)


def read_csv(path: Path, label_column: str | None, ignored_column: str | None = None) -> CsvTable:
    """All rows of a CSV file, NaN for missing values; ``ignored_column`` may hold anything, or not be there."""
    lines: list[int] = []
    cells: list[list[str]] = []
    for line, row in _csv_rows(path):
        if cells and len(row) != len(cells[0]):
            raise ValueError(
                f"{path}: every line must hold {len(cells[0])} values like the first one, got {len(row)} in line {line}"
            )
        lines.append(line)
        cells.append(row)
    if not cells:
        raise ValueError(f"{path}: must hold at least one row, got an empty file")
    columns = [str(column) for column in range(len(cells[0]))]
    is_named = ignored_column in [cell.strip() for cell in cells[0]]
    has_names = is_named or _is_header(path, lines[0], cells[0], label_column)
    if has_names:
        columns, cells, lines = [name.strip() for name in cells[0]], cells[1:], lines[1:]
    if not cells:
        raise ValueError(f"{path}: must hold at least one row, got only a line of names")

    if ignored_column in columns:
        at = columns.index(ignored_column)
        cells = [[*row[:at], *row[at + 1 :]] for row in cells]
        del columns[at]
        if not columns:
            raise ValueError(f"{path}: must hold a column besides {ignored_column!r}, got only that")
    label = None
    if label_column is not None:
        if label_column not in columns:
            raise ValueError(
                f"{path}: label_column (--label-column) must be one of its columns {', '.join(columns)}, got "
                f"{label_column!r}"
            )
        at = columns.index(label_column)
        label = np.array([row.pop(at).strip() for row in cells])
        del columns[at]
        if not columns:
            raise ValueError(f"{path}: must hold a column besides the labels, got only {label_column!r}")
        if "" in label:
            row = label.tolist().index("")
            raise ValueError(f"{path}: every row must have a label, got none in row {row} (line {lines[row]})")
        with contextlib.suppress(ValueError, OverflowError):  # text stays text
            label = label.astype(np.int64)
    x = np.empty((len(cells), len(columns)))
    for index, row in enumerate(cells):
        try:
            x[index] = [math.nan if _is_missing(cell) else float(cell) for cell in row]
        except ValueError:
            at = next(at for at, cell in enumerate(row) if _is_text(cell))
            raise ValueError(
                f"{path}: column {columns[at]!r} must hold numbers, got {row[at].strip()!r} in row {index} (line "
                f"{lines[index]}); "
                "remove the column, or if it holds labels, name it with label_column (--label-column)"
            ) from None
    return CsvTable(x, label, columns, lines, has_names)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number, from 1, and cells of each line that is not blank."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # -sig: spreadsheets write a byte order mark
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=max(",;\t", key=first.count))
            for row in reader:
                if any(cell.strip() for cell in row):
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: must be a text file of comma-separated values in UTF-8, got {error}") from error


def _is_header(path: Path, line: int, cells: list[str], label_column: str | None) -> bool:
    """Whether the first line names the columns; one that may be a row of values just as well is refused."""
    texts = [column for column, cell in enumerate(cells) if _is_text(cell)]
    if label_column is not None:
        if not texts:
            raise ValueError(
                f"{path}: label_column (--label-column) needs a first line with the names of the columns, got numbers "
                f"in line {line}"
            )
        return True  # the caller looks for the name in it
    number = next((cell.strip() for cell in cells if not _is_missing(cell) and not _is_text(cell)), None)
    if texts and number is not None:
        raise ValueError(
            f"{path}: the first line must hold names or numbers, got {cells[texts[0]].strip()!r} in row 0 (line "
            f"{line}), column '{texts[0]}', beside the number {number}; put a line of names above the "
            "values, or give every column a name that is not a number"
        )
    return bool(texts)


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def _is_text(cell: str) -> bool:
    """Neither a number nor a missing value."""
    try:
        float(cell)
    except ValueError:
        return not _is_missing(cell)
    return False
