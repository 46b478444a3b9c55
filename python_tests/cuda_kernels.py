"""The CUDA kernels of csrc, and the registers and shared memory that their source allows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Budget(NamedTuple):
    """What a kernel may take. Its comment says so where it is not this: ``// Budget: 96 registers.``

    A multiprocessor has 65536 registers: at 64 each it runs 1024 threads, at 128 two of the blocks of 256 threads that
    keep a 4 x 4 tile of distances, of sums in double, or 64 sums of the tensor cores in registers, and four of the
    blocks of 128 threads that keep a 4 x 4 tile of scores, at 168 three of those that keep an 8 x 8 tile. Since 8.0 it
    has at least 100 KiB of shared memory: room for three blocks of the search by differences, or four of the others.
    """

    registers: int = 64  # per thread
    shared: int = 48 << 10  # bytes per block


# The lines of comment above, the template's parameters, and what stands between __global__ and the body.
_KERNEL = re.compile(r"((?:^//[^\n]*\n)*)(?:^template <[^>]*>\n)?^__global__([^;{]*)[;{]", re.MULTILINE)


def kernel_budgets() -> dict[str, Budget]:
    """Every ``__global__`` function of csrc by its name."""
    budgets = {}
    for path in [*ROOT.glob("csrc/**/*.cu"), *ROOT.glob("csrc/**/*.cuh")]:
        for comment, declaration in _KERNEL.findall(path.read_text()):
            declaration = re.sub(r"__launch_bounds__\s*\([^)]*\)", "", declaration)
            name = re.search(r"(\w+)\s*\(", declaration)[1]  # type: ignore[index]
            budgets[name] = _budget_in(comment)
    return budgets


def _budget_in(comment: str) -> Budget:
    budget = re.search(r"// Budget: (\d+) registers(?:, (\d+) KiB of shared memory)?\.$", comment, re.MULTILINE)
    if budget is None:
        return Budget()
    registers, shared = budget.groups()
    return Budget(int(registers), int(shared) << 10 if shared else Budget().shared)
