from __future__ import annotations

import torch

from calls.call import Call, Tensors
from somvae_ext import Grid


def calls(grid: Grid) -> dict[str, Call]:
    """Returns no calls: the update is a step of RowAdam, not a function of ``somvae_ext.ops``."""
    return {}


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    tensors = t["codebook"], t["total"], t["total"].square(), t["count"][0] + 1, t["index"], t["z"]
    lr = torch.tensor(0.1, device=t["z"].device)
    return {
        "adam_rows_": [(*tensors, 0.1, 0.9, 0.999, 1e-8)],
        "adam_rows_tensor_lr_": [(*tensors, lr, 0.9, 0.999, 1e-8)],
    }
