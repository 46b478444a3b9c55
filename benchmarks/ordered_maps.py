"""How ordered the map of a SOM-VAE is, and what the order costs in clusters: three seeds of each setting, as JSON.

    python benchmarks/ordered_maps.py --data-root DIR

trains each setting with `somvae fit`, an ordered map beside the unordered one of the same recipe (of the digits, of the
default recipe), and evaluates it on the test split; k-means and a plain self-organizing map of the pixels stand beside
them. A run that is complete is kept as long as its options are the same, so an interruption costs one run. CPU minutes
are those of the whole command, pictures included; `seconds` is the training alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from training_runs import mean_and_deviation, trained_with

import somvae_ext
from somvae_ext import Grid
from somvae_ext import evaluation as metrics
from somvae_ext.bench.record import Record
from somvae_ext.data import Samples, load
from somvae_ext.estimators import SOM
from somvae_ext.machine import describe
from somvae_ext.plotting import plot_decoded_map

SIDE = 8
# The same recipe with codes that learn by gradients, and the weights of its loss that cluster best.
UNORDERED = ["--preset", "ordered", "--codebook-update", "gradient", "--alpha", "5", "--beta", "4.5"]
ORDERED = ["--preset", "ordered"]
# A node has six neighbours at distance 1 here: at this width they weigh as much as those on rectangles at the recipe's.
HEXAGONS = [*ORDERED, "--topology", "hexagonal", "--sigma-final"]
ABLATION = ["mnist", *ORDERED, "--gradient"]

SETTINGS: dict[str, list[str]] = {
    "digits, ordered": ["digits", *ORDERED],
    "digits, unordered": ["digits"],
    "digits, hexagons": ["digits", *HEXAGONS, "0.65"],
    "mnist, ordered": ["mnist", *ORDERED],
    "mnist, unordered": ["mnist", *UNORDERED],
    "mnist, hexagons": ["mnist", *HEXAGONS, "0.6"],
    "mnist, 16 x 16": ["mnist", *ORDERED, "--rows", "16", "--cols", "16"],
    "fashion-mnist, ordered": ["fashion-mnist", *ORDERED],
    "fashion-mnist, unordered": ["fashion-mnist", *UNORDERED],
    "fashion-mnist, hexagons": ["fashion-mnist", *HEXAGONS, "0.65"],
    "mnist, gradient copy": [*ABLATION, "copy"],
    "mnist, gradient none": [*ABLATION, "none"],
}
BASELINES = {"k-means": "kmeans", "SOM of pixels": "som"}
IMAGES = ("digits", "mnist", "fashion-mnist")


def baseline(kind: str, data: str, root: Path, seed: int) -> dict[str, Any]:
    """The same number of clusters of the training images' pixels, without a network."""
    splits = load(data, root=root)
    assert isinstance(splits.train, Samples)
    assert isinstance(splits.test, Samples)
    x, test = splits.train.x.flatten(1), splits.test.x.flatten(1)
    grid, scores = Grid(SIDE, SIDE), {}
    start = time.process_time()
    if kind == "kmeans":
        index = torch.from_numpy(
            KMeans(grid.num_nodes, n_init=1, random_state=seed).fit(x.numpy()).predict(test.numpy())
        )
    else:
        som = SOM(SIDE, SIDE, sigma_final=0.7, random_state=seed, init="random").fit(x)
        index = torch.as_tensor(som.predict(test))
        codes: Tensor = torch.as_tensor(som.codebook_)
        scores = {
            f"topographic_error_{c}": metrics.topographic_error(test, codes, grid, connectivity=c)
            for c in grid.connectivities
        }
        scores["order"] = metrics.prototype_order(codes, grid)
    scores["nmi_arithmetic"] = metrics.nmi(splits.test.label, index.long())
    scores["purity"] = metrics.purity(splits.test.label, index.long())
    return {"cpu_minutes": round((time.process_time() - start) / 60, 2), "test": scores}


def draw_both(runs: Path, picture: Path) -> None:
    """The decoded maps of the digits, by gradients and ordered, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    for ax, kind in zip(figure.subplots(1, 2), ("unordered", "ordered"), strict=True):
        model: Any = somvae_ext.load(runs / f"digits-{kind}-0")
        plot_decoded_map(model.decoded_map(), ax=ax)
        ax.set_title({"unordered": "codes learn by gradients", "ordered": "codes follow smoothed averages"}[kind])
    figure.savefig(picture, dpi=100)


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    shown = (
        ("topographic_error_4", "TE 4"),
        ("topographic_error_8", "TE 8"),
        ("topographic_error_6", "TE 6"),
        ("order", "order"),
        ("nmi_arithmetic", "NMI"),
        ("purity", "purity"),
    )
    parts = [f"{title} {mean_and_deviation(runs, name)}" for name, title in shown if name in runs[0]["test"]]
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    return f"{setting:26} {'  '.join(parts)}  {minutes:.2f} CPU min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    names = [*SETTINGS, *(f"{data}, {kind}" for data in IMAGES for kind in BASELINES)]
    parser.add_argument("--settings", nargs="+", choices=names, default=names)
    parser.add_argument("--threads", type=int, help="threads of each training; by default those of its recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs/ordered_maps"), help="where the run folders go")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/ordered_maps.json"))
    parser.add_argument("--picture", type=Path, help="PNG file for the maps of the digits, unordered and ordered")
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)

    record = Record(arguments.json, machine=describe(), settings=SETTINGS, results={})
    for setting in arguments.settings:
        runs: list[dict[str, Any]] = []
        for seed in arguments.seeds:
            if setting in SETTINGS:
                runs.append(trained_with(arguments, setting, SETTINGS[setting], seed))
            else:
                data, kind = setting.split(", ")
                runs.append({"seed": seed} | baseline(BASELINES[kind], data, arguments.data_root, seed))
            record.put("results", record.contents["results"] | {setting: runs})
        print(line(setting, runs), flush=True)
    if arguments.picture is not None:
        draw_both(arguments.runs, arguments.picture)
    record.say_where()


if __name__ == "__main__":
    main()
