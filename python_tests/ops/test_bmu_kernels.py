"""The two CUDA kernels of the search, each forced by SOMVAE_EXT_BMU_KERNEL, return the same bits.

python_tests/simt makes the same claim of the same kernels on machines without a GPU.
"""

from __future__ import annotations

import importlib

import pytest
import torch
from calls import assert_same_bits
from cases import normal
from torch import Tensor

from somvae_ext import ops

native = importlib.import_module("somvae_ext._C")

pytestmark = pytest.mark.cuda

CUDA = torch.device("cuda")


def search(monkeypatch: pytest.MonkeyPatch, kernel: str | None, z: Tensor, codebook: Tensor, k: int) -> ops.BestMatch:
    if kernel is None:
        monkeypatch.delenv("SOMVAE_EXT_BMU_KERNEL", raising=False)
    else:
        monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", kernel)
    return ops.bmu(z, codebook, k)


def make_data(kind: str, rows: int, units: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    z = normal(rows, dim, seed=1, dtype=torch.float32, device=CUDA)
    codebook = normal(units, dim, seed=2, dtype=torch.float32, device=CUDA)
    if kind == "offset":
        z, codebook = z + 1e4, codebook + 1e4
    elif kind == "ties":
        z, codebook = z.round(), codebook.round()
    elif kind == "duplicates":
        codebook = codebook[torch.arange(units, device=CUDA) % max(1, units // 3)]
    elif kind == "invalid":
        z[::7, 0], codebook[::5, -1] = float("nan"), float("inf")
        codebook[1::5, 0] = float("nan")
    return z.to(dtype), codebook.to(dtype)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["normal", "offset", "ties", "duplicates", "invalid"])
@pytest.mark.parametrize(
    ("rows", "units", "dim"), [(1, 2, 1), (33, 300, 7), (130, 1030, 50), (1000, 4096, 64), (20000, 1024, 33)]
)
def test_kernels_agree(
    monkeypatch: pytest.MonkeyPatch, kind: str, rows: int, units: int, dim: int, dtype: torch.dtype, k: int
) -> None:
    z, codebook = make_data(kind, rows, units, dim, dtype)
    exact = search(monkeypatch, "ffma", z, codebook, k)
    for kernel in ("tensor_core", None):
        assert_same_bits(search(monkeypatch, kernel, z, codebook, k), exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("k", [1, 2])
def test_slices_of_the_codebook_change_nothing(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, k: int) -> None:
    """Few rows share out the codebook among blocks, many do not."""
    z = normal(60000, 19, seed=1, dtype=dtype, device=CUDA)
    codebook = normal(3000, 19, seed=2, dtype=dtype, device=CUDA)
    many = search(monkeypatch, "ffma", z, codebook, k)
    for rows in (1, 20, 100, 1000):
        few = search(monkeypatch, "ffma", z[:rows], codebook, k)
        assert_same_bits(few, [output[:rows] for output in many])


def test_rows_that_the_tensor_cores_leave_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code thrice: no row has a winner that approximate scores could prove."""
    z, codebook = make_data("duplicates", 500, 700, 40, torch.float32)
    monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", "tensor_core")
    assert native.bmu_searched_again(z, codebook) == 500
    monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", "ffma")
    assert native.bmu_searched_again(z, codebook) == 0


def test_search_by_tensor_cores_can_be_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that are searched again are counted on the device, so a graph finds those of its new input."""
    z, codebook = make_data("normal", 500, 700, 40, torch.float32)
    _, duplicates = make_data("duplicates", 500, 700, 40, torch.float32)
    expected = search(monkeypatch, "ffma", z, duplicates, 1)
    monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", "tensor_core")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        ops.bmu(z, codebook)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.bmu(z, codebook)
    codebook.copy_(duplicates)
    graph.replay()
    assert_same_bits(captured, expected)


def test_unknown_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codebook = make_data("normal", 3, 4, 5, torch.float32)
    with pytest.raises(RuntimeError, match="SOMVAE_EXT_BMU_KERNEL must be ffma or tensor_core, got 'fast'"):
        search(monkeypatch, "fast", z, codebook, 1)
