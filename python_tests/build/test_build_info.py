"""``somvae_ext.build_info()`` describes the library in use correctly."""

from __future__ import annotations

import re
from pathlib import Path

import torch

import somvae_ext


def test_the_library_was_built_against_the_torch_in_use() -> None:
    info = somvae_ext.build_info()
    assert info["native"] is True
    assert info["torch_version"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_library_was_compiled_with_torchs_own_copy_of_pybind11() -> None:
    header = (Path(torch.__file__).parent / "include" / "pybind11" / "detail" / "common.h").read_text()
    numbers = [re.search(rf"define PYBIND11_VERSION_{part} (\S+)", header) for part in ("MAJOR", "MINOR", "PATCH")]
    assert somvae_ext.build_info()["pybind11_version"] == ".".join(number[1] for number in numbers)


def test_simd_level_is_one_that_this_machine_has() -> None:
    info = somvae_ext.build_info()
    assert set(info["simd_available"]) <= {"v4", "v3", "baseline"}
    assert "baseline" in info["simd_available"]
    assert info["simd"] in info["simd_available"]


def test_cuda_is_described_when_it_was_compiled_and_only_then() -> None:
    info = somvae_ext.build_info()
    if info["cuda"]:
        assert re.fullmatch(r"\d+\.\d+", info["cuda_version"])
        assert all(re.fullmatch(r"\d+\.\d+[af]?(\+PTX)?", arch) for arch in info["cuda_archs"])
        assert info["cuda_archs"]
    else:
        assert info["cuda_version"] is None
        assert info["cuda_archs"] == []


def test_compiler_is_named() -> None:
    assert re.match(r"(g\+\+|gcc|clang)", somvae_ext.build_info()["compiler"], re.IGNORECASE)
