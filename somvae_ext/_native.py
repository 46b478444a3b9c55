"""Finds the compiled library and loads it when this module is imported.

A missing or unusable library causes a warning or, with ``SOMVAE_EXT_REQUIRE_NATIVE=1``, an ImportError, for users who
would rather stop than compute slowly.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import mmap
import os
import warnings
from pathlib import Path
from typing import Any

# Loading the library needs torch's own libraries in the process, so torch comes first.
import torch

_BUILT_WITH = b"somvae_ext._C was built with "  # as in csrc/bindings.cpp


def _load() -> Any:
    """Returns the library, or warns and returns None if there is none that this torch can use."""
    required = os.environ.get("SOMVAE_EXT_REQUIRE_NATIVE", "")
    if required not in ("", "0", "1"):
        raise ValueError(
            "somvae_ext: SOMVAE_EXT_REQUIRE_NATIVE must be 1 (fail without the compiled library), 0 (warn) or unset, "
            f"and is {required!r}."
        )
    path = _library_file()
    built_with = None if path is None else _built_with(path)
    cause = None
    # A library built with another minor version of torch is not even tried: if it loads, it may crash later.
    if path is not None and (built_with is None or _minor(built_with) == _minor(torch.__version__)):
        try:
            library = importlib.import_module("somvae_ext._C")
            library.build_info()  # reports a wrong SOMVAE_EXT_SIMD now, not in the middle of a computation
            return library
        except ImportError as error:
            cause = error
    if path is None:
        problem = (
            f"no compiled library for this Python is in {Path(__file__).parent}, and torch {torch.__version__} runs "
            "without it"
        )
    else:
        problem = (
            f"the compiled library, built with {built_with or 'an unknown torch'}, cannot be used with torch "
            f"{torch.__version__}{f' ({cause})' if cause else ''}"
        )
    remedy = f"install the wheel for torch {_minor(torch.__version__)}, or run 'pip install .' in the source folder"
    if path is None and Path(__file__).parents[1].joinpath("setup.py").is_file():
        remedy += "; if you have done so, start Python outside of this folder, which hides the installed package"
    if required == "1":
        raise ImportError(
            f"somvae_ext: {problem}, and SOMVAE_EXT_REQUIRE_NATIVE=1 asks for it: {remedy}.", name="somvae_ext._C"
        ) from cause
    warnings.warn(
        f"somvae_ext: {problem}; the ops fall back to their slow pure-torch references. To mend it, {remedy}.",
        RuntimeWarning,
        stacklevel=4,
    )
    return None


def _library_file() -> Path | None:
    candidates = [Path(__file__).with_name(f"_C{suffix}") for suffix in importlib.machinery.EXTENSION_SUFFIXES]
    return next((path for path in candidates if path.is_file()), None)


def _built_with(path: Path) -> str | None:
    """Reads ``"torch 2.14.1 for CPUs"`` from the library's file, which may not load; None if the file lacks it."""
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_BUILT_WITH)
        end = content.find(b"\0", start)
        return content[start + len(_BUILT_WITH) : end].decode() if start >= 0 else None


def _minor(version: str) -> str:
    """Returns the minor version: ``"2.14"`` for ``"2.14.1+cu130"`` and for ``"torch 2.14.1 for CPUs"``."""
    return ".".join(version.removeprefix("torch ").split(".")[:2])


_C: Any = _load()
available: bool = _C is not None


def build_info() -> dict[str, Any]:
    """Describes what this installation can do.

    Returns:
        ``native`` (whether the compiled library is in use), ``cuda`` (whether it was built with CUDA), ``cuda_archs``
        (the architectures it was built for), ``cuda_version``, ``simd`` (the CPU instruction level chosen at run time),
        ``simd_available`` (the levels this machine can run; force one with the environment variable SOMVAE_EXT_SIMD),
        ``torch_version`` (the torch it was built with), ``pybind11_version`` (of torch's own copy of pybind11, whose
        headers it was compiled with) and ``compiler``. Without the library only ``native`` and ``cuda`` carry a value.
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
            "pybind11_version": None,
            "compiler": None,
        }
    return {"native": True, **_C.build_info()}
