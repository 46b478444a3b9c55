"""``somvae predict`` of a map: the node of each row of a table, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_id_column, open_output, report_omitted_rows
from somvae_ext.cli.table_options import table_format

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import ResultFolder


def write_map_predictions(folder: ResultFolder, options: Namespace) -> None:
    """Writes the best matching unit of each row at ``options.data``."""
    from somvae_ext.estimators import SavedMap

    saved = SavedMap.from_folder(folder)
    table = _rows(saved, options)
    report_omitted_rows(table.description)
    row_keys = table.row_keys
    check_id_column(options, row_keys)
    with open_output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*row_keys, "node", "row", "column", "distance"])
        key_of_each_row = zip(*row_keys.values(), strict=True)
        for node, distance in saved.assign(block.x for block in table.blocks()):
            for winner, to_code in zip(node.tolist(), distance.tolist(), strict=True):
                writer.writerow([*next(key_of_each_row), winner, *divmod(winner, saved.grid.cols), f"{to_code:.6g}"])


def _rows(saved: SavedMap, options: Namespace) -> Table:
    from somvae_ext.data.rows import load_matching_rows
    from somvae_ext.data.table_format import TableFormat

    path, dim, data = Path(options.data), saved.record.dim, saved.record.data
    if data is not None:
        return data.read(path, dim, saved.feature_names, table_format(options, data.table))
    return load_matching_rows(  # of a map that was saved from Python
        path,
        dim,
        kind=None,
        table=table_format(options, TableFormat()),
        missing=saved.som.missing,
        features=saved.feature_names,
        fill=None,
    )
