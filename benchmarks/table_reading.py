"""Measures reading a table of text, beside pandas: CPU seconds and peak memory of a process for each reader.

    python benchmarks/table_reading.py --json build/benchmarks/table_reading.json

Each reader loads the file into a float64 array ``[N, D]`` in a separate process, several times in turn; medians are
reported. The memory is that of the process beyond its imports.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from somvae_ext.bench.record import Record, command_line
from somvae_ext.machine import describe

READERS = {
    "somvae_ext": (
        "from pathlib import Path; from somvae_ext.data import read_table; import pyarrow.csv, pyarrow.compute",
        "x = read_table(Path(path)).x",
    ),
    "pandas": ("import pandas, pyarrow", "x = pandas.read_csv(path).to_numpy()"),
}
PROGRAM = """
import json, resource, sys, time
import numpy as np
path = sys.argv[1]
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
def memory(field):
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))
{imports}
open("/proc/self/clear_refs", "w").write("5")  # resets the peak
resident, before, start = memory("VmRSS"), cpu(), time.perf_counter()
{read}
wall, spent = time.perf_counter() - start, cpu() - before
assert x.dtype == np.float64 and np.isfinite(x).all()
json.dump({{"cpu_s": spent, "wall_s": wall, "peak_mib": memory("VmHWM") - resident}}, sys.stdout)
"""


def measure(reader: str, path: Path) -> dict[str, float]:
    imports, read = READERS[reader]
    program = PROGRAM.format(imports=imports, read=read)
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(run.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--json", type=Path, help="file for the results")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    record = Record(
        options.json, machine=describe(), command=command_line(), rows=options.rows, columns=options.columns, results=[]
    )
    with tempfile.TemporaryDirectory() as folder:
        for digits in (4, 17):
            path = Path(folder) / f"table{digits}.csv"
            names = ",".join(f"column{number}" for number in range(options.columns))
            x = rng.normal(size=(options.rows, options.columns))
            np.savetxt(path, x, delimiter=",", header=names, comments="", fmt=f"%.{digits}g")
            runs: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
            for _ in range(options.repetitions):
                for reader in READERS:
                    runs[reader].append(measure(reader, path))
            size = path.stat().st_size / 2**20
            for reader, figures in runs.items():
                medians = {name: statistics.median(run[name] for run in figures) for name in figures[0]}
                record.add("results", {"reader": reader, "digits": digits, "file_mib": size} | medians)
                print(
                    f"{reader:10}  {digits:2} digits, {size:.1f} MiB: {medians['cpu_s']:.3f} s of CPU, "
                    f"{medians['wall_s']:.3f} s, {medians['peak_mib']:.0f} MiB"
                )
    record.say_where()


if __name__ == "__main__":
    main()
