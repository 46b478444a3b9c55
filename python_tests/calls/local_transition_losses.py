from __future__ import annotations

from cases import normal
from torch import Tensor

from calls.call import Call, Sizes, Tensors
from somvae_ext import Grid, ops

TENSORS = ("local_logits", "prev", "index", "z", "codebook")
RADIUS = 2


def tensors(sizes: Sizes) -> Tensors:
    slots = len(sizes.grid.window(RADIUS).mirror)
    return {
        "local_logits": normal(sizes.grid.num_nodes, slots + 1, seed=6, dtype=sizes.dtype, device=sizes.device),
    }


def calls(grid: Grid) -> dict[str, Call]:
    def local_transition_losses(sparse_grad: bool) -> Call:
        def function(t: Tensors) -> tuple[Tensor, ...]:
            arguments = (t[name] for name in TENSORS)
            return tuple(ops.local_transition_losses(*arguments, grid, RADIUS, sparse_grad=sparse_grad))

        return Call(function, TENSORS, ("local_logits", "z", "codebook"))

    return {
        "local_transition_losses": local_transition_losses(sparse_grad=False),
        "local_transition_losses, sparse": local_transition_losses(sparse_grad=True),
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    window = grid.window(RADIUS, t["z"].device)
    map_of_nodes = window.offsets, window.mirror, grid.rows, grid.cols, grid.periodic
    arguments = tuple(t[name] for name in TENSORS)
    return {"local_transition_losses": [(*arguments, *map_of_nodes, sparse) for sparse in (False, True)]}


VALID = {
    "local_transition_losses": {
        "logits": (6, 10),
        "prev": [0, 5, 1, 1, 2],
        "cur": [5, 0, 0, 1, 2],
        "z": (5, 4),
        "codebook": (6, 4),
        "grid": Grid(2, 3),
        "radius": 1,
    }
}
WRONG_SHAPES = [
    ("local_transition_losses", "logits", (6,), "[K, W + 1] with K = 6, W = 9"),
    ("local_transition_losses", "logits", (6, 9), "[K, W + 1] with K = 6, W = 9"),
    ("local_transition_losses", "logits", (5, 10), "[K, W + 1] with K = 6, W = 9"),
    ("local_transition_losses", "cur", [0, 1, 2, 3], "[N] with N = 5"),
    ("local_transition_losses", "z", (4, 4), "[N, D] with N = 5"),
    ("local_transition_losses", "codebook", (6, 3), "[K, D] with "),
    ("local_transition_losses", "codebook", (5, 4), "[K, D] with "),
]
