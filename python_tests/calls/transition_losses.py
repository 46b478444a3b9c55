from __future__ import annotations

from torch import Tensor

from calls.call import Call, Tensors
from somvae_ext import Grid, ops

TENSORS = ("logits", "prev", "index", "z", "codebook")


def calls(grid: Grid) -> dict[str, Call]:
    def transition_losses(sparse_grad: bool) -> Call:
        def function(t: Tensors) -> tuple[Tensor, ...]:
            tensors = (t[name] for name in TENSORS)
            return tuple(ops.transition_losses(*tensors, sparse_grad=sparse_grad))

        return Call(function, TENSORS, ("logits", "z", "codebook"))

    def expected_distance(sparse_grad: bool) -> Call:
        return Call(
            lambda t: (ops.expected_distance(t["logits"], t["prev"], t["z"], t["codebook"], sparse_grad=sparse_grad),),
            ("logits", "prev", "z", "codebook"),
            ("logits", "z", "codebook"),
        )

    return {
        "transition_losses": transition_losses(sparse_grad=False),
        "transition_losses, sparse": transition_losses(sparse_grad=True),
        "expected_distance": expected_distance(sparse_grad=False),
        "expected_distance, sparse": expected_distance(sparse_grad=True),
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    tensors = tuple(t[name] for name in TENSORS)
    return {"transition_losses": [(*tensors, sparse) for sparse in (False, True)]}


VALID = {
    "transition_losses": {
        "logits": (6, 6),
        "prev": [0, 5, 1, 1, 2],
        "cur": [5, 0, 0, 1, 2],
        "z": (5, 4),
        "codebook": (6, 4),
    },
    "expected_distance": {"logits": (6, 6), "prev": [0, 5, 1, 1, 2], "z": (5, 4), "codebook": (6, 4)},
}
WRONG_SHAPES = [
    ("transition_losses", "logits", (6,), "[K, K]"),
    ("transition_losses", "logits", (5, 6), "[K, K]"),
    ("transition_losses", "prev", [[0, 1, 2, 3, 4]], "[N]"),
    ("transition_losses", "cur", [0, 1, 2, 3], "[N] with N = 5"),
    ("transition_losses", "z", (4, 4), "[N, D] with N = 5"),
    ("transition_losses", "z", (5,), "[N, D]"),
    ("transition_losses", "codebook", (6, 3), "[K, D] with "),
    ("transition_losses", "codebook", (5, 4), "[K, D] with "),
    ("expected_distance", "logits", (5, 6), "[K, K]"),
    ("expected_distance", "prev", [[0, 1, 2, 3, 4]], "[N]"),
    ("expected_distance", "z", (4, 4), "[N, D] with N = 5"),
    ("expected_distance", "z", (5,), "[N, D]"),
    ("expected_distance", "codebook", (6, 3), "[K, D] with "),
    ("expected_distance", "codebook", (5, 4), "[K, D] with "),
]
