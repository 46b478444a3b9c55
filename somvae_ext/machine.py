"""Describes what a measurement was taken on, for every result file."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy
import torch

from somvae_ext._native import build_info
from somvae_ext._version import __version__

_SOURCE = Path(__file__).parent.parent


def describe(device: str = "cpu") -> dict[str, Any]:
    """Describes machine, versions and build, and with ``device="cuda"`` the GPU and its driver."""
    description: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "numpy": numpy.__version__,
        "packages": _package_versions(),
        "somvae_ext": {"version": __version__, **build_info()},
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        description["gpu"] = {
            "name": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "driver": _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]),
            "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        }
    return description


def _package_versions() -> dict[str, str]:
    """Returns the versions of the installed libraries that affect results."""
    versions = {}
    for name in ("lightning-fabric", "minisom", "scikit-learn", "scipy", "torchvision"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def _commit() -> str | None:
    """Returns the commit of the package's own working tree; None for an installed package, even inside another tree."""
    if _output(["git", "rev-parse", "--show-toplevel"]) != str(_SOURCE):
        return None
    return _output(["git", "describe", "--always", "--dirty"])


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _output(command: list[str]) -> str | None:
    """Runs a command in the source folder and returns what it prints; None if it is missing or fails."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, cwd=_SOURCE)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
