"""Self-organizing maps and SOM-VAEs on hand-written CUDA and CPU kernels."""

import somvae_ext._native  # noqa: F401  # first, so that its warning points at the line that imports somvae_ext
from somvae_ext import ops
from somvae_ext._native import build_info
from somvae_ext._version import __version__
from somvae_ext.grid import Grid

__all__ = ["Grid", "__version__", "build_info", "ops"]
