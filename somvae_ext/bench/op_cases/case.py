"""What an op's module in this folder is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

REFERENCE_ELEMENTS = 1 << 27  # of N * K * D: beyond this the references take seconds and gigabytes


@dataclass(frozen=True)
class Case:
    """One op at one size: what each contestant computes from the same inputs."""

    op: str
    size: Mapping[str, float]
    inputs: tuple[Tensor, ...]  # those that receive gradients, if any
    contestants: Mapping[str, Callable[..., Any]]  # of the inputs; where there are any, a tensor to differentiate
    work: float  # floating-point operations or bytes of a forward pass
    unit: str  # "GFLOP/s" or "GB/s"


@dataclass(frozen=True)
class Cases:
    """An op's cases: what builds one, and its sizes with ``--quick`` and without."""

    make: Callable[..., Case]  # of a generator, a device and a size
    quick: Sequence[tuple[float, ...]]
    full: Sequence[tuple[float, ...]]


def normal(generator: torch.Generator, device: torch.device, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator).to(device)


def nodes(generator: torch.Generator, device: torch.device, n: int, k: int) -> Tensor:
    return torch.randint(k, (n,), generator=generator).to(device)
