"""A fixture for both implementations of every op."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session", params=["public", "reference"])
def ops(request: pytest.FixtureRequest) -> SimpleNamespace:
    """The public functions, or their pure-torch references under the same names; both have the same contract.

    ``native`` says whether the functions use the compiled library.
    """
    import somvae_ext.ops  # imported here because the check of the session must come first

    public = request.param == "public"
    module = somvae_ext.ops if public else somvae_ext.ops.reference
    functions = {name: getattr(module, name) for name in somvae_ext.ops.reference.__all__}
    return SimpleNamespace(native=public and somvae_ext.build_info()["native"], **functions)
