"""What the suite ``ops`` times: for each op of csrc/ops.txt a module of the same name, whose ``CASES`` list it.

Its keys name what is timed, which is what users call: ``row_adam`` and not ``adam_rows``.
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
"""The ops in the order of csrc/ops.txt, which an installed package does not have."""


def all_cases() -> dict[str, Cases]:
    """The cases of every op."""
    modules = [importlib.import_module(f"{__name__}.{op}") for op in MODULES]
    return {name: cases for module in modules for name, cases in module.CASES.items()}
