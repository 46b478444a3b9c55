"""Runs every op on a GPU, forward and backward, at a few awkward sizes. gpu_check.sh does so under compute-sanitizer.

    compute-sanitizer --tool memcheck python benchmarks/sanitize_ops.py

Sizes are one element, odd numbers, one beyond a tile, and enough codes to be split among blocks. Every op is called in
each of its modes, as the tests call it (python_tests/calls, which needs the extra ``dev``); the search makes both of
its first passes. Results are not compared: the tests do that.
With ``--device cpu`` it shows only that the script itself runs.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

import torch

from somvae_ext import Grid, ops
from somvae_ext.bench.bmu_contestants import KERNELS, forcing
from somvae_ext.bench.timing import check_device
from somvae_ext.optim import RowAdam

sys.path.append(str(Path(__file__).resolve().parents[1] / "python_tests"))
from calls import make_calls, make_inputs, run


def run_all(n: int, grid: Grid, d: int, dtype: torch.dtype, device: torch.device) -> None:
    """Runs every op once, in each of its modes, on ``n`` rows of ``d`` features and a map of ``grid``."""
    inputs = make_inputs(n, d, grid, dtype, device)
    k = grid.num_nodes
    for name, call in make_calls(grid).items():
        if k < call.min_codes:
            continue
        for kernel in KERNELS.values() if name.startswith("bmu") else [None]:
            with forcing(kernel) if kernel else nullcontext():
                run(call.function, inputs, call.differentiable)
    if k > 1:
        for kernel in KERNELS.values():
            with forcing(kernel):  # ties of more codes than a list has room for
                ops.bmu(inputs["z"], inputs["codebook"][:1].expand(k, d), k=2)
    logits = inputs["logits"].requires_grad_()
    ops.transition_log_prob(logits, inputs["prev"], inputs["index"], sparse_grad=True).sum().backward()
    RowAdam([logits]).step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    device = check_device(parser.parse_args().device)
    torch.manual_seed(0)
    hexagons = Grid(6, 5, topology="hexagonal", periodic=True)
    for n, grid, d in [(1, Grid(1, 1), 1), (33, hexagons, 7), (130, Grid(9, 15), 40), (20, Grid(23, 23), 3)]:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            run_all(n, grid, d, dtype, device)
    if device.type == "cuda":
        torch.cuda.synchronize()
    print("every op ran")


if __name__ == "__main__":
    main()
