"""The CUDA kernels of csrc, and the registers and shared memory that their source allows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Budget(NamedTuple):
    """What a kernel may use. A kernel's comment states its budget if it differs: ``// Budget: 96 registers.``

    A multiprocessor has 65536 registers. At 64 per thread it runs 1024 threads. At 128 it runs two of the blocks of 256
    threads that keep in registers a 4 x 4 tile of distances or of sums in double, or 64 sums of the tensor cores; and
    four of the blocks of 128 threads that keep a 4 x 4 tile of scores. At 168 it runs three of the blocks that keep an
    8 x 8 tile of scores. From compute capability 8.0 on it has at least 100 KiB of shared memory: enough for three
    blocks of the search by differences, or four of the others.
    """

    registers: int = 64  # per thread
    shared: int = 48 << 10  # bytes per block


# Matches the comment lines above a kernel, its template parameters, and its declaration from __global__ to the body.
_KERNEL = re.compile(r"((?:^//[^\n]*\n)*)(?:^template <[^>]*>\n)?^__global__([^;{]*)[;{]", re.MULTILINE)


def kernel_budgets() -> dict[str, Budget]:
    """Returns the budget of every ``__global__`` function of csrc by its name."""
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
