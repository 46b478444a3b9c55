"""The VAEs on MNIST, three seeds each: trains with `somvae fit` and gathers what README's table shows as JSON.

    python benchmarks/vae_mnist.py --data-root DIR

trains one preset after the other (about two hours on two cores, half an hour of it for the convolutional one). A run
that is complete is kept, so an interruption costs one run. Losses are means over the last epoch, in nats per training
sample; clusterings are compared with the labels after each epoch, on training samples where the preset holds none
back, and at the end on the test split.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from training_runs import evaluation, records, train

from somvae_ext.machine import describe

SETTINGS: dict[str, list[str]] = {
    "vae": ["--model", "vae", "--preset", "mnist"],
    "conditional-vae": ["--model", "conditional-vae", "--preset", "mnist"],
    "gumbel-vae, plain": ["--model", "gumbel-vae", "--preset", "plain"],
    "gumbel-vae, entropy-capacity": ["--model", "gumbel-vae", "--preset", "entropy-capacity"],
    "gumbel-vae, dupont": ["--model", "gumbel-vae", "--preset", "dupont"],
    "moe-vae": ["--model", "moe-vae", "--preset", "mnist", "--epochs", "30"],
    "gumbel-vae, dupont-conv": ["--model", "gumbel-vae", "--preset", "dupont-conv", "--epochs", "27"],
}


def gather(folder: Path) -> dict[str, Any]:
    """Duration, losses of the last epoch, metrics after each, and test metrics of a complete run."""
    history = records(folder)
    metrics = [record.get("metrics", {}) for record in history]
    return {
        "epochs": history[-1]["epoch"],
        "seconds": history[-1]["seconds"],
        "train": history[-1]["train"],
        "each_epoch": {name: [round(values[name], 4) for values in metrics] for name in metrics[-1]},
        "test": evaluation(folder),
    }


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    def values(numbers: list[float], digits: int) -> str:
        return ", ".join(f"{number:.{digits}f}" for number in numbers)

    text = f"{setting:24} {values([run['seconds'] / 60 for run in runs], 1)} min"
    for term in runs[0]["train"].keys() - {"total", "balance"}:
        text += f"   {term} {values([run['train'][term] for run in runs], 2)}"
    for name in runs[0]["each_epoch"].keys() & {"nmi_arithmetic", "acc"}:
        text += f"   {name} {values([run['each_epoch'][name][-1] for run in runs], 3)}"
        text += f" (epoch 1: {values([run['each_epoch'][name][0] for run in runs], 3)})"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with MNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--threads", type=int, default=2, help="threads of each training")
    parser.add_argument("--runs", type=Path, default=Path("runs/vae_mnist"), help="where the run folders go")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/vae_mnist.json"))
    arguments = parser.parse_args()

    results: dict[str, list[dict[str, Any]]] = {}
    for setting in arguments.settings:
        results[setting] = []
        for seed in arguments.seeds:
            folder = arguments.runs / f"{setting.replace(', ', '-')}-{seed}"
            options = ["mnist", *SETTINGS[setting], "--data-root", arguments.data_root]
            train(folder, [*options, "--seed", str(seed), "--threads", str(arguments.threads)])
            results[setting].append({"seed": seed} | gather(folder))
        print(line(setting, results[setting]), flush=True)
        record = {"machine": describe(), "threads": arguments.threads, "settings": SETTINGS, "results": results}
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {arguments.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
