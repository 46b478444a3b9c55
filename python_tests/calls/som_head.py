from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid, ops


def calls(grid: Grid) -> dict[str, Call]:
    def som_losses(border: ops.Border) -> Call:
        return Call(
            lambda t: tuple(ops.som_losses(t["z"], t["codebook"], t["index"], grid, border=border)),
            ("z", "codebook", "index"),
            ("z", "codebook"),
        )

    def som_head(border: ops.Border, straight_through: bool) -> Call:
        return Call(
            lambda t: tuple(
                ops.som_head(t["z"], t["codebook"], grid, border=border, straight_through=straight_through)
            ),
            ("z", "codebook"),
            ("z", "codebook"),
        )

    return {
        "som_losses, zero border": som_losses("zero"),
        "som_losses, masked border": som_losses("mask"),
        "som_head": som_head("zero", straight_through=False),
        "som_head, straight-through, masked border": som_head("mask", straight_through=True),
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    z, codebook, neighbors = t["z"], t["codebook"], grid.neighbors(t["z"].device)
    return {
        "som_losses": [(z, codebook, t["index"], neighbors, mask) for mask in (False, True)],
        "som_head": [(z, codebook, neighbors), (z, codebook, neighbors, True, True)],
    }


VALID = {
    "som_losses": {"z": (5, 4), "codebook": (6, 4), "index": [0, 5, 1, 1, 2], "grid": Grid(2, 3)},
    "som_head": {"z": (5, 4), "codebook": (6, 4), "grid": Grid(2, 3)},
}
WRONG_SHAPES = [
    ("som_losses", "z", (5,), "[N, D]"),
    ("som_losses", "codebook", (6, 3), "[K, D] with "),
    ("som_losses", "codebook", (7, 4), "[K, D] with "),
    ("som_losses", "index", [0, 1, 2, 3], "[N] with N = 5"),
    ("som_losses", "index", [[0, 1, 2, 3, 4]], "[N]"),
    ("som_head", "z", (5,), "[N, D]"),
    ("som_head", "codebook", (6,), "[K, D] with "),
    ("som_head", "codebook", (6, 3), "[K, D] with "),
    ("som_head", "codebook", (7, 4), "[K, D] with "),
]
