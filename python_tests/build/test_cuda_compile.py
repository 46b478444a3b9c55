"""What nvcc makes of the CUDA kernels: they compile, nothing spills, and each stays within its registers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

SOURCES = sorted(Path(__file__).resolve().parents[2].glob("csrc/*/*.cu"))

# Registers per thread. A multiprocessor has 65536: at 64 each it runs 1024 threads, at 128 two of the blocks of 256
# threads that keep a 4 x 4 tile of distances, of sums in double, or 64 sums of the tensor cores in registers, and four
# of the blocks of 128 threads that keep a 4 x 4 tile of scores, at 168 three of those that keep an 8 x 8 tile.
BUDGET = {
    "difference_search_kernel": 168,
    "list_certain_kernel": 64,
    "tensor_core_search_kernel": 128,
    "find_limits_kernel": 64,
    "codebook_centre_kernel": 64,
    "codebook_norm_kernel": 64,
    "pack_codebook_kernel": 64,
    "prepare_rows_kernel": 64,
    "rescore_kernel": 128,
    "decide_kernel": 96,
    "exact_search_kernel": 128,
    "join_pieces_kernel": 64,
    "clear_counters_kernel": 64,
    "clear_keys_kernel": 64,
    "bmu_backward_z_kernel": 64,
    "bmu_backward_codebook_kernel": 64,
    "segment_sum_tiles_kernel": 64,
    "segment_sum_combine_kernel": 64,
    "segment_sum_backward_kernel": 64,
    "weighted_sum_kernel": 128,
    "moving_average_kernel": 64,
    "least_count_kernel": 64,
    "som_gather_kernel": 64,
    "som_gather_backward_kernel": 64,
    "som_head_kernel": 64,
    "som_head_backward_z_kernel": 64,
    "som_head_backward_codebook_kernel": 64,
    "transition_log_prob_kernel": 64,
    "transition_log_prob_backward_kernel": 64,
    "transition_losses_partial_kernel": 128,
    "transition_losses_join_kernel": 64,
    "transition_losses_backward_center_kernel": 64,
    "transition_losses_backward_pull_kernel": 64,
    "transition_losses_backward_logits_kernel": 128,
    "transition_losses_backward_means_kernel": 128,
    "transition_losses_backward_codebook_kernel": 128,
    "transition_losses_backward_z_kernel": 64,
    "codebook_center_kernel": 64,
    "codebook_moments_kernel": 64,
    "codebook_moments_join_kernel": 64,
    "local_transition_losses_kernel": 64,
    "local_transition_losses_backward_logits_kernel": 128,
    "local_transition_losses_backward_z_kernel": 64,
    "local_transition_losses_backward_sums_kernel": 64,
    "local_transition_losses_backward_total_kernel": 64,
    "local_transition_losses_backward_codebook_kernel": 64,
    "adam_rows_kernel": 64,
}

# Bytes of shared memory per block, where the default is too much. Three blocks of the search by differences, four of
# the others, in 100 KiB, the least that a multiprocessor has since 8.0.
SHARED = {"difference_search_kernel": 32 << 10, "rescore_kernel": 24 << 10, "exact_search_kernel": 24 << 10}
SHARED_DEFAULT = 48 << 10


class Usage(NamedTuple):
    kernel: str
    arch: str
    registers: int
    stack: int
    spilled: int
    shared: int

    def within_budget(self) -> bool:
        return (
            self.spilled == self.stack == 0
            and self.registers <= BUDGET[self.kernel]
            and self.shared <= SHARED.get(self.kernel, SHARED_DEFAULT)
        )


def usages(report: str) -> Iterator[Usage]:
    """What ``ptxas -v`` says about each instance of each kernel."""
    entries = re.split(r"Compiling entry function ", report)[1:]
    for entry in entries:
        symbol, arch = re.match(r"'(\S+)' for '(\w+)'", entry).groups()  # type: ignore[union-attr]
        # _ZN6somvae10bmu_kernelI...: namespaces and names, each after its length
        names, rest = [], symbol.removeprefix("_ZN")
        while length := re.match(r"\d+", rest):
            end = length.end() + int(length[0])
            names.append(rest[length.end() : end])
            rest = rest[end:]
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", entry
        ).groups()  # type: ignore[union-attr]
        registers = re.search(r"Used (\d+) registers", entry)[1]  # type: ignore[index]
        shared = re.search(r"(\d+) bytes smem", entry)
        yield Usage(
            names[-1], arch, int(registers), int(stack), int(stores) + int(loads), int(shared[1]) if shared else 0
        )


def check(setup_py: ModuleType, source: Path, archs: list[str] | None, folder: Path) -> None:
    """Compiles as setup.py does and compares with the budget; archs: None for all that setup.py chooses."""
    nvcc = next(iter(setup_py.nvcc_candidates()), None)
    if nvcc is None:
        pytest.skip("no nvcc on this machine")
    known = setup_py.known_archs(nvcc)
    numbers = [arch.replace(".", "") for arch in archs or setup_py.DEFAULT_ARCHS if arch in known]
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers]
    options = ["-std=c++20", "-O3", "-Xptxas", "-v", f"-I{source.parents[1]}"]
    done = subprocess.run(
        [nvcc, *options, *targets, "-c", source, "-o", folder / "kernels.o"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr

    found = list(usages(done.stdout + done.stderr))
    assert {usage.arch for usage in found} == {f"sm_{number}" for number in numbers}
    assert [usage for usage in found if not usage.within_budget()] == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_stay_within_their_registers(setup_py: ModuleType, source: Path, tmp_path: Path) -> None:
    check(setup_py, source, ["7.5", "8.0", "9.0", "10.0"], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_kernels_stay_within_their_registers_everywhere(setup_py: ModuleType, source: Path, tmp_path: Path) -> None:
    check(setup_py, source, None, tmp_path)


def test_every_kernel_has_a_budget(root: Path) -> None:
    source = "".join(path.read_text() for path in root.glob("csrc/*/*.cuh"))
    assert set(re.findall(r"\b(\w+_kernel)\(", source)) == set(BUDGET)
