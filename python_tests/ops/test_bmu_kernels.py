"""On CUDA, every first pass of the search, forced by SOMVAE_EXT_BMU_KERNEL, leads to the same bits as on the CPU.

python_tests/simt tests the same claim about the same kernels on machines without a GPU.
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


def make_data(kind: str, rows: int, codes: int, dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    z = normal(rows, dim, seed=1, dtype=torch.float32, device=CUDA)
    codebook = normal(codes, dim, seed=2, dtype=torch.float32, device=CUDA)
    if kind == "offset":
        z, codebook = z + 1e4, codebook + 1e4
    elif kind == "ties":
        z, codebook = z.round(), codebook.round()
    elif kind == "duplicates":
        codebook = codebook[torch.arange(codes, device=CUDA) % max(1, codes // 3)]
    elif kind == "clusters":
        z, codebook = (
            1e-3 * values + 30 * (torch.arange(len(values), device=CUDA)[:, None] % 2) for values in (z, codebook)
        )
    elif kind == "invalid":
        z[::7, 0], codebook[::5, -1] = float("nan"), float("inf")
        codebook[1::5, 0] = float("nan")
    return z.to(dtype), codebook.to(dtype)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["normal", "offset", "ties", "duplicates", "clusters", "invalid"])
@pytest.mark.parametrize(
    ("rows", "codes", "dim"), [(1, 2, 1), (33, 300, 7), (130, 1030, 50), (1000, 4096, 64), (20000, 1024, 33)]
)
def test_kernels_agree(
    monkeypatch: pytest.MonkeyPatch, kind: str, rows: int, codes: int, dim: int, dtype: torch.dtype, k: int
) -> None:
    z, codebook = make_data(kind, rows, codes, dim, dtype)
    cpu = [output.to(CUDA) for output in ops.bmu(z.cpu(), codebook.cpu(), k)]
    for kernel in ("exact", "ffma", "tensor_core", None):
        assert_same_bits(search(monkeypatch, kernel, z, codebook, k), cpu)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("k", [1, 2])
def test_dividing_the_codebook_among_blocks_does_not_change_results(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, k: int
) -> None:
    """With few rows, the codes are divided among blocks; with many rows they are not."""
    z = normal(60000, 19, seed=1, dtype=dtype, device=CUDA)
    codebook = normal(3000, 19, seed=2, dtype=dtype, device=CUDA)
    many = search(monkeypatch, "ffma", z, codebook, k)
    for rows in (1, 20, 100, 1000):
        few = search(monkeypatch, "ffma", z[:rows], codebook, k)
        assert_same_bits(few, [output[:rows] for output in many])


def test_rescored_codes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """With three copies of every code, differences leave every row uncertain, but its candidates fit into a list."""
    z, codebook = make_data("normal", 500, 700, 40, torch.float32)
    _, duplicates = make_data("duplicates", 500, 700, 40, torch.float32)
    for kernel, ordinary in (("tensor_core", 1.1), ("ffma", 0.1)):  # expected tiles of 64 codes per row
        monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", kernel)
        work = native.bmu_work(z, codebook)
        assert work["kernel"] == kernel
        assert work["rescored"] <= ordinary * 64 * 500
        assert work["dense"] == 0
        assert work["workspace_bytes"] > 0
        again = native.bmu_work(z, duplicates)
        assert again["rescored"] > work["rescored"]
        assert again["dense"] == 0
        assert native.bmu_work(z, duplicates[:1].expand(700, 40))["dense"] == 500


def test_rows_are_searched_in_blocks_that_bound_the_workspace() -> None:
    z, codebook = make_data("normal", 1_000_000, 2000, 16, torch.float32)
    work = native.bmu_work(z, codebook)
    assert work["workspace_bytes"] < 80 << 20
    few = torch.arange(0, len(z), 997, device=CUDA)
    assert_same_bits([output[few] for output in ops.bmu(z, codebook)], ops.bmu(z[few], codebook))


@pytest.mark.parametrize("kernel", ["ffma", "tensor_core"])
def test_search_can_be_captured(monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    """Only the device knows what is rescored, so a graph determines it from its new input."""
    z, codebook = make_data("normal", 500, 700, 40, torch.float32)
    _, duplicates = make_data("duplicates", 500, 700, 40, torch.float32)
    expected = search(monkeypatch, "ffma", z, duplicates, 1)
    monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", kernel)
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


def test_an_earlier_cuda_error_is_not_attributed_to_a_launch() -> None:
    """The runtime keeps the last error until it is queried, which our launches must not do."""
    z, codebook = make_data("normal", 100, 50, 8, torch.float32)
    expected = ops.bmu(z, codebook)
    assert torch.cuda.cudart().cudaHostUnregister(12345) != torch.cuda.cudart().cudaError.success
    assert_same_bits(ops.bmu(z, codebook), expected)


def test_unknown_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codebook = make_data("normal", 3, 4, 5, torch.float32)
    with pytest.raises(RuntimeError, match="SOMVAE_EXT_BMU_KERNEL must be exact, ffma or tensor_core, got 'fast'"):
        search(monkeypatch, "fast", z, codebook, 1)
