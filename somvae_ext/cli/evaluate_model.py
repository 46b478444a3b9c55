"""``somvae evaluate`` of a model: what it is worth on data that it has not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from somvae_ext.cli.run_data import load_run_data

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from somvae_ext.models import Model
    from somvae_ext.store import ResultFolder


def evaluate_model(folder: ResultFolder, options: Namespace) -> None:
    """Measures the model of a folder on a split, keeps what came of it in the folder, and prints it."""
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
    what = "frames of series" if kind == "series" else "samples"
    grid = getattr(getattr(model, "quantizer", None), "grid", None)
    count = getattr(model, "num_clusters", 0)
    # A sample of a convolutional VQ-VAE has many codes, and so no cluster.
    several = getattr(model, "codes_per_sample", 1) > 1
    clusters = "nodes" if grid is not None else "codes" if several else "clusters"
    where = f" on {grid.rows} x {grid.cols} nodes" if grid is not None else f" in {count} {clusters}" if count else ""
    print(f"{evaluation['samples']} {what} of the {split} split{where}")
    loss = "nats per sample" if {"kl", "kl_z"} & evaluation.keys() else "mean over the values of a sample"
    # Series that are made of still images have scores of both.
    of_frames = "of frames, " if "static_samples" in evaluation else ""
    images = f"of the {evaluation.get('static_samples', 0)} images that the series are made of"
    meanings = {
        "reconstruction": ("reconstruction", loss),
        "kl": ("KL", loss),
        "kl_z": ("KL of z", loss),
        "kl_c": ("KL of categories", loss),
        "purity": ("purity", of_frames.removesuffix(", ")),
        "nmi_arithmetic": ("NMI", f"{of_frames}arithmetic mean of the entropies"),
        "nmi_geometric": ("NMI", f"{of_frames}geometric mean of the entropies"),
        "ari": ("ARI", of_frames.removesuffix(", ")),
        "acc": ("ACC", f"{of_frames}{clusters} matched with classes"),
        "static_purity": ("purity, static images", images),
        "static_nmi_arithmetic": ("NMI, static images", "arithmetic mean of the entropies"),
        "static_nmi_geometric": ("NMI, static images", "geometric mean of the entropies"),
        "static_ari": ("ARI, static images", ""),
        "quantization_error": ("quantization error", "mean distance of encodings to their codes"),
        **{
            f"topographic_error_{connectivity}": (
                f"topographic error, {connectivity}",
                f"second best node is none of the {connectivity} neighbours of the best",
            )
            for connectivity in (4, 6, 8)
        },
        "order": ("order", "mean distance of decoded neighbours, as a share of that of all nodes; 1 is no order"),
        **{
            name.format(distance): (title.format(distance), meaning.format(distance))
            for distance in (1, 2)
            for name, title, meaning in (
                ("moves_within_{}", "moves within {}", "share of the moves that lead no further than {} on the grid"),
                (
                    "transition_mass_within_{}",
                    "learned within {}",
                    "the same of the moves that the learned transitions expect",
                ),
            )
        },
        "usage": ("usage", f"{clusters} with a sample of the {split} split"),
        "perplexity": ("perplexity", f"of {count} {clusters}"),
        "transition_nll": ("transition NLL", "learned, nats per step"),
        "counted_nll": ("counted NLL", "counted on the training series"),
        "lowest_nll": ("lowest NLL", f"counted on the {split} series themselves, maximum likelihood"),
    }
    shown = [(*meaning, evaluation[name]) for name, meaning in meanings.items() if name in evaluation]
    width = max(len(title) for title, _, _ in shown)
    for title, meaning, value in shown:
        print(f"{title:<{width}}  {value:.3f}" + (f" ({meaning})" if meaning else ""))
