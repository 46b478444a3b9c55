"""Loads and scales the rows that a map is trained on, and finds them again later."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.table_options import table_format

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from numpy.typing import NDArray

    from somvae_ext.data.scaling import Scaling
    from somvae_ext.data.tables import Table
    from somvae_ext.estimators.map_record import MapRecord
    from somvae_ext.grid import Grid
    from somvae_ext.store import ResultFolder


def load_training_rows(options: Namespace) -> tuple[dict[str, Any], Table, tuple[float, ...] | None]:
    """Loads the rows that the options name, unscaled.

    Returns:
        What is needed to find and read the rows again, the rows, and the values that gaps were filled with.

    Raises:
        FileNotFoundError, ValueError: what :func:`somvae_ext.data.rows.load_rows` refuses.
    """
    from somvae_ext.data import NAMES
    from somvae_ext.data.rows import load_rows

    is_named, path = options.data in NAMES, Path(options.data)
    data = {
        # Absolute, so that the map can be evaluated from anywhere.
        "name": options.data if is_named or not path.exists() else str(path.resolve()),
        "root": str(Path(options.data_root or "data").resolve()),
        "kind": options.kind,
        "table": table_format(options),
        "missing": options.missing or "error",
    }
    others = {key: data[key] for key in data if key != "name"}
    table, fill = load_rows(options.data, **others, download=options.download)
    return data, table, fill


def load_map_table(folder: ResultFolder, record: MapRecord, options: Namespace) -> tuple[MapRecord, Table]:
    """Loads the rows that the map in a folder was trained on.

    Returns:
        The map's record, with the present location of the data, and the rows.

    Raises:
        FileNotFoundError: the data are gone.
        ValueError: the folder does not say which data they were, or their values have changed.
    """
    if record.data is None:
        raise ValueError(f"{folder.path} does not say which data it was trained on, which this command needs")
    data = record.data
    if options.data_root is not None:
        data = dataclasses.replace(data, root=str(Path(options.data_root).resolve()))
    table = data.load(download=options.download)
    if table.fingerprint() != data.fingerprint:
        raise ValueError(f"{data.name}: must be what {folder.path} was trained on, but its values have changed")
    return dataclasses.replace(record, data=data), table


def describe_sizes(table: Table, grid: Grid) -> str:
    """Describes the sizes: ``300 rows of 3 features on 8 x 10 nodes``."""
    from somvae_ext.data.descriptions import pluralize

    rows, features = pluralize(table.num_rows, "row"), pluralize(table.dim, "feature")
    return f"{rows} of {features} on {grid.rows} x {grid.cols} nodes"


def scaled_sample(table: Table, scaling: Scaling) -> NDArray[Any]:
    """Returns evenly spaced rows, scaled, ``[S, D]``: as many as a PCA start of a map samples."""
    from somvae_ext.som import evenly_spaced_rows, init_sample_size

    rows = evenly_spaced_rows(table.num_rows, init_sample_size("pca", 1, table.dim)).numpy()
    return scaling.apply(table.x[rows])


@contextlib.contextmanager
def scaled_rows(table: Table, scaling: Scaling) -> Iterator[NDArray[Any]]:
    """Yields the scaled rows ``[N, D]``; those of a table on disk are in an unnamed file that ends with the process."""
    import numpy as np

    if scaling.kind == "none":
        # Numbers read from text are float64, but a map trains faster in float32.
        yield table.x if table.is_memory_mapped else table.x.astype(np.float32)
    elif not table.is_memory_mapped:
        yield scaling.apply(table.x)
    else:
        with tempfile.TemporaryFile(prefix="somvae-") as file:
            for block in table.blocks():
                file.write(np.ascontiguousarray(scaling.apply(block.x), dtype="<f4").data)
            file.flush()
            yield np.memmap(file, dtype="<f4", mode="r", shape=table.x.shape)
