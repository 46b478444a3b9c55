"""What a machine can do at most, measured in the same turns as what is judged by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch


@dataclass(frozen=True)
class Ceiling:
    """A call whose rate others are compared with.

    Attributes:
        name: such as ``"mm float32"``.
        work: floating-point operations or bytes of a call.
    """

    name: str
    run: Callable[[], Any]
    work: float

    def rate(self, time: float) -> float:
        """GFLOP/s or GB/s of a call that took ``time`` seconds."""
        return self.work / time / 1e9


QUICK_SIDE = 512  # of a matrix with --quick


@lru_cache
def square_product(
    device: torch.device, dtype: torch.dtype = torch.float32, *, tf32: bool = False, size: int | None = None
) -> Ceiling:
    """The product of two square matrices, as cuBLAS or the CPU's BLAS does it.

    Args:
        size: of a side; by default 2048 on the CPU and 8192, which fills a large GPU, on CUDA.
    """
    size = size or (2048 if device.type == "cpu" else 8192)
    square = torch.randn(size, size, device=device).to(dtype)

    def run() -> None:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        square @ square
        torch.set_float32_matmul_precision("highest")

    name = "tf32" if tf32 else str(dtype).removeprefix("torch.")
    return Ceiling(f"mm {name}", run, 2.0 * size**3)


def quick_product(device: torch.device, quick: bool) -> Ceiling:
    """That of float32; with ``quick`` on the CPU of 512 x 512, which takes a sixty-fourth of the time."""
    return square_product(device, size=QUICK_SIDE if quick and device.type == "cpu" else None)


def copy_of(count: float, device: torch.device) -> Ceiling:
    """A copy that reads and writes ``count`` bytes together, so that it comes from the same level of the caches."""
    source = torch.ones(max(1, round(count / 8)), device=device)
    target = torch.empty_like(source)
    return Ceiling("copy", lambda: target.copy_(source), 2.0 * source.nbytes)
