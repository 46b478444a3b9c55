"""Every room knows only those below it, and no two modules import each other in a circle."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "somvae_ext"

# From the roof to the floor. Rooms of one storey do not know of each other.
STOREYS = [
    {"__init__", "__main__"},
    {"cli", "loading"},
    {"bench", "experiments", "report"},
    {"estimators"},
    {"training", "recipes"},
    {"models"},
    {"plotting"},
    {"evaluation"},
    {"store"},
    {"data", "nn"},
    {"som"},
    {"optim"},
    {"ops", "machine"},
    {
        "grid",
        "arrays",
        "config_checks",
        "exportable",
        "former_names",
        "notebook_html",
        "parameter_hints",
        "processes",
        "progress",
        "_native",
        "_version",
    },
    {"extras"},
]


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports anywhere, inside functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.startswith("somvae_ext.")}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_room_has_its_storey() -> None:
    assert {room_of(module) for module in FILES} == set().union(*STOREYS)


def test_no_room_knows_of_those_above_it() -> None:
    height = {room: len(STOREYS) - storey for storey, rooms in enumerate(STOREYS) for room in rooms}
    wrong = [
        f"{module} imports {imported}"
        for module, path in FILES.items()
        for imported in imports(path)
        if room_of(imported) in height
        and room_of(imported) != room_of(module)
        and height[room_of(imported)] >= height[room_of(module)]
    ]
    assert wrong == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {}
    for module, path in FILES.items():
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                # Of a package a module may be meant, or what its __init__ gathers.
                found |= {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys() or {node.module}
            elif isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
        graph[module] = {name for name in found & FILES.keys() if name not in ("somvae_ext", module)}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)
