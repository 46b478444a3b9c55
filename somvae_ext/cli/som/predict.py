"""``somvae som predict``: the node of each row of a table, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from somvae_ext.cli.output import check_output, output

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> None:
    from somvae_ext.data.tables import read_table
    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import ResultFolder

    check_output(options.output)
    saved = SavedMap.of(ResultFolder.open(options.map, "map"))
    table = read_table(Path(options.data), ignored_column=saved.record.label_column)
    table = table.in_order_of(saved.feature_names, saved.som.n_features_in_, options.map)
    table.check(
        gaps=saved.som.missing == "ignore", remedy=f"{options.map} was trained with --missing error, so fill the gap"
    )
    with output(options.output) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["index", "node", "row", "column", "distance"])
        first = 0
        for node, distance in saved.assign(block.x for block in table.blocks()):
            for index, (winner, far) in enumerate(zip(node.tolist(), distance.tolist(), strict=True), start=first):
                writer.writerow([index, winner, *divmod(winner, saved.grid.cols), f"{far:.6g}"])
            first += len(node)
