"""``somvae bench``: run the benchmarks, or compare two of their files."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from somvae_ext.processes import torchrun_rank

if TYPE_CHECKING:
    from jsonargparse import Namespace


def run(options: Namespace) -> int:
    """Runs the command and returns its exit code: 1 if a comparison found something slower."""
    from somvae_ext.bench.run import run

    if torchrun_rank() is not None:
        raise ValueError("somvae bench runs in one process; start it without torchrun")
    return run(options, f"somvae bench {shlex.join(options.arguments)}")
