"""``somvae evaluate`` of a map: its errors on the data that it was trained on, and how far its nodes are classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from somvae_ext.cli.map_data import describe_sizes, load_map_table, scaled_rows
from somvae_ext.cli.printing import print_table

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
    _print(saved, table, evaluation)


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


def _print(saved: SavedMap, table: Table, evaluation: dict[str, Any]) -> None:
    grid = saved.grid
    print(describe_sizes(table, grid))
    units = "" if saved.scaling.kind == "none" else " (of the scaled data)"
    shown = {"quantization error": f"{evaluation['quantization_error']:.4g}{units}"}
    for connectivity in (4, 6, 8):
        if (value := evaluation.get(f"topographic_error_{connectivity}")) is not None:
            shown[f"topographic error, {connectivity}"] = f"{value:.3f} ({connectivity} neighbours)"
    shown["nodes used"] = f"{round(evaluation['usage'] * grid.num_nodes)} of {grid.num_nodes}"
    if "purity" in evaluation:
        shown["purity"] = f"{evaluation['purity']:.3f}"
        for average in ("arithmetic", "geometric"):
            shown[f"NMI, {average}"] = f"{evaluation[f'nmi_{average}']:.3f} ({average} mean of the entropies)"
    print_table(shown)
