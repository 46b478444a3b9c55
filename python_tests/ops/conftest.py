"""The two paths of every op."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

NAMES = ["bmu", "som_gather", "som_losses", "som_head", "segment_sum", "transition_log_prob", "expected_distance"]


@pytest.fixture(scope="session", params=["public", "reference"])
def ops(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The public functions, or their pure-torch references under the same names: both keep the same contract."""
    import somvae_ext.ops  # not above: the session's own check comes first

    suffix = "" if request.param == "public" else "_reference"
    return SimpleNamespace(**{name: getattr(somvae_ext.ops, name + suffix) for name in NAMES})
