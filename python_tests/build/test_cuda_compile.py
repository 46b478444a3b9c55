"""What nvcc made of the CUDA kernels: nothing spills, and each stays within its registers.

The library itself is read, so nothing is compiled here: a library without CUDA has nothing to be looked at.
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

from somvae_ext import build_info

ROOT = Path(__file__).resolve().parents[2]
KERNELS = sorted(
    {name for path in ROOT.glob("csrc/*/*.cuh") for name in re.findall(r"\b(\w+_kernel)\(", path.read_text())}
)

# Registers per thread, where the default is too few. A multiprocessor has 65536: at 64 each it runs 1024 threads, at
# 128 two of the blocks of 256 threads that keep a 4 x 4 tile of distances, of sums in double, or 64 sums of the tensor
# cores in registers, and four of the blocks of 128 threads that keep a 4 x 4 tile of scores, at 168 three of those that
# keep an 8 x 8 tile.
REGISTERS = {
    "difference_search_kernel": 168,
    "tensor_core_search_kernel": 128,
    "rescore_kernel": 128,
    "decide_kernel": 96,
    "exact_search_kernel": 128,
    "weighted_sum_kernel": 128,
    "transition_losses_partial_kernel": 128,
    "transition_losses_backward_logits_kernel": 128,
    "transition_losses_backward_means_kernel": 128,
    "transition_losses_backward_codebook_kernel": 128,
    "local_transition_losses_backward_logits_kernel": 128,
}
REGISTERS_DEFAULT = 64

# Bytes of shared memory per block, where the default is too much. Three blocks of the search by differences, four of
# the others, in 100 KiB, the least that a multiprocessor has since 8.0.
SHARED = {"difference_search_kernel": 32 << 10, "rescore_kernel": 24 << 10, "exact_search_kernel": 24 << 10}
SHARED_DEFAULT = 48 << 10


class Usage(NamedTuple):
    kernel: str
    arch: str
    registers: int
    stack: int  # spilled registers included
    shared: int

    def within_budget(self) -> bool:
        return (
            self.stack == 0
            and self.registers <= REGISTERS.get(self.kernel, REGISTERS_DEFAULT)
            and self.shared <= SHARED.get(self.kernel, SHARED_DEFAULT)
        )


def usages(report: str) -> Iterator[Usage]:
    """What ``cuobjdump --dump-resource-usage`` says about each instance of each kernel."""
    for part in report.split("\narch = ")[1:]:
        arch = re.match(r"sm_(\d+)", part)[1]  # type: ignore[index]
        # Since 9.0 a block that has shared memory has 1 KiB more, which is the system's.
        reserved = 1 << 10 if int(arch) >= 90 else 0
        entries = re.findall(r"Function (\w+):\n *REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", part)
        for symbol, registers, stack, shared, local in entries:
            name = kernel_of(symbol)
            yield Usage(name, arch, int(registers), int(stack) + int(local), max(0, int(shared) - reserved))


def kernel_of(symbol: str) -> str:
    """``bmu_kernel`` of ``_ZN6somvae10bmu_kernelI...``: namespaces and names, each after its length."""
    names, rest = [], symbol.removeprefix("_ZN")
    while length := re.match(r"\d+", rest):
        end = length.end() + int(length[0])
        names.append(rest[length.end() : end])
        rest = rest[end:]
    return names[-1]


def find_cuobjdump(setup_py: ModuleType) -> str:
    """The toolkit's, or that of triton, which comes with torch."""
    folders = [Path(nvcc).parent for nvcc in setup_py.nvcc_candidates()]
    triton = find_spec("triton")
    if triton is not None and triton.origin is not None:
        folders.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin")
    for folder in folders:
        if found := shutil.which("cuobjdump", path=folder):
            return found
    pytest.fail("cuobjdump was found neither in a CUDA toolkit nor in triton", pytrace=False)


@pytest.fixture(scope="module")
def found(setup_py: ModuleType) -> list[Usage]:
    """What each instance of each kernel takes, on each architecture that the library was compiled for."""
    if not build_info()["cuda"]:
        pytest.skip("the library was built without CUDA")
    from somvae_ext import _C

    command = [find_cuobjdump(setup_py), "--dump-resource-usage", _C.__file__]
    return list(usages(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_every_kernel_is_there_for_every_architecture(found: list[Usage]) -> None:
    archs = {re.sub(r"[.af]|\+PTX", "", arch) for arch in build_info()["cuda_archs"]}
    assert {(usage.kernel, usage.arch) for usage in found} == {(kernel, arch) for kernel in KERNELS for arch in archs}


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_stay_within_their_registers(found: list[Usage], kernel: str) -> None:
    instances = [usage for usage in found if usage.kernel == kernel]
    assert instances
    assert [usage for usage in instances if not usage.within_budget()] == []


def test_exceptions_are_those_of_kernels() -> None:
    assert {*REGISTERS, *SHARED} <= set(KERNELS)
