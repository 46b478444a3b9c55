from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid


def calls(grid: Grid) -> dict[str, Call]:
    """The update is a step of RowAdam, and no function of ``somvae_ext.ops``."""
    return {}


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    param, grad, index = t["codebook"], t["z"], t["index"]
    moments = t["ema_sums"], t["total"].square()
    return {"adam_rows_": [(param, *moments, t["count"][0] + 1, index, grad, 0.1, 0.9, 0.999, 1e-8)]}
