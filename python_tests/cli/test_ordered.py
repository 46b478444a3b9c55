"""The preset "ordered": what it sets, where it is the default, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from saved_configs import config_of, write_config

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.store import ResultFolder

SMALL = ["--rows", "3", "--cols", "4", "--latent-dim", "8", "--device", "cpu", "--out", "run"]
DIGITS = ["fit", "digits", *SMALL]
STEPS = 40  # steps per epoch of the digits: 1,257 images in batches of 32
SERIES = ["fit", "digits-series", "--num-series", "12", "--epochs", "1"]


def config(section: str) -> dict[str, Any]:
    return config_of("run")[section]


def test_the_preset_trains_an_ordered_map_and_narrows_its_neighborhood() -> None:
    assert main([*DIGITS, "--preset", "ordered", "--epochs", "2"]) == 0
    model = config("model")
    assert (model["codebook_update"], model["beta"]) == ("ema", None)
    assert model["sigma_steps"] == round(0.7 * 2 * STEPS)
    quantizer = somvae_ext.load("run").quantizer
    assert quantizer.num_updates.item() == 2 * STEPS
    assert quantizer.sigma == 0.7


def test_resuming_for_more_epochs_keeps_the_neighborhood_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DIGITS, "--preset", "ordered", "--epochs", "1"]) == 0
    assert main(["fit", "--resume", "run", "--epochs", "2"]) == 0
    assert config("model")["sigma_steps"] == round(0.7 * STEPS)
    assert somvae_ext.load("run").quantizer.num_updates.item() == 2 * STEPS


def test_options_override_the_preset() -> None:
    options = ["--preset", "ordered", "--epochs", "1", "--sigma-final", "0.5", "--sigma-steps", "9"]
    assert main([*DIGITS, "--topology", "hexagonal", *options, "--alpha", "0.2", "--beta", "0"]) == 0
    model = config("model")
    assert (model["sigma_final"], model["sigma_steps"], model["alpha"], model["beta"]) == (0.5, 9, 0.2, 0.0)
    assert "topographic_error_6" in ResultFolder.open("run").evaluations["test"]


def test_series_are_ordered_by_default() -> None:
    assert main([*SERIES, *SMALL]) == 0
    assert config("model")["codebook_update"] == "ema"
    assert (config("model")["gamma"], config("model")["tau"]) == (1.8, 1.4)
    evaluation = ResultFolder.open("run").evaluations["test"]
    assert {"moves_within_1", "transition_mass_within_2", "static_nmi_arithmetic", "order"} <= evaluation.keys()


def test_series_from_files_are_ordered_by_default() -> None:
    Path("series").mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        rows = torch.rand(8, 2, generator=generator).cumsum(dim=0)
        Path(f"series/{number}.csv").write_text("\n".join(f"{a:.4f},{b:.4f}" for a, b in rows.tolist()) + "\n")
    assert main(["fit", "series", *SMALL, "--epochs", "2"]) == 0
    assert config("model")["codebook_update"] == "ema"
    assert config("model")["network"] == "dense"


def test_ema_updates_select_the_ordered_preset_and_work_with_other_presets_too() -> None:
    assert main([*DIGITS, "--codebook-update", "ema", "--epochs", "1"]) == 0
    assert (config("model")["alpha"], config("training")["max_rotation"]) == (0.05, 10.0)
    published = ["--preset", "published", "--codebook-update", "ema", "--network", "dense", "--overwrite"]
    assert main([*SERIES, *SMALL, *published]) == 0
    assert (config("model")["alpha"], config("model")["beta"]) == (1.0, None)


def test_a_map_without_an_encoder_learns_by_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    options = [option for option in SMALL if option not in ("--latent-dim", "8")]
    assert main([*SERIES, *options, "--network", "identity"]) == 0
    assert config("model")["codebook_update"] == "gradient"
    assert main(["fit", "digits", *options, "--preset", "ordered", "--network", "identity", "--overwrite"]) == 2
    assert "network must not be 'identity'" in capsys.readouterr().err


def test_codes_of_series_learn_by_gradients_on_request() -> None:
    assert main([*SERIES, *SMALL, "--codebook-update", "gradient", "--beta", "0.5"]) == 0
    model = config("model")
    assert (model["codebook_update"], model["alpha"], model["beta"], model["decay"]) == ("gradient", 1.0, 0.5, None)


def test_the_preset_can_be_used_for_an_unordered_map() -> None:
    options = ["--preset", "ordered", "--codebook-update", "gradient", "--epochs", "1", "--image-size", "16"]
    assert main([*DIGITS, *options]) == 0
    model = config("model")
    assert (model["codebook_update"], model["network"], model["beta"]) == ("gradient", "small-conv", None)
    assert somvae_ext.load("run").config.som_weight == 0.9


@pytest.mark.parametrize(("option", "value"), [("--soft-som", "0.5"), ("--border", "mask")])
def test_an_option_that_ordered_maps_do_not_use_is_refused(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SERIES, *SMALL, option, value]) == 2
    error = capsys.readouterr().err
    assert f"{option} is for --codebook-update gradient" in error
    assert not Path("run").exists()


@pytest.mark.parametrize("option", ["--decay", "--sigma-final", "--sigma-initial"])
def test_an_option_of_ordered_maps_is_refused_where_codes_learn_by_gradients(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DIGITS, option, "0.5"]) == 2
    assert f"{option} is for --codebook-update ema" in capsys.readouterr().err


def test_fields_that_a_config_lacks_have_their_defaults() -> None:
    assert main([*DIGITS, "--epochs", "1"]) == 0
    whole = config_of("run")
    for name in ("codebook_update", "decay", "sigma_initial", "sigma_final", "sigma_steps"):
        del whole["model"][name]
    for name in ("max_shift", "max_rotation", "max_scale", "max_shear"):
        del whole["training"][name]
    x = torch.rand(5, 1, 8, 8)
    expected = somvae_ext.load("run").assign(x)
    write_config("run", whole)
    assert somvae_ext.load("run").assign(x).equal(expected)
    assert somvae_ext.load("run").config.som_weight == 0.9


def test_encodings_of_series_may_see_a_window_of_frames(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SERIES, *SMALL, "--window", "4", "--prediction", "10"]) == 0
    assert (config("model")["window"], config("model")["prediction"]) == (4, 10.0)
    model = somvae_ext.load("run")
    assert model.window.projection.weight.abs().max() > 0  # trained: the weights start at zero
    assert {"moves_within_1", "static_nmi_arithmetic"} <= ResultFolder.open("run").evaluations["test"].keys()
    assert main(["evaluate", "run"]) == 0
    assert main([*DIGITS[:2], "--window", "4", "--out", "other"]) == 2
    assert "--window must be 1 for digits, whose samples have no order in time" in capsys.readouterr().err
    assert main([*DIGITS[:2], "--prediction", "1", "--out", "other"]) == 2
    assert "--prediction must be 0 for digits, whose samples have no order in time" in capsys.readouterr().err
    assert not Path("other").exists()


@pytest.mark.pictures
def test_pictures_are_drawn_for_a_model_with_a_window() -> None:
    assert main([*SERIES, *SMALL, "--window", "4"]) == 0
    assert {"reconstructions", "map", "transitions", "contingency"} <= {path.stem for path in Path("run").glob("*.png")}
