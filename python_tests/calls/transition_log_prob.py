from __future__ import annotations

from calls.call import Call, Tensors
from somvae_ext import Grid, ops


def calls(grid: Grid) -> dict[str, Call]:
    def transition_log_prob(sparse_grad: bool) -> Call:
        return Call(
            lambda t: (ops.transition_log_prob(t["logits"], t["prev"], t["index"], sparse_grad=sparse_grad),),
            ("logits", "prev", "index"),
            ("logits",),
        )

    return {
        "transition_log_prob": transition_log_prob(sparse_grad=False),
        "transition_log_prob, sparse": transition_log_prob(sparse_grad=True),
    }


def native_arguments(t: Tensors, grid: Grid) -> dict[str, list[tuple[object, ...]]]:
    return {"transition_log_prob": [(t["logits"], t["prev"], t["index"], sparse) for sparse in (False, True)]}


VALID = {"transition_log_prob": {"logits": (6, 6), "prev": [0, 5, 1, 1, 2], "cur": [5, 0, 0, 1, 2]}}
WRONG_SHAPES = [
    ("transition_log_prob", "logits", (6,), "[K, K]"),
    ("transition_log_prob", "logits", (6, 5), "[K, K]"),
    ("transition_log_prob", "prev", [[0, 1, 2, 3, 4]], "[N]"),
    ("transition_log_prob", "cur", [0, 1, 2, 3], "[N] with N = 5"),
]
