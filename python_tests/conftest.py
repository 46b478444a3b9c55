"""Every test runs against the compiled library, on the CPU and, where marked ``cuda``, on a GPU.

``SOMVAE_EXT_TEST_FALLBACK=1`` hides the compiled library, so that the tests of the ops run against the pure-torch
fallback. Otherwise a missing library ends the session: nobody tests the fallback by accident.
"""

from __future__ import annotations

import os
import sys
import warnings

import pytest
import torch
from hypothesis import settings

FALLBACK = os.environ.get("SOMVAE_EXT_TEST_FALLBACK") == "1"

if FALLBACK:  # here, because the conftest files of the folders are read before any hook runs
    sys.modules["somvae_ext._C"] = None  # type: ignore[assignment]  # makes its import fail

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # or scikit-learn skips its check of estimators given such arrays

# The same examples in every run, so that a commit either passes or does not; the slow sweeps look further.
settings.register_profile("somvae_ext", deadline=None, max_examples=40, derandomize=True, print_blob=True)
settings.load_profile("somvae_ext")


def pytest_sessionstart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the fallback's; python_tests/ops/test_fallback.py looks at it
        import somvae_ext
    if not FALLBACK and not somvae_ext.build_info()["native"]:
        raise pytest.UsageError(
            "the compiled library somvae_ext._C is missing, and these tests are about it: build it with "
            "'pip install -e .', or set SOMVAE_EXT_TEST_FALLBACK=1 to test the pure-torch fallback"
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts what takes minutes first, since a worker that starts it last keeps the others waiting."""
    # The first and the last need the same programs. While one worker compiles them, another has something else to do.
    first = ["test_simt.py", "test_fallback.py", "test_search_bounds.py"]
    items.sort(key=lambda item: first.index(item.path.name) if item.path.name in first else len(first))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked ``cuda`` where there is no GPU.

    All other skips are of tests in a browser where there is none (python_tests/browser/conftest.py), and of tests with
    nothing to look at: the kernels in a library that was built without CUDA (python_tests/build/test_cuda_compile.py),
    and further instruction levels of a processor with a single one.
    """
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")


@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device in turn, so that one test makes its claim about both."""
    return torch.device(request.param)
