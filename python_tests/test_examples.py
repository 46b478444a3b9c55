"""The examples in the docstrings of the package run, those of each module in a folder of its own."""

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
# What the examples of a module load: the model that 'somvae fit digits' trains.
LOADED = {"somvae_ext.loading": "somvae", "somvae_ext.estimators.saved_map": "som"}


def test_subpackages_that_compute_have_examples() -> None:
    """A list that is empty by mistake would pass, too."""
    assert {"evaluation", "models", "nn", "ops", "optim"} <= {module.split(".")[1] for module in MODULES}


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_a_module_run(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if module in LOADED:
        monkeypatch.setattr(Figure, "savefig", lambda *_, **options: None)  # its pictures take most of the time
        assert main(["fit", "digits", "--model", LOADED[module], "--epochs", "1", "--device", "cpu"]) == 0
    result = doctest.testmod(importlib.import_module(module))
    pyplot.close("all")
    assert result.attempted > 0
    assert result.failed == 0
