"""The building blocks of the modules in this folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

REFERENCE_ELEMENTS = 1 << 27  # largest N * K * D for the references: beyond it they take seconds and gigabytes


@dataclass(frozen=True)
class Case:
    """One op at one size: what each contestant computes from the same inputs."""

    op: str
    size: Mapping[str, float]
    inputs: tuple[Tensor, ...]  # the differentiable inputs, possibly none
    contestants: Mapping[str, Callable[..., Any]]  # called with the inputs; if there are any, they return a tensor
    work: float  # floating-point operations or bytes of a forward pass
    unit: str  # "GFLOP/s" or "GB/s"


@dataclass(frozen=True)
class Cases:
    """The cases of an op: the function that builds one, and the sizes with and without ``--quick``."""

    make: Callable[..., Case]  # called with a generator, a device and a size
    quick: Sequence[tuple[float, ...]]
    full: Sequence[tuple[float, ...]]


def normal(generator: torch.Generator, device: torch.device, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator).to(device)


def nodes(generator: torch.Generator, device: torch.device, n: int, k: int) -> Tensor:
    return torch.randint(k, (n,), generator=generator).to(device)
