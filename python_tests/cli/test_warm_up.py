"""``somvae fit --warm-up-epochs``: what it sets, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from saved_configs import config_of

import somvae_ext
from somvae_ext.cli import main
from somvae_ext.store import ResultFolder

SMALL = ["fit", "digits", "--rows", "3", "--cols", "4", "--latent-dim", "8", "--hidden-sizes", "16"]
RUN = [*SMALL, "--device", "cpu", "--out", "run"]
STEPS = 40  # steps per epoch of the digits: 1,257 images in batches of 32


def config(section: str) -> dict[str, Any]:
    return config_of("run")[section]


def test_the_neighborhood_narrows_in_most_of_the_steps_after_the_warm_up() -> None:
    assert main([*RUN, "--preset", "ordered", "--epochs", "3", "--warm-up-epochs", "1"]) == 0
    assert (config("model")["warm_up_epochs"], config("model")["sigma_steps"]) == (1, round(0.7 * 2 * STEPS))
    quantizer = somvae_ext.load("run").quantizer
    assert quantizer.num_updates.item() == 2 * STEPS
    assert quantizer.sigma == 0.7


@pytest.mark.parametrize("warm_up", ["2", "3"])
def test_a_warm_up_without_an_epoch_after_it_is_refused(warm_up: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUN, "--epochs", "2", "--warm-up-epochs", warm_up]) != 0
    sentence = (
        "--warm-up-epochs must be below --epochs, because the codebook learns after the warm-up, got "
        f"{warm_up} of 2 epochs"
    )
    assert sentence in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_run_cannot_be_resumed_with_no_epoch_after_its_warm_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = ResultFolder.save_checkpoint

    def interrupted(self: ResultFolder, epoch: int, *contents: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt
        save(self, epoch, *contents)

    monkeypatch.setattr(ResultFolder, "save_checkpoint", interrupted)
    assert main([*RUN, "--epochs", "3", "--warm-up-epochs", "2"]) == 130
    assert main(["fit", "--resume", "run", "--epochs", "2"]) != 0
    assert "--warm-up-epochs must be below --epochs" in capsys.readouterr().err


def test_other_models_have_no_warm_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--model", "vae", "--warm-up-epochs", "1"]) != 0
    assert "--warm-up-epochs is for somvae, and --model vae has no use for it" in capsys.readouterr().err
