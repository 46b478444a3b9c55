from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid, ops


def calls(grid: Grid) -> dict[str, Call]:
    return {
        "som_gather": Call(
            lambda t: (ops.som_gather(t["codebook"], t["index"], grid),), ("codebook", "index"), ("codebook",)
        )
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    return {"som_gather": [(t["codebook"], t["index"], grid.neighbors(t["index"].device))]}


VALID = {"som_gather": {"codebook": (6, 4), "index": [0, 5, 1, 1, 2], "grid": Grid(2, 3)}}
WRONG_SHAPES = [
    ("som_gather", "codebook", (6,), "[K, D] with K = 6"),
    ("som_gather", "codebook", (7, 4), "[K, D] with K = 6"),
    ("som_gather", "index", [[0, 1]], "[N]"),
]
