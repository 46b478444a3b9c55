"""Tests of codebooks without a map in training: initialization, moving averages, revival, resuming and NaN."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from somvae_ext.data import Samples
from somvae_ext.models import VQVAE, VQVAEConfig, VQVAEOutput
from somvae_ext.nn import VectorQuantizer
from somvae_ext.processes import Processes
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.codebook import initialize_codebook, reset_optimizer_rows, revive, update_ema_codebook

CONFIG = VQVAEConfig(input_shape=(1, 4, 4), num_codes=8, latent_dim=3, hidden_sizes=(8,))
RECIPE = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-3, revive=True)
UPDATES = pytest.mark.parametrize("update", ["gradient", "ema"])
NETWORKS = pytest.mark.parametrize("network", ["dense", "conv"])


def make(**options: Any) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE(dataclasses.replace(CONFIG, **options))


def samples(count: int = 40) -> Samples:
    return Samples(torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(0)))


class WatchedVQVAE(VQVAE):
    """Records the codes before each forward pass in training and the encodings and indices that it returns."""

    def __init__(self, config: VQVAEConfig) -> None:
        super().__init__(config)
        self.seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, x: Tensor) -> VQVAEOutput:
        output = super().forward(x)
        if self.training:
            self.seen.append((self.quantizer.codebook.detach().clone(), output.z_e.detach(), output.indices))
        return output


@NETWORKS
def test_the_loop_moves_codes_to_the_averages_of_their_encodings(network: str) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, network=network, codebook_update="ema", decay=0.7)  # type: ignore[arg-type]
    model = WatchedVQVAE(config)
    counts, sums = torch.ones(8).double(), model.quantizer.codebook.double()
    fit(model, samples(), dataclasses.replace(RECIPE, epochs=2, revive=False), accelerator="cpu")
    assert len(model.seen) == 10
    after = [codebook for codebook, _, _ in model.seen[1:]] + [model.quantizer.codebook]
    for (_, z, indices), codebook in zip(model.seen, after, strict=True):
        rows, index = z.movedim(1, -1).reshape(-1, 3).double(), indices.flatten()
        won = torch.nn.functional.one_hot(index, 8).double()
        counts = 0.7 * counts + 0.3 * won.sum(dim=0)
        sums = 0.7 * sums + 0.3 * won.T @ rows
        smoothed = (counts + 1e-5) / (counts.sum() + 8e-5) * counts.sum()
        # Ten float32 steps of a few operations each.
        torch.testing.assert_close(codebook.double(), sums / smoothed[:, None], rtol=1e-5, atol=1e-6)


@NETWORKS
@UPDATES
def test_training_starts_from_k_means_if_the_config_says_so(network: str, update: str) -> None:
    model = make(init="kmeans", network=network, codebook_update=update)
    z = model.encode(samples(400).x).detach().movedim(1, -1).reshape(-1, 3)
    initialize_codebook(model, samples(400), seed=0)
    codebook = model.quantizer.codebook.detach()
    error = torch.cdist(z, codebook).amin(dim=1).square().mean()
    spread = (z - z.mean(dim=0)).square().sum(dim=1).mean()
    assert error < 0.5 * spread  # less than half of the variance remains with 8 centers in three dimensions
    (record,) = fit(
        make(init="kmeans", network=network, codebook_update=update),
        samples(),
        dataclasses.replace(RECIPE, epochs=1),
        accelerator="cpu",
    )
    assert record["usage"] > 0.8


def test_a_grid_of_codes_needs_fewer_samples_for_initialization() -> None:
    sizes = []
    for size in (4, 16):
        model = make(init="kmeans", network="conv", input_shape=(1, size, size))
        model.encoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
        initialize_codebook(model, Samples(torch.rand(500, 1, size, size)), seed=0)
    assert sizes == [8 * 32, 8 * 32 // 16]


@NETWORKS
@UPDATES
def test_revived_codes_become_encodings_and_stay_among_them(network: str, update: str) -> None:
    """In fit, a code far away wins nothing in the first epoch and is revived before the second."""
    model = make(network=network, codebook_update=update)
    with torch.no_grad():
        model.quantizer.codebook[5] = 1e3
    if update == "ema":
        model.quantizer.ema_sums[5] = 1e3
    first, second = fit(model, samples(), dataclasses.replace(RECIPE, epochs=2), accelerator="cpu")
    assert first["revived"] == 0
    assert first["usage"] <= 7 / 8
    assert second["revived"] == round(8 * (1 - first["usage"]))
    # If the averages kept the old code's sum, the code would return: 0.99^5 of 1e3 remains after the next epoch.
    assert model.quantizer.codebook.abs().max() < 10


def test_the_old_momentum_of_a_revived_code_is_discarded(tmp_path: Path) -> None:
    """Between two epochs of fit, the checkpoint is edited: a code with momentum is marked as unused."""
    folder = ResultFolder.create(tmp_path / "run", "model")
    folder.save_config({})
    fit(make(num_codes=7), samples(), dataclasses.replace(RECIPE, epochs=1), run_folder=folder, accelerator="cpu")
    state = folder.load_state()
    state["unused"] = torch.tensor([5])
    (moments,) = (own for own in state["optimizers"][0]["state"].values() if own["exp_avg"].shape == (7, 3))
    moments["exp_avg"][5] = 1e6
    changed = ResultFolder.create(tmp_path / "changed", "model")
    changed.save_checkpoint(1, folder.load_weights(), state, {"metrics": folder.load_log("metrics")})
    model = make(num_codes=7)
    recipe = dataclasses.replace(RECIPE, epochs=2)
    _, second = fit(model, samples(), recipe, run_folder=changed, resume=True, accelerator="cpu")
    assert second["revived"] == 1
    assert model.quantizer.codebook.abs().max() < 10


def test_revival_resets_the_optimizer_state_of_the_revived_rows_only() -> None:
    model, train = make(), samples()
    descent = torch.optim.Adam(model.parameters())
    for _ in range(3):
        descent.zero_grad()
        model.loss(model(train.x), train.x).total.backward()
        descent.step()
    codebook = model.quantizer.codebook
    assert isinstance(codebook, torch.nn.Parameter)
    descent.state[codebook]["exp_avg"].fill_(1)
    revive(model, [descent], torch.tensor([2, 7]), train, seed=0, epoch=2)
    assert descent.state[codebook]["exp_avg"].sum(dim=1).tolist() == [3, 3, 0, 3, 3, 3, 3, 0]
    encodings = model.encode(train.x).detach()
    for code in (2, 7):
        assert (encodings - codebook[code]).abs().amax(dim=1).min() < 1e-6


def test_revival_resets_the_averages_of_the_revived_codes_only() -> None:
    model, train = make(codebook_update="ema"), samples()
    quantizer = model.quantizer
    quantizer.ema_counts.copy_(torch.arange(8.0) + 2)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    revive(model, [torch.optim.Adam(model.parameters())], torch.tensor([2, 7]), train, seed=0, epoch=2)
    assert quantizer.ema_counts[[2, 7]].tolist() == [1, 1]
    assert quantizer.ema_sums[[2, 7]].equal(quantizer.codebook[[2, 7]])
    others = [0, 1, 3, 4, 5, 6]
    assert all(value[others].equal(before[name][others]) for name, value in quantizer.state_dict().items())


def test_an_optimizer_without_the_codebook_has_nothing_to_reset() -> None:
    codes = torch.nn.Parameter(torch.rand(4, 2))
    descent = torch.optim.Adam([torch.nn.Parameter(torch.rand(4, 2))])
    reset_optimizer_rows(descent, codes, torch.tensor([1]))
    assert descent.state == {}


@NETWORKS
@UPDATES
def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path, network: str, update: str) -> None:
    def train(name: str, epochs: int, **options: bool) -> dict[str, Any]:
        folder = ResultFolder.open(tmp_path / name) if options else ResultFolder.create(tmp_path / name, "model")
        if not options:
            folder.save_config({})
        model = make(network=network, codebook_update=update, init="kmeans", num_codes=32)
        recipe = dataclasses.replace(RECIPE, epochs=epochs)
        fit(model, samples(), recipe, run_folder=folder, accelerator="cpu", **options)  # type: ignore[arg-type]
        torch.rand(13)  # the generators of a new process are in other states
        return model.state_dict()

    whole = train("whole", 4)
    train("parts", 2)
    resumed = train("parts", 4, resume=True)
    assert whole.keys() == resumed.keys()
    assert ("quantizer.ema_counts" in whole) is (update == "ema")
    assert all(value.equal(resumed[name]) for name, value in whole.items())


@UPDATES
def test_a_nan_stops_the_training_before_it_reaches_a_code(tmp_path: Path, update: str) -> None:
    data, model, folder = samples(), make(codebook_update=update), ResultFolder.create(tmp_path, "model")
    folder.save_config({})
    recipe = dataclasses.replace(RECIPE, revive=False)
    fit(model, data, dataclasses.replace(recipe, epochs=1), run_folder=folder, accelerator="cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data.x[:, 0, 1, 1] = torch.nan
    with pytest.raises(FloatingPointError, match=r"the reconstruction loss is nan at step 6 \(epoch 2\).*of epoch 1"):
        fit(model, data, recipe, run_folder=folder, resume=True, accelerator="cpu")
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_averages_of_series_ignore_padding() -> None:
    quantizer = VectorQuantizer(4, 3, update="ema")
    expected = copy.deepcopy(quantizer)
    mask = torch.arange(6) < torch.tensor([6, 2, 0])[:, None]
    z = torch.where(mask[..., None], torch.rand(3, 6, 3), torch.nan)
    output = Encoded(z, quantizer(z, mask).indices)
    update_ema_codebook(Holder(quantizer), output, Processes.single())  # type: ignore[arg-type]
    expected.update_codebook(*expected.statistics(z[mask], expected.assign(z[mask])))
    # Reordered sums of at most eight terms of size one.
    torch.testing.assert_close(quantizer.state_dict(), expected.state_dict(), rtol=1e-6, atol=1e-6)


class Encoded(NamedTuple):
    z_e: Tensor
    indices: Tensor


class Holder(NamedTuple):
    """A custom model of series with a codebook."""

    quantizer: VectorQuantizer
