"""Renamed presets and config values are still accepted under their former names."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_args

import pytest

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.cli.configure import configure
from somvae_ext.cli.options import parse
from somvae_ext.estimators import SOMVAEClusterer
from somvae_ext.former_names import _FORMER_PRESETS, _FORMER_VALUES, current_preset, current_value
from somvae_ext.models import MODELS, SOMVAE, GumbelVAEConfig, SOMVAEConfig, gumbel_vae, somvae_config
from somvae_ext.models.saved_model import load_model, model_section
from somvae_ext.recipes import PRESETS
from somvae_ext.store import ResultFolder

RENAMED_PRESETS = [(model, former) for model, names in _FORMER_PRESETS.items() for former in names]


def setting(*arguments: str) -> Any:
    return configure(parse(["fit", "digits", *arguments])["fit"]).record


@pytest.mark.parametrize(("model", "former"), RENAMED_PRESETS)
def test_a_former_preset_name_means_the_current_one(model: str, former: str) -> None:
    today = current_preset(model, former)
    assert today in PRESETS[model]
    assert former not in PRESETS[model]
    assert setting("--model", model, "--preset", former) == setting("--model", model, f"--preset={today}")


def test_a_former_config_value_means_the_current_one() -> None:
    known = {"network": get_args(somvae_config.Network), "objective": get_args(gumbel_vae.Objective)}
    assert known.keys() == _FORMER_VALUES.keys()
    for field, names in _FORMER_VALUES.items():
        assert set(names.values()) <= set(known[field])
        assert not names.keys() & set(known[field])
    assert setting("--image-size", "28", "--network", "notebook").config.network == "unpadded-conv"
    vae = setting("--model", "gumbel-vae", "--objective", "notebook").config
    assert vae == dataclasses.replace(GumbelVAEConfig(input_shape=(1, 8, 8)), objective="entropy-capacity")


def test_other_names_and_values_stay_as_they_are() -> None:
    assert current_preset("somvae", "ordered") == "ordered"
    assert [current_value("network", value) for value in ("dense", None, 3)] == ["dense", None, 3]
    assert current_value("rows", "notebook") == "notebook"


def test_a_config_file_may_use_former_names(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("data: digits\nimage_size: 28\nnetwork: notebook\npreset: notebook\n")
    record = configure(parse(["fit", "--config", str(file)])["fit"]).record
    assert record.config == dataclasses.replace(SOMVAEConfig.unpadded_conv(), gamma=0.0, tau=0.0)


@pytest.mark.parametrize("option", ["preset", "network"])
def test_a_list_in_place_of_a_name_is_refused_with_an_error_that_names_the_option(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"data: digits\n{option}: [notebook]\n")
    assert main(["fit", "--config", str(file)]) == 2
    assert f"{option} must be" in capsys.readouterr().err


@pytest.mark.parametrize("model", MODELS)
def test_help_and_errors_show_only_current_names(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fit", "--model", model, "--help"])
    shown = capsys.readouterr().out
    assert main(["fit", "digits", "--model", model, "--preset", "none-such"]) == 2
    shown += capsys.readouterr().err
    assert all(preset in shown for preset in PRESETS[model])
    for former in ("notebook", "tutorial", "current_"):
        assert former not in shown


def test_a_folder_whose_config_has_a_former_value_loads(tmp_path: Path) -> None:
    config = dataclasses.replace(SOMVAEConfig.unpadded_conv(), rows=2, cols=2, latent_dim=4)
    model = SOMVAE(config)
    folder = ResultFolder.create(tmp_path, "model")
    folder.save_config({"model": model_section(SOMVAE, config) | {"network": "notebook"}})
    folder.save_checkpoint(1, model.state_dict(), {}, {})
    restored = load_model(ResultFolder.open(tmp_path))
    assert restored.config == config
    assert all(value.equal(restored.state_dict()[name]) for name, value in model.state_dict().items())


def test_the_estimator_takes_former_names() -> None:
    images = somvae_ext.data.digits().train.x[:40]
    options = {"n_rows": 2, "n_cols": 2, "n_epochs": 1, "random_state": 0}
    images = images.repeat_interleave(3, dim=2).repeat_interleave(3, dim=3)
    model = SOMVAEClusterer(preset="notebook", model_options={"network": "notebook"}, **options).fit(images.numpy())
    assert model.get_params()["preset"] == "notebook"
    assert model.model_.config.network == "unpadded-conv"
