"""The examples in the package's docstrings run, each module's in a folder of its own."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from somvae_ext.cli import main

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in ROOT.glob("somvae_ext/**/*.py")
    if ">>> " in path.read_text()
)
# Modules whose examples load a trained model, and the kind of model to train with 'somvae fit digits'.
LOADED = {"somvae_ext.loading": "somvae", "somvae_ext.estimators.saved_map": "som"}


def test_subpackages_that_compute_have_examples() -> None:
    """Guards against an empty list of modules, with which all other tests would pass."""
    assert {"evaluation", "models", "nn", "ops", "optim"} <= {module.split(".")[1] for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if module in LOADED:
        monkeypatch.setattr(Figure, "savefig", lambda *_, **options: None)  # saving figures takes most of the time
        assert main(["fit", "digits", "--model", LOADED[module], "--epochs", "1", "--device", "cpu"]) == 0
    result = doctest.testmod(importlib.import_module(module))
    pyplot.close("all")
    assert result.attempted > 0
    assert result.failed == 0
