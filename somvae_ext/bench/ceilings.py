"""Ceilings: the highest rates of a machine, measured in turns with the calls that are compared with them."""

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


SMALL_SIDE, SMALL_WORK = 512, 2.0**30  # side of the matrices beside calls of fewer operations


@lru_cache
def square_product(
    device: torch.device, dtype: torch.dtype = torch.float32, *, tf32: bool = False, size: int | None = None
) -> Ceiling:
    """The product of two square matrices, by cuBLAS or the CPU's BLAS.

    Args:
        size: side of the matrices; by default 2048 on the CPU, and 8192 on CUDA, which fills a large GPU.
    """
    size = size or (2048 if device.type == "cpu" else 8192)
    square = torch.randn(size, size, device=device).to(dtype)

    def run() -> None:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        square @ square
        torch.set_float32_matmul_precision("highest")

    name = "tf32" if tf32 else str(dtype).removeprefix("torch.")
    return Ceiling(f"mm {name}", run, 2.0 * size**3)


def product_beside(work: float, device: torch.device, dtype: torch.dtype = torch.float32) -> Ceiling:
    """The product to measure beside a call of ``work`` operations: on the CPU a small one if the call is short."""
    small = device.type == "cpu" and work < SMALL_WORK
    return square_product(device, dtype, size=SMALL_SIDE if small else None)


def copy_of(count: float, device: torch.device) -> Ceiling:
    """A copy that reads and writes ``count`` bytes in total, so the same level of the caches serves both."""
    source = torch.ones(max(1, round(count / 8)), device=device)
    target = torch.empty_like(source)
    return Ceiling("copy", lambda: target.copy_(source), 2.0 * source.nbytes)
