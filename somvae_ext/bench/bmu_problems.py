"""Problems of the suite ``bmu``, and the highest rates that a kernel could reach on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from somvae_ext.bench.ceilings import Ceiling, product_beside, square_product
from somvae_ext.bench.maps import pixels, principal_components, rows_on_a_sheet, trained_codes

PARTS = {
    "headline": "N=16384 K=4096 D=64, and a larger one on CUDA",
    "maps": "codes of trained maps; with --data-root, also of maps of MNIST",
    "D": "2 to 1024 features",
    "K": "64 to 65536 codes",
    "small-N": "1 to 64 rows",
    "dtype": "float64, bfloat16, float16",
    "two-best": "the two best codes",
    "growth": "ours alone, when N, K or D doubles",
    "memory": "peak memory at N=1000000 K=65536; takes minutes",
}
QUICK = {"maps": 1, "D": 2, "K": 2, "small-N": 2, "dtype": 1}  # problems of a part with --quick
MOST_ROWS = {"cpu": 1 << 16, "cuda": 1 << 22}
MNIST_IMAGES = 60000
FEWEST_ROWS_OF_A_MAP = 16  # maps with fewer rows are left out


@dataclass(frozen=True)
class Problem:
    """A search for the k best of K codes for each of N rows of D features.

    ``data`` names the rows and codes. With ``"random"`` both are normally distributed; with ``"sheet"``, ``"mnist"``
    (pixels) and ``"mnist, components"`` the codes are those of a square map trained on such rows.
    """

    part: str
    n: int
    codes: int
    dim: int
    dtype: torch.dtype = torch.float32
    k: int = 1
    data: str = "random"

    def tensors(self, device: torch.device, root: Path | None = None) -> tuple[Tensor, Tensor]:
        """Rows ``[N, D]`` and codebook ``[K, D]``."""
        if self.data != "random":
            z, codebook = trained_map(self.data, self.n, round(self.codes**0.5), self.dim, device, root)
        else:
            generator = torch.Generator().manual_seed(0)
            z = torch.randn(self.n, self.dim, generator=generator)
            codebook = torch.randn(self.codes, self.dim, generator=generator)
        return z.to(device, self.dtype), codebook.to(device, self.dtype)

    @property
    def dtype_name(self) -> str:
        return dtype_name(self.dtype)

    @property
    def work(self) -> float:
        return 2.0 * self.n * self.codes * self.dim


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@lru_cache(maxsize=8)
def trained_map(
    data: str, n: int, side: int, dim: int, device: torch.device, root: Path | None
) -> tuple[Tensor, Tensor]:
    """Rows and the codes of a map trained on them, cached for the next number of threads or pass."""
    if data == "sheet":
        x = rows_on_a_sheet(n, dim, device)
    elif root is None:
        raise ValueError(f"the map of {data} needs --data-root")
    else:
        images = pixels("mnist", root)
        x = (images if data == "mnist" else principal_components(images, dim)).to(device)[:n]
    return x, trained_codes(x, side)


def log2_work(device: torch.device, quick: bool) -> int:
    """Base-2 logarithm of a search's operations: the headline's on the CPU, enough to hide launches on CUDA."""
    return {"cpu": 27 if quick else 33, "cuda": 34 if quick else 38}[device.type]


def quick_problems(part: str, device: torch.device) -> list[Problem]:
    """The first and last problem of a part, or only the first, with less work."""
    candidates = problems(part, log2_work(device, quick=True), device, has_images=False)
    return candidates[:1] + candidates[1:][-1:] * (QUICK.get(part, 1) > 1)


def problems(part: str, log2_flop: int, device: torch.device, has_images: bool) -> list[Problem]:
    """The problems of a part, of at most ``2 ** log2_flop`` operations on the CPU and at least as many on CUDA.

    Fewer than 64 features count as 64, since the work per score then dominates the time.
    """

    def rows(codes: int, dim: int) -> int:
        fitting = 2.0**log2_flop / (2 * codes * max(dim, 64))
        power = math.ceil(math.log2(fitting)) if device.type == "cuda" else math.floor(math.log2(fitting))
        return min(MOST_ROWS[device.type], 1 << max(0, power))

    headline = [Problem("headline", min(16384, rows(4096, 64)), 4096, 64)]
    if device.type == "cuda":
        headline.append(Problem("headline", rows(16384, 64), 16384, 64))
    small = [(n, codes) for codes in (64, 4096) for n in (1, 4, 16, 64)]
    others = [torch.bfloat16, torch.float16, torch.float64]
    sheets = [(64, 64), (128, 64), (64, 784)]
    maps = [Problem("maps", rows(side**2, dim), side**2, dim, data="sheet") for side, dim in sheets]
    if has_images:
        maps += [
            Problem("maps", min(MNIST_IMAGES, rows(side**2, dim)), side**2, dim, data=data)
            for data, dim in (("mnist, components", 50), ("mnist", 784))
            for side in (64, 128)
        ]
    return {
        "headline": headline,
        "maps": [problem for problem in maps if problem.n >= FEWEST_ROWS_OF_A_MAP],
        "D": [Problem("D", rows(4096, dim), 4096, dim) for dim in (2, 16, 64, 784, 1024)],
        "K": [Problem("K", rows(codes, 64), codes, 64) for codes in (64, 1024, 65536)],
        "small-N": [Problem("small-N", n, codes, 64) for n, codes in small],
        "dtype": [Problem("dtype", rows(4096, 64), 4096, 64, dtype) for dtype in others],
        "two-best": [Problem("two-best", rows(4096, 64), 4096, 64, k=2)],
    }[part]


# --- Floors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Floor:
    """A lower bound on a kernel's time, as a multiple of the time of a matrix product in its number format.

    The kernel needs ``times`` as many instructions as the product, at the same rate.
    """

    product: str
    times: int


def floor(kernel: str, dtype: torch.dtype) -> Floor | None:
    """The floor of a kernel; None for float64, whose product runs on tensor cores, which ``ffma`` does not use."""
    if dtype == torch.float64:
        return None
    if kernel == "ffma":  # a subtraction and a multiply-add where the product has a multiply-add
        return Floor("float32", 2)
    return Floor("float16", 3) if dtype == torch.float32 else Floor(dtype_name(dtype), 1)  # products of halves


def products(problem: Problem, device: torch.device) -> dict[str, Ceiling]:
    """The matrix products to compare with, by number format; the first is in the dtype of the search."""
    dtype = problem.dtype
    if device.type == "cpu":  # where 16-bit inputs are computed in float32
        dtype = torch.promote_types(dtype, torch.float32)
    ceilings = {dtype_name(dtype): product_beside(problem.work, device, dtype)}
    if device.type == "cuda" and dtype != torch.float64:
        ceilings["float32"] = square_product(device)
    if device.type == "cuda" and dtype == torch.float32:
        ceilings["float16"] = square_product(device, torch.float16)
    return ceilings
