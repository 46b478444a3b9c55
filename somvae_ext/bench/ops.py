"""Every op against plain torch, forward and forward + backward.

Contestants are ``somvae_ext``, ``torch`` (the vectorized formula that a user of torch would write) and ``reference``
(the op in ``ops.reference``, written for reading; only at sizes that it can hold). ``row_adam`` is a step of RowAdam
beside torch's optimizers; ``bmu_index`` is a search of a trained map, including building the index, beside ``ops.bmu``.
The ceiling is a matrix product for ops counted in operations, and a copy of as many bytes for ops counted in bytes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.ceilings import Ceiling, copy_of, product_beside
from somvae_ext.bench.op_cases import all_cases
from somvae_ext.bench.op_cases.case import Case, Cases
from somvae_ext.bench.rows import OURS, Row
from somvae_ext.bench.suite import CODES, DIM, ROWS, SIDE, Option, Plan, Suite
from somvae_ext.bench.timing import interleaved

SIGMA = Option("--sigma", "width of the neighborhood, in nodes", float)
RADIUS = Option("--radius", "radius of local transitions, in nodes")
# The parameters that these options set in the functions of op_cases.
PARAMETERS = {
    "N": ("n", "rows"),
    "K": ("k",),
    "D": ("d",),
    "side": ("side",),
    "sigma": ("sigma",),
    "radius": ("radius",),
}


def forward(contestant: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return contestant(*inputs)

    return run


def forward_backward(contestant: Callable[..., Any], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def run() -> tuple[Tensor, ...]:
        output = contestant(*leaves)
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return run


def ceiling_of(case: Case, plan: Plan) -> Ceiling:
    return product_beside(case.work, plan.device) if case.unit == "GFLOP/s" else copy_of(case.work, plan.device)


def measure_case(case: Case, backward: bool, plan: Plan, threads: int | None) -> Row:
    wrap = forward_backward if backward else forward
    runs = {
        name: wrap(contestant, case.inputs)
        for name, contestant in case.contestants.items()
        if name == OURS or plan.wants(name)
    }
    ceiling = ceiling_of(case, plan)
    return Row(
        suite=SUITE.name,
        case=f"{case.op}, {'forward and backward' if backward else 'forward'}" if case.inputs else case.op,
        size=case.size,
        device=plan.device.type,
        threads=threads,
        samples=interleaved({**runs, ceiling.name: ceiling.run}, plan.device, plan.repetitions),
        own=[OURS, *(name for name in runs if name == "ops.bmu")],
        work=None if backward else case.work,
        unit=case.unit,
        ceilings={ceiling.name: ceiling.work},
    )


def own_size(op: str, cases: Cases, shape: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of ``cases.make`` for a custom shape; missing ones are those of the op's first size.

    Raises:
        ValueError: the op has no such size.
    """
    names = list(inspect.signature(cases.make).parameters)[2:]
    size = dict(zip(names, cases.full[0], strict=True))
    for option, value in shape.items():
        parameter = next((name for name in PARAMETERS[option] if name in size), None)
        if parameter is None:
            known = [flag(name) for name, spelled in PARAMETERS.items() if set(spelled) & size.keys()]
            raise ValueError(f"{op} takes {', '.join(known)}, got {flag(option)}")
        size[parameter] = value
    return tuple(size.values())


def flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def bytes_needed(size: Mapping[str, Any]) -> float:
    """Approximate bytes of the inputs and results of plain torch: N x D, K x D and, for tables, K x K."""
    n, d = size.get("n", size.get("rows", 1)), size.get("d", 1)
    k = size.get("k", size.get("side", 1) ** 2)
    table = k * k if "sparse" in size or "rows" in size else 0
    return 4.0 * (4 * table + 3 * n * d + 3 * k * d)


def measure(plan: Plan) -> Iterator[Row]:
    cases = {name: cases for name, cases in all_cases().items() if name in plan.parts}
    sizes = {name: made.quick if plan.quick else made.full for name, made in cases.items()}
    if plan.shape:
        sizes = {name: [own_size(name, made, plan.shape)] for name, made in cases.items()}
        for name, made in cases.items():
            names = list(inspect.signature(made.make).parameters)[2:]
            plan.check_memory(bytes_needed(dict(zip(names, sizes[name][0], strict=True))))
    for threads in plan.rounds():
        for name, made in cases.items():
            for size in sizes[name]:
                case = made.make(torch.Generator().manual_seed(0), plan.device, *size)
                for backward in (False, True) if case.inputs else (False,):
                    yield measure_case(case, backward, plan, threads)


SUITE = Suite(
    name="ops",
    summary="every op against plain torch, forward and backward",
    parts=dict.fromkeys(all_cases(), ""),
    parts_option="ops",
    options=(ROWS, CODES, DIM, SIDE, SIGMA, RADIUS),
    measure=measure,
    reads_images=False,
    contestants=lambda device: {
        **dict.fromkeys(("torch", "torch in float64", "SparseAdam", "Adam, fused"), "torch"),
        **dict.fromkeys(("reference", "ops.bmu"), OURS),
    },
)
