"""Trained maps to search. Unlike random codes, their codes lie near their grid neighbors.

A row's second best code is then almost as near as its best, so a search that proves winners or prunes by bounds has a
different amount of work than on random codes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.extras import needed_by
from somvae_ext.som import som_codes

LATENT = 4  # dimensions of the sheet in `rows_on_a_sheet`
NOISE = 0.1  # standard deviation around the sheet, per feature


def rows_on_a_sheet(n: int, dim: int, device: torch.device) -> Tensor:
    """Rows ``[n, dim]`` near a smooth, curved sheet: the data that maps are made for, at any size."""
    generator = torch.Generator().manual_seed(0)
    bend = 2 * torch.randn(LATENT, 32, generator=generator)
    spread = torch.randn(32, dim, generator=generator) / 32**0.5
    generator = torch.Generator(device).manual_seed(1)
    latent = 2 * torch.rand(n, LATENT, generator=generator, device=device) - 1
    sheet = torch.tanh(latent @ bend.to(device)) @ spread.to(device)
    return sheet + NOISE * torch.randn(n, dim, generator=generator, device=device)


def trained_codes(x: Tensor, side: int) -> Tensor:
    """The codebook ``[side * side, D]`` of a batch map trained on rows ``[N, D]``, on their device."""
    return som_codes(x, Grid(side, side))


def pixels(name: str, root: Path) -> Tensor:
    """All training images of ``"mnist"`` or ``"fashion-mnist"``, ``[60000, 784]``, from 0 to 1."""
    with needed_by("--data-root"):
        from torchvision.datasets import MNIST, FashionMNIST  # type: ignore[import-untyped]

    reader = {"mnist": MNIST, "fashion-mnist": FashionMNIST}[name]
    return reader(root, train=True).data.flatten(1) / 255


def principal_components(x: Tensor, count: int) -> Tensor:
    """The first ``count`` principal components of the rows, ``[N, count]``."""
    centered = (x - x.mean(dim=0)).double()
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -count:].flip(1)
    return (centered @ directions).float()
