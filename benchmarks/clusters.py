"""How purely the nodes of a SOM-VAE hold classes: three seeds of each recipe, as JSON.

    python benchmarks/clusters.py --data-root DIR

trains each setting with `somvae fit` and evaluates it on the test split; k-means of the pixels stands beside them. A
run that is complete is kept as long as its options are the same, so an interruption costs one run. CPU minutes are
those of the whole command, pictures included; `seconds` is the training alone. `stability` is how far the seeds agree:
the mean adjusted Rand index between their clusters of the validation split. Give the settings that are the best of
three seeds `--seeds 0 10 20`, so that no two share a candidate.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from sklearn.cluster import KMeans
from torch import from_numpy
from training_runs import NOT_MOVED, mean_and_deviation, run_folder, stability, trained_with

from somvae_ext import evaluation as metrics
from somvae_ext.bench.record import Record
from somvae_ext.data import Samples, load
from somvae_ext.machine import describe

PAPER = {"mnist": (0.731, 0.594), "fashion-mnist": (0.678, 0.590)}  # purity and NMI at 4 x 4 (Fortuin et al. 2019)
SMALL = ["--rows", "4", "--cols", "4"]
LARGE = ["--rows", "8", "--cols", "8"]
# The published loss with the weights that cluster best.
BY_GRADIENTS = ["--preset", "augmented", "--alpha", "5", "--beta", "4.5", *SMALL]
# Averages under a neighbourhood that vanishes, with a stronger commitment: what was best of many nodes.
VANISHING = [
    *("--preset", "own-loss", "--alpha", "0.2", "--beta", "0", "--epochs", "6"),
    *("--sigma-initial", "2", "--sigma-final", "0.1", "--sigma-steps", "2534"),
    *("--max-rotation", "10", "--max-scale", "0.1", "--max-shear", "0.1"),
]

SETTINGS: dict[str, list[str]] = {
    f"{data}, {name}": [data, *options]
    for data in PAPER
    for name, options in {
        "clusters": ["--preset", "clusters"],
        "own-loss": ["--preset", "own-loss"],
        "own-loss, best of 3": ["--preset", "own-loss", "--best-of", "3"],
        "augmented": ["--preset", "augmented", *SMALL],
        "gradients": BY_GRADIENTS,
        "gradients, not augmented": [*BY_GRADIENTS, *NOT_MOVED],
        "gradients, neighbours only": [*BY_GRADIENTS, "--neighbors-only"],
        "gradients, neighbours only, not augmented": [*BY_GRADIENTS, "--neighbors-only", *NOT_MOVED],
        "ordered": ["--preset", "ordered", *SMALL],
        "ordered, sigma 0.4": ["--preset", "ordered", *SMALL, "--sigma-final", "0.4"],
        "ordered, sigma 0.25": ["--preset", "ordered", *SMALL, "--sigma-final", "0.25"],
        "clusters, 8 x 8": ["--preset", "clusters", *LARGE],
        "clusters, 16 x 16": ["--preset", "clusters", "--rows", "16", "--cols", "16"],
        "vanishing neighbourhood, 8 x 8": [*VANISHING, *LARGE, "--neighbor-margin", "5", "--relabel-after", "3"],
    }.items()
}


def kmeans(data: str, num_clusters: int, root: Path, seed: int) -> dict[str, Any]:
    """As many clusters of the training images' pixels, without a network."""
    splits = load(data, root=root)
    assert isinstance(splits.train, Samples)
    assert isinstance(splits.test, Samples)
    start = time.process_time()
    fitted = KMeans(num_clusters, n_init=1, random_state=seed).fit(splits.train.x.flatten(1).numpy())
    index = from_numpy(fitted.predict(splits.test.x.flatten(1).numpy())).long()
    label = splits.test.label
    scores = {"nmi_arithmetic": metrics.nmi(label, index), "purity": metrics.purity(label, index)}
    return {"cpu_minutes": round((time.process_time() - start) / 60, 2), "test": scores}


def agreement(setting: str, runs: Path, root: Path, seeds: list[int]) -> float:
    """Of the seeds of a setting, on the validation split."""
    validation = load(setting.partition(",")[0], root=root).validation
    assert isinstance(validation, Samples)
    return round(stability([run_folder(runs, setting, seed) for seed in seeds], validation), 4)


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    shown = {
        "purity": "purity",
        "nmi_arithmetic": "NMI",
        "nmi_geometric": "geometric",
        "topographic_error_4": "TE 4",
        "order": "order",
    }
    parts = [f"{title} {mean_and_deviation(runs, name)}" for name, title in shown.items() if name in runs[0]["test"]]
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    return f"{setting:56} {'  '.join(parts)}  {minutes:.2f} CPU min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    baselines = {f"{data}, {k} k-means": (data, k) for data in PAPER for k in (16, 64)}
    names = [*SETTINGS, *baselines]
    parser.add_argument("--settings", nargs="+", choices=names, default=names, metavar="SETTING")
    parser.add_argument("--threads", type=int, help="threads of each training; by default those of its recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs/clusters"), help="where the run folders go")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/clusters.json"))
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)

    record = Record(arguments.json, machine=describe(), settings=SETTINGS, paper=PAPER, results={}, stability={})
    for setting in arguments.settings:
        runs: list[dict[str, Any]] = []
        for seed in arguments.seeds:
            if setting in SETTINGS:
                runs.append(trained_with(arguments, setting, SETTINGS[setting], seed))
            else:
                runs.append({"seed": seed} | kmeans(*baselines[setting], arguments.data_root, seed))
            record.put("results", record.contents["results"] | {setting: runs})
        if setting in SETTINGS and len(arguments.seeds) > 1:
            agreed = agreement(setting, arguments.runs, arguments.data_root, arguments.seeds)
            record.put("stability", record.contents["stability"] | {setting: agreed})
        print(line(setting, runs), flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
