from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from somvae_ext.bench.op_cases.case import Case, Cases, normal
from somvae_ext.optim import RowAdam


def row_adam_case(generator: torch.Generator, device: torch.device, rows: int, k: int) -> Case:
    """A step on ``rows`` distinct rows of a K x K table, beside dense Adam, which updates the whole table."""
    index = torch.randperm(k, generator=generator)[:rows].sort().values.to(device)
    values = normal(generator, device, rows, k)
    sparse = torch.sparse_coo_tensor(index[None], values, (k, k), is_coalesced=True, check_invariants=False)

    def step(make: Callable[[list[Tensor]], torch.optim.Optimizer], grad: Tensor) -> Callable[[], Tensor]:
        table = torch.zeros(k, k, device=device).requires_grad_()
        table.grad = grad
        optimizer = make([table])

        def run() -> Tensor:
            with torch.enable_grad():
                optimizer.step()
            return table

        return run

    contestants = {
        "somvae_ext": step(lambda tables: RowAdam(tables), sparse),
        "SparseAdam": step(lambda tables: torch.optim.SparseAdam(tables), sparse),
    }
    if k * k * 4 * 4 <= 1 << 32:  # table, gradient and two moments within 4 GiB
        contestants["Adam, fused"] = step(lambda tables: torch.optim.Adam(tables, fused=True), sparse.to_dense())
    # Parameter and both moments are read and written; the gradient is only read.
    return Case("row_adam", {"rows": rows, "K": k}, (), contestants, 7.0 * rows * k * values.element_size(), "GB/s")


CASES = {"row_adam": Cases(row_adam_case, quick=[(32, 256)], full=[(256, 4096), (256, 16384)])}
