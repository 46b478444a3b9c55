"""Runs six ops at sizes that fill a GPU, one call each between the profiler's marks; gpu_check.sh runs it under ncu.

    ncu --profile-from-start off --kernel-name regex:search_kernel python benchmarks/profiled_ops.py

With ``--device cpu`` it shows only that the script itself runs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from somvae_ext import Grid, ops
from somvae_ext.bench.bmu_contestants import forcing
from somvae_ext.bench.timing import check_device


def calls(device: torch.device) -> dict[str, Callable[[], Any]]:
    """The ops, by the kernel that each spends its time in."""
    n, side = (65536, 64) if device.type == "cuda" else (256, 8)
    grid, dim = Grid(side, side), 64
    nodes = grid.num_nodes
    z, codebook = torch.randn(n, dim, device=device), torch.randn(nodes, dim, device=device)
    index, prev = torch.randint(nodes, (2, n), device=device)
    logits = torch.randn(nodes, nodes, device=device)
    count = torch.randint(1, 9, (nodes,), device=device)
    weights = torch.rand(nodes, nodes, dtype=torch.float64, device=device)
    few = slice(4096)

    def search(kernel: str) -> Callable[[], Any]:
        def run() -> None:
            with forcing(kernel):
                ops.bmu(z, codebook)

        return run

    return {
        "difference_search_kernel": search("ffma"),
        "tensor_core_search_kernel": search("tensor_core"),
        "segment_sum_tiles_kernel": lambda: ops.segment_sum(z, index, nodes),
        "weighted_sum_kernel": lambda: ops.som_update(codebook, codebook, count, weights),
        "som_head_kernel": lambda: ops.som_losses(z, codebook, index, grid),
        "transition_losses_partial_kernel": lambda: ops.transition_losses(
            logits, prev[few], index[few], z[few], codebook
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    device = check_device(parser.parse_args().device)
    torch.manual_seed(0)
    for name, run in calls(device).items():
        run()  # loads code and allocates memory, which is not profiled
        with torch.cuda.profiler.profile() if device.type == "cuda" else nullcontext():
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
        print(f"ran {name}", flush=True)


if __name__ == "__main__":
    main()
