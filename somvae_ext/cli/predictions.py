"""What ``somvae predict`` writes of maps and models alike: a row for each sample, its columns, and how far it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from somvae_ext.cli.table_output import TableWriter, is_parquet, open_table

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.row_stream import RowStream
    from somvae_ext.data.scaling import Scaling
    from somvae_ext.progress import CountProgress


class PredictionTable:
    """A table in the making, and how much of it is done."""

    def __init__(self, table: TableWriter, progress: CountProgress) -> None:
        self._table, self._progress = table, progress
        self._count = 0

    def write(self, columns: Mapping[str, Any]) -> None:
        """Adds rows, see :meth:`TableWriter.write <somvae_ext.cli.table_output.TableWriter.write>`."""
        self._table.write(columns)
        self._count += len(next(iter(columns.values())))
        self._progress.advance_to(self._count)


@contextlib.contextmanager
def open_predictions(options: Namespace, rows: RowStream | None) -> Iterator[PredictionTable]:
    """The table at ``options.output``; of rows that come in blocks, progress is shown where it is a file."""
    from somvae_ext.progress import CountProgress

    show = None if options.output is not None and rows is not None else False
    total = None if rows is None else rows.num_rows
    name = Path(options.data).name
    with open_table(options.output) as table, CountProgress(name, total, "row", show=show) as progress:
        yield PredictionTable(table, progress)


def distance_name(scaling: Scaling) -> str:
    """What the column of distances in the space of the data is called: it says their units."""
    return "distance_in_data_units" if scaling.kind == "none" else "distance_in_scaled_units"


def input_kind(options: Namespace) -> Literal["text", "typed"] | None:
    """How the columns of the input are read for the output: as text for CSV, so that they are copied as they are."""
    if not options.with_input:
        return None
    return "typed" if is_parquet(options.output) else "text"


def with_input_columns(columns: dict[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Columns, and behind them those of the input that are not among the keys of the rows, by different names."""
    result = dict(columns)
    for name, values in inputs.items():
        new, count = name, 0
        while new in result:
            count += 1
            new = f"{name}.{count}"
        result[new] = values
    return result
