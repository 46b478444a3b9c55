"""The table that ``somvae predict`` writes for maps and models: its columns and its progress."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.table_output import TableWriter, open_table

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.row_stream import RowStream
    from somvae_ext.estimators import SavedMap
    from somvae_ext.progress import CountProgress


class PredictionTable:
    """Writes a table and reports progress."""

    def __init__(self, table: TableWriter, progress: CountProgress) -> None:
        self._table, self._progress = table, progress
        self._count = 0

    def write(self, columns: Mapping[str, Any]) -> None:
        """Adds rows, as many as the first column has; see :meth:`~somvae_ext.cli.table_output.TableWriter.write`."""
        self._table.write(columns)
        self._count += len(next(iter(columns.values())))
        self._progress.advance_to(self._count)


@contextlib.contextmanager
def open_predictions(options: Namespace, rows: RowStream | None) -> Iterator[PredictionTable]:
    """Opens the table at ``options.output``; shows progress if it is a file and rows come in blocks."""
    from somvae_ext.progress import CountProgress

    show = None if options.output is not None and rows is not None else False
    total = None if rows is None else rows.num_rows
    name = Path(options.data).name
    with open_table(options.output) as table, CountProgress(name, total, "row", show=show) as progress:
        yield PredictionTable(table, progress)


def distance_name(saved: SavedMap) -> str:
    """Returns the name of the column of a map's distances, which says in which units they are."""
    if saved.metric.distance == "cosine":
        return "cosine_distance"
    return "distance_in_data_units" if saved.scaling.kind == "none" else "distance_in_scaled_units"


def join_columns(row_keys: Mapping[str, Any], results: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Joins the columns of a table of predictions; a column whose name is taken gets a number appended to it.

    Args:
        row_keys: keys of the rows, arrays ``[N]`` by name.
        results: the predictions, likewise. These keep their names.
        inputs: the columns of the data.
    """
    joined: dict[str, Any] = {}
    for columns, reserved in ((row_keys, results), (results, {}), (inputs, {})):
        for name, values in columns.items():
            new, count = name, 0
            while new in joined or new in reserved:
                count += 1
                new = f"{name}.{count}"
            joined[new] = values
    return joined
