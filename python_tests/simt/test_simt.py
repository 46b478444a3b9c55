"""Runs the CUDA kernels on the CPU, and the CPU kernels without torch, with the programs that CMakeLists.txt builds.

Each program compares one op's forward and backward kernels with a reference in extended precision over a grid of shapes
and data types. CUDA kernels run on csrc/simt in three variants: plain, under the address and undefined-behavior
sanitizers, and under the race detector, which is slow and gets small shapes; the long sweeps are marked slow.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from calls import OPS
from cuda_kernels import kernel_budgets
from simt_programs import BUILD

from somvae_ext import build_info

PRUNED_SEARCH = ["cpu_pruned_search", "cpu_address_pruned_search"]
VARIANTS = ["plain", "address", "thread"]
SIZE = {"plain": "normal", "address": "normal", "thread": "small"}
# These take minutes at normal size under the sanitizers, and small shapes run through the same paths.
LONG = ["bmu", "som_update", "local_transition_losses"]
LONG_SIZE = {"plain": "full", "address": "full", "thread": "normal"}


@functools.cache
def output_of(program: str, size: str, simd: str | None = None) -> str:
    """Returns what the program prints, from one run for all tests. If the program fails, the test that ran it fails."""
    environment = os.environ | ({"SOMVAE_EXT_SIMD": simd} if simd else {})
    command = [str(BUILD / program), "--size", size]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if "unexpected memory mapping" in result.stderr:
        # The race detector of older compilers does not work on a kernel that randomizes addresses widely.
        command = ["setarch", "--addr-no-randomize", *command]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode != 0:
        output = result.stdout + result.stderr
        pytest.fail(f"{program} ended with {result.returncode}:\n{output[:8000]}", pytrace=False)
    return result.stdout


@pytest.mark.parametrize("variant", VARIANTS)
def test_simulator_keeps_what_cuda_promises(variant: str) -> None:
    output_of(f"simt_{variant}_simulator", "normal")


def test_simulator_works_without_assembly() -> None:
    output_of("simt_ucontext_simulator", "normal")


@pytest.mark.parametrize("variant", VARIANTS)
def test_planted_defects_are_reported_at_their_line(variant: str) -> None:
    assert "planted" in output_of(f"simt_{variant}_planted", "normal")


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_kernels_equal_the_reference(variant: str, op: str) -> None:
    output_of(f"simt_{variant}_{op}", "small" if op in LONG and variant != "plain" else SIZE[variant])


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_kernels_equal_the_reference_on_many_shapes(variant: str, op: str) -> None:
    output_of(f"simt_{variant}_{op}", LONG_SIZE[variant])


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("simd", [None, "baseline"], ids=["best", "baseline"])
def test_cpu_kernels_equal_the_reference(op: str, simd: str | None) -> None:
    output_of(f"cpu_{op}", "normal", simd)


@pytest.mark.slow
@pytest.mark.parametrize("op", OPS)
def test_cpu_kernels_equal_the_reference_on_many_shapes(op: str) -> None:
    output_of(f"cpu_{op}", "full")


@pytest.mark.parametrize("simd", build_info()["simd_available"])
@pytest.mark.parametrize("program", PRUNED_SEARCH)
def test_pruned_search_equals_the_search_of_all_codes(program: str, simd: str) -> None:
    output_of(program, "normal", simd)


@pytest.mark.slow
@pytest.mark.parametrize("simd", build_info()["simd_available"])
@pytest.mark.parametrize("program", PRUNED_SEARCH)
def test_pruned_search_equals_the_search_of_all_codes_on_many_shapes(program: str, simd: str) -> None:
    output_of(program, "full", simd)


def test_16_bit_types_round_as_they_must() -> None:
    output_of("cpu_dtypes", "normal")


def test_every_kernel_is_launched() -> None:
    launched = {
        name
        for op in OPS
        for name in re.findall(r"^launched: (\w+)$", output_of(f"simt_plain_{op}", SIZE["plain"]), re.MULTILINE)
    }
    assert launched == kernel_budgets().keys()


def test_ctest_runs_the_same_programs() -> None:
    listing = subprocess.run(
        ["ctest", "--test-dir", BUILD, "--show-only=json-v1"], capture_output=True, text=True, check=True
    )
    commands = {Path(test["command"][0]).name for test in json.loads(listing.stdout)["tests"]}
    simt = {f"simt_{variant}_{test}" for variant in VARIANTS for test in ["simulator", "planted", *OPS]}
    assert commands == simt | {f"cpu_{op}" for op in OPS} | {*PRUNED_SEARCH, "cpu_dtypes", "simt_ucontext_simulator"}
