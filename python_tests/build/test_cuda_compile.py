"""The compiled CUDA kernels spill no registers and stay within their budgets.

The tests read the library and compile nothing, so they are skipped if it was built without CUDA.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from cuda_kernels import ROOT, Budget, kernel_budgets

from somvae_ext import build_info

BUDGETS = kernel_budgets()


class Usage(NamedTuple):
    kernel: str
    arch: str
    registers: int
    stack: int  # including spilled registers
    shared: int

    def within_budget(self) -> bool:
        budget = BUDGETS[self.kernel]
        return self.stack == 0 and self.registers <= budget.registers and self.shared <= budget.shared


def usages(report: str) -> Iterator[Usage]:
    """Parses the output of ``cuobjdump --dump-resource-usage``, one usage per instance of a kernel."""
    for part in report.split("\narch = ")[1:]:
        arch = re.match(r"sm_(\d+)", part)[1]  # type: ignore[index]
        # From compute capability 9.0 on, the shared memory of a block includes 1 KiB that the system reserves.
        reserved = 1 << 10 if int(arch) >= 90 else 0
        entries = re.findall(r"Function (\w+):\n *REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", part)
        for symbol, registers, stack, shared, local in entries:
            name = kernel_of(symbol)
            yield Usage(name, arch, int(registers), int(stack) + int(local), max(0, int(shared) - reserved))


def kernel_of(symbol: str) -> str:
    """Returns ``bmu_kernel`` for ``_ZN6somvae10bmu_kernelI...``, where each name follows its length."""
    names, rest = [], symbol.removeprefix("_ZN")
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length[0])
        names.append(rest[length.end() : end])
        rest = rest[end:]
    return names[-1]


def find_cuobjdump(setup_py: ModuleType) -> str:
    """Finds cuobjdump in a CUDA toolkit, or in triton, which torch installs."""
    folders = [Path(nvcc).parent for nvcc in setup_py.nvcc_candidates()]
    triton = find_spec("triton")
    if triton is not None and triton.origin is not None:
        folders.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin")
    for folder in folders:
        if cuobjdump := shutil.which("cuobjdump", path=folder):
            return cuobjdump
    pytest.fail("cuobjdump was found neither in a CUDA toolkit nor in triton", pytrace=False)


@pytest.fixture(scope="module")
def kernel_usages(setup_py: ModuleType) -> list[Usage]:
    """The resources that each instance of each kernel uses, on each architecture of the library."""
    if not build_info()["cuda"]:
        pytest.skip("the library was built without CUDA")
    from somvae_ext import _C

    command = [find_cuobjdump(setup_py), "--dump-resource-usage", _C.__file__]
    return list(usages(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_every_kernel_is_compiled_for_every_architecture(kernel_usages: list[Usage]) -> None:
    archs = {re.sub(r"[.af]|\+PTX", "", arch) for arch in build_info()["cuda_archs"]}
    expected = {(kernel, arch) for kernel in BUDGETS for arch in archs}
    assert {(usage.kernel, usage.arch) for usage in kernel_usages} == expected


@pytest.mark.parametrize("kernel", sorted(BUDGETS))
def test_kernels_stay_within_their_budget(kernel_usages: list[Usage], kernel: str) -> None:
    instances = [usage for usage in kernel_usages if usage.kernel == kernel]
    assert instances
    assert [usage for usage in instances if not usage.within_budget()] == []


def test_every_budget_belongs_to_a_kernel() -> None:
    comments = sum(path.read_text().count("// Budget:") for path in ROOT.glob("csrc/**/*.cu*"))
    assert comments == sum(budget != Budget() for budget in BUDGETS.values())
