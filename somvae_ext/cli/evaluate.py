"""``somvae evaluate``: how well the map of a run clusters data that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.run_data import data_of_run

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.models import SOMVAE


def run(options: Namespace) -> None:
    from somvae_ext.training import RunFolder, evaluate, load_model

    folder = RunFolder.open(options.run)
    model = load_model(folder.path)
    _, splits = data_of_run(folder, options)
    evaluation = evaluate(model, getattr(splits, options.split), train=splits.train)
    folder.save_evaluation(options.split, evaluation)
    print_evaluation(model, evaluation, options.split, splits.kind)


def print_evaluation(model: SOMVAE, evaluation: dict[str, float], split: str, kind: str) -> None:
    config = model.config
    what = "frames of series" if kind == "series" else "samples"
    print(f"{evaluation['samples']} {what} of the {split} split on {config.rows} x {config.cols} nodes")
    meanings = {
        "purity": ("purity", ""),
        "nmi_arithmetic": ("NMI", "arithmetic mean of the entropies"),
        "nmi_geometric": ("NMI", "geometric mean of the entropies"),
        "ari": ("ARI", ""),
        "acc": ("ACC", "nodes matched with classes"),
        "quantization_error": ("quantization error", "mean distance of encodings to their codes"),
        "topographic_error": ("topographic error", "second best node is no neighbour of the best"),
        "usage": ("usage", f"nodes with a sample of the {split} split"),
        "perplexity": ("perplexity", f"of {config.grid.num_nodes} nodes"),
        "transition_nll": ("transition NLL", "learned, nats per step"),
        "counted_nll": ("counted NLL", "counted on the training series"),
        "lowest_nll": ("lowest NLL", f"counted on the {split} series themselves, maximum likelihood"),
    }
    shown = [(*meanings[name], value) for name, value in evaluation.items() if name in meanings]
    width = max(len(title) for title, _, _ in shown)
    for title, meaning, value in shown:
        print(f"{title:<{width}}  {value:.3f}" + (f" ({meaning})" if meaning else ""))
