"""A model comes back from its run folder, or a sentence says why not."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.training import RunFolder, TrainingConfig, fit, load_model

CONFIG = SOMVAEConfig(input_shape=(3,), rows=2, cols=3, latent_dim=4, hidden_sizes=(8,), gradient="copy")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    folder.save_config({"model": dataclasses.asdict(CONFIG)})
    return folder


def test_the_model_of_the_last_epoch_comes_back(run: RunFolder) -> None:
    torch.manual_seed(0)
    model, x = SOMVAE(CONFIG), torch.rand(20, 3)
    fit(model, Samples(x), TrainingConfig(epochs=2), run_folder=run, accelerator="cpu")
    loaded = load_model(run.path)
    assert loaded.config == CONFIG
    assert not loaded.training
    assert loaded.encode(x).equal(model.encode(x))
    assert loaded.assign(x).equal(model.assign(x))


def test_a_config_that_is_none_of_a_model_is_refused(run: RunFolder) -> None:
    for values, reason in (
        (None, "there is nothing"),
        ([3], r"there is \[3\]"),
        ({"rowz": 3}, "'rowz' is not known to this version"),
        ({"rows": "3"}, "rows must be an integer of at least 1, got '3'"),
        ({"periodic": 1}, "periodic must be True or False, got 1"),
        ({"input_shape": [2.5]}, r"input_shape must hold sizes of at least 1, got \[2\.5\]"),
        ({"rows": 0}, "rows must be an integer of at least 1, got 0"),
    ):
        run.save_config({"model": values})
        message = r"config\.json: must describe the model of the run under 'model' as fit wrote it, but .*" + reason
        with pytest.raises(ValueError, match=message):
            load_model(run.path)


def test_a_checkpoint_of_another_model_is_refused(run: RunFolder) -> None:
    run.save_checkpoint({"epoch": 1, "model": SOMVAE(dataclasses.replace(CONFIG, rows=5)).state_dict()})
    with pytest.raises(ValueError, match=r"must hold the model that config\.json beside it describes"):
        load_model(run.path)


def test_a_checkpoint_without_parameters_is_refused(run: RunFolder) -> None:
    run.save_checkpoint({"epoch": 1, "model": 3})
    with pytest.raises(ValueError, match=r"must hold the model that config\.json beside it describes"):
        load_model(run.path)


def test_config_json_holds_what_json_knows(run: RunFolder) -> None:
    assert SOMVAEConfig(**json.loads((run.path / "config.json").read_text())["model"]) == CONFIG
