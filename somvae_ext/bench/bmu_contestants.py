"""Contestants of the suite ``bmu``: searches for the nearest codes, ours and those of other libraries.

Each contestant takes rows ``[N, D]``, a codebook ``[K, D]`` and the number k of winners, and returns a Search, or None
if it cannot take part. Whatever it derives from the codebook (norms, packed panels, a faiss index) is part of the
search, since training changes the codebook at every step.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from somvae_ext import ops
from somvae_ext.bench.rows import OURS

Winners = tuple[Any, ...]  # all that a contestant returns, tensors or arrays; the indices come last
Search = Callable[[], Winners]

KERNELS = {f"{OURS} {kernel}": kernel for kernel in ("ffma", "tensor_core")}  # contestants that force one kernel
MOST_SCORES = {"cpu": 1 << 28, "cuda": 1 << 31}  # most scores that a contestant may hold: 1 and 8 GiB of float32


def somvae_ext(z: Tensor, codebook: Tensor, k: int) -> Search:
    return lambda: tuple(ops.bmu(z, codebook, k))


def forced(kernel: str) -> Callable[[Tensor, Tensor, int], Search | None]:
    """Our search by one of its CUDA kernels, whatever the shape."""

    def make(z: Tensor, codebook: Tensor, k: int) -> Search | None:
        if kernel == "tensor_core" and z.dtype == torch.float64:
            return None

        def search() -> Winners:
            with forcing(kernel):
                return tuple(ops.bmu(z, codebook, k))

        return search

    return make


@contextmanager
def forcing(kernel: str) -> Iterator[None]:
    """Makes ``ops.bmu`` use this kernel."""
    os.environ["SOMVAE_EXT_BMU_KERNEL"] = kernel
    try:
        yield
    finally:
        del os.environ["SOMVAE_EXT_BMU_KERNEL"]


def smallest(scores: Tensor, k: int) -> Tensor:
    """The columns of the k smallest scores of each row: ``[N]`` for one, ``[N, k]`` for more."""
    if k > 1:
        return scores.topk(k, dim=1, largest=False).indices
    return scores.argmin(dim=1) if len(scores) < 64 else scores.min(dim=1).indices  # whichever is faster on the CPU


def holds_scores(z: Tensor, codebook: Tensor) -> bool:
    """Whether N x K scores are few enough to be held in memory."""
    return len(z) * len(codebook) <= MOST_SCORES[z.device.type]


def half_norms(codebook: Tensor) -> Tensor:
    return codebook.square().sum(dim=1) / 2


def in_float(values: Tensor) -> Tensor:
    """Converts 16-bit values to float32: sums rounded to 16 bits would select the wrong codes."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def torch_blocks(z: Tensor, codebook: Tensor, k: int) -> Search:
    """Argmin of |e|^2 / 2 - z.e for one block of rows at a time, in a buffer that all blocks share."""

    def search() -> Winners:
        codes, block = in_float(codebook), 256 if z.device.type == "cpu" else 8192
        norms, indices = half_norms(codes), []
        scores = codes.new_empty(min(block, len(z)), len(codes))
        for rows in z.split(block):
            out = scores[: len(rows)]
            torch.addmm(norms, in_float(rows), codes.T, alpha=-1, out=out)
            indices.append(smallest(out, k))
        return (torch.cat(indices),)

    return search


