"""Measures which lines of csrc and somvae_ext the tests run: ``make coverage``.

The library is compiled with counters in a copy of the working tree, ``build/coverage/tree``, so the one built in place
stays as it is, and the next run reuses the objects. The measurement covers the whole suite except its slow sweeps, the
CPU kernels' tests without torch, and the CUDA kernels' tests on csrc/simt.

Writes ``build/coverage/index.html``, with all lines by folder and file, and ``build/coverage/summary.json``, with their
numbers, and prints a table of folders. pyproject.toml says what is counted and what is left out. Exits with 1 if a test
failed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "coverage"
TREE = OUT / "tree"
SIMT = TREE / "build" / "simt"
OBJECTS = TREE / "build" / sys.implementation.cache_tag
JOBS = os.environ.get("MAX_JOBS", str(len(os.sched_getaffinity(0))))


def run(*command: str | Path, check: bool = True, **environment: str) -> bool:
    """Runs a command in the copy of the tree; returns whether it succeeded, which ``check`` requires."""
    done = subprocess.run(command, cwd=TREE, env=os.environ | environment)
    if check and done.returncode != 0:
        sys.exit(f"somvae_ext: coverage was not measured, because '{' '.join(map(str, command))}' failed.")
    return done.returncode == 0


def copy_tree() -> None:
    """Copies the files that git knows or would add, with their times, so that only changed ones are compiled again."""
    TREE.mkdir(parents=True, exist_ok=True)
    for path in TREE.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name != "build":
            shutil.rmtree(path)
        elif path.name != "build":
            path.unlink()
    for counters in TREE.glob("build/**/*.gcda"):
        counters.unlink()
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)


def build() -> None:
    # Threads count the same lines. If counts were lost, gcov would compute negative ones for other lines.
    counted = "--coverage -fprofile-update=atomic"
    flags = {"CFLAGS": counted, "LDFLAGS": "--coverage"}
    run(sys.executable, "setup.py", "build_ext", "--inplace", SOMVAE_EXT_CUDA="0", MAX_JOBS=JOBS, **flags)
    options = ["-DSOMVAE_SIMT_VARIANTS=coverage", f"-DSOMVAE_CPU_OBJECTS={OBJECTS}"]
    run("cmake", "-S", ".", "-B", SIMT, *options, LDFLAGS="--coverage")
    run("cmake", "--build", SIMT, "--parallel", JOBS)


def run_tests() -> bool:
    """Runs all tests; returns whether they have passed."""
    # Without the tests of the simulator itself and those that run under a sanitizer.
    ctest = ["ctest", "--test-dir", SIMT, "--parallel", JOBS, "--exclude-regex", "simulator|planted|address"]
    kernels = run(*ctest, check=False)
    coverage = [sys.executable, "-m", "coverage", "run", "-m"]
    pytest = ["pytest", "-n", JOBS, "--dist", "loadfile", "--no-loadscope-reorder", "-p", "patient_workers"]
    chosen = ["-m", "not slow", "--ignore=python_tests/simt"]
    suite = run(*coverage, *pytest, *chosen, check=False, PYTHONPATH=str(TREE / ".ci"))
    return kernels and suite


def report() -> None:
    python_counts, native_counts = OUT / "somvae_ext.xml", OUT / "csrc.json"
    run(sys.executable, "-m", "coverage", "combine", "--quiet")
    run(sys.executable, "-m", "coverage", "xml", "--quiet", "-o", python_counts)
    # Every call that might throw has its own branch for that.
    run("gcovr", "--filter", "csrc/", "--exclude-throw-branches", "--json", native_counts, "-j", JOBS, "build")
    both = ["--json-add-tracefile", native_counts, "--cobertura-add-tracefile", python_counts]
    pages = ["--html-nested", OUT / "index.html", "--html-title", "Coverage of csrc and somvae_ext"]
    run("gcovr", *both, *pages, "--json-summary", OUT / "summary.json", "--json-summary-pretty")


def print_table() -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for file in json.loads((OUT / "summary.json").read_text())["files"]:
        for folder in (str(Path(file["filename"]).parent), Path(file["filename"]).parts[0] + ", all"):
            counts[folder].update({name: number for name, number in file.items() if isinstance(number, int)})
    print(f"\n{'':28}{'lines':>8}{'not run':>10}{'run':>8}{'branches taken':>18}")
    for folder, count in sorted(counts.items()):
        lines, missing = count["line_total"], count["line_total"] - count["line_covered"]
        branches = f"{count['branch_covered'] / max(1, count['branch_total']):18.1%}"
        print(f"{folder:28}{lines:8}{missing:10}{count['line_covered'] / lines:8.1%}{branches}")
    print(f"\n{OUT / 'index.html'}\n{OUT / 'summary.json'}")


if __name__ == "__main__":
    copy_tree()
    build()
    passed = run_tests()
    report()
    print_table()
    sys.exit(not passed)
