"""The two paths of every op."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

NAMES = [
    "bmu",
    "som_gather",
    "som_losses",
    "som_head",
    "segment_sum",
    "som_update",
    "som_ema_update",
    "transition_losses",
    "transition_log_prob",
    "expected_distance",
    "local_transition_losses",
]


@pytest.fixture(scope="session", params=["public", "reference"])
def ops(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The public functions, or their pure-torch references under the same names: both keep the same contract.

    ``native`` says whether the compiled library is behind them.
    """
    import somvae_ext.ops  # not above: the session's own check comes first

    public = request.param == "public"
    functions = {name: getattr(somvae_ext.ops, name if public else f"{name}_reference") for name in NAMES}
    return SimpleNamespace(native=public and somvae_ext.build_info()["native"], **functions)
