"""Tests of resuming: an interrupted and resumed training ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig, SOMVAEOutput
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit

CONFIG = SOMVAEConfig(input_shape=(3,), rows=3, cols=4, latent_dim=4, hidden_sizes=(8,), gamma=1.0, tau=0.5)
ORDERED: dict[str, object] = {"codebook_update": "ema", "beta": None, "sigma_final": 0.6, "sigma_steps": 8}
RECIPE = TrainingConfig(epochs=4, batch_size=4, learning_rate=1e-2, decay_steps=3, revive=True)


class NoisyEncoder(nn.Sequential):
    """An encoder that draws from torch's global generator, as dropout does."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3, 8), nn.Dropout(0.3), nn.Linear(8, 4))


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options), encoder=NoisyEncoder())  # type: ignore[arg-type]


def walks(num_series: int = 10, seed: int = 0) -> Samples:
    generator = torch.Generator().manual_seed(seed)
    return Samples(torch.rand(num_series, 6, 3, generator=generator).cumsum(dim=1) / 6)


class InterruptedSOMVAE(SOMVAE):
    """Raises KeyboardInterrupt at a given forward pass of the training."""

    left = 0

    def forward(self, x: Tensor, mask: Tensor | None = None) -> SOMVAEOutput:
        if self.training:
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
        return super().forward(x, mask)


def new_run(path: Path) -> ResultFolder:
    folder = ResultFolder.create(path, "model")
    folder.save_config({})
    return folder


def state_of(path: Path) -> dict:
    folder = ResultFolder.open(path)
    state = folder.load_state()
    moments = {
        f"optimizer {number}, {parameter} {name}": value
        for number, optimizer in enumerate(state["optimizers"])
        for parameter, values in optimizer["state"].items()
        for name, value in values.items()
    }
    order, (cpu,) = state["generators"]["order"], state["generators"]["cpu"]
    return {**folder.load_weights(), **moments, "order": order, "cpu": cpu}


@pytest.mark.parametrize(("updates", "window"), [("dense", 1), ("rows", 1), ("dense", 3)])
@pytest.mark.parametrize("steps", [3, 7, 11])  # three per epoch: after the first epoch, and within two others
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(
    tmp_path: Path, steps: int, updates: str, window: int
) -> None:
    def train(model: SOMVAE, folder: ResultFolder, *, resume: bool = False) -> list[dict]:
        return fit(
            model, walks(), RECIPE, validation=walks(seed=1), run_folder=folder, accelerator="cpu", resume=resume
        )

    options: dict = {"transition_updates": updates, "window": window}
    whole = train(make(**options), new_run(tmp_path / "a"))
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, **options)
    interrupted = InterruptedSOMVAE(config, encoder=NoisyEncoder())
    interrupted.left = steps
    with pytest.raises(KeyboardInterrupt):
        train(interrupted, new_run(tmp_path / "b"))
    torch.rand(13)  # the generators of a new process are in other states
    resumed = train(make(**options), ResultFolder.open(tmp_path / "b"), resume=True)

    def without_time(history: list[dict]) -> list[dict]:
        return [{name: value for name, value in record.items() if name != "seconds"} for record in history]

    assert without_time(resumed) == without_time(whole)
    assert without_time(ResultFolder.open(tmp_path / "b").load_log("metrics")) == without_time(whole)
    expected, got = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert ("optimizer 1, 0 exp_avg" in expected) is (updates == "rows")
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.parametrize("steps", [4, 7, 11])  # the width falls until step 8
def test_an_ordered_map_resumes_while_its_width_is_falling(tmp_path: Path, steps: int) -> None:
    whole = make(**ORDERED)
    fit(whole, walks(), RECIPE, run_folder=new_run(tmp_path / "a"), accelerator="cpu")
    torch.manual_seed(0)
    interrupted = InterruptedSOMVAE(dataclasses.replace(CONFIG, **ORDERED), encoder=NoisyEncoder())  # type: ignore[arg-type]
    interrupted.left = steps
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, walks(), RECIPE, run_folder=new_run(tmp_path / "b"), accelerator="cpu")
    resumed = make(**ORDERED)
    fit(resumed, walks(), RECIPE, run_folder=ResultFolder.open(tmp_path / "b"), resume=True, accelerator="cpu")
    expected, got = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert expected["quantizer.num_updates"].item() == 12
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


