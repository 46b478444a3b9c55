"""What benchmarks/ops.py times: for each op of csrc/ops.txt a module of the same name, whose ``CASES`` list it.

Its keys name what is timed, which is what users call: ``row_adam`` and not ``adam_rows``.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from op_cases.case import Cases

OPS = (Path(__file__).resolve().parents[2] / "csrc" / "ops.txt").read_text().split()


def all_cases() -> dict[str, Cases]:
    """The cases of every op."""
    return {name: cases for op in OPS for name, cases in importlib.import_module(f"op_cases.{op}").CASES.items()}
