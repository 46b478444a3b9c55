"""Reads the file of a table, whatever its format."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from somvae_ext.data import text_table
from somvae_ext.data.assemble_table import TableAssembler, source_columns
from somvae_ext.data.descriptions import pluralize
from somvae_ext.data.id_columns import note_id_columns
from somvae_ext.data.table_format import TableFormat
from somvae_ext.data.tables import Missing, Table
from somvae_ext.data.text_table import COMPRESSIONS, Columns, line_number_of_row, read_text_table
from somvae_ext.extras import needed_by

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped]

TABLE_ENDINGS = (*text_table.ENDINGS, ".parquet", ".arrow", ".feather")


def is_table_file(path: Path) -> bool:
    """Whether the name of a file is that of a table: ``.csv``, ``.csv.gz``, ``.parquet`` and so on."""
    return table_ending(path) in TABLE_ENDINGS


@needed_by("read_table")
def read_table(
    path: Path,
    table_format: TableFormat = TableFormat(),  # noqa: B008  # which is frozen
    *,
    missing: Missing = "error",
    features: Sequence[str] | None = None,
) -> Table:
    """Reads a table. Gaps become NaN; values are not checked, see :meth:`Table.check_values`.

    - ``.csv``, ``.tsv``, ``.txt``, ``.dat``, also with ``.gz``, ``.bz2`` or ``.xz``: text.
    - ``.parquet``, ``.arrow``, ``.feather``: columns of numbers, booleans or text.
    - ``.npy``: an array ``[N, D]``, which stays on disk.

    Args:
        path: the file.
        table_format: how it is written, and what its columns are.
        missing: ``"drop"`` leaves out rows with a gap, or without a label.
        features: names of the features of a model's training data, to read rows for the model. They are taken in this
            order; columns of labels or row names and dropped columns may be absent, and other columns are left out.

    Raises:
        FileNotFoundError: the file does not exist.
        OSError: it cannot be read.
        ValueError: it is not a table or holds no row, or a column does not exist or holds no numbers.
        ModuleNotFoundError: pyarrow is missing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    ending = table_ending(path)
    if path.is_dir() or ending not in (*TABLE_ENDINGS, ".npy"):
        got = "a folder" if path.is_dir() else repr(path.suffix) if path.suffix else "a name without an ending"
        hint = "; save the sheet as CSV" if ending in (".xlsx", ".xls", ".ods") else ""
        raise ValueError(f"{path}: must be a .csv, .tsv, .txt, .parquet, .arrow or .npy file, got {got}{hint}")
    if ending == ".npy":
        return _checked_size(memory_map_npy(path, table_format, features), features)
    if ending in text_table.ENDINGS:
        columns = read_text_table(path, table_format, source_columns(features or (), table_format))
        line_of = functools.lru_cache(1)(
            functools.partial(line_number_of_row, path, table_format, has_names=columns.has_names)
        )
    else:
        columns, line_of = _read_arrow(path, ending), None
    return TableAssembler(path, columns, table_format, missing, features).table(line_of)


def memory_map_npy(path: Path, table_format: TableFormat, features: Sequence[str] | None = None) -> Table:
    """Maps the array of an ``.npy`` file as a table that stays on disk.

    Raises:
        ValueError: it is no array ``[N, D]`` of numbers, or a column is given by its name.
    """
    uses = table_format.named_columns if features is None else {}
    if uses:
        name, use = next(iter(uses.items()))
        raise ValueError(f"{path}: {use} must not be set for a .npy file, whose columns have no names, got {name!r}")
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: must be an array of numbers that numpy.save wrote, got something else") from error
    if not isinstance(x, np.ndarray):
        raise ValueError(f"{path}: must be one array that numpy.save wrote, got an archive of several; name it .npz")
    if x.dtype.kind not in "biuf":
        raise ValueError(f"{path}: must hold numbers, got dtype {x.dtype}")
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{path}: must have shape [N, D] with at least one row and one feature, got {list(x.shape)}")
    size = f"{pluralize(len(x), 'row')} of {pluralize(x.shape[1], 'feature')}"
    table = Table(path, x, description={"data": f"{path}: {size}, {x.dtype}"})
    if features is None and (note := note_id_columns(x)) is not None:
        table.add_description("note", note)
    return table


def _read_arrow(path: Path, ending: str) -> Columns:
    import pyarrow as pa
    from pyarrow import feather, parquet

    try:
        table = parquet.ParquetFile(path).read() if ending == ".parquet" else feather.read_table(path)
    except pa.ArrowException as error:
        raise _not_arrow(path, ending) from error
    if table.num_rows == 0:
        raise _no_row(path)
    return Columns(_column_names(table.schema), True, list(table.columns), "")


def stream_arrow(path: Path, ending: str, values_at_once: int) -> tuple[int | None, Iterator[Columns]]:
    """Reads the columns of a Parquet or Arrow file in blocks of rows.

    Args:
        path, ending: the file, and the ending of its name.
        values_at_once: approximate number of values in a block.

    Returns:
        The number of rows, or None if the file does not tell it, and the blocks.

    Raises:
        ValueError: the file is of another kind or holds no row.
    """
    import pyarrow as pa
    from pyarrow import ipc, parquet

    try:
        if ending == ".parquet":
            file = parquet.ParquetFile(path, pre_buffer=False)  # a pre-buffer would hold all that has been read
            size = max(1, values_at_once // max(1, file.metadata.num_columns))
            num_rows, batches = file.metadata.num_rows, file.iter_batches(size)
            names = _column_names(file.schema_arrow)
        else:
            reader = ipc.open_file(pa.memory_map(str(path)))
            num_rows, batches = None, (reader.get_batch(number) for number in range(reader.num_record_batches))
            names = _column_names(reader.schema)
    except pa.ArrowException:
        columns = _read_arrow(path, ending)  # an older Arrow format, or the error that says what is wrong
        return len(columns.values[0]), iter([columns])
    if num_rows == 0:
        raise _no_row(path)

    def blocks() -> Iterator[Columns]:
        size = max(1, values_at_once // max(1, len(names)))
        try:
            for batch in batches:
                for first in range(0, batch.num_rows, size):  # a batch may be the whole Arrow file
                    part = batch.slice(first, size)
                    yield Columns(names, True, [pa.chunked_array([column]) for column in part.columns], "")
        except pa.ArrowException as error:
            raise _not_arrow(path, ending) from error

    return num_rows, blocks()


def _column_names(schema: pa.Schema) -> list[str]:
    """Returns the names of the columns; the name of an unnamed index of pandas is empty."""
    return ["" if name.startswith("__index_level_") else " ".join(name.split()) for name in schema.names]


def _no_row(path: Path) -> ValueError:
    return ValueError(f"{path}: must hold at least one row, got none")


def _not_arrow(path: Path, ending: str) -> ValueError:
    kind = "a Parquet" if ending == ".parquet" else "an Arrow"
    return ValueError(f"{path}: must be {kind} file, got something else")


def table_ending(path: Path) -> str:
    """Returns the ending of a file's name in lower case, not counting that of a compression."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSIONS else suffix


def _checked_size(table: Table, features: Sequence[str] | None) -> Table:
    if features is not None and table.dim != len(features):
        raise ValueError(
            f"{table.source}: rows must have {len(features)} features, as the training data had, got {table.dim}"
        )
    return table
