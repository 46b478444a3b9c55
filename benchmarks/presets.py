"""Measures the presets of `somvae fit`: test metrics, losses and cost of three seeds each, as JSON.

    python benchmarks/presets.py --data-root DIR

trains each setting with `somvae fit` on one thread, as many at once as there are cores, and collects the results from
their folders. CPU minutes are those of the whole command, including evaluation and pictures. A complete run is kept as
long as its options and the commit are the same, so an interruption costs only the runs in progress.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import somvae_ext
from somvae_ext.bench.record import Record, command_line
from somvae_ext.machine import describe
from somvae_ext.plotting import plot_decoded_map
from somvae_ext.store import METRICS, ResultFolder

ORDERED = ["--preset", "ordered"]
# Here a node has six neighbors at distance 1. At this width they weigh as much as those on rectangles at the recipe's.
HEXAGONS = [*ORDERED, "--topology", "hexagonal", "--sigma-final"]
LARGE = ["--rows", "8", "--cols", "8"]
MOE_EPOCHS, CONV_EPOCHS = "30", "27"  # instead of their presets' 100, to save time

SETTINGS: dict[str, list[str]] = {
    "digits, ordered": ["digits", *ORDERED],
    "digits, default": ["digits"],
    "digits, ordered, hexagons": ["digits", *HEXAGONS, "0.65"],
    "mnist, ordered": ["mnist", *ORDERED],
    "mnist, ordered, hexagons": ["mnist", *HEXAGONS, "0.6"],
    "mnist, ordered, 16 x 16": ["mnist", *ORDERED, "--rows", "16", "--cols", "16"],
    "mnist, clusters, 8 x 8": ["mnist", "--preset", "clusters", *LARGE],
    "mnist, clusters": ["mnist", "--preset", "clusters"],
    "mnist, own-loss": ["mnist", "--preset", "own-loss"],
    "fashion-mnist, ordered": ["fashion-mnist", *ORDERED],
    "fashion-mnist, ordered, hexagons": ["fashion-mnist", *HEXAGONS, "0.65"],
    "fashion-mnist, clusters": ["fashion-mnist", "--preset", "clusters"],
    "fashion-mnist, own-loss": ["fashion-mnist", "--preset", "own-loss"],
    "vae": ["mnist", "--model", "vae", "--preset", "mnist"],
    "conditional-vae": ["mnist", "--model", "conditional-vae", "--preset", "mnist"],
    "gumbel-vae, plain": ["mnist", "--model", "gumbel-vae", "--preset", "plain"],
    "gumbel-vae, entropy-capacity": ["mnist", "--model", "gumbel-vae", "--preset", "entropy-capacity"],
    "gumbel-vae, dupont": ["mnist", "--model", "gumbel-vae", "--preset", "dupont"],
    "gumbel-vae, dupont-conv": [
        *("mnist", "--model", "gumbel-vae", "--preset", "dupont-conv", "--epochs", CONV_EPOCHS),
    ],
    "moe-vae": ["mnist", "--model", "moe-vae", "--preset", "mnist", "--epochs", MOE_EPOCHS],
}
CITED = {
    "vae": "reconstruction 78 to 81; kl 25",
    "conditional-vae": "reconstruction 137 to 144; kl 1.7 to 2",
    "gumbel-vae, plain": "NMI falls from .080 to .012",
    "gumbel-vae, entropy-capacity": "NMI .445 and .48 after 20 epochs",
    "gumbel-vae, dupont": "NMI .625",
    "gumbel-vae, dupont-conv": "NMI .838, ACC .887 after 100 epochs (released weights of a slightly other network)",
    "moe-vae": "NMI .631, ACC .649, purity .681",
}
"""Figures of others with one seed: earlier implementations in PyTorch, or a script of a few lines."""
SHOWN = ("purity", "nmi_arithmetic", "topographic_error_4", "topographic_error_6", "order")


def folder_of(runs: Path, setting: str, seed: int) -> Path:
    """The folder of the run of a setting with this seed."""
    return runs / f"{setting.replace(', ', '-').replace(' ', '-')}-{seed}"


def train(folder: Path, options: list[str]) -> float:
    """Trains one model into its folder with these options of ``somvae fit``; returns the CPU minutes that it took."""
    command = [sys.executable, "-m", "somvae_ext", "fit", *options, "--threads", "1", "--out", str(folder)]
    with open(folder.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen([*command, "--overwrite"], stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)  # the usage of this child alone
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{folder.name}: somvae fit ended with {process.returncode}; see {log.name}")
    return (usage.ru_utime + usage.ru_stime) / 60


def run(folder: Path, setting: str, seed: int, data_root: Path, commit: str) -> dict[str, Any]:
    """Metrics and cost of a setting with this seed, trained now unless a complete run of this commit is kept.

    Runs of a tree with changes are not kept, since the changes of another run may differ.
    """
    options = [*SETTINGS[setting], "--seed", str(seed)]
    cost = folder.with_suffix(".cost.json")
    kept = json.loads(cost.read_text()) if cost.is_file() else {}
    if (kept.get("options"), kept.get("commit")) != (options, commit) or commit.endswith("-dirty"):
        cost.unlink(missing_ok=True)
        minutes = train(folder, [*options, "--data-root", str(data_root)])
        kept = {"cpu_minutes": round(minutes, 2), "options": options, "commit": commit}
        cost.write_text(json.dumps(kept))
    result = ResultFolder.open(folder)
    history = result.load_log(METRICS)
    each = [epoch.get("metrics", {}) for epoch in history]
    return {
        "seed": seed,
        "cpu_minutes": kept["cpu_minutes"],
        "epochs": history[-1]["epoch"],
        "seconds": round(history[-1]["seconds"], 1),
        "train": history[-1]["train"],
        "each_epoch": {name: [round(values[name], 4) for values in each] for name in each[-1]},
        "test": result.evaluations["test"],
    }


def line(setting: str, runs: list[dict[str, Any]]) -> str:
    parts = [
        f"{name} {statistics.mean(values):.3f} +- {statistics.stdev(values) if len(values) > 1 else 0:.3f}"
        for name in SHOWN
        if (values := [run["test"][name] for run in runs if name in run["test"]])
    ]
    minutes = statistics.mean(run["cpu_minutes"] for run in runs)
    return f"{setting:34} {'  '.join(parts)}  {minutes:.2f} CPU minutes"


def draw_both(runs: Path, seed: int, picture: Path) -> None:
    """Draws the decoded maps of the digits, by gradients and ordered, side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), layout="constrained")
    titles = {"default": "codes learn by gradients", "ordered": "codes follow smoothed averages"}
    for ax, (kind, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        model: Any = somvae_ext.load(folder_of(runs, f"digits, {kind}", seed))
        plot_decoded_map(model.decoded_map(), ax=ax)
        ax.set_title(title)
    figure.savefig(picture, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, type=Path, help="folder with MNIST/raw and FashionMNIST/raw")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="trainings at once (default: one per core)")
    parser.add_argument("--runs", type=Path, default=Path("runs/presets"), help="where the folders of the runs go")
    parser.add_argument("--json", type=Path, default=Path("build/benchmarks/presets.json"))
    parser.add_argument("--picture", type=Path, help="PNG file for the maps of the digits, unordered and ordered")
    arguments = parser.parse_args()
    if arguments.picture is not None and not {"digits, default", "digits, ordered"} <= set(arguments.settings):
        parser.error("--picture draws the settings 'digits, default' and 'digits, ordered'; --settings leaves one out")
    arguments.runs.mkdir(parents=True, exist_ok=True)

    machine = describe()
    commit = machine["commit"] or "-dirty"
    record = Record(
        arguments.json,
        machine=machine,
        command=command_line(),
        workers=arguments.workers,
        settings=SETTINGS,
        cited=CITED,
        results={},
    )
    with ThreadPoolExecutor(arguments.workers) as pool:

        def submit(setting: str, seed: int) -> Future[dict[str, Any]]:
            folder = folder_of(arguments.runs, setting, seed)
            return pool.submit(run, folder, setting, seed, arguments.data_root, commit)

        started = {setting: [submit(setting, seed) for seed in arguments.seeds] for setting in arguments.settings}
        try:
            for setting, futures in started.items():
                results = [future.result() for future in futures]
                record.put("results", record.contents["results"] | {setting: results})
                print(line(setting, results), flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    if arguments.picture is not None:
        draw_both(arguments.runs, arguments.seeds[0], arguments.picture)
    record.say_where()


if __name__ == "__main__":
    main()
