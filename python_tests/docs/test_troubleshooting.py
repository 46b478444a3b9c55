"""The messages on the page of troubleshooting are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
MESSAGES = "".join(re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)).splitlines()

LEAST = 0.2  # the rest may be examples


@pytest.fixture(scope="module")
def source() -> str:
    """All string literals of the package and its build, one per line."""
    literals: list[str] = []
    for path in (*ROOT.glob("somvae_ext/**/*.py"), *ROOT.glob("build_backend/*.py"), ROOT / "setup.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        literals += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    for path in ROOT.glob("csrc/**/*.cpp"):
        adjacent = re.sub(r'"\s*\n\s*"', "", path.read_text(encoding="utf-8"))
        literals += re.findall(r'"((?:[^"\\]|\\.)*)"', adjacent)
    return "\n".join(literals)


def share_in(source: str, message: str) -> float:
    """Returns the share of a message's words that belong to three in a row that stand so in a literal."""
    words = message.split()
    found: set[int] = set()
    for at in range(len(words) - 2):
        if " ".join(words[at : at + 3]) in source:
            found |= {at, at + 1, at + 2}
    return len(found) / len(words)


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_stands_in_the_code(source: str, message: str) -> None:
    assert share_in(source, message) >= LEAST


@pytest.mark.parametrize("message", MESSAGES)
def test_the_words_of_a_message_in_another_order_are_noticed(source: str, message: str) -> None:
    assert share_in(source, " ".join(reversed(message.split()))) < LEAST
