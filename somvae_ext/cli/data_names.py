"""Names of data sets that files have as well."""

from __future__ import annotations

import sys
from pathlib import Path


def report_shadowed_file(name: str) -> None:
    """Says on stderr, of several processes in the first one, that a data set is taken and not the file of its name."""
    from somvae_ext.data import NAMES
    from somvae_ext.processes import torchrun_rank

    if name in NAMES and Path(name).exists() and torchrun_rank() in (None, 0):
        print(f"somvae: {name} is the data set of that name here; ./{name} is the one in this folder", file=sys.stderr)
