"""Each command parses a folder's config once and passes on a typed record."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from somvae_ext.cli import main
from somvae_ext.data.record import DataRecord, RowsRecord
from somvae_ext.estimators.map_record import MapRecord
from somvae_ext.models import MODELS
from somvae_ext.store import manifest

FIT = ["fit", "digits", "--epochs", "1", "--threads", "1"]
MAP = ["fit", "table.npy", "--model", "som", "--rows", "3", "--cols", "3", "--epochs", "4", "--quiet"]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often each part of a folder's config is parsed."""
    counts: Counter[str] = Counter()

    def counted(name: str, parse: Callable[..., Any]) -> Callable[..., Any]:
        def parse_counted(*args: Any, **options: Any) -> Any:
            counts[name] += 1
            return parse(*args, **options)

        return parse_counted

    reading = counted("file", manifest.parse_json)
    monkeypatch.setattr(manifest, "parse_json", reading)
    for module in ("somvae_ext.models.saved_model", "somvae_ext.training.run_record", "somvae_ext.data.record"):
        parse = importlib.import_module(module).config_from_section

        def sections(kind: type, section: Any, parse: Callable[..., Any] = parse) -> Any:
            counts[kind.__name__] += 1
            return parse(kind, section)

        monkeypatch.setattr(f"{module}.config_from_section", sections)
    monkeypatch.setattr(MapRecord, "from_folder", counted("MapRecord", MapRecord.from_folder))
    return counts


def test_resuming_a_model_parses_its_config_once(parsed: Counter[str]) -> None:
    assert main([*FIT, "--out", "run"]) == 0
    parsed.clear()
    assert main(["fit", "--resume", "run", "--epochs", "2"]) == 0
    config = MODELS["somvae"].config_type.__name__
    assert parsed == {"file": 1, config: 1, "TrainingConfig": 1, DataRecord.__name__: 1}


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_using_a_model_parses_its_config_once(parsed: Counter[str], command: str) -> None:
    assert main([*FIT, "--out", "run"]) == 0
    parsed.clear()
    assert main([command, "run"]) == 0
    assert set(parsed.values()) == {1}


def test_resuming_a_map_parses_its_config_once(parsed: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    np.save("table.npy", np.random.default_rng(0).random((40, 3)))
    with monkeypatch.context() as interrupted:
        interrupted.setattr("somvae_ext.som.training._epoch_record", stop_at_the_third())
        assert main([*MAP, "--out", "map"]) == 130
    parsed.clear()
    assert main(["fit", "--resume", "map", "--quiet"]) == 0
    assert parsed == {"file": 1, "MapRecord": 1, RowsRecord.__name__: 1}
    assert Path("map/nodes.safetensors").is_file()


def stop_at_the_third() -> Callable[..., Any]:
    from somvae_ext.som import training

    record = training._epoch_record

    def interrupted(epoch: int, *rest: Any) -> Any:
        if epoch == 2:
            raise KeyboardInterrupt
        return record(epoch, *rest)

    return interrupted
