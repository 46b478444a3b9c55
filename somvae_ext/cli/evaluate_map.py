"""``somvae evaluate`` for a map: its errors on the training data, and how well its nodes match classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.map_data import describe_sizes, load_map_table
from somvae_ext.cli.printing import print_metrics
from somvae_ext.report.metrics import EvaluationContext

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.store import ResultFolder

_SPLIT = "train"  # the only split of a map


def evaluate_map(folder: ResultFolder, options: Namespace) -> None:
    """Evaluates the map in a folder on its training data, saves the metrics in the folder, and prints them."""
    from somvae_ext.estimators import SavedMap
    from somvae_ext.estimators.map_evaluation import assign_rows, measure_map

    with folder.lock():
        saved = SavedMap.from_folder(folder)
        _, table = load_map_table(folder, saved.record, options)
        winners = assign_rows(saved, (block.x for block in table.blocks()))
        evaluation = measure_map(saved.grid, winners, table.label)
        folder.save_evaluation(_SPLIT, evaluation)
    print(describe_sizes(table, saved.grid))
    print_metrics(evaluation, EvaluationContext.of_map(saved, _SPLIT))
