from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid, ops


def calls(grid: Grid) -> dict[str, Call]:
    return {
        "segment_sum": Call(
            lambda t: tuple(ops.segment_sum(t["z"], t["index"], grid.num_nodes)), ("z", "index"), ("z",)
        )
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    return {"segment_sum": [(t["z"], t["index"], grid.num_nodes)]}


VALID = {"segment_sum": {"x": (5, 4), "index": [0, 5, 1, 1, 2], "num_segments": 6}}
WRONG_SHAPES = [
    ("segment_sum", "x", (5,), "[N, D]"),
    ("segment_sum", "index", [0, 1, 2, 3], "[N] with N = 5"),
]
