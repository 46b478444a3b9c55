"""The CHANGELOG's tables of renamed names: every name under "now" exists, and no former name does."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

TEXT = (Path(__file__).parent.parent / "CHANGELOG.md").read_text()
SECTION = TEXT.partition("### Renamed names\n")[2].partition("\n## ")[0]
TABLES = re.findall(r"^\| (\S+) \| now \|\n\|---\|---\|\n((?:\|.*\n)+)", SECTION, re.MULTILINE)


def renamed() -> list[tuple[str, str, str]]:
    """Returns the module, the former and the current name of everything that was renamed."""
    names = []
    for head, rows in TABLES:
        if head == "module":
            continue
        for row in rows.splitlines():
            former, today = (re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|"))
            if len(today) < len(former):  # one current name for several former ones
                assert len(today) == 1, row
                today = [shared_name(name, today[0]) for name in former]
            names += [(head.strip("`"), *pair) for pair in zip(former, today, strict=True)]
    return names


def shared_name(former: str, today: str) -> str:
    """Completes a name: ``Rows.gaps`` and ``has_gaps`` give ``Rows.has_gaps``, ``f(a=)`` and ``b=`` give ``f(b=)``."""
    if today.endswith("="):
        return f"{former.partition('(')[0]}({today})"
    return f"{former.partition('(')[0].rpartition('.')[0]}.{today}"


def exists(module: str, name: str) -> bool:
    """Whether a module has a name such as ``f``, ``Class.member`` or ``submodule.f``, or a parameter ``f(x=)``."""
    path, _, parameter = name.removesuffix("=)").partition("(")
    owner: Any = importlib.import_module(module)
    for part in path.split("."):
        if hasattr(owner, "__path__") and importlib.util.find_spec(f"{owner.__name__}.{part}"):
            importlib.import_module(f"{owner.__name__}.{part}")
        if hasattr(owner, part):
            owner = getattr(owner, part)
        else:
            return inspect.isclass(owner) and is_attribute(owner, part)
    if parameter:
        return parameter in inspect.signature(owner).parameters
    return not inspect.ismodule(owner)


def is_attribute(owner: type, name: str) -> bool:
    """Whether instances of a class have an attribute that the class itself does not have."""
    sources = [inspect.getsource(kind) for kind in owner.__mro__ if kind.__module__.startswith("somvae_ext")]
    return any(re.search(rf"self\.{name}\b.* = |^    {name}: ", source, re.MULTILINE) for source in sources)


@pytest.mark.parametrize(("module", "former", "today"), renamed())
def test_current_names_exist_and_former_names_do_not(module: str, former: str, today: str) -> None:
    assert exists(module, today)
    assert not exists(module, former)


def test_moved_modules_exist_only_under_their_current_names() -> None:
    (rows,) = (rows for head, rows in TABLES if head == "module")
    for row in rows.splitlines():
        former, today = (re.findall(r"`(somvae_ext[^`]+)`", cell) for cell in row.strip("|").split("|"))
        assert [name for name in former if importlib.util.find_spec(name)] == []
        assert [name for name in today if not importlib.util.find_spec(name)] == []
