"""Which values of a recipe's dials give clusters that seeds agree on: a search that looks at no labels.

    python benchmarks/cluster_search.py --data-root DIR --data mnist --preset clusters

Each setting differs from the preset in one dial. All are trained with `somvae fit` and a few seeds, and compared on the
validation split by their stability: the mean adjusted Rand index between the clusters of the seeds. A setting whose
perplexity is below half of the nodes counts as collapsed: few clusters are easily agreed on. Purity and NMI of the
validation split stand beside, to tell what the choice is worth; the test split is not looked at.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from scipy.stats import spearmanr
from training_runs import records, run_folder, stability, trained_with

from somvae_ext.bench.record import Record
from somvae_ext.data import Samples, load
from somvae_ext.machine import describe

DIALS: dict[str, dict[str, list[str]]] = {
    "clusters": {
        "warm-up-epochs": ["2", "4"],
        "hardening": ["0.5", "2"],
        "latent-dim": ["8", "32"],
    },
    "own-loss": {
        "alpha": ["0.02", "0.1", "0.2"],
        "sigma-final": ["0.3", "0.5"],
        "neighbor-margin": ["0", "0.3", "4"],
    },
}
NODES = 16  # of both presets
LEAST_PERPLEXITY = 0.5  # of their number


def settings(preset: str) -> dict[str, list[str]]:
    """The preset as it is, and with each of its dials at each of their values."""
    varied = {
        f"{preset}, {dial} {value}": ["--preset", preset, f"--{dial}", value]
        for dial, values in DIALS[preset].items()
        for value in values
    }
    return {preset: ["--preset", preset]} | varied


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--data", choices=["mnist", "fashion-mnist"], default="mnist")
    parser.add_argument("--preset", choices=list(DIALS), default="clusters")
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11], help="two or more")
    parser.add_argument("--threads", type=int, help="threads of each training; by default those of its recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs/cluster-search"), help="where the run folders go")
    parser.add_argument("--json", type=Path, help="where the record goes")
    arguments = parser.parse_args()
    if len(arguments.seeds) < 2:
        parser.error("--seeds must be two or more, of which the clusters are compared")
    arguments.runs.mkdir(parents=True, exist_ok=True)
    validation = load(arguments.data, root=arguments.data_root).validation
    assert isinstance(validation, Samples)

    record = Record(arguments.json, machine=describe(), data=arguments.data, seeds=arguments.seeds, results={})
    for name, options in settings(arguments.preset).items():
        setting = f"{arguments.data}, {name}"
        folders = [run_folder(arguments.runs, setting, seed) for seed in arguments.seeds]
        for seed in arguments.seeds:
            trained_with(arguments, setting, [arguments.data, *options], seed)
        last = [records(folder)[-1] for folder in folders]
        measured: dict[str, Any] = {
            key: statistics.mean(run["metrics"][key] for run in last)
            for key in ("purity", "nmi_arithmetic", "topographic_error_4", "perplexity")
        }
        measured["reconstruction_q"] = statistics.mean(run["validation"]["reconstruction_q"] for run in last)
        measured["stability"] = stability(folders, validation)
        record.put("results", record.contents["results"] | {name: measured})
        print(f"{name:40} {'  '.join(f'{key} {value:.3f}' for key, value in measured.items())}", flush=True)

    results = record.contents["results"]
    least = LEAST_PERPLEXITY * NODES
    whole = {name: row for name, row in results.items() if row["perplexity"] >= least}
    if len(whole) < 2:
        sys.exit(f"nothing to choose among: {len(results) - len(whole)} of {len(results)} settings have collapsed")
    chosen = max(whole, key=lambda name: whole[name]["stability"])
    ranks = spearmanr(*([row[key] for row in whole.values()] for key in ("stability", "purity")))
    record.put("chosen", chosen)
    correlation = None if math.isnan(ranks.statistic) else round(float(ranks.statistic), 3)
    record.put("rank_correlation_of_stability_and_purity", correlation)
    print(f"chosen by stability: {chosen}; its rank correlation with purity is {ranks.statistic:.2f}")
    record.say_where()


if __name__ == "__main__":
    main()
