"""The ops without the compiled library, and the choice of CPU instructions with it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import children
import pytest

from somvae_ext import build_info

ROOT = Path(__file__).parents[2]
HIDE = "import sys; sys.modules['somvae_ext._C'] = None\n"  # makes the import of the compiled library fail


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # Only what the test sets, because this session itself may be forced to a level or to the fallback.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SOMVAE_EXT_")}
    return children.run(*arguments, imported=children.TORCH, cwd=ROOT, env={**inherited, **environment}, timeout=600)


# Tests of features of the compiled library alone, or of its integration. All others hold for both implementations.
NATIVE_ONLY = {
    "test_bindings.py",
    "test_bmu_index.py",
    "test_bmu_kernels.py",
    "test_determinism.py",
    "test_dispatcher.py",
    "test_fallback.py",
    "test_transforms.py",
}
# This session already runs the tests at its own level.
OTHER_LEVELS = [level for level in build_info()["simd_available"] if level != build_info()["simd"]]
CONTRACTS = sorted({file.name for file in Path(__file__).parent.glob("test_*.py")} - NATIVE_ONLY)


def run_tests(files: Iterable[str], *left_out: str, **environment: str) -> None:
    """Runs these tests of the public ops in another process, without Hypothesis tests and repeated runs.

    ``left_out`` names further tests to leave out.
    """
    paths = [f"python_tests/ops/{file}" for file in files]
    marks = "not cuda and not slow and not hypothesis"
    names = " and ".join(f"not {name}" for name in ("reference", "ten_runs", *left_out))
    options = ["-q", "-p", "no:cacheprovider", "-m", marks, "-k", names]
    result = python("-m", "pytest", *paths, *options, **environment)
    assert result.returncode == 0, result.stdout + result.stderr


# ---- without the library ---------------------------------------------------------------------------------------------


def test_import_without_the_library_warns_once_and_says_how_to_build() -> None:
    code = HIDE + "import somvae_ext, somvae_ext.ops.reference; print(somvae_ext.build_info()['native'])"
    result = python("-W", "always", "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "False\n"
    assert result.stderr.count("RuntimeWarning") == 1
    assert "run 'pip install .' in the source folder" in result.stderr


def test_import_with_the_library_is_silent() -> None:
    result = python("-W", "error", "-c", "import somvae_ext")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_tests_do_not_start_without_the_library() -> None:
    """Otherwise the tests would pass on the fallback."""
    probe = "import pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', 'python_tests/test_grid.py']))"
    result = python("-c", HIDE + probe)
    assert result.returncode == pytest.ExitCode.USAGE_ERROR
    assert "the compiled library somvae_ext._C is missing" in result.stdout + result.stderr


def test_ops_keep_their_contract_without_the_library() -> None:
    # This session runs the two longest tests on the same references already.
    longest = "more_features_than_the_bound_holds_for", "a_thousand_steps"
    run_tests(CONTRACTS, *longest, SOMVAE_EXT_TEST_FALLBACK="1")


# ---- CPU instruction levels ------------------------------------------------------------------------------------------


def test_the_highest_level_is_the_default() -> None:
    info = "import somvae_ext; info = somvae_ext.build_info(); print(info['simd'], info['simd_available'][-1])"
    chosen, highest = python("-c", info).stdout.split()
    assert chosen == highest


@pytest.mark.parametrize("level", build_info()["simd_available"])
def test_each_level_can_be_chosen(level: str) -> None:
    chosen = python("-c", "import somvae_ext; print(somvae_ext.build_info()['simd'])", SOMVAE_EXT_SIMD=level)
    assert chosen.stdout.strip() == level, chosen.stderr


@pytest.mark.parametrize("level", OTHER_LEVELS)
def test_ops_keep_their_contract_at_the_other_levels(level: str) -> None:
    # Errors and casts do not depend on the level: they come before the kernels.
    run_tests({*CONTRACTS, "test_determinism.py"} - {"test_errors.py", "test_autocast.py"}, SOMVAE_EXT_SIMD=level)


def test_unknown_level_is_an_error_that_names_the_valid_ones() -> None:
    result = python("-c", "import somvae_ext", SOMVAE_EXT_SIMD="sse9")
    assert result.returncode != 0
    sentence = result.stderr.splitlines()[-1]
    for part in ("SOMVAE_EXT_SIMD", "sse9", *build_info()["simd_available"]):
        assert part in sentence
