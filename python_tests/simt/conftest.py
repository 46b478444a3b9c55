"""Every test of this folder runs programs that are compiled first."""

from __future__ import annotations

import pytest
from simt_programs import build_programs


@pytest.fixture(scope="session", autouse=True)
def programs() -> None:
    build_programs()
