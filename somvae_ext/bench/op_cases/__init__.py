"""Cases of the suite ``ops``: each op of csrc/ops.txt has a module of the same name, whose ``CASES`` hold its cases.

The keys of ``CASES`` are the names that users call: ``row_adam``, not ``adam_rows``.
"""

from __future__ import annotations

import importlib

from somvae_ext.bench.op_cases.case import Cases

MODULES = (
    "bmu",
    "som_gather",
    "som_head",
    "segment_sum",
    "som_update",
    "som_ema_update",
    "transition_log_prob",
    "transition_losses",
    "local_transition_losses",
    "adam_rows",
)
"""The ops in the order of csrc/ops.txt, listed here because an installed package lacks that file."""


def all_cases() -> dict[str, Cases]:
    """The cases of every op."""
    modules = [importlib.import_module(f"{__name__}.{op}") for op in MODULES]
    return {name: cases for module in modules for name, cases in module.CASES.items()}
