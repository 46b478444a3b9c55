from __future__ import annotations

import torch
from cases import normal
from torch import Tensor

from calls.call import Call, Sizes, Tensors
from somvae_ext import Grid, ops


def tensors(sizes: Sizes) -> Tensors:
    nodes = sizes.grid.num_nodes
    return {"weights": normal(nodes, nodes, seed=9, dtype=torch.float64, device=sizes.device).abs()}


def calls(grid: Grid) -> dict[str, Call]:
    def along_the_axes(t: Tensors) -> tuple[Tensor, ...]:
        weights = ops.AxisWeights(t["row_weights"], t["column_weights"])
        return (ops.som_update(t["codebook"], t["total"], t["count"], weights, rate=0.01),)

    def with_a_count_for_each_feature(t: Tensors) -> tuple[Tensor, ...]:
        count = t["count"][:, None].expand_as(t["total"])
        return (ops.som_update(t["codebook"], t["total"].double(), count, t["weights"], rate=0.1),)

    return {
        "som_update": Call(
            lambda t: (ops.som_update(t["codebook"], t["total"], t["count"], t["weights"]),),
            ("codebook", "total", "count", "weights"),
            (),
        ),
        "som_update, along the axes, by a rate": Call(
            along_the_axes, ("codebook", "total", "count", "row_weights", "column_weights"), ()
        ),
        "som_update, a count for each feature, by a rate": Call(
            with_a_count_for_each_feature, ("codebook", "total", "count", "weights"), ()
        ),
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    sums = t["codebook"], t["total"], t["count"]
    axes = t["row_weights"], t["column_weights"]
    return {
        "som_update": [(*sums, t["weights"]), (*sums, t["weights"], 0.01)],
        "som_update_axes": [(*sums, *axes), (*sums, *axes, 0.1)],
    }
