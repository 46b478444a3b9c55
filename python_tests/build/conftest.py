"""Fixtures for the repository's root and for its scripts, loaded as modules."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def setup_py() -> ModuleType:
    """setup.py without its last lines, which start the build."""
    return load("somvae_ext_setup", ROOT / "setup.py")


@pytest.fixture(scope="session")
def versions() -> ModuleType:
    """packaging/versions.py."""
    return load("somvae_ext_versions", ROOT / "packaging" / "versions.py")
