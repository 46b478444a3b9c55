from __future__ import annotations

from cases import normal
from rounding import compute_dtype
from torch import Tensor

from calls.call import Call, Sizes, Tensors
from somvae_ext import Grid, ops


def tensors(sizes: Sizes) -> Tensors:
    nodes, dtype = sizes.grid.num_nodes, compute_dtype(sizes.dtype)
    return {
        "ema_counts": normal(nodes, seed=12, dtype=dtype, device=sizes.device).abs(),
        "ema_sums": normal(nodes, sizes.dim, seed=13, dtype=dtype, device=sizes.device),
    }


def calls(grid: Grid) -> dict[str, Call]:
    def som_ema_update(t: Tensors) -> tuple[Tensor, ...]:
        """Updates copies of the inputs, so every run starts from the same values."""
        changed = tuple(t[name].detach().clone() for name in ("codebook", "ema_counts", "ema_sums"))
        weights = ops.AxisWeights(t["row_weights"], t["column_weights"])
        ops.som_ema_update(*changed, t["count"], t["total"], weights, decay=0.9, least_share=0.01)
        return changed

    return {
        "som_ema_update": Call(
            som_ema_update,
            ("codebook", "ema_counts", "ema_sums", "total", "count", "row_weights", "column_weights"),
            (),
        )
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    averages = t["codebook"], t["ema_counts"], t["ema_sums"]
    weights = t["row_weights"], t["column_weights"]
    return {"som_ema_update": [(*averages, t["count"], t["total"], *weights, 0.9, 0.01)]}
