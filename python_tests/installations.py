"""Interpreters that find only what an installation with some extras has, whatever else is installed here."""

from __future__ import annotations

import functools
import importlib.metadata
import runpy
import subprocess
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import children
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SETUP = runpy.run_path(str(ROOT / "setup.py"))
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# Hides modules from the path finder: importlib.util.find_spec finds none of them, and importing one fails.
_HIDE = """
import importlib.machinery, sys
hidden = set({hidden!r})
class Installed(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)
sys.meta_path[:] = [Installed if finder is importlib.machinery.PathFinder else finder for finder in sys.meta_path]
for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
    del sys.modules[name]
"""
COMMAND = "from somvae_ext.cli import main; sys.exit(main(sys.argv[1:]))"


def python(extras: tuple[str, ...], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code as if ``pip install 'somvae_ext[EXTRA,...]'``, or without extras, had installed the package."""
    return python_without(hidden_modules(extras), code, *arguments)


def python_without(modules: Iterable[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs code as if these top-level modules were not installed."""
    program = _HIDE.format(hidden=sorted(modules)) + code
    return children.run("-W", "ignore", "-c", program, *arguments, imported=children.TORCH)


def somvae(extras: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command ``somvae`` as if the package were installed with these extras."""
    return python(extras, COMMAND, *arguments)


@functools.cache
def hidden_modules(extras: tuple[str, ...]) -> frozenset[str]:
    """Returns the top-level modules of the distributions that an installation with these extras lacks."""
    installed = required_distributions([f"{PROJECT['name']}[{','.join(extras)}]"])
    return frozenset(
        module
        for module, distributions in _distributions_of_modules().items()
        if module.isidentifier() and not any(canonicalize_name(name) in installed for name in distributions)
    )


@functools.cache
def _distributions_of_modules() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def required_distributions(requirements: list[str]) -> set[str]:
    """Returns the canonical names of all distributions that these requirements bring, directly or indirectly."""
    found: set[tuple[str, str]] = set()
    pending = [(Requirement(requirement), "") for requirement in requirements]
    while pending:
        requirement, of_extra = pending.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in found:
                found.add((name, extra))
                pending += [(Requirement(other), extra) for other in _requirements_of(name, extra)]
    return {name for name, _ in found}


def _requirements_of(name: str, extra: str) -> list[str]:
    if name == canonicalize_name(PROJECT["name"]):  # from this checkout: the installed metadata may be older
        return EXTRAS[extra] if extra else [*SETUP["DEPENDENCIES"], SETUP["torch_requirement"]()]
    return importlib.metadata.requires(name) or []
