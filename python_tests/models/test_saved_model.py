"""A model is loaded from its folder, or refused with one sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import somvae_ext
from somvae_ext.models import MODELS, SOMVAE, SOMVAEConfig
from somvae_ext.models.saved_model import model_section
from somvae_ext.store import ResultFolder

CONFIG = SOMVAEConfig(input_shape=(3,), rows=2, cols=3, latent_dim=4, hidden_sizes=(8,), gradient="copy")


def written(path: Path, model: Any, section: Any = None, **changes: Tensor) -> Path:
    folder = ResultFolder.create(path / "run", "model", overwrite=True)
    folder.save_config({"model": model_section(type(model), model.config) if section is None else section})
    folder.save_checkpoint(1, model.state_dict() | changes, {}, {})
    return path / "run"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_loaded_in_its_dtype(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    classes = {"num_classes": 3} if name == "conditional-vae" else {}
    config = MODELS[name].config_type(input_shape=(1, 4, 4), **classes)
    model = MODELS[name](config).to(dtype)
    loaded = somvae_ext.load(written(tmp_path, model))
    assert type(loaded) is MODELS[name]
    assert loaded.config == config
    assert not loaded.training
    expected = model.state_dict()
    for key, value in loaded.state_dict().items():
        assert value.dtype == expected[key].dtype
        assert value.equal(expected[key])


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (3, "there is 3"),
        ({"name": "somvae", "rowz": 3}, "'rowz' is not known to this version"),
        ({"name": "somvae", "rows": "3"}, "rows must be an integer of at least 1, got '3'"),
        ({"name": "somvae", "periodic": 1}, "periodic must be True or False, got 1"),
        ({"name": "somvae", "input_shape": [2.5]}, r"input_shape must hold sizes of at least 1, got \[2\.5\]"),
        ({"name": "tree"}, "'name' must be somvae or .*, got 'tree'"),
        ({"name": ["somvae"]}, r"'name' must be somvae or .*, got \['somvae'\]"),
        ({}, "'name' must be somvae or .*, got None"),
    ],
)
def test_an_invalid_config_of_a_model_is_refused(tmp_path: Path, section: Any, reason: str) -> None:
    path = written(tmp_path, SOMVAE(CONFIG), section)
    with pytest.raises(ValueError, match=rf"{path}: its config must describe a model, but .*{reason}"):
        somvae_ext.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 5},
        {"latent_dim": 7},
        {"hidden_sizes": [10**15]},
        {"hidden_sizes": [10**40]},
        {"rows": 10**9, "cols": 10**9},
        {"input_shape": [10**8, 10**8]},
    ],
    ids=str,
)
def test_weights_of_another_model_are_refused_before_memory_is_taken(tmp_path: Path, change: dict[str, Any]) -> None:
    path = written(tmp_path, SOMVAE(CONFIG), model_section(SOMVAE, CONFIG) | change)
    with pytest.raises(ValueError, match=rf"{path}: (weights must be those of|its config must describe) "):
        somvae_ext.load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value * float("nan"), "holds NaN or infinity"),
        (lambda value: value - float("inf"), "holds NaN or infinity"),
        (lambda value: value.to(torch.int8), "must be float32 of shape .*, got int8 of"),
        (lambda value: value.double(), "must be float32 of shape .*, got float64 of"),
        (lambda value: value.to(torch.complex64), "must be float32 of shape .*, got complex64 of"),
        (lambda value: value.T, "must be float32 of shape .*, got float32 of"),
    ],
)
def test_weights_that_would_be_cast_or_are_not_finite_are_refused(
    tmp_path: Path, change: Callable[[Tensor], Tensor], reason: str
) -> None:
    model = SOMVAE(CONFIG)
    name = "quantizer.codebook"
    path = written(tmp_path, model, **{name: change(model.state_dict()[name])})
    with pytest.raises(ValueError, match=rf"weights must be those of .*, but {name} {reason}"):
        somvae_ext.load(path)


def test_missing_and_surplus_weights_are_named(tmp_path: Path) -> None:
    model = SOMVAE(CONFIG)
    with pytest.raises(ValueError, match="but there is extra too"):
        somvae_ext.load(written(tmp_path, model, extra=torch.ones(1)))
    folder = ResultFolder.create(tmp_path / "less", "model")
    folder.save_config({"model": model_section(SOMVAE, CONFIG)})
    weights = model.state_dict()
    del weights["quantizer.codebook"]
    folder.save_checkpoint(1, weights, {}, {})
    with pytest.raises(ValueError, match=r"but quantizer\.codebook is missing"):
        somvae_ext.load(tmp_path / "less")


def test_either_checkpoint_can_be_loaded(tmp_path: Path) -> None:
    model = SOMVAE(CONFIG)
    path = written(tmp_path, model)
    folder = ResultFolder.open(path)
    later = {name: value + 1 if value.is_floating_point() else value for name, value in model.state_dict().items()}
    folder.save_checkpoint(2, later, {}, {})
    codebook = model.quantizer.codebook.detach()
    assert somvae_ext.load(path, epoch=1).quantizer.codebook.equal(codebook)
    assert somvae_ext.load(path).quantizer.codebook.equal(codebook + 1)


def test_a_config_survives_json(tmp_path: Path) -> None:
    section = dict(ResultFolder.open(written(tmp_path, SOMVAE(CONFIG))).config["model"])
    assert section.pop("name") == "somvae"
    assert SOMVAEConfig(**section) == dataclasses.replace(CONFIG)
