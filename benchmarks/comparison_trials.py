"""Tests whether ``somvae bench compare`` finds a real slow-down, and only a real one, in runs of one suite.

    python benchmarks/comparison_trials.py --json build/benchmarks/comparison_trials.json      about 20 minutes

Every trial runs ``bench bmu --quick`` once as it is, and once with our search slowed down by a fifth: after each search
its process spins for a fifth of the time that the search took. Each run is a separate process. The unchanged run is
compared with that of the trial before, where nothing should be found, and with the one that is slowed down: the exit
codes should be 0 and 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import process_time

from torch import Tensor

from somvae_ext.bench import bmu_contestants
from somvae_ext.bench.__main__ import main as bench
from somvae_ext.bench.bmu_contestants import ON_CPU, Search, Winners
from somvae_ext.bench.record import Record, command_line
from somvae_ext.bench.rows import OURS
from somvae_ext.machine import describe


def slowed_down(z: Tensor, codebook: Tensor, k: int, factor: float) -> Search:
    """Our search, after which the process spins until ``factor`` times the search's time has passed."""
    search = bmu_contestants.somvae_ext(z, codebook, k)

    def run() -> Winners:
        begin = process_time()
        winners = search()
        end = begin + factor * (process_time() - begin)
        while process_time() < end:
            pass
        return winners

    return run


def measure(folder: Path, factor: float) -> None:
    """Writes ``bmu.json``. Must run in a separate process, since it replaces our contestant."""
    if factor != 1:
        planted = dataclasses.replace(ON_CPU[OURS], make=lambda z, codes, k: slowed_down(z, codes, k, factor))
        ON_CPU[OURS] = planted
    options = ["bmu", "--quick", "--threads", "1", "--no-picture", "--quiet", "--out", str(folder)]
    if run_bench(options)[0]:
        raise RuntimeError(f"{folder}: the benchmark failed")


def measure_in_child(folder: Path, factor: float) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(measure, folder, factor).result()


def run_bench(arguments: Sequence[str]) -> tuple[int, str]:
    """Runs the benchmark's command; returns its exit code and its output."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        return bench(arguments), output.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--factor", type=float, default=1.2, help="factor of the planted slow-down (default: 1.2)")
    parser.add_argument("--json", type=Path, help="file for the results, written trial by trial")
    arguments = parser.parse_args()
    record = Record(arguments.json, machine=describe(), command=command_line(), factor=arguments.factor, trials=[])
    right = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        measure_in_child(folder / "0", 1)
        for trial in range(1, arguments.trials + 1):
            measure_in_child(folder / str(trial), 1)
            measure_in_child(folder / f"{trial} planted", arguments.factor)
            outcome: dict[str, object] = {"load": os.getloadavg()[0]}
            pairs = {"equal": (f"{trial - 1}", f"{trial}"), "planted": (f"{trial}", f"{trial} planted")}
            for name, pair in pairs.items():
                code, output = run_bench(["compare", *(str(folder / run / "bmu.json") for run in pair)])
                right += code == (name == "planted")
                outcome[name] = {"exit_code": code, "said": output.splitlines()}
                mean = next(line for line in output.splitlines() if line.startswith("geometric mean"))
                print(f"{trial} {name}: exit code {code}; {mean.split('  ', 1)[1].strip()}", flush=True)
            record.add("trials", outcome)
    print(f"{right} of {2 * arguments.trials} exit codes are right")
    record.say_where()


if __name__ == "__main__":
    main()
