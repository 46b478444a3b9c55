"""Self-organizing maps and SOM-VAEs on hand-written CUDA and CPU kernels.

The subpackages, such as ``somvae_ext.nn``, are imported when they are first used: they need more than torch and numpy.
"""

import importlib
from types import ModuleType

import somvae_ext._native  # noqa: F401  # first, so that its warning points at the line that imports somvae_ext
from somvae_ext import ops
from somvae_ext._native import build_info
from somvae_ext._version import __version__
from somvae_ext.grid import Grid
from somvae_ext.loading import load

__all__ = ["Grid", "__version__", "build_info", "load", "ops"]

_SUBPACKAGES = (
    "bench",
    "cli",
    "data",
    "estimators",
    "evaluation",
    "experiments",
    "models",
    "nn",
    "optim",
    "plotting",
    "report",
    "som",
    "store",
    "training",
)


def __getattr__(name: str) -> ModuleType:
    if name in _SUBPACKAGES:
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:  # hasattr and inspect expect an AttributeError
            raise AttributeError(str(error)) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBPACKAGES])
