"""Measures the ceilings of a machine, bytes copied and matrix products per second, and describes it.

    python benchmarks/ceilings.py --device cuda --json ceilings.json

All other figures of a GPU are compared with these, measured on the same card, since cards of the same name differ. A
copy counts both the bytes read and those written. Products are those of random matrices in torch, by cuBLAS or the
CPU's BLAS.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from somvae_ext.bench.ceilings import copy_of, square_product
from somvae_ext.bench.record import Record
from somvae_ext.bench.timing import interleaved
from somvae_ext.machine import describe

REPETITIONS = 7


def copy_rate(device: torch.device, toy: bool) -> dict[str, Any]:
    """The rate of copying a block of memory that no cache holds."""
    megabytes = (64 if device.type == "cpu" else 4096) // (16 if toy else 1)
    copy = copy_of(2.0 * (megabytes << 20), device)
    time = statistics.median(interleaved({"copy": copy.run}, device, REPETITIONS)["copy"])
    return {"what": "copy", "seconds": time, "rate": copy.rate(time), "unit": "GB/s"}


def ceilings(device: torch.device, toy: bool) -> Iterator[dict[str, Any]]:
    """One row for each ceiling."""
    yield copy_rate(device, toy)
    kinds = [(torch.float32, False), (torch.float64, False)]
    if device.type == "cuda":
        kinds += [(torch.float32, True), (torch.float16, False), (torch.bfloat16, False)]
    for dtype, tf32 in kinds:
        product = square_product(device, dtype, tf32=tf32, size=256 if toy else None)
        time = statistics.median(interleaved({"mm": product.run}, device, REPETITIONS)["mm"])
        name = "tf32" if tf32 else str(dtype).removeprefix("torch.")
        yield {"what": f"{name} product", "seconds": time, "rate": product.rate(time), "unit": "GFLOP/s"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--toy", action="store_true", help="small sizes, whose figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the results, written row by row")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU, and torch sees none")

    record = Record(arguments.json, machine=describe(arguments.device), toy=arguments.toy, ceilings=[])
    for row in ceilings(torch.device(arguments.device), arguments.toy):
        record.add("ceilings", row)
        print(f"{row['what']:16}{row['rate']:12.1f} {row['unit']}", flush=True)
    record.say_where()


if __name__ == "__main__":
    main()
