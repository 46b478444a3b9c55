"""Every op of csrc/ops.txt has all its parts, and every part belongs to an op; csrc/README.md explains the parts."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import torch
from calls import CALLS, OPS, native_arguments

import somvae_ext.ops
from somvae_ext.bench.op_cases import MODULES, all_cases
from somvae_ext.ops import reference

native = importlib.import_module("somvae_ext._C")

ROOT = Path(__file__).parents[2]
PARTS = [
    "csrc/*/{op}.h",
    "csrc/*/{op}.cpp",
    "csrc/*/{op}_cpu.cpp",
    "csrc/*/{op}_cpu_kernel.h",
    "csrc/*/{op}_cuda.cu",
    "python_tests/simt/test_{op}.cpp",
    "python_tests/calls/{op}.py",
    "somvae_ext/bench/op_cases/{op}.py",
]
# The search behind BMUIndex has no CUDA kernels, and it has its own tests in test_bmu_index.py.
ONLY_CPU = {"bmu_pruned"}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("part", PARTS)
def test_an_op_has_this_part(op: str, part: str) -> None:
    assert len(list(ROOT.glob(part.format(op=op)))) == 1


@pytest.mark.parametrize("op", OPS)
def test_an_op_has_cuda_kernels(op: str) -> None:
    assert list(ROOT.glob(f"csrc/*/{op}*_kernel.cuh"))


def test_no_op_is_listed_twice() -> None:
    assert len(set(OPS)) == len(OPS)


def test_the_benchmarks_list_every_op() -> None:
    assert list(MODULES) == OPS


def test_every_file_that_registers_ops_belongs_to_an_op() -> None:
    files = {path for path in ROOT.glob("csrc/**/*.cpp") if "TORCH_LIBRARY" in path.read_text()}
    assert {path.stem for path in files} == {*OPS} | ONLY_CPU


@pytest.mark.parametrize(("folder", "shared"), [("python_tests/calls", "call"), ("somvae_ext/bench/op_cases", "case")])
def test_every_module_of_these_folders_belongs_to_an_op(folder: str, shared: str) -> None:
    assert {path.stem for path in (ROOT / folder).glob("[!_]*.py")} == {*OPS, shared}


def registered() -> set[str]:
    """Returns the ops that the library registers; somvae_ext.nn registers another one in Python."""
    names = torch._C._dispatch_get_all_op_names()
    ops = {name.removeprefix("somvae_ext::") for name in names if name.startswith("somvae_ext::")}
    return ops - {"snapshot"}


def test_every_registered_op_is_called() -> None:
    backward = {name for name in registered() if name.endswith("_backward")}
    assert registered() - backward == native_arguments().keys() | ONLY_CPU


def test_every_registered_op_is_bound_by_its_name() -> None:
    assert [name for name in registered() if not hasattr(native, name)] == []


def test_every_registered_op_is_declared_on_the_page_of_all_ops() -> None:
    page = re.sub(r"//[^\n]*", "", (ROOT / "csrc" / "ops.h").read_text())
    assert [name for name in registered() if not re.search(rf"\b{name}\(", page)] == []


def test_every_public_op_is_called_documented_and_has_a_reference() -> None:
    functions = {name for name in somvae_ext.ops.__all__ if name.islower()} - {"reference"}
    assert {name.split(",")[0] for name in CALLS} == functions
    assert set(reference.__all__) == functions
    assert [name for name in functions if f":func:`{name}`" not in str(somvae_ext.ops.__doc__)] == []


def test_every_public_op_is_timed() -> None:
    assert set(reference.__all__) <= all_cases().keys()
