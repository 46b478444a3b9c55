"""Measures ``somvae predict`` on long tables: seconds and peak memory of the process, by format and number of rows.

    python benchmarks/prediction.py --json build/benchmarks/prediction.json

A map of 20 x 20 nodes is trained on 20,000 of the rows, and the nodes of each file are written to Parquet. The memory
is that of the whole process, including imports; it must not grow with the rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from somvae_ext.bench.record import Record, command_line
from somvae_ext.machine import describe

# The process reads its own peak, since that of a finished child would include the memory of its parent.
PROGRAM = """
import json, sys, time
from somvae_ext.cli import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read().splitlines()
peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print(json.dumps({"cpu_s": time.process_time(), "peak_mib": peak}))
sys.exit(code)
"""
FORMATS = ("npy", "parquet", "csv")
_ROWS_AT_ONCE = 100_000


def make_rows(rng: np.random.Generator, count: int, dim: int) -> NDArray[np.float32]:
    """Rows near a curved sheet, rounded to six decimals."""
    plane = rng.random((count, 2), dtype=np.float32) * 3
    waves = np.arange(1, dim + 1, dtype=np.float32)
    x = np.sin(plane[:, :1] * waves / 8) + np.cos(plane[:, 1:] * waves / 11)
    noisy: NDArray[np.float32] = np.round(x + 0.1 * rng.standard_normal((count, dim), dtype=np.float32), 6)
    return noisy


def write(path: Path, count: int, dim: int) -> None:
    """Writes the rows in blocks, the same for each format."""
    rng = np.random.default_rng(0)
    blocks = [min(_ROWS_AT_ONCE, count - first) for first in range(0, count, _ROWS_AT_ONCE)]
    if path.suffix == ".npy":
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, dim))
        for number, size in enumerate(blocks):
            first = number * _ROWS_AT_ONCE
            array[first : first + size] = make_rows(rng, size, dim)
        array.flush()
        return
    names = [f"column{number}" for number in range(dim)]
    schema = pa.schema([(name, pa.float32()) for name in names])
    writer = parquet.ParquetWriter(path, schema) if path.suffix == ".parquet" else csv.CSVWriter(path, schema)
    with writer:
        for size in blocks:
            writer.write_table(pa.table(list(make_rows(rng, size, dim).T), schema=schema))


def run(arguments: list[str]) -> dict[str, float]:
    """Seconds, CPU seconds and peak memory in MiB of a command."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - start
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {"wall_s": wall} | figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 500_000, 5_000_000])
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    record = Record(options.json, machine=describe(), command=command_line(), columns=options.columns, results=[])
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for ending in FORMATS:
            sample, run_folder = place / f"sample.{ending}", str(place / ending)
            write(sample, 20_000, options.columns)
            run(["fit", str(sample), "--model", "som", "--rows", "20", "--cols", "20", "--out", run_folder, "--quiet"])
            for count in options.rows:
                path, output = place / f"rows.{ending}", place / "nodes.parquet"
                write(path, count, options.columns)
                repeated = [
                    run(["predict", run_folder, str(path), "-o", str(output), "--overwrite"])
                    for _ in range(options.repetitions)
                ]
                if parquet.ParquetFile(output).metadata.num_rows != count:
                    raise SystemExit(f"{output} does not have {count} rows")
                figures: dict[str, Any] = {"format": ending, "rows": count, "file_mib": path.stat().st_size / 2**20}
                figures |= {name: statistics.median(each[name] for each in repeated) for name in repeated[0]}
                record.add("results", figures)
                print(
                    f"{ending:7}  {count:9,} rows, {figures['file_mib']:7.1f} MiB: {figures['wall_s']:6.1f} s, "
                    f"{figures['cpu_s']:6.1f} s of CPU, {figures['peak_mib']:.0f} MiB"
                )
                path.unlink()
    record.say_where()


if __name__ == "__main__":
    main()
