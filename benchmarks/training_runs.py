"""Runs of `somvae fit` as benchmarks: trained once, kept, and read again."""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import somvae_ext
from somvae_ext.data import Samples
from somvae_ext.evaluation import ari
from somvae_ext.store import METRICS, ResultFolder
from somvae_ext.training import encode

NOT_MOVED = ["--max-shift", "0", "--max-rotation", "0", "--max-scale", "0", "--max-shear", "0"]
"""Options that leave the training images as they are."""


def train(folder: Path, options: list[str]) -> None:
    """Trains one model into its folder; ``options`` are those of ``somvae fit``, the data first."""
    command = [sys.executable, "-m", "somvae_ext", "fit", *options]
    subprocess.run([*command, "--out", str(folder), "--overwrite"], check=True)


def records(folder: Path) -> list[dict[str, Any]]:
    """What was recorded after each epoch."""
    return ResultFolder.open(folder).load_log(METRICS)


def evaluation(folder: Path) -> dict[str, Any] | None:
    """The evaluation on the test split; None where there is no complete run that this version can read."""
    try:
        result: dict[str, Any] | None = ResultFolder.open(folder).evaluations.get("test")
    except (FileNotFoundError, ValueError):
        return None
    return result


def trained(folder: Path, options: list[str]) -> dict[str, Any]:
    """Test metrics and cost of a run, trained now unless a complete one is kept."""
    cost = folder.with_suffix(".cost.json")
    kept = json.loads(cost.read_text()) if cost.is_file() and evaluation(folder) else {}
    if kept.get("options") != options:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        train(folder, options)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        kept = {"cpu_minutes": round(used / 60, 2), "options": options}
        cost.write_text(json.dumps(kept))
    last = records(folder)[-1]
    return {
        "cpu_minutes": kept["cpu_minutes"],
        "epochs": last["epoch"],
        "seconds": last["seconds"],
        "test": evaluation(folder),
    }


def run_folder(runs: Path, setting: str, seed: int) -> Path:
    """Where the run of a setting with this seed is."""
    return runs / f"{setting.replace(', ', '-').replace(' ', '-')}-{seed}"


def stability(folders: list[Path], samples: Samples) -> float:
    """How far runs agree on the clusters of samples that none has seen: the mean ARI of all pairs of runs.

    Labels take no part (Ben-Hur et al. 2002, with the adjusted Rand index).
    """
    indices = [encode(somvae_ext.load(folder), samples).indices for folder in folders]
    pairs = itertools.combinations([index for index in indices if index is not None], 2)
    return statistics.mean(ari(first, second) for first, second in pairs)


def trained_with(arguments: argparse.Namespace, setting: str, options: list[str], seed: int) -> dict[str, Any]:
    """The same of a setting with this seed, in a folder of its own.

    Args:
        arguments: of the benchmark: ``runs``, the folder of all runs, ``data_root``, and ``threads``, None for those of
            the recipe.
        setting: names the folder.
        options: of ``somvae fit``, the data first.
        seed: the training's.
    """
    of_threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    common = ["--data-root", str(arguments.data_root), "--seed", str(seed), *of_threads]
    return {"seed": seed} | trained(run_folder(arguments.runs, setting, seed), [*options, *common])


def mean_and_deviation(runs: list[dict[str, Any]], name: str) -> str:
    values = [run["test"][name] for run in runs]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.3f} +- {deviation:.3f}"
