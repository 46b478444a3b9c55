"""``somvae evaluate`` of a map: its errors on the data that it was trained on, and how far its nodes are classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from somvae_ext.cli.map_data import describe_sizes, load_map_table, scaled_rows
from somvae_ext.cli.printing import print_metrics
from somvae_ext.report.metrics import EvaluationContext

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.data.tables import Table
    from somvae_ext.estimators import SavedMap
    from somvae_ext.store import ResultFolder

_SPLIT = "train"  # the only one that maps have


def evaluate_map(folder: ResultFolder, options: Namespace) -> None:
    """Measures the map of a folder on its training data, keeps what came of it in the folder, and prints it."""
    from somvae_ext.estimators import SavedMap

    with folder.lock():
        saved = SavedMap.from_folder(folder)
        _, table = load_map_table(folder, saved.record, options)
        evaluation = _measure(saved, table)
        folder.save_evaluation(_SPLIT, evaluation)
    print(describe_sizes(table, saved.grid))
    print_metrics(evaluation, EvaluationContext.of_map(saved, _SPLIT))


def _measure(saved: SavedMap, table: Table) -> dict[str, Any]:
    from somvae_ext import evaluation

    som, grid = saved.som, saved.grid
    with scaled_rows(table, saved.scaling) as x:
        node = som.predict(x)
        figures = {"samples": table.num_rows, "quantization_error": som.quantization_error(x)}
        for connectivity in grid.connectivities if grid.num_nodes > 1 else ():
            figures[f"topographic_error_{connectivity}"] = som.topographic_error(x, connectivity=connectivity)
    figures["usage"] = evaluation.used_node_share(node, num_nodes=grid.num_nodes)
    if table.label is not None:
        figures["purity"] = evaluation.purity(table.label, node)
        for average in ("arithmetic", "geometric"):
            figures[f"nmi_{average}"] = evaluation.nmi(table.label, node, average=average)
    return figures
