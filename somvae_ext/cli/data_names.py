"""Data sets with the same name as a file."""

from __future__ import annotations

import sys
from pathlib import Path


def report_shadowed_file(name: str) -> None:
    """Reports on stderr, in the first process only, that a data set is taken and not the file of the same name."""
    from somvae_ext.data import NAMES
    from somvae_ext.processes import torchrun_rank

    if name in NAMES and Path(name).exists() and torchrun_rank() in (None, 0):
        print(f"somvae: {name} is the data set; ./{name} is the file or folder of that name", file=sys.stderr)
