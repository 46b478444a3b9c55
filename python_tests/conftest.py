"""Runs every test against the compiled library, on the CPU and, where marked ``cuda``, on a GPU.

``SOMVAE_EXT_TEST_FALLBACK=1`` hides the compiled library, and the tests of the ops run against the pure-torch fallback.
Without it, a missing library ends the session, so the fallback is never tested by accident.
"""

from __future__ import annotations

import os
import sys
import warnings

import pytest
import torch
from hypothesis import settings

FALLBACK = os.environ.get("SOMVAE_EXT_TEST_FALLBACK") == "1"

if FALLBACK:  # not in a hook, because pytest imports the conftest files of the folders before it calls any hook
    sys.modules["somvae_ext._C"] = None  # type: ignore[assignment]  # makes importing it fail

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # otherwise scikit-learn skips its array API checks of estimators

# Derandomized, so a commit either always passes or always fails; the slow sweeps draw other examples.
settings.register_profile("somvae_ext", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.load_profile("somvae_ext")


def pytest_sessionstart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # tested in python_tests/ops/test_fallback.py
        import somvae_ext
    if not FALLBACK and not somvae_ext.build_info()["native"]:
        raise pytest.UsageError(
            "the compiled library somvae_ext._C is missing, and these tests are about it: build it with "
            "'pip install -e .', or set SOMVAE_EXT_TEST_FALLBACK=1 to test the pure-torch fallback"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Moves the tests that take minutes to the front: started last, they would keep the other workers waiting."""
    # The first and the last need the same compiled programs. While one worker compiles, another runs the tests between.
    first = ["test_simt.py", "test_fallback.py", "test_search_bounds.py"]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked ``cuda`` where there is no GPU.

    The only other skips: browser tests where there is no browser (python_tests/browser/conftest.py), the kernels of a
    library that was built without CUDA (python_tests/build/test_cuda_compile.py), and the higher instruction levels on
    a processor that has only one.
    """
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn: a test makes its claim about both."""
    return torch.device(request.param)
