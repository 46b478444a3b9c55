"""Where moved images help models without a map: VQ-VAE and the VAEs on MNIST, with and without, as JSON.

    python benchmarks/augmentation.py --data-root DIR

trains each setting with `somvae fit`, once on the images as they are and once on moved ones, and evaluates it on the
test split. A run that is complete is kept as long as its options are the same.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from training_runs import mean_and_deviation, trained_with

from somvae_ext.bench.record import Record
from somvae_ext.machine import describe

MOVED = ["--max-shift", "2", "--max-rotation", "10", "--max-scale", "0.1", "--max-shear", "0.1"]
SETTINGS: dict[str, list[str]] = {
    "VQ-VAE, 16 codes": ["--model", "vqvae", "--num-codes", "16", "--epochs", "10"],
    "VAE": ["--model", "vae", "--preset", "mnist", "--split", "holdout"],
    "conditional VAE": ["--model", "conditional-vae", "--preset", "mnist", "--split", "holdout"],
    "Gumbel VAE, dupont": ["--model", "gumbel-vae", "--preset", "dupont", "--split", "holdout"],
}
# What is said of each, where its evaluation has it.
SHOWN = ("purity", "nmi_arithmetic", "reconstruction_q", "reconstruction", "kl")


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    shown = [f"{name} {mean_and_deviation(runs, name)}" for name in SHOWN if name in runs[0]["test"]]
    return f"{setting:30} {'  '.join(shown)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path, help="folder with MNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--threads", type=int, help="threads of each training; by default those of its recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs/augmentation"), help="where the run folders go")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/augmentation.json"))
    arguments = parser.parse_args()
    arguments.runs.mkdir(parents=True, exist_ok=True)

    record = Record(arguments.json, machine=describe(), settings=SETTINGS, moved=MOVED, results={})
    for name in arguments.settings:
        for setting, options in ((name, SETTINGS[name]), (f"{name}, moved", [*SETTINGS[name], *MOVED])):
            runs = [trained_with(arguments, setting, ["mnist", *options], seed) for seed in arguments.seeds]
            record.put("results", record.contents["results"] | {setting: runs})
            print(line(setting, runs), flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
