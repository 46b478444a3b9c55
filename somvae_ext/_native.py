"""Finds the compiled library. Importing this module loads it if it is there and never fails if it is not."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

# Loading the library needs torch's own libraries in the process, so torch comes first.
import torch  # noqa: F401

try:
    _C: Any = importlib.import_module("somvae_ext._C")
except ImportError as error:
    _C = None
    warnings.warn(
        f"somvae_ext: the compiled library could not be loaded ({error}); the ops fall back to their slow pure-torch "
        "references. To build it, run 'pip install --no-build-isolation .' in the source folder.",
        RuntimeWarning,
        stacklevel=3,
    )

available: bool = _C is not None
if _C is not None:
    _C.build_info()  # a wrong SOMVAE_EXT_SIMD is an error now, not in the middle of a computation


def build_info() -> dict[str, Any]:
    """What this installation can do.

    Returns:
        ``native`` (is the compiled library in use), ``cuda`` (was it built with CUDA), ``cuda_archs`` (for which
        architectures), ``cuda_version``, ``simd`` (the CPU instruction level chosen at run time),
        ``simd_available`` (the levels this machine can run; force one with the environment variable SOMVAE_EXT_SIMD),
        ``torch_version`` (the torch it was built with) and ``compiler``. Without the library only ``native`` and
        ``cuda`` carry a value.
    """
    if _C is None:
        return {
            "native": False,
            "cuda": False,
            "cuda_archs": [],
            "cuda_version": None,
            "simd": None,
            "simd_available": [],
            "torch_version": None,
            "compiler": None,
        }
    return {"native": True, **_C.build_info()}
