"""SOM-VAE on MNIST and Fashion-MNIST, three seeds each: trains with `somvae fit` and gathers the test metrics as JSON.

    python benchmarks/somvae_mnist.py --data-root DIR

trains one setting after the other (about an hour on two cores). A run that is complete is kept, so an interruption
costs one run. The settings are those of README's table: 4 x 4 maps of still images, 8 x 8 maps of interpolated series
with transitions, and the two ablations of the SOM-VAE paper (Fortuin et al. 2019, arXiv 1806.02199, Table 1).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

from training_runs import NOT_MOVED, trained

from somvae_ext.machine import describe

DENSE = [
    *["--network", "dense", "--batch-size", "128", "--learning-rate", "1e-3", "--rows", "4", "--cols", "4"],
    *NOT_MOVED,
]

SETTINGS: dict[str, list[str]] = {
    "mnist": ["mnist", *DENSE, "--epochs", "20"],
    "fashion-mnist": ["fashion-mnist", *DENSE, "--epochs", "20"],
    "mnist-series": ["mnist-series", "--codebook-update", "gradient", "--rows", "8", "--cols", "8"],
    "mnist, gradient copy": ["mnist", *DENSE, "--gradient", "copy", "--epochs", "10"],
    "mnist, gradient none": ["mnist", *DENSE, "--gradient", "none", "--epochs", "10"],
}


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    def values(name: str) -> str:
        numbers = [run["test"][name] for run in runs]
        return f"{statistics.mean(numbers):.3f} ({', '.join(f'{number:.3f}' for number in numbers)})"

    text = f"{setting:22} purity {values('purity')}   NMI {values('nmi_arithmetic')}"
    if "transition_nll" in runs[0]["test"]:
        text += f"   transition NLL {values('transition_nll')}, counted {values('counted_nll')}"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--threads", type=int, default=1, help="threads of each training")
    parser.add_argument("--runs", type=Path, default=Path("runs/somvae_mnist"), help="where the run folders go")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/somvae_mnist.json"))
    arguments = parser.parse_args()

    results: dict[str, list[dict[str, Any]]] = {}
    for setting in arguments.settings:
        results[setting] = []
        for seed in arguments.seeds:
            folder = arguments.runs / f"{setting.replace(', ', '-').replace(' ', '-')}-{seed}"
            shared = ["--data-root", arguments.data_root, "--seed", str(seed), "--threads", str(arguments.threads)]
            results[setting].append({"seed": seed} | trained(folder, [*SETTINGS[setting], *shared]))
        print(line(setting, results[setting]), flush=True)
    record = {"machine": describe(), "settings": SETTINGS, "results": results}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