WARMED = {
    "own loss": ORDERED
    | {"sigma_initial": 0.7, "alpha": 0.2, "beta": 0.0, "relabel_after": 3, "neighbor_margin": 1.0, "gamma": 1.0},
    "gradient": {"init": "kmeans"},
    "ema": ORDERED | {"init": "som"},
    "hardened and relabeled": {
        "init": "kmeans",
        "hardening": 1.0,
        "soft_som": 0.1,
        "relabel_after": 3,
        "neighbor_margin": 1.0,
    },
}


@pytest.mark.parametrize("steps", [4, 6, 7, 10])  # three per epoch, two epochs of warm-up
@pytest.mark.parametrize("options", WARMED.values(), ids=WARMED.keys())
def test_a_training_resumes_during_after_and_long_after_the_warm_up(
    tmp_path: Path, options: dict[str, object], steps: int
) -> None:
    options = options | {"warm_up_epochs": 2}
    fit(make(**options), walks(), RECIPE, run_folder=new_run(tmp_path / "a"), accelerator="cpu")
    torch.manual_seed(0)
    interrupted = InterruptedSOMVAE(dataclasses.replace(CONFIG, **options), encoder=NoisyEncoder())  # type: ignore[arg-type]
    interrupted.left = steps
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, walks(), RECIPE, run_folder=new_run(tmp_path / "b"), accelerator="cpu")
    torch.rand(13)
    resumed = make(**options)
    fit(resumed, walks(), RECIPE, run_folder=ResultFolder.open(tmp_path / "b"), resume=True, accelerator="cpu")
    expected, got = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert expected["latent_variance"] != 0.0025
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_more_epochs_keep_the_widths_of_the_common_epochs(tmp_path: Path) -> None:
    """The width depends only on step and config: equal in the common epochs, and the final width afterwards."""
    widths: list[list[float]] = []
    for epochs in (4, 6):
        model = make(**ORDERED)
        widths.append([])
        config = dataclasses.replace(RECIPE, epochs=epochs)
        fit(
            model,
            walks(),
            config,
            after_epoch=lambda _, m=model: widths[-1].append(m.quantizer.sigma),
            accelerator="cpu",
        )  # type: ignore[misc]
    assert widths[1][:4] == widths[0]
    assert widths[0][0] > widths[0][1] > widths[0][2] == 0.6  # after 3, 6 and 9 steps; final after 8
    assert widths[1][3:] == [0.6] * 3


def test_more_epochs_continue_a_completed_training(tmp_path: Path) -> None:
    short = dataclasses.replace(RECIPE, epochs=2)
    fit(make(), walks(), RECIPE, run_folder=ResultFolder.create(tmp_path / "a", "model"), accelerator="cpu")
    fit(make(), walks(), short, run_folder=new_run(tmp_path / "b"), accelerator="cpu")
    fit(make(), walks(), RECIPE, run_folder=ResultFolder.open(tmp_path / "b"), resume=True, accelerator="cpu")
    expected, got = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path, "model")
    fit(make(), walks(), dataclasses.replace(RECIPE, epochs=1), run_folder=folder, accelerator="cpu")
    with pytest.raises(ValueError, match="the checkpoint must be one of this training, got another"):
        fit(make(rows=4), walks(), RECIPE, run_folder=folder, resume=True, accelerator="cpu")


