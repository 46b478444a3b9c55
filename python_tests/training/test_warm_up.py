"""Tests of a SOM-VAE's warm-up in the training loop: which parts do not train until it ends, and how they start."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import somvae_ext
from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.models.saved_model import model_section
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit

WARM_UP, EPOCHS, STEPS = 2, 4, 5  # STEPS per epoch
CONFIG = SOMVAEConfig(
    input_shape=(6,), rows=2, cols=3, latent_dim=4, hidden_sizes=(8,), init="kmeans", warm_up_epochs=WARM_UP
)
ORDERED: dict[str, object] = {"codebook_update": "ema", "beta": None, "init": "som", "sigma_steps": 4}
SERIES: dict[str, object] = {"gamma": 1.0, "tau": 0.5}
RECIPE = TrainingConfig(epochs=EPOCHS, batch_size=8, learning_rate=1e-2)


class Watched(SOMVAE):
    """Records when its codebook is initialized, the weights before, and the codes after."""

    def watch(self) -> Watched:
        self.forward_passes = 0
        self.starts: list[dict[str, Tensor]] = []
        self.started_at: list[tuple[int, bool]] = []
        return self

    def forward(self, x: Tensor, mask: Tensor | None = None):  # type: ignore[no-untyped-def]
        self.forward_passes += self.training
        return super().forward(x, mask)

    def initialize_codebook(self, x: Tensor, mask: Tensor | None = None, *, seed: int = 0) -> None:
        self.started_at.append((self.forward_passes, self.training))
        self.starts.append({name: value.clone() for name, value in self.state_dict().items()})
        super().initialize_codebook(x, mask, seed=seed)
        self.codes = self.quantizer.codebook.detach().clone()
        self.start_encodings = np.asarray(self.encode(x).detach().reshape(-1, 4))


def make(**options: object) -> Watched:
    torch.manual_seed(0)
    return Watched(dataclasses.replace(CONFIG, **options)).watch()  # type: ignore[arg-type]


def blobs(rows: int = 40) -> Samples:
    generator = torch.Generator().manual_seed(0)
    centers = torch.rand(3, 6, generator=generator)
    return Samples((centers[torch.arange(rows) % 3] + 0.05 * torch.randn(rows, 6, generator=generator)).clamp(0, 1))


def series() -> Samples:
    return Samples(blobs(200).x.view(40, 5, 6))


def train(model: SOMVAE, data: Samples, recipe: TrainingConfig = RECIPE, **options: object) -> list[dict]:
    return fit(model, data, recipe, accelerator="cpu", **options)  # type: ignore[arg-type]


MODES = {"gradient": {}, "ema": ORDERED, "no start": {"init": "normal"}}


@pytest.mark.parametrize("options", MODES.values(), ids=MODES.keys())
def test_the_codebook_is_initialized_once_right_after_the_warm_up(options: dict[str, object]) -> None:
    model = make(**options)
    before = model.quantizer.codebook.detach().clone()
    train(model, blobs())
    assert model.started_at == [(WARM_UP * STEPS, False)]
    assert model.starts[0]["quantizer.codebook"].equal(before)
    assert model.codes.equal(before) is (model.config.init == "normal")


def test_without_a_warm_up_the_codebook_is_initialized_before_the_first_step() -> None:
    model = make(warm_up_epochs=0)
    train(model, blobs())
    assert model.started_at == [(0, False)]


@pytest.mark.parametrize("updates", ["dense", "rows"])
@pytest.mark.parametrize("options", [{}, ORDERED], ids=["gradient", "ema"])
def test_the_warm_up_trains_the_autoencoder_only(options: dict[str, object], updates: str) -> None:
    model = make(**SERIES, **options, transition_updates=updates)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, series())
    after = model.state_dict()
    assert {name.partition(".")[0] for name, value in first.items() if not model.starts[0][name].equal(value)} == {
        "encoder",
        "decoder_e",
    }
    moved = {name.partition(".")[0] for name, value in first.items() if not after[name].equal(value)}
    assert moved == {"encoder", "decoder_e", "decoder_q", "quantizer", "transitions", "latent_variance"}


def test_the_neighborhood_narrows_only_after_the_warm_up() -> None:
    model = make(**ORDERED)
    done: list[int] = []
    train(model, blobs(), after_epoch=lambda _: done.append(int(model.quantizer.num_updates)))
    assert done == [0, 0, STEPS, 2 * STEPS]


def test_parts_that_do_not_train_in_the_warm_up_count_no_adam_steps(tmp_path: Path) -> None:
    """Counting steps with zero gradients would make Adam's first real steps three times as long.

    The optimizer state of the parts that train during the warm-up is reset after it.
    """
    folder = ResultFolder.create(tmp_path, "model")
    model = make()
    train(model, blobs(), run_folder=folder)
    (adam,) = folder.load_state()["optimizers"]
    names = [name for name, _ in model.named_parameters()]
    steps = {names[place].partition(".")[0]: int(state["step"]) for place, state in adam["state"].items()}
    after = (EPOCHS - WARM_UP) * STEPS
    assert steps == dict.fromkeys(("encoder", "decoder_e", "decoder_q", "quantizer"), after)


def test_nodes_are_revived_only_after_an_unused_epoch_following_the_warm_up() -> None:
    model = make(init="normal")
    with torch.no_grad():
        model.quantizer.codebook[[1, 4]] = 1e3
    history = train(model, blobs(), dataclasses.replace(RECIPE, revive=True))
    assert [record["revived"] for record in history[: WARM_UP + 1]] == [0] * (WARM_UP + 1)
    assert history[WARM_UP + 1]["revived"] == round(6 * (1 - history[WARM_UP]["usage"])) >= 2


def test_validation_uses_the_loss_of_its_epoch() -> None:
    history = train(make(), blobs(), validation=blobs())
    for record in history:
        for part in ("train", "validation"):
            alone = record[part]["total"] == record[part]["reconstruction_e"]
            assert alone is (record["epoch"] <= WARM_UP)
    assert all(value > 0 for name, value in history[0]["train"].items() if name in ("total", "reconstruction_q", "som"))


@pytest.mark.parametrize("options", MODES.values(), ids=MODES.keys())
def test_the_latent_variance_is_measured_at_initialization_and_then_averaged(options: dict[str, object]) -> None:
    """The average follows the variance of each step's encodings, computed before the step."""
    seen: list[float] = []

    class Seen(Watched):
        def forward(self, x: Tensor, mask: Tensor | None = None):  # type: ignore[no-untyped-def]
            output = super().forward(x, mask)
            if self.training and self.forward_passes > WARM_UP * STEPS:
                seen.append(np.asarray(output.z_e.detach().double()).var(axis=0, ddof=1).mean())
            return output

    torch.manual_seed(0)
    model = Seen(dataclasses.replace(CONFIG, **options)).watch()  # type: ignore[arg-type]
    train(model, blobs())
    assert len(seen) == (EPOCHS - WARM_UP) * STEPS
    expected = model.start_encodings.astype(np.float64).var(axis=0, ddof=1).mean()
    for value in seen:
        expected = 0.99 * expected + 0.01 * value
    # The average is float32 and rounded once per step.
    assert model.latent_variance.item() == pytest.approx(expected, rel=20 * torch.finfo(torch.float32).eps)


def test_a_loaded_model_is_past_its_warm_up_and_has_its_latent_variance(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path, "model")
    model = make()
    folder.save_config({"model": model_section(SOMVAE, model.config)})
    history = train(model, blobs(), validation=blobs(), run_folder=folder)
    loaded = somvae_ext.load(tmp_path)
    x = blobs().x
    assert loaded.latent_variance.equal(model.latent_variance)
    assert loaded.loss(loaded(x), x).total.item() == pytest.approx(history[-1]["validation"]["total"], rel=1e-5)


def test_folders_without_warm_up_epochs_can_be_loaded(tmp_path: Path) -> None:
    folder = ResultFolder.create(tmp_path, "model")
    model = make(warm_up_epochs=0)
    section = model_section(SOMVAE, model.config)
    del section["warm_up_epochs"]
    folder.save_config({"model": section})
    train(model, blobs(), run_folder=folder)
    assert "warm_up_epochs" not in ResultFolder.open(tmp_path).config["model"]
    loaded = somvae_ext.load(tmp_path)
    assert loaded.config == model.config
    assert loaded.state_dict().keys() == model.state_dict().keys()
