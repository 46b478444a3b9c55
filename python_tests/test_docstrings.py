"""Every argument that a docstring describes exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import somvae_ext

PACKAGE = Path(somvae_ext.__file__).parent
Documented = ast.FunctionDef | ast.ClassDef


def described(docstring: str) -> list[str]:
    """Returns the names in the section ``Args:``. An item, indented by 4 spaces, may name several: ``a, b: ...``."""
    section = re.search(r"^Args:\n((?:(?: {4}.*)?(?:\n|$))*)", docstring, re.MULTILINE)
    items = re.findall(r"^ {4}(\S[^:]*):", section[1], re.MULTILINE) if section else []
    return [name.strip(" *") for item in items for name in item.split(",")]


def parameters(node: Documented) -> set[str]:
    """Returns the parameters of a function, or those of a class's ``__init__`` and the class's fields."""
    if isinstance(node, ast.ClassDef):
        fields = {
            item.target.id
            for item in node.body
            if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
        }
        inits = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        return fields.union(*map(parameters, inits))
    arguments = [argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)]
    return set(arguments)


def documented_nodes() -> Iterator[tuple[str, Documented, list[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Documented) and (names := described(ast.get_docstring(node) or "")):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno} {node.name}", node, names


def test_arguments_that_a_docstring_describes_exist() -> None:
    nodes = list(documented_nodes())
    assert len(nodes) > 100
    unknown = {place: set(names) - parameters(node) for place, node, names in nodes}
    assert {place: names for place, names in unknown.items() if names} == {}
