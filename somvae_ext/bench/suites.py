"""The suites of ``somvae bench``, in the order in which they run."""

from __future__ import annotations

from somvae_ext.bench import bmu, head, models, ops, pruned, training
from somvae_ext.bench.suite import Suite

SUITES: dict[str, Suite] = {module.SUITE.name: module.SUITE for module in (ops, bmu, pruned, head, training, models)}
