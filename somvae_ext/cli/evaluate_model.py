"""``somvae evaluate`` for a model: its metrics on one split of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.printing import print_metrics
from somvae_ext.cli.run_data import load_run_data
from somvae_ext.report.metrics import EvaluationContext

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder


def evaluate_model(folder: ResultFolder, options: Namespace) -> None:
    """Evaluates the model in a folder on a split, saves the metrics in the folder, and prints them."""
    from somvae_ext.training import RunRecord, evaluate

    split = options.split or "test"
    with folder.lock():
        record = RunRecord.from_folder(folder)
        model = record.load_model(folder)
        _, splits = load_run_data(folder, record, options)
        part = getattr(splits, split)
        if part is None:
            raise ValueError(
                f"--split {split}: there is none, because {folder.path} was trained on all data that are not "
                "for the test; choose train or test"
            )
        evaluation = evaluate(model, part, train=splits.train)
        folder.save_evaluation(split, evaluation)
    print_evaluation(model, evaluation, split, splits.kind)


def print_evaluation(model: Model, evaluation: dict[str, float], split: str, kind: str) -> None:
    context = EvaluationContext.of_model(model, split, kind)
    what = "frames of series" if kind == "series" else "samples"
    grid = getattr(getattr(model, "quantizer", None), "grid", None)
    count, clusters = context.num_clusters, context.clusters
    where = f" on {grid.rows} x {grid.cols} nodes" if grid is not None else f" in {count} {clusters}" if count else ""
    print(f"{evaluation['samples']} {what} of the {split} split{where}")
    print_metrics(evaluation, context)
