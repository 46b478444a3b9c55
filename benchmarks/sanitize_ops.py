"""Runs every op on a GPU, forward and backward, at a few awkward sizes: what gpu_check.sh puts under compute-sanitizer.

    compute-sanitizer --tool memcheck python benchmarks/sanitize_ops.py

Sizes are one element, odd ones, one beyond a tile, and codes enough to be shared out among blocks. The search makes
both of its first passes, the transition ops run with dense and with sparse gradients. Results are not compared: the
tests do that.
With ``--device cpu`` it shows no more than that the script itself runs.
"""

from __future__ import annotations

import argparse

import torch
from bmu_contestants import KERNELS, forcing
from timing import checked_device
from torch import Tensor

from somvae_ext import Grid, ops
from somvae_ext.optim import RowAdam


def backward(*outputs: Tensor) -> None:
    torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])


def run_all(n: int, grid: Grid, d: int, dtype: torch.dtype, device: torch.device) -> None:
    """Every op once on ``n`` rows of ``d`` features and a map of ``grid``."""
    k = grid.num_nodes
    z, codebook, logits = (
        torch.randn(shape, device=device).to(dtype).requires_grad_() for shape in ((n, d), (k, d), (k, k))
    )
    local = torch.randn(k, len(grid.window(2).mirror) + 1, device=device).to(dtype).requires_grad_()
    prev, cur = (torch.randint(k, (n,), device=device) for _ in range(2))
    for kernel in KERNELS.values():
        with forcing(kernel):
            backward(ops.bmu(z, codebook).distance)
            if k > 1:
                backward(ops.bmu(z, codebook, k=2).distance)
                ops.bmu(z, codebook[:1].expand(k, d), k=2)  # ties of more codes than a list has room for
    backward(ops.som_gather(codebook, cur, grid))
    for border in ("zero", "mask"):
        backward(*ops.som_losses(z, codebook, cur, grid, border=border))
        for straight_through in (False, True):
            backward(*ops.som_head(z, codebook, grid, border=border, straight_through=straight_through)[:3])
    backward(ops.segment_sum(z, cur, k).sum)
    total, count = torch.randn(k, d, device=device), torch.randint(5, (k, d), device=device)
    axes = ops.AxisWeights(
        torch.rand(grid.rows, grid.rows, device=device), torch.rand(2, 2, grid.cols, grid.cols, device=device)
    )
    for weights in (torch.rand(k, k, device=device), axes):
        ops.som_update(codebook, total, count, weights)
        ops.som_update(codebook, total.double(), count[:, 0], weights, rate=0.1)
    ops.som_ema_update(
        codebook.detach().clone(), count[:, 0].float(), total.clone(), count[:, 0], total, axes, decay=0.9
    )
    for sparse_grad in (False, True):
        logits.grad = None
        backward(ops.transition_log_prob(logits, prev, cur, sparse_grad=sparse_grad))
        logits.grad = None
        backward(*ops.transition_losses(logits, prev, cur, z, codebook, sparse_grad=sparse_grad))
        logits.grad = None
        backward(ops.expected_distance(logits, prev, z, codebook, sparse_grad=sparse_grad))
        local.grad = None
        backward(*ops.local_transition_losses(local, prev, cur, z, codebook, grid, 2, sparse_grad=sparse_grad))
    RowAdam([logits]).step()  # along the sparse gradient


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    device = checked_device(parser, parser.parse_args().device)
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
