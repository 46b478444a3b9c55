"""What `import somvae_ext` imports and provides, each time in a fresh process."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import children
import pytest

import somvae_ext

ROOT = Path(__file__).resolve().parents[1]
SUBPACKAGES = sorted(path.parent.name for path in (ROOT / "somvae_ext").glob("*/__init__.py"))


def fresh(code: str) -> str:
    done = children.run("-c", code, imported=children.TORCH)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_a_subpackage_is_available_without_importing_it(name: str) -> None:
    assert fresh(f"import somvae_ext; print(somvae_ext.{name}.__name__)") == f"somvae_ext.{name}"


def test_no_subpackage_is_imported_before_it_is_used() -> None:
    loaded = fresh("import somvae_ext, sys; print(*(name for name in sys.modules if name.startswith('somvae_ext.')))")
    unused = {f"somvae_ext.{name}" for name in SUBPACKAGES} - {"somvae_ext.ops"}
    assert not unused & set(loaded.split())
    assert fresh("import somvae_ext, sys; print('sklearn' in sys.modules, 'scipy' in sys.modules)") == "False False"


def test_the_compiler_of_torch_is_not_imported_before_it_is_used() -> None:
    code = "import somvae_ext, somvae_ext.ops, sys; print('torch._dynamo' in sys.modules)"
    # In a new interpreter: the one that children are forked from has already imported torch._dynamo.
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_every_subpackage_is_listed() -> None:
    assert {*somvae_ext._SUBPACKAGES, "ops"} == set(SUBPACKAGES)
    assert set(SUBPACKAGES) <= set(dir(somvae_ext))


def test_no_module_is_hidden_by_a_function_of_the_same_name() -> None:
    """``import somvae_ext.a.b as b`` binds the attribute ``b`` of ``somvae_ext.a``, which must be the module."""
    hidden = set()
    for module in pkgutil.walk_packages(somvae_ext.__path__, "somvae_ext."):
        parent, _, leaf = module.name.rpartition(".")
        if leaf != "__main__" and importlib.import_module(module.name) is not getattr(sys.modules[parent], leaf):
            hidden.add(module.name)
    assert hidden == set()


def test_unknown_names_raise_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'somvae_ext' has no attribute 'layers'"):
        _ = somvae_ext.layers
