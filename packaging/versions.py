#!/usr/bin/env python3
"""Proves that the package builds and works under several versions of Python and torch.

    python packaging/versions.py python3.11:2.14.1 python3.12:2.11.0

For each pair PYTHON:TORCH, in a new virtual environment outside of the repository: installs that torch, builds an sdist of
a commit and a CPU wheel from it, installs the wheel, and runs the tests of the ops, of the optimizer and of
``build_info`` where no source of the package can be imported. The outcome is written into a JSON file, and versions.md
beside it is its table. A pair that fails is recorded and the next one begins; a pair that has passed on the same commit
is left as it is, so that a run which was stopped can be started again.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("versions.json")

# torch's own requirements decide these; other packages have the versions of constraints.txt.
CHOSEN_BY_TORCH = re.compile(r"(torch|torchvision|triton|setuptools|cuda-|nvidia-)")
TOOLS = ["build", "hypothesis", "ninja", "numpy", "pytest", "safetensors", "scikit-learn", "setuptools>=77"]

# test_parts.py is about the source tree, as are the other files of python_tests/build.
TESTS = ["python_tests/ops", "python_tests/optim", "python_tests/build/test_build_info.py"]
NOT_TESTED = ["python_tests/ops/test_parts.py"]

# Run where the tests run: what will be tested.
DESCRIBE = """
import json, platform, sys, torch, somvae_ext
info = somvae_ext.build_info()
print(json.dumps({
    "python": platform.python_version(), "torch": torch.__version__, "native": info["native"],
    "compiler": info.get("compiler"), "simd": info.get("simd"),
    "installed": somvae_ext.__file__.startswith(sys.prefix),
}))
"""


class Pair:
    """One Python and one torch, and the folder in which they are tried."""

    def __init__(self, text: str, commit: str, work: Path) -> None:
        self.command, separator, self.torch = text.rpartition(":")
        if not separator or not shutil.which(self.command):
            raise argparse.ArgumentTypeError(f"a pair is PYTHON:TORCH with a Python that is installed, and is {text!r}")
        version = subprocess.run([self.command, "--version"], capture_output=True, text=True, check=True).stdout
        self.python = version.split()[1]
        self.commit = commit
        self.folder = work / f"python-{self.python}-torch-{self.torch}"
        self.venv = self.folder / "venv"
        self.log = self.folder / "log.txt"

    def run(self, *command: str | Path, folder: Path | None = None) -> str:
        """Runs a command that must succeed and returns what it printed; all output is added to the log.

        This environment's variables stay, so that CXX and MAX_JOBS are respected, less those of Python.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        environment |= {
            "PATH": f"{self.venv / 'bin'}:{environment['PATH']}",  # where torch's build finds ninja
            "SOMVAE_EXT_CUDA": "0",
            "OMP_NUM_THREADS": "1",
        }
        line = shlex.join(map(str, command))
        with self.log.open("a") as log:
            log.write(f"$ {line}\n")
            log.flush()
            done = subprocess.run(
                command, cwd=folder or self.folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
            log.write(done.stdout)
        if done.returncode != 0:
            raise RuntimeError(f"{line[:120]} ended with exit code {done.returncode}; see {self.log}")
        return done.stdout

    def prepare(self) -> None:
        """The virtual environment with torch and the tools, and the source of the commit beside it."""
        source = self.folder / "source"
        source.mkdir()
        archive = self.folder / "source.tar"
        self.run("git", "-C", ROOT, "archive", "--output", archive, self.commit)
        self.run("tar", "-xf", archive, "-C", source)
        pins = [*(source / "constraints.txt").read_text().splitlines(), *requirements(source)]
        constraints = self.folder / "constraints.txt"
        constraints.write_text("\n".join(pin for pin in pins if not CHOSEN_BY_TORCH.match(pin)) + "\n")
        self.run(self.command, "-m", "venv", self.venv)
        self.pip("install", "--constraint", constraints, f"torch=={self.torch}", *TOOLS)

    def pip(self, *arguments: str | Path) -> None:
        self.run(self.venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", *arguments)

    def build(self) -> Path:
        """The wheel, built from an sdist and installed."""
        python = self.venv / "bin" / "python"
        self.run(python, "-m", "build", "--no-isolation", "--outdir", self.folder / "dist", self.folder / "source")
        (wheel,) = (self.folder / "dist").glob("*.whl")
        self.pip("install", wheel)
        return wheel

    def test(self) -> dict[str, Any]:
        """What is installed, and how many of its tests passed, failed and were skipped."""
        tests = self.folder / "tests"
        for name in ("python_tests", "benchmarks"):  # the tests share cases with the benchmarks
            shutil.copytree(self.folder / "source" / name, tests / name)
        shutil.copy(self.folder / "source" / "pyproject.toml", tests)
        python = self.venv / "bin" / "python"
        description = json.loads(self.run(python, "-c", DESCRIBE, folder=tests))
        if not description.pop("installed"):
            raise RuntimeError("somvae_ext was imported from elsewhere than the virtual environment")
        report = self.folder / "tests.xml"
        options = ["-m", "not slow", "-p", "no:cacheprovider", "--override-ini", "pythonpath=python_tests benchmarks"]
        options += [f"--ignore={file}" for file in NOT_TESTED]
        try:
            self.run(python, "-m", "pytest", "-q", f"--junitxml={report}", *options, *TESTS, folder=tests)
        except RuntimeError:
            if not report.exists():
                raise
        return description | counts(report)

    def try_out(self) -> dict[str, Any]:
        """The record of this pair, also of one that failed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        record: dict[str, Any] = {
            "python": self.python,
            "torch": self.torch,
            "commit": self.commit,
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
            "native": False,
            "passed": 0,
            "failed": 0,
            "skipped": 0,
            "seconds": {},
            "error": None,
        }
        try:
            for stage in (self.prepare, self.build, self.test):
                start = time.perf_counter()
                result = stage()
                record["seconds"][stage.__name__] = round(time.perf_counter() - start)
                if isinstance(result, Path):
                    record["wheel"] = result.name
                elif result:
                    record |= result
        except RuntimeError as error:
            record["error"] = str(error)
        return record

    def clean_up(self) -> None:
        """Removes all but the wheel, the log and the report of the tests; an environment takes 5 GB."""
        for name in ("venv", "source", "tests"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def requirements(source: Path) -> list[str]:
    file = source / "packaging" / "requirements.txt"
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def counts(report: Path) -> dict[str, int]:
    """Of a JUnit report: passed, failed (errors included) and skipped tests."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    return {"passed": total - failures - errors - skipped, "failed": failures + errors, "skipped": skipped}


def processor() -> str:
    """As /proc/cpuinfo names it."""
    return re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]


def proven(record: dict[str, Any]) -> bool:
    return record["error"] is None and record["native"] and record["passed"] > 0 and record["failed"] == 0


def table(records: list[dict[str, Any]]) -> str:
    """A Markdown table, one row per pair."""
    lines = [
        "| Python | torch | compiler | native | tests passed | failed | skipped | build, s | tests, s | commit | date |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        seconds = record["seconds"]
        cells = [
            record["python"],
            record["torch"],
            record.get("compiler") or "",
            "yes" if record["native"] else f"no: {record['error'] or 'the torch fallback was installed'}",
            record["passed"],
            record["failed"],
            record["skipped"],
            seconds.get("build", ""),
            seconds.get("test", ""),
            record["commit"][:9],
            record["date"],
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="+", metavar="PYTHON:TORCH", help="such as python3.12:2.14.1")
    parser.add_argument("--commit", default="HEAD", help="what to build (default: HEAD)")
    parser.add_argument("--json", type=Path, default=RESULTS, help=f"the records (default: {RESULTS.name} beside this)")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "somvae_ext_versions")
    parser.add_argument("--keep", action="store_true", help="leave the virtual environments and sources there")
    options = parser.parse_args()
    rev_parse = ["git", "-C", str(ROOT), "rev-parse", f"{options.commit}^{{commit}}"]
    commit = subprocess.run(rev_parse, capture_output=True, text=True, check=True).stdout.strip()
    try:
        pairs = [Pair(text, commit, options.work.resolve()) for text in options.pairs]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    records = json.loads(options.json.read_text()) if options.json.exists() else []
    for pair in pairs:
        same = [r for r in records if r["python"] == pair.python and r["torch"].split("+")[0] == pair.torch]
        if any(record["commit"] == commit and proven(record) for record in same):
            continue
        print(f"Python {pair.python}, torch {pair.torch}: {pair.log}", file=sys.stderr)
        record = pair.try_out()
        records = sorted([r for r in records if r not in same] + [record], key=lambda r: (r["python"], r["torch"]))
        options.json.write_text(json.dumps(records, indent=1) + "\n")
        if not options.keep:
            pair.clean_up()
    print(table(records))
    return 0 if all(map(proven, records)) else 1


if __name__ == "__main__":
    sys.exit(main())
