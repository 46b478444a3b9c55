"""Rows of features from any data: tables as they are, images and frames of series flattened, one after the other."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from somvae_ext.data._read_table import is_table_file, memory_map_npy, read_table
from somvae_ext.data.catalog import NAMES, SERIES, check_path_exists, load
from somvae_ext.data.descriptions import describe_gaps, describe_shape, pluralize
from somvae_ext.data.own_data import read_own_data
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling, ScalingKind
from somvae_ext.data.splits import Kind
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table


def load_rows(
    name_or_path: str | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "data",
    download: bool = False,
    kind: Kind | None = None,
    table: TableFormat = TableFormat(),  # noqa: B008  # which is frozen
    missing: Missing = "error",
) -> tuple[Table, tuple[float, ...] | None]:
    """Loads all rows of own data, or those of a named data set that are not for the test, unscaled and checked.

    Args:
        name_or_path, root, download: see :func:`~somvae_ext.data.load`.
        kind: see :func:`~somvae_ext.data.load_array`.
        table: how a table is written, and what its columns are.
        missing: what is done about missing values.

    Returns:
        The rows, with gaps for ``missing="ignore"``, and the values ``[D]`` that gaps were filled with for
        ``missing="mean"``, otherwise None.

    Raises:
        FileNotFoundError: nothing is at the path.
        ValueError: data that :func:`~somvae_ext.data.read_table` or :func:`~somvae_ext.data.load_array` refuses, or a
            named data set of series.
    """
    name = os.fspath(name_or_path)
    if isinstance(name_or_path, str) and name in NAMES:
        if name in SERIES:
            raise ValueError(
                f"{name}: holds series, but a map takes single samples; name a set of still images, such as digits, or "
                "a file"
            )
        return _named_rows(name, root, download, table, missing), None
    path = Path(name)
    check_path_exists(path)
    rows = _own_rows(path, kind, table, missing)
    rows.check_values(missing)
    if missing != "error" and "gaps" not in rows.description:  # gaps of dropped rows are described already
        rows.description["gaps"] = describe_gaps(rows.gaps_per_column(), rows.num_rows, missing)
    if missing != "mean":
        return rows, None
    means = rows.column_means()
    return rows.fill_gaps(means.tolist()), tuple(means.tolist())


def fit_scaling(table: Table, kind: ScalingKind | None) -> Scaling:
    """Fits the scaling of rows: by default each feature of a table to mean 0 and variance 1, and images to [0, 1].

    Images are scaled as a whole, and by default only if some value lies outside [0, 1].
    """
    if table.image_shape is None:
        return Scaling.fit(kind or "standard", (block.x for block in table.blocks()), table.dim)
    kind = "minmax" if kind is None else kind  # the default of models
    if kind == "minmax" and table.x.dtype == np.uint8:
        return Scaling("minmax", shift=(0.0,), width=(255.0,))
    scaling = Scaling.fit(kind, (block.x.reshape(-1, 1) for block in table.blocks()), 1)
    if kind == "minmax" and scaling.shift[0] >= 0 and scaling.shift[0] + scaling.width[0] <= 1:
        return Scaling()
    return scaling


def _named_rows(name: str, root: str | os.PathLike[str], download: bool, table: TableFormat, missing: Missing) -> Table:
    splits = load(name, root=root, download=download, split="all", table=table, missing=missing)
    samples = splits.train
    assert isinstance(samples, Samples)
    shape = tuple(samples.x.shape[1:])
    what = describe_shape(shape, "samples")
    description = {"data": f"{name}: {len(samples)} {what}, of those that are not for the test"}
    label = None if samples.label is None else samples.label.numpy()
    if label is not None:
        description["labels"] = f"{len(np.unique(label))} classes"
    x = samples.x.reshape(len(samples), -1).numpy()
    return Table(name, x, label=label, row_keys=_to_lists(samples.row_keys), image_shape=shape, description=description)


def _own_rows(path: Path, kind: Kind | None, table_format: TableFormat, missing: Missing) -> Table:
    if path.is_file() and kind != "series":
        if is_table_file(path):
            return read_table(path, table_format, missing=missing)
        if path.suffix.lower() == ".npy" and is_matrix(path):
            rows = memory_map_npy(path, table_format)
            return rows.drop_incomplete_rows() if missing == "drop" else rows
    return flat_rows(path, kind, table_format, missing)


def is_matrix(path: Path) -> bool:
    """Whether an ``.npy`` file is to be read as rows; True if it is unreadable, for the reader to say why."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        return True
    return not isinstance(array, np.ndarray) or array.ndim == 2 or array.dtype.kind not in "biuf"


def flat_rows(
    path: Path,
    kind: Kind | None,
    table_format: TableFormat,
    missing: Missing,
    features: Sequence[str] | None = None,
) -> Table:
    """Reads images, or all real frames of series, as rows.

    Args:
        path, kind: see :func:`~somvae_ext.data.load_array`.
        table_format: how the tables in a folder are written.
        missing: what is done about missing values; ``"ignore"`` is for tables.
        features: names of the features of the training data, if they have any.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder")
    if missing == "ignore" and not path.is_dir():
        raise ValueError(f"{path}: missing must be 'error' for images and arrays of series, got 'ignore'")
    data = read_own_data(path, kind, table_format, missing=missing, features=features)
    samples = data.samples
    x, label = samples.x.numpy(), None if samples.label is None else samples.label.numpy()
    row_keys = samples.row_keys
    assert row_keys is not None  # own data always have them
    if data.kind == "series":
        real = np.ones(x.shape[:2], dtype=bool) if samples.mask is None else samples.mask.numpy()
        series, frame = np.nonzero(real)
        row_keys = {name: values[series] for name, values in row_keys.items()} | {"frame": frame}
        if label is not None:
            label = (np.broadcast_to(label[:, None], real.shape) if label.ndim == 1 else label)[real]
        x = x[real]
    if label is not None and samples.class_names is not None:
        label = np.array(samples.class_names)[label]
    shape = x.shape[1:]
    image_shape = tuple(shape) if len(shape) == 3 else None
    columns = samples.feature_names if image_shape is None else None
    description = dict(data.description)
    description["data"] += f", {pluralize(len(x), 'row')}" if data.kind == "series" else ""
    return Table(path, x.reshape(len(x), -1), columns, label, _to_lists(row_keys), description, image_shape=image_shape)


def _to_lists(row_keys: Mapping[str, NDArray[Any]] | None) -> dict[str, list[Any]] | None:
    return None if row_keys is None else {name: values.tolist() for name, values in row_keys.items()}
