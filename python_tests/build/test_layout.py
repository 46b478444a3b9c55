"""Rules for includes in csrc: kernels do not include torch, and only one file includes Python."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

INCLUDE = re.compile(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', re.MULTILINE)
TORCH = ("torch/", "ATen/", "c10/", "caffe2/")
PYTHON = (
    "Python.h",
    "pybind11/",
    "torch/csrc/jit/python/",
    "torch/csrc/utils/pybind.h",
    "torch/extension.h",
    "torch/python.h",
)
FAMILIES = sorted({path.parent.name for path in Path(__file__).parents[2].glob("csrc/*/*_cpu.cpp")})


def reached(file: Path, csrc: Path) -> dict[str, Path]:
    """Maps each header that ``file`` includes, directly or through headers of csrc, to the file that includes it."""
    headers: dict[str, Path] = {}
    waiting = [file]
    while waiting:
        current = waiting.pop()
        for name in INCLUDE.findall(current.read_text()):
            if name not in headers:
                headers[name] = current
                waiting += [path for path in (csrc / name, current.parent / name) if path.is_file()][:1]
    return headers


def native_files(root: Path) -> list[Path]:
    return sorted(path for path in (root / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh"))


def test_kernels_include_no_torch_and_no_python_header(root: Path) -> None:
    ends = ("_cpu", "_cpu_kernel")
    kernels = [file for file in native_files(root) if file.suffix in (".cu", ".cuh") or file.stem.endswith(ends)]
    assert kernels
    wrong = [
        f"{file.relative_to(root)}: {name} (in {where.relative_to(root)})"
        for file in kernels
        for name, where in reached(file, root / "csrc").items()
        if name.startswith(TORCH + PYTHON)
    ]
    assert wrong == []


def test_only_bindings_includes_python(root: Path) -> None:
    naming = [
        str(file.relative_to(root))
        for file in native_files(root)
        if any(name.startswith(PYTHON) for name in INCLUDE.findall(file.read_text()))
    ]
    assert naming == ["csrc/bindings.cpp"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_cpu_file_has_its_cuda_file(root: Path, family: str) -> None:
    folder = root / "csrc" / family
    cpu = {file.name.removesuffix("_cpu.cpp") for file in folder.glob("*_cpu.cpp")}
    cuda = {file.name.removesuffix("_cuda.cu") for file in folder.glob("*_cuda.cu")}
    # On CUDA, `bmu` itself decides by float64 scores.
    only_cpu = {"exact_scores"} if family == "bmu" else set()
    assert cpu - only_cpu
    assert cpu == cuda | only_cpu