def test_an_incomplete_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path, "model")
    fit(make(), walks(), dataclasses.replace(RECIPE, epochs=1), run_folder=folder, accelerator="cpu")
    weights, state = folder.load_weights(), folder.load_state()
    for broken, reason in (
        ({name: value for name, value in state.items() if name != "optimizers"}, "must hold 'optimizers'"),
        (state | {"optimizers": None}, "must be one of this training, got another"),
        (state | {"generators": {}}, "must be one of this training, got another"),
        (state | {"step": "many"}, "must hold the numbers of epoch and step"),
    ):
        folder.save_checkpoint(folder.last_epoch + 1, weights, broken, {})
        with pytest.raises(ValueError, match=rf"fit: {folder.path}: the checkpoint {reason}"):
            fit(make(), walks(), RECIPE, run_folder=folder, resume=True, accelerator="cpu")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda value: value * float("nan"), "holds NaN or infinity"),
        (lambda value: value / 0, "holds NaN or infinity"),
        (lambda value: value.to(torch.int8), "must be float32 of shape .*, got int8 of"),
        (lambda value: value.double(), "must be float32 of shape .*, got float64 of"),
        (lambda value: value.to(torch.complex64), "must be float32 of shape .*, got complex64 of"),
        (lambda value: value[:1], "must be float32 of shape .*, got float32 of"),
    ],
)
def test_weights_that_would_be_cast_or_are_not_finite_are_refused(tmp_path: Path, change: Any, reason: str) -> None:
    folder = ResultFolder.create(tmp_path, "model")
    model = SOMVAE(CONFIG)
    fit(model, walks(), dataclasses.replace(RECIPE, epochs=1), run_folder=folder, accelerator="cpu")
    weights = folder.load_weights()
    name = next(key for key, value in weights.items() if key.startswith("decoder_q") and value.dim() == 2)
    folder.save_checkpoint(2, weights | {name: change(weights[name])}, folder.load_state(), {})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=rf"got another: {name} {reason}"):
        fit(model, walks(), RECIPE, run_folder=folder, resume=True, accelerator="cpu")
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_a_training_resumes_from_the_second_to_last_checkpoint(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "a")
    fit(make(), walks(), RECIPE, run_folder=folder, accelerator="cpu")
    expected = state_of(tmp_path / "a")
    folder.rewind_to(3)
    fit(make(), walks(), RECIPE, run_folder=folder, resume=True, accelerator="cpu")
    got = state_of(tmp_path / "a")
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert [record["epoch"] for record in folder.load_log("metrics")] == [1, 2, 3, 4]


def test_a_folder_with_epochs_is_refused_without_resume(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    fit(make(), walks(), dataclasses.replace(RECIPE, epochs=1), run_folder=folder, accelerator="cpu")
    with pytest.raises(ValueError, match=r"run_folder must be a new one, got .* with 1 epochs; set resume to go on"):
        fit(make(), walks(), RECIPE, run_folder=folder, accelerator="cpu")


def test_resuming_needs_a_run_and_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume needs the run_folder"):
        fit(make(), walks(), RECIPE, resume=True, accelerator="cpu")
    with pytest.raises(FileNotFoundError, match="no epoch of its training was completed"):
        fit(make(), walks(), RECIPE, run_folder=new_run(tmp_path), resume=True, accelerator="cpu")


def test_losses_of_the_steps_are_logged_with_six_digits(tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    history = fit(make(), walks(), dataclasses.replace(RECIPE, epochs=2), run_folder=folder, accelerator="cpu")
    first, second = folder.load_log("iterations")
    assert (first["step"], second["step"]) == (1, 4)
    for entry, record in zip((first, second), history, strict=True):
        losses = entry["losses"]["total"]
        assert [f"{value:.6g}" for value in losses] == [repr(value).rstrip("0").removesuffix(".") for value in losses]
        # The batches hold 4, 4 and 2 series.
        mean = (4 * losses[0] + 4 * losses[1] + 2 * losses[2]) / 10
        assert mean == pytest.approx(record["train"]["total"], rel=1e-5)
