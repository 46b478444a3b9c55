from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid, ops


def calls(grid: Grid) -> dict[str, Call]:
    def bmu(k: int) -> Call:
        inputs = ("z", "codebook")
        return Call(lambda t: tuple(ops.bmu(t["z"], t["codebook"], k)), inputs, differentiable=inputs, min_codes=k)

    return {"bmu": bmu(1), "bmu, two codes": bmu(2)}


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    z, codebook = t["z"], t["codebook"]
    return {"bmu": [(z, codebook), (z, codebook, 2), (z.T.contiguous().T, codebook[::2])]}


VALID = {"bmu": {"z": (5, 4), "codebook": (6, 4)}}
WRONG_SHAPES = [
    ("bmu", "z", (4,), "[N, D]"),
    ("bmu", "z", (5, 4, 1), "[N, D]"),
    ("bmu", "codebook", (4,), "[K, D]"),
    ("bmu", "codebook", (6, 3), "[K, D] with D = 4"),
]
