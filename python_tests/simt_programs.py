"""Builds the kernels' C++ tests in ``build/simt``, or in the folder that SOMVAE_EXT_SIMT_BUILD names."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("SOMVAE_EXT_SIMT_BUILD", ROOT / "build" / "simt"))


def build_programs() -> None:
    """Compiles those programs of CMakeLists.txt that have changed; fails the calling test if that is not possible."""
    need("cmake", "CMake")
    need(os.environ.get("CXX", "c++").split()[0], "a C++ compiler")
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".building").open("w") as lock:  # other workers of the same session may build at the same time
        fcntl.flock(lock, fcntl.LOCK_EX)
        objects = f"-DSOMVAE_CPU_OBJECTS={built_objects() or ''}"
        run_or_fail(["cmake", "-S", ROOT, "-B", BUILD, objects], "CMake could not configure the kernels' tests")
        jobs = os.environ.get("MAX_JOBS", str(len(os.sched_getaffinity(0))))
        run_or_fail(["cmake", "--build", BUILD, "--parallel", jobs], "the kernels' tests do not compile")


def built_objects() -> Path | None:
    """Returns the folder of the objects that setup.py compiled, if the library is newer than all sources, else None."""
    folder = ROOT / "build" / sys.implementation.cache_tag
    library = ROOT / "somvae_ext" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
    sources = [path for path in ROOT.glob("csrc/**/*") if path.suffix in (".cpp", ".h") and "simt" not in path.parts]
    objects = [folder / path.relative_to(ROOT).with_suffix(".o") for path in sources if path.suffix == ".cpp"]
    if not all(path.exists() for path in [library, *objects]):
        return None
    return folder if library.stat().st_mtime > max(path.stat().st_mtime for path in sources) else None


def need(command: str, reason: str) -> None:
    if shutil.which(command) is None:
        pytest.fail(f"the kernels' tests are built with {reason}, and '{command}' was not found on PATH", pytrace=False)


def run_or_fail(command: list[str | Path], what: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.fail(f"{what}:\n{done.stdout[-8000:]}{done.stderr[-8000:]}", pytrace=False)
