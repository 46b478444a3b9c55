"""Reads own data: arrays, tables and folders of series."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext.data._read_table import is_table_file, memory_map_npy, read_table, table_ending
from somvae_ext.data.array_files import frame_mask, read_npy, read_npz
from somvae_ext.data.descriptions import describe_shape
from somvae_ext.data.id_columns import note_id_columns
from somvae_ext.data.sample_arrays import as_finite_floats, pad_series, with_sample_axes
from somvae_ext.data.samples import Samples
from somvae_ext.data.splits import Kind
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table

Array = NDArray[Any]

_PADDING_LABEL = -1
_ENDINGS = ".csv, .tsv, .txt, .parquet, .arrow, .npy or .npz file or a folder of series"


class OwnData(NamedTuple):
    """Samples that were read, and how the file was understood.

    Args:
        samples: ``x`` in float32, in float64 if the dtype of the file has more digits, or uint8 for images of bytes;
            NaN where a value may be and is missing.
        kind: how the axes were read.
        description: what was understood, as text by title.
        format: the format of tables, completed with what the file showed.
    """

    samples: Samples
    kind: Kind
    description: dict[str, str]
    format: TableFormat | None = None


def load_array(
    path: str | os.PathLike[str],
    *,
    kind: Kind | None = None,
    table: TableFormat = TableFormat(),  # noqa: B008  # which is frozen
) -> Samples:
    """Reads samples or series from a file or a folder, without splitting or scaling them.

    ========  =============================================  ===========================================
    axes      ``kind="static"``                              ``kind="series"``
    ========  =============================================  ===========================================
    2         samples with features ``[N, F]``               one series of frames ``[T, F]``
    3         gray images ``[N, H, W]``                      series ``[B, T, F]``
    4         images ``[N, C, H, W]``                        series of gray images ``[B, T, H, W]``
    5         -                                              series of images ``[B, T, C, H, W]``
    ========  =============================================  ===========================================

    Gray images get an axis of one channel. Images of dtype uint8 stay bytes, which :meth:`Scaling.apply` brings to the
    scale of a model's training data; everything else is converted to float32 as it is.

    - ``.npy``: one array.
    - ``.npz``: the array ``x``, and if there are any, ``label`` (or ``y``) ``[N]`` or, for frames, ``[B, T]``, and
      ``mask`` ``[B, T]``, true for real frames, or ``lengths`` ``[B]``.
    - a table, see :func:`read_table`: rows of numbers, in which a missing value is refused.
    - a folder: every ``.npy`` ``[T, ...]`` file or table in it is one series, in the order of their names. Shorter
      ones are padded with zeros, and ``mask`` says where they end.

    Labels that are not integers are numbered in their sorted order. Padding frames have label -1.

    Args:
        path: the file or folder.
        kind: how the axes are read. By default a folder, an array with a mask or lengths, and one of five axes hold
            series, all others static samples.
        table: how tables are written, and what their columns are.

    Returns:
        ``x`` float32, or uint8 for images of bytes, and where there are any, ``label`` int64, ``mask`` and, from
        tables, ``feature_names``.

    Raises:
        FileNotFoundError: nothing is at ``path``, or no series in the folder.
        ValueError: the data cannot be used; the message says why, such as the place of a value that is not finite.
        ModuleNotFoundError: pyarrow, which reads tables, is missing.
    """
    samples = read_own_data(Path(path), kind, table).samples
    return samples if samples.x.dtype == torch.uint8 else dataclasses.replace(samples, x=samples.x.float())


def read_own_data(
    path: Path,
    kind: Kind | None,
    table_format: TableFormat = TableFormat(),  # noqa: B008  # which is frozen
    *,
    missing: Missing = "error",
    features: Sequence[str] | None = None,
) -> OwnData:
    """Reads own data as :func:`load_array` does, and tells what was understood.

    Args:
        path, kind: see :func:`load_array`.
        table_format: how tables are written.
        missing: ``"drop"`` leaves out rows of a table that have a gap; ``"mean"`` and ``"ignore"`` leave NaN where a
            value of a table is missing.
        features: names of the features of the training data, see :func:`read_table`.
    """
    if kind not in (None, "static", "series"):
        raise ValueError(f"{path}: kind must be 'static' or 'series', got {kind!r}")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if path.is_dir():
        if kind == "static":
            raise ValueError(f"{path}: a folder holds series, so kind must be 'series', got 'static'")
        return _read_folder(path, table_format, missing, features)
    if is_table_file(path):
        return _read_table(path, kind or "static", table_format, missing, features)
    if table_format.named_columns and features is None:
        name, use = next(iter(table_format.named_columns.items()))
        raise ValueError(f"{path}: {use} must name a column of a table, got {name!r} for a {path.suffix} file")
    if path.suffix.lower() == ".npy":
        arrays = {"x": read_npy(path)}
        if missing in ("drop", "mean") and kind != "series" and arrays["x"].ndim == 2:
            table = memory_map_npy(path, table_format, features)
            table = table.drop_incomplete_rows() if missing == "drop" else table
            table.check_values(missing, empty_columns=features is not None)
            samples = _make_samples(path, "static", _as_samples(table), None, None, row_keys=table.row_keys)
            return OwnData(samples, "static", table.description)
    elif path.suffix.lower() == ".npz":
        arrays = read_npz(path)
    else:
        got = f"'{path.suffix}'" if path.suffix else "a name without an ending"
        hint = "; save the sheet as CSV" if path.suffix.lower() in (".xlsx", ".xls", ".ods") else ""
        raise ValueError(f"{path}: must be a {_ENDINGS}, got {got}{hint}")
    return _read_arrays(path, kind, arrays)


def _read_arrays(path: Path, kind: Kind | None, arrays: dict[str, Array]) -> OwnData:
    has_lengths = "mask" in arrays or "lengths" in arrays
    if kind is None:
        kind = "series" if has_lengths or arrays["x"].ndim == 5 else "static"
    x = with_sample_axes(path, arrays["x"], kind)
    mask = None
    if has_lengths:
        if kind == "static":
            what = "mask says" if "mask" in arrays else "lengths say"
            raise ValueError(f"{path}: {what} which frames of series are real, so kind must be 'series'")
        mask = frame_mask(path, arrays, x.shape[:2])
    if mask is not None:
        x = np.where(mask.reshape(*mask.shape, *(1 for _ in x.shape[2:])), x, x.dtype.type(0))  # padding may be NaN
    samples = _make_samples(path, kind, as_finite_floats(path, x), arrays.get("label"), mask)
    description = _describe_arrays(path, kind, samples, arrays["x"].dtype)
    if kind == "static" and x.ndim == 2 and (note := note_id_columns(x)) is not None:
        description["note"] = note
    return OwnData(samples, kind, description)


def _read_table(
    path: Path, kind: Kind, table_format: TableFormat, missing: Missing, features: Sequence[str] | None
) -> OwnData:
    if kind == "series" and missing == "drop":
        raise _gaps_of_series(path)
    table = read_table(path, table_format, missing=missing, features=features)
    table.check_values(missing, empty_columns=features is not None)
    x, label = _as_samples(table), table.label
    if kind == "series":
        x, label = x[None], None if label is None else label[None]
        table.add_description("read as", f"one series of {table.num_rows} frames")
    samples = _make_samples(path, kind, x, label, None, table.columns, table.row_keys if kind == "static" else None)
    return OwnData(samples, kind, table.description, table.format)


def _gaps_of_series(path: Path) -> ValueError:
    return ValueError(
        f"{path}: missing must be 'error' or 'mean' for series, whose other frames would move together, got 'drop'"
    )


def _as_samples(table: Table) -> Array:
    """Returns the rows in float32, or in float64 if float32 does not hold all of their digits."""
    x = table.x
    is_short = x.dtype.itemsize <= (4 if x.dtype.kind == "f" else 2)
    return x.astype(np.float32 if is_short else np.float64)


def _read_folder(folder: Path, table_format: TableFormat, missing: Missing, features: Sequence[str] | None) -> OwnData:
    paths = sorted(
        path for path in folder.iterdir() if path.is_file() and (path.suffix.lower() == ".npy" or _is_series(path))
    )
    if not paths:
        raise FileNotFoundError(f"{folder}: must hold a .npy file or a table for each series, got neither")
    series: list[Array] = []
    feature_names = None if features is None else tuple(features)
    labels: list[Array] = []
    description: dict[str, str] = {}
    for path in paths:
        if is_table_file(path):
            if missing == "drop":
                raise _gaps_of_series(folder)
            table = read_table(path, table_format, features=feature_names)
            table.check_values(missing, empty_columns=True)
            x = _as_samples(table)
            if table.label is not None:
                labels.append(table.label)
            if feature_names is None and table.format is not None:
                table_format = table.format
            feature_names = feature_names or table.columns
            description = description or {
                title: text for title, text in table.description.items() if title in ("left out", "note")
            }
        else:
            frames = read_npy(path)
            frames = frames[:, None] if frames.ndim == 1 else frames
            # One series without its axis B has the axes of static samples.
            x = as_finite_floats(path, with_sample_axes(path, frames, "static"))
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
    padded, mask = pad_series(series)
    label = None
    if labels:
        real_labels = np.concatenate(labels)
        label = np.full(mask.shape, "" if real_labels.dtype.kind in "SU" else _PADDING_LABEL, dtype=real_labels.dtype)
        label[mask] = real_labels
    row_keys = {"series": _series_names(paths)}
    samples = _make_samples(folder, "series", padded, label, None if mask.all() else mask, feature_names, row_keys)
    description = _describe_arrays(folder, "series", samples, padded.dtype) | description
    return OwnData(samples, "series", description, format=table_format)


def _is_series(path: Path) -> bool:
    """Whether a file in a folder of series is one of them; ``.txt`` and ``.dat`` files are taken for notes."""
    return is_table_file(path) and path.suffix.lower() not in (".txt", ".dat")


def _series_names(paths: Sequence[Path]) -> list[str]:
    """Returns the names of files, without endings if they are unique without."""
    names = [_stem(path) for path in paths]
    return names if len(set(names)) == len(names) else [path.name for path in paths]


def _stem(path: Path) -> str:
    """Returns the name of a file without its ending and that of its compression."""
    return path.stem if path.suffix.lower() == table_ending(path) else Path(path.stem).stem


def _make_samples(
    path: Path,
    kind: Kind,
    x: Array,
    label: Array | None,
    mask: Array | None,
    feature_names: tuple[str, ...] | None = None,
    row_keys: Mapping[str, Sequence[Any]] | None = None,
) -> Samples:
    """Makes samples that are identified by ``row_keys``, by default by their numbers."""
    if len(x) == 0:
        raise ValueError(f"{path}: must hold at least one row, got none")
    shapes = (x.shape[:1], x.shape[:2]) if kind == "series" else (x.shape[:1],)
    if label is not None and label.shape not in shapes:
        raise ValueError(
            f"{path}: labels must have shape {' or '.join(str(list(shape)) for shape in shapes)} for x of shape "
            f"{list(x.shape)}, got {list(label.shape)}"
        )
    keys = row_keys or {"series" if kind == "series" else "index": range(len(x))}
    numbers, class_names = (None, None) if label is None else _number_classes(path, label, mask)
    return Samples(
        torch.from_numpy(np.ascontiguousarray(x)),
        None if numbers is None else torch.from_numpy(numbers),
        None if mask is None else torch.from_numpy(mask),
        feature_names,
        class_names,
        {name: _as_keys(values) for name, values in keys.items()},
    )


def _as_keys(values: Sequence[Any]) -> Array:
    """Converts numbers to int64 and texts to objects: in an array of fixed width, one long text would widen all."""
    return np.asarray(values, dtype=np.int64 if isinstance(values[0], int) else object)


def _number_classes(
    path: Path, label: Array, mask: Array | None = None
) -> tuple[NDArray[np.int64], tuple[str, ...] | None]:
    """Converts labels to integers; also returns the class names, if the labels were not integers."""
    if mask is not None and label.shape == mask.shape:  # padding may hold anything
        numbers, names = _number_classes(path, label[mask])
        padded = np.full(label.shape, _PADDING_LABEL, dtype=np.int64)
        padded[mask] = numbers
        return padded, names
    if label.dtype.kind in "biu":
        return label.astype(np.int64), None
    if label.dtype.kind == "f" and not np.isfinite(label).all():
        raise ValueError(f"{path}: labels must be numbers or text, got {label[~np.isfinite(label)][0]}")
    if label.dtype.kind not in "fSU":
        raise ValueError(f"{path}: labels must be numbers or text, got dtype {label.dtype}")
    classes, numbers = np.unique(label, return_inverse=True)
    names = tuple(name.decode(errors="replace") if isinstance(name, bytes) else str(name) for name in classes.tolist())
    return numbers.reshape(label.shape).astype(np.int64), names


def _describe_arrays(path: Path, kind: Kind, samples: Samples, dtype: np.dtype[Any]) -> dict[str, str]:
    shape = tuple(samples.x.shape)
    what = describe_shape(shape[2:] if kind == "series" else shape[1:], "frames" if kind == "series" else "samples")
    if kind == "series":
        text = f"{shape[0]} series of {shape[1]} {what}"
        if samples.mask is not None:
            lengths = samples.mask.sum(dim=1)
            text = f"{shape[0]} series of {int(lengths.min())} to {int(lengths.max())} {what}"
    else:
        text = f"{shape[0]} {what}"
    description = {"data": f"{path}: {text}, {dtype}"}
    if samples.label is not None:
        whose = "frames" if samples.label.dim() == 2 else "series" if kind == "series" else "samples"
        real = samples.label if samples.mask is None or samples.label.dim() == 1 else samples.label[samples.mask]
        description["labels"] = f"{len(real.unique())} classes of {whose}"
    return description