def torch_whole(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """The same for all rows at once, if N x K scores fit into memory."""
    if not holds_scores(z, codebook):
        return None
    return lambda: (all_scores_smallest(z, codebook, k),)


def all_scores_smallest(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    codes = in_float(codebook)
    return smallest(torch.addmm(half_norms(codes), in_float(z), codes.T, alpha=-1), k)


def torch_cdist(z: Tensor, codebook: Tensor, k: int) -> Search:
    def search() -> Winners:
        codes = in_float(codebook)
        blocks = z.split(max(1, (1 << 20 if z.device.type == "cpu" else 1 << 26) // len(codes)))
        return (torch.cat([smallest(torch.cdist(in_float(rows), codes), k) for rows in blocks]),)

    return search


def torch_mm_16bit(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """A product of the 16-bit values, summed and returned in float32: what cuBLAS's tensor cores do best."""
    if z.dtype not in (torch.float16, torch.bfloat16) or not holds_scores(z, codebook):
        return None

    def search() -> Winners:
        products = torch.mm(z, codebook.T, out_dtype=torch.float32)
        return (smallest(half_norms(codebook.float()) - products, k),)

    return search


def torch_compile(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    if not holds_scores(z, codebook):
        return None
    torch.compiler.reset()  # every problem is compiled for its own sizes
    compiled = torch.compile(all_scores_smallest, dynamic=False)
    return lambda: (compiled(z, codebook, k),)


def sklearn_argmin(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from sklearn.metrics import pairwise_distances_argmin  # type: ignore[import-untyped]

    if k > 1 or z.dtype not in (torch.float32, torch.float64):
        return None
    rows, codes = z.numpy(), codebook.numpy()
    return lambda: (pairwise_distances_argmin(rows, codes),)


def sklearn_argmin_min(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from sklearn.metrics import pairwise_distances_argmin_min

    if k > 1 or z.dtype not in (torch.float32, torch.float64):
        return None
    rows, codes = z.numpy(), codebook.numpy()
    return lambda: pairwise_distances_argmin_min(rows, codes)[::-1]


def faiss_flat(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    import faiss

    if z.dtype != torch.float32:
        return None
    rows, codes = z.numpy(), codebook.numpy()

    def search() -> Winners:
        index = faiss.IndexFlatL2(codes.shape[1])
        index.add(codes)
        return index.search(rows, k)

    return search


def keops(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    from pykeops.torch import LazyTensor

    if z.dtype == torch.bfloat16:
        return None

    def search() -> Winners:
        distances = ((LazyTensor(z[:, None, :]) - LazyTensor(codebook[None, :, :])) ** 2).sum(-1)
        return (distances.argmin(dim=1) if k == 1 else distances.argKmin(k, dim=1),)

    return search


def flash_kmeans(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """The assignment step of flash-kmeans."""
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    if k > 1 or z.dtype == torch.float64:
        return None
    # The norms of the rows, which stay the same in a training. Later versions may not take them.
    takes_norms = "x_sq" in inspect.signature(euclid_assign_triton).parameters
    norms = {"x_sq": z.float().square().sum(dim=1)[None]} if takes_norms else {}
    return lambda: (euclid_assign_triton(z[None], codebook[None], **norms)[0],)


def fastersom(z: Tensor, codebook: Tensor, k: int) -> Search | None:
    """The search in fastersom's epochs, by its fused kernels on CUDA."""
    from fastersom import SOM

    if k > 1 or z.dtype != torch.float32:
        return None
    som = SOM.from_weights(codebook, 1, len(codebook), device=z.device)
    return lambda: (som._bmus(z, codebook, return_distance=False)[0],)  # its `predict` copies the winners to the CPU


@dataclass(frozen=True)
class Contestant:
    """A search, and the package that it belongs to.

    Attributes:
        captures: whether a CUDA graph can capture it.
        compiles: whether it compiles for each size, which takes so long that it takes part in the headline alone.
    """

    make: Callable[[Tensor, Tensor, int], Search | None]
    package: str = "torch"
    captures: bool = True
    compiles: bool = False


def version(package: str) -> str | None:
    """The version of a package; None if it is not installed or does not work here."""
    try:
        return getattr(importlib.import_module(package), "__version__", "unknown")
    except Exception:  # such packages raise all kinds of errors without a driver or compiler
        return None


def known(device: torch.device) -> dict[str, Contestant]:
    """All contestants on a device, whether installed or not; ours first."""
    return ON_CUDA if device.type == "cuda" else ON_CPU


def versions(device: torch.device) -> dict[str, str | None]:
    """The versions of the packages of all contestants but ours."""
    packages = {contestant.package for contestant in known(device).values()} - {OURS}
    return {package: version(package) for package in sorted(packages)}


ON_CPU = {
    OURS: Contestant(somvae_ext, OURS),
    "torch blocks": Contestant(torch_blocks),
    "torch whole": Contestant(torch_whole),
    "torch cdist": Contestant(torch_cdist),
    "sklearn argmin": Contestant(sklearn_argmin, "sklearn"),
    "sklearn argmin_min": Contestant(sklearn_argmin_min, "sklearn"),
    "faiss": Contestant(faiss_flat, "faiss"),
    "fastersom": Contestant(fastersom, "fastersom"),
}
ON_CUDA = {
    OURS: Contestant(somvae_ext, OURS),
    **{name: Contestant(forced(kernel), OURS) for name, kernel in KERNELS.items()},
    "torch blocks": Contestant(torch_blocks),
    "torch whole": Contestant(torch_whole),
    "torch cdist": Contestant(torch_cdist),
    "torch mm 16-bit": Contestant(torch_mm_16bit),
    "torch.compile": Contestant(torch_compile, compiles=True),
    "pykeops": Contestant(keops, "pykeops", captures=False, compiles=True),  # waits for the device
    "flash-kmeans": Contestant(flash_kmeans, "flash_kmeans"),
    "fastersom": Contestant(fastersom, "fastersom"),
}
