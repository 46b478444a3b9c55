"""Times every op against plain torch, forward and forward + backward, in one process.

    python benchmarks/ops.py                                   on the CPU, 5 to 10 minutes
    python benchmarks/ops.py --device cuda --json results.json
    python benchmarks/ops.py --quick --ops bmu som_losses      small sizes, few repetitions

Three contestants: ``somvae_ext``, ``torch`` (the vectorised formula that a user of torch would write) and
``reference`` (the op's own in ``ops.reference``, written for reading; only at sizes that it can hold). ``row_adam`` is
a step of RowAdam beside torch's optimizers; ``bmu_index`` is a search of a trained map, its index included, beside
``ops.bmu``. They take turns, one repetition each, so that a machine that slows down slows all of them, and the medians
are compared. A repetition calls a fast contestant many times over. On CUDA it is timed by events.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from somvae_ext.bench.op_cases import all_cases
from somvae_ext.bench.op_cases.case import Case
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import checked_device, interleaved, square_product
from somvae_ext.machine import describe


def forward(contestant: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    def run() -> Tensor:
        with torch.no_grad():
            return contestant(*inputs)

    return run


def forward_backward(contestant: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], Any]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def run() -> tuple[Tensor, ...]:
        output = contestant(*leaves)
        return torch.autograd.grad(output, leaves, torch.ones_like(output))

    return run


def measure(case: Case, backward: bool, device: torch.device, repetitions: int) -> dict[str, Any]:
    """One row of the result: medians in seconds, how many times faster somvae_ext is, and its rate."""
    wrap = forward_backward if backward else forward
    runs = {name: wrap(contestant, case.inputs) for name, contestant in case.contestants.items()}
    product = square_product(device) if case.op == "bmu" and not backward else None
    if product:
        runs["mm"] = product.run
    times = interleaved(runs, device, repetitions)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = medians["somvae_ext"]
    result: dict[str, Any] = {
        "op": case.op,
        "size": case.size,
        "pass": "forward+backward" if backward else "forward",
        "seconds": medians,
        "fastest_and_slowest": {name: [min(values), max(values)] for name, values in times.items()},
        "speedup": {name: median / ours for name, median in medians.items() if name not in ("somvae_ext", "mm")},
    }
    if not backward:
        result["rate"], result["unit"] = case.work / ours / 1e9, case.unit
    if product:
        result["mm_rate"] = product.rate(medians["mm"])
        result["share_of_mm"] = result["rate"] / result["mm_rate"]
    return result


def line(result: dict[str, Any]) -> str:
    size = " ".join(f"{name}={value}" for name, value in result["size"].items())
    text = f"{result['op']:24} {size:34} {result['pass']:17} {result['seconds']['somvae_ext'] * 1e3:10.3f} ms"
    text += "".join(f"   {ratio:6.2f}x {name}" for name, ratio in result["speedup"].items())
    if "rate" in result:
        text += f"   {result['rate']:8.1f} {result['unit']}"
    if "share_of_mm" in result:
        text += f" ({result['share_of_mm']:.0%} of torch.mm)"
    return text


def main() -> None:
    cases = all_cases()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--ops", nargs="+", choices=cases, default=cases, metavar="OP", help=f"of {', '.join(cases)}")
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--repeat", type=int, help="repetitions (default: 15, 5 with --quick)")
    parser.add_argument("--quick", action="store_true", help="one small size per op")
    parser.add_argument("--json", type=Path, help="write everything there, row by row")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = checked_device(parser, arguments.device)
    repetitions = arguments.repeat or (5 if arguments.quick else 15)

    machine = describe(arguments.device)
    where = machine["gpu"]["name"] if arguments.device == "cuda" else f"{machine['cpu']}, {machine['threads']} threads"
    print(f"{where}, torch {machine['torch']}: median of {repetitions}, and how many times faster than the others")
    record = Record(arguments.json, machine=machine, repetitions=repetitions, quick=arguments.quick, results=[])
    for name in arguments.ops:
        for size in cases[name].quick if arguments.quick else cases[name].full:
            case = cases[name].make(torch.Generator().manual_seed(0), device, *size)
            for backward in (False, True) if case.inputs else (False,):
                result = measure(case, backward, device, repetitions)
                record.add("results", result)
                print(line(result), flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
