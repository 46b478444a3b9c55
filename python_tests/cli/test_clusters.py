"""The presets "clusters" and "own-loss", the selection among seeds with --best-of, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from saved_configs import config_of

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.store import ResultFolder

SMALL = ["fit", "digits", "--latent-dim", "8", "--device", "cpu", "--out", "run"]


def config(section: str, folder: str = "run") -> dict[str, Any]:
    return config_of(folder)[section]


def test_clusters_sets_a_warm_up_hardening_and_relabeling_at_the_end() -> None:
    assert main([*SMALL, "--preset", "clusters", "--epochs", "4"]) == 0
    model, training = config("model"), config("training")
    assert (model["rows"], model["cols"], model["init"], model["warm_up_epochs"]) == (4, 4, "kmeans", 1)
    assert (model["alpha"], model["beta"], model["hardening"], model["soft_som"]) == (0.0, 0.0, 1.0, 0.05)
    assert model["relabel_after"] == 4
    assert training["max_rotation"] == 10.0
    last = ResultFolder.open("run").load_log("metrics")[-1]
    assert 0 < last["train"]["hardening"] < 5
    assert somvae_ext.load("run").assign(torch.rand(5, 1, 8, 8)).shape == (5,)


def test_own_loss_narrows_the_neighborhood_and_then_relabels() -> None:
    assert main([*SMALL, "--preset", "own-loss", "--epochs", "3"]) == 0
    model = config("model")
    assert (model["rows"], model["cols"], model["codebook_update"], model["alpha"]) == (4, 4, "ema", 0.05)
    assert (model["sigma_final"], model["sigma_steps"]) == (0.4, round(0.7 * 3 * 40))
    assert (model["relabel_after"], model["neighbor_margin"]) == (2, 1.0)


def test_options_override_the_preset() -> None:
    options = ["--rows", "2", "--relabel-after", "1", "--hardening", "0.5", "--warm-up-epochs", "0"]
    assert main([*SMALL, "--preset", "clusters", "--epochs", "2", *options]) == 0
    model = config("model")
    assert (model["rows"], model["relabel_after"], model["hardening"], model["warm_up_epochs"]) == (2, 1, 0.5, 0)


def test_the_run_with_the_least_validation_loss_is_kept() -> None:
    assert main([*SMALL, "--rows", "3", "--cols", "3", "--epochs", "1", "--best-of", "3", "--seed", "5"]) == 0
    validation = {
        seed: ResultFolder.open(f"run/seeds/{seed}").load_log("metrics")[0]["validation"] for seed in (5, 6, 7)
    }
    losses = {seed: terms["reconstruction_q"] for seed, terms in validation.items()}
    chosen = min(losses, key=lambda seed: losses[seed])
    choice = json.loads(Path("run/choice.json").read_text())
    assert choice["chosen"] == chosen
    assert choice["seeds"] == {str(seed): loss for seed, loss in losses.items()}
    assert config("training")["seed"] == chosen
    kept, original = somvae_ext.load("run").state_dict(), somvae_ext.load(f"run/seeds/{chosen}").state_dict()
    assert all(value.equal(original[name]) for name, value in kept.items())
    assert Path("run/evaluation.json").is_file()


def test_the_selected_run_equals_a_training_with_its_seed_and_leaves_no_files_behind() -> None:
    small = [*SMALL, "--rows", "3", "--cols", "3", "--epochs", "1"]
    assert main([*small, "--best-of", "3"]) == 0
    chosen = json.loads(Path("run/choice.json").read_text())["chosen"]
    kept = somvae_ext.load("run").state_dict()
    assert main(["fit", "--resume", "run", "--epochs", "2"]) == 0
    assert len(ResultFolder.open("run").load_log("metrics")) == 2
    assert main([*small, "--best-of", "2", "--overwrite"]) == 0
    assert sorted(path.name for path in Path("run/seeds").iterdir()) == ["0", "1"]
    assert main([*small, "--seed", str(chosen), "--overwrite"]) == 0
    assert not Path("run/choice.json").exists()
    assert not Path("run/seeds").exists()
    assert all(value.equal(kept[name]) for name, value in somvae_ext.load("run").state_dict().items())


def test_an_interrupted_selection_resumes_with_the_finished_trainings() -> None:
    small = [*SMALL, "--rows", "3", "--cols", "3"]
    assert main([*small, "--best-of", "3", "--epochs", "2", "--out", "whole"]) == 0
    assert main([*small, "--best-of", "2", "--epochs", "1"]) == 0
    for path in Path("run").glob("*"):  # as after an interruption: trainings, one of them without a complete epoch
        if path.is_file():
            path.unlink()
    config = ResultFolder.open("run/seeds/1").config
    shutil.rmtree("run/seeds/1")
    ResultFolder.create("run/seeds/1", "model").save_config(config)
    assert main(["fit", "--resume", "run", "--best-of", "3", "--epochs", "2"]) == 0
    kept, whole = somvae_ext.load("run").state_dict(), somvae_ext.load("whole").state_dict()
    assert all(value.equal(kept[name]) for name, value in whole.items())
    assert Path("run/choice.json").read_text() == Path("whole/choice.json").read_text()


def test_an_interrupted_selection_cannot_drop_trainings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--rows", "2", "--cols", "2", "--best-of", "3", "--epochs", "2"]) == 0
    for path in Path("run").glob("*"):
        if path.is_file():
            path.unlink()
    for options, message in (
        (["--best-of", "0"], "--best-of must be at least the 3 trainings in run/seeds, got 0"),
        (["--best-of", "2"], "--best-of must be at least the 3 trainings in run/seeds, got 2"),
        (["--best-of", "3", "--epochs", "1"], "--epochs must be at least the 2 that run/seeds/0 has completed"),
    ):
        assert main(["fit", "--resume", "run", *options]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_a_complete_or_missing_selection_cannot_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--best-of", "2", "--epochs", "1", "--rows", "2", "--cols", "2"]) == 0
    assert main(["fit", "--resume", "run", "--best-of", "2"]) == 2
    assert "--best-of has nothing to resume: run holds a complete run" in capsys.readouterr().err
    assert main(["fit", "--resume", "elsewhere", "--best-of", "2"]) == 2
    message = "--resume with --best-of needs trainings in elsewhere/seeds, but there are none"
    assert message in " ".join(capsys.readouterr().err.split())


def test_clusters_can_be_trained_with_moving_averages() -> None:
    options = ["--preset", "clusters", "--epochs", "4", "--codebook-update", "ema", "--sigma-final", "0.4"]
    assert main([*SMALL, *options]) == 0
    assert (config("model")["soft_som"], config("model")["beta"], config("model")["hardening"]) == (0.0, None, 1.0)


def test_a_warm_up_delays_relabeling() -> None:
    assert main([*SMALL, "--preset", "own-loss", "--epochs", "7", "--warm-up-epochs", "2"]) == 0
    assert config("model")["relabel_after"] == 6


def test_hidden_sizes_select_the_dense_network_for_large_images() -> None:
    options = ["--image-size", "16", "--preset", "augmented", "--hidden-sizes", "9", "--epochs", "1"]
    assert main([*SMALL, *options]) == 0
    assert (config("model")["network"], config("model")["hidden_sizes"]) == ("dense", [9])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--best-of", "1"], "--best-of must be at least 2, got 1"),
        (["--best-of", "2", "--split", "all"], "--best-of chooses by the validation loss, but no validation data are"),
        (["--model", "vae", "--preset", "mnist", "--best-of", "2"], "--best-of chooses by the validation loss"),
        (["--preset", "own-loss", "--codebook-update", "gradient"], "--codebook-update must be ema for this preset"),
        (["--codebook-update", "ema", "--neighbors-only"], "--neighbors-only is for --codebook-update gradient"),
        (["--preset", "own-loss", "--soft-som", "0.1"], "--soft-som is for --codebook-update gradient"),
        (["--preset", "clusters", "--epochs", "2", "--warm-up-epochs", "2"], "--warm-up-epochs must be below --epochs"),
        (["--relabel-after", "9", "--epochs", "2"], "--relabel-after must be at most --epochs, got 9 of 2 epochs"),
        (["--augmented-target"], "--augmented-target must not be given where images are left as they are"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    small = [option for option in SMALL if option not in ("--latent-dim", "8")] if "vae" in options else SMALL
    assert main([*small, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not Path("run").exists()
