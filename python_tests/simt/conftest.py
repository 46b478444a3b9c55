"""Builds the programs that the tests of this folder run."""

from __future__ import annotations

import pytest
from simt_programs import build_programs


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    build_programs()
