"""What `import somvae_ext` brings, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import somvae_ext

ROOT = Path(__file__).resolve().parents[1]
SUBPACKAGES = [
    "data",
    "estimators",
    "evaluation",
    "models",
    "nn",
    "ops",
    "optim",
    "plotting",
    "som",
    "store",
    "training",
]


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", SUBPACKAGES)
def test_a_subpackage_is_there_without_an_import_of_its_own(name: str) -> None:
    assert fresh(f"import somvae_ext; print(somvae_ext.{name}.__name__)") == f"somvae_ext.{name}"


def test_no_subpackage_is_imported_before_it_is_used() -> None:
    loaded = fresh("import somvae_ext, sys; print(*(name for name in sys.modules if name.startswith('somvae_ext.')))")
    unused = {f"somvae_ext.{name}" for name in SUBPACKAGES} - {"somvae_ext.ops"}
    assert not unused & set(loaded.split())
    assert fresh("import somvae_ext, sys; print('sklearn' in sys.modules, 'scipy' in sys.modules)") == "False False"


def test_every_subpackage_is_listed() -> None:
    folders = {path.parent.name for path in (ROOT / "somvae_ext").glob("*/__init__.py")} - {"cli"}
    assert folders == set(SUBPACKAGES)
    assert set(SUBPACKAGES) <= set(dir(somvae_ext))


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'somvae_ext' has no attribute 'layers'"):
        _ = somvae_ext.layers
