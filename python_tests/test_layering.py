"""Every subpackage imports only those of the layers below it, and there are no circular imports."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "somvae_ext"

# From top to bottom. Subpackages of one layer do not import each other.
LAYERS = [
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
    """Returns the package's modules that a file imports anywhere, including in functions and for type checkers."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("somvae_ext.")}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def subpackage_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_subpackage_belongs_to_a_layer() -> None:
    assert {subpackage_of(module) for module in FILES} == set().union(*LAYERS)


def test_no_subpackage_imports_another_of_its_own_or_a_higher_layer() -> None:
    height = {name: len(LAYERS) - depth for depth, layer in enumerate(LAYERS) for name in layer}
    wrong = [
        f"{module} imports {imported}"
        for module, path in FILES.items()
        for imported in imports(path)
        if subpackage_of(imported) in height
        and subpackage_of(imported) != subpackage_of(module)
        and height[subpackage_of(imported)] >= height[subpackage_of(module)]
    ]
    assert wrong == []


def test_there_are_no_circular_imports() -> None:
    graph = {}
    for module, path in FILES.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                # A name imported from a package is one of its modules, or is defined through its __init__.
                imported |= {f"{node.module}.{alias.name}" for alias in node.names} & FILES.keys() or {node.module}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        graph[module] = {name for name in imported & FILES.keys() if name not in ("somvae_ext", module)}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)
