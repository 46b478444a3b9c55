"""``somvae predict`` for a map: write the node of each row of a table."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from somvae_ext.cli.output import check_id_column, report_omitted
from somvae_ext.cli.predictions import distance_name, join_columns, open_predictions
from somvae_ext.cli.table_options import table_format
from somvae_ext.store import NodeFacts

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.row_stream import RowBlock, RowStream
    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import ResultFolder


def write_map_predictions(folder: ResultFolder, options: Namespace, path: Path) -> None:
    """Writes the best matching unit of each row of the data at a path, block by block."""
    from somvae_ext.estimators import SavedMap

    saved = SavedMap.from_folder(folder)
    facts = NodeFacts.from_folder(folder, "node", saved.grid.num_nodes, saved.grid, saved.classes)
    rows = _open_rows(saved, options, path)
    waiting: collections.deque[RowBlock] = collections.deque()

    def values() -> Iterator[Any]:
        for block in rows:
            waiting.append(block)
            yield block.rows.x

    with open_predictions(options, rows) as table:
        for node, distance, _ in saved.assign(values()):
            block = waiting.popleft()
            check_id_column(options, has_ids=block.has_ids)
            columns = facts.place(node) | {distance_name(saved): distance} | facts.meaning(node)
            if options.probabilities:
                columns |= facts.class_shares(node)
            table.write(join_columns(block.rows.row_keys, columns, block.columns))
    report_omitted(rows.omitted)


def _open_rows(saved: SavedMap, options: Namespace, path: Path) -> RowStream:
    from somvae_ext.data.row_stream import RowStream
    from somvae_ext.data.table_format import TableFormat

    dim, data, features, with_columns = saved.record.dim, saved.record.data, saved.feature_names, options.with_input
    if data is not None:
        return data.stream(path, dim, features, table_format(options, data.table), with_columns=with_columns)
    return RowStream(  # for a map that was saved from Python
        path,
        dim,
        kind=None,
        table=table_format(options, TableFormat()),
        missing=saved.som.missing,
        features=features,
        fill=None,
        with_columns=with_columns,
    )
