"""Tests of the training loop: it learns, is reproducible bit by bit, keeps records, and stops at non-finite values."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit

CONFIG = SOMVAEConfig(input_shape=(6,), rows=3, cols=3, latent_dim=4, hidden_sizes=(8,))
RECIPE = TrainingConfig(epochs=3, batch_size=8, learning_rate=1e-2)


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options))


def blobs(rows: int = 50, seed: int = 0) -> Samples:
    """Draws samples around three points."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.rand(3, 6, generator=generator)
    label = torch.arange(rows) % 3
    return Samples((centers[label] + 0.05 * torch.randn(rows, 6, generator=generator)).clamp(0, 1), label)


def series(rows: int = 12) -> Samples:
    """Draws series of different lengths that walk through the blobs, padded with NaN."""
    x = blobs(rows * 5).x.view(rows, 5, 6)
    mask = torch.arange(5) < torch.arange(rows)[:, None] % 5 + 1
    return Samples(torch.where(mask[..., None], x, torch.nan), mask=mask)


def train(model: SOMVAE, data: Samples, recipe: TrainingConfig = RECIPE, **options: object) -> list[dict]:
    return fit(model, data, recipe, accelerator="cpu", **options)  # type: ignore[arg-type]


def test_the_losses_decrease() -> None:
    history = train(make(), blobs(), dataclasses.replace(RECIPE, epochs=20))
    first, last = history[0]["train"], history[-1]["train"]
    for term in ("total", "reconstruction_q", "reconstruction_e"):
        assert last[term] < 0.7 * first[term]


def test_transitions_are_learned_from_series_of_different_lengths() -> None:
    model = make(gamma=1.0, tau=0.5)
    history = train(model, series(60), dataclasses.replace(RECIPE, epochs=20, learning_rate=2e-3))
    assert history[-1]["train"]["transition"] < 0.8 * math.log(9)  # the value if all nodes are equally likely
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize(("options", "data"), [({}, blobs()), ({"gamma": 1.0, "tau": 0.5}, series())])
def test_the_same_seed_gives_the_same_bits(options: dict[str, float], data: Samples) -> None:
    runs = []
    for _ in range(2):
        model = make(**options)
        torch.rand(7)  # earlier draws do not matter
        history = train(model, data, validation=data)
        losses = [(record["train"], record["validation"]) for record in history]
        runs.append((model.state_dict(), losses))
    (state, losses), (state_again, losses_again) = runs
    assert losses == losses_again
    assert all(state[name].equal(state_again[name]) for name in state)


def test_another_seed_takes_the_samples_in_another_order() -> None:
    states = []
    for seed in (0, 1):
        model = make()
        train(model, blobs(), dataclasses.replace(RECIPE, seed=seed))
        states.append(model.quantizer.codebook.detach())
    assert not states[0].equal(states[1])


def test_rates_decay_in_steps_and_logits_have_a_separate_rate() -> None:
    model = make(gamma=1.0)
    assert model.transitions is not None
    data = Samples(series().x.nan_to_num())
    # Each epoch has one step.
    recipe = TrainingConfig(epochs=4, batch_size=12, learning_rate=1e-3, decay_factor=0.5, decay_steps=2)
    history = train(model, data, recipe)
    assert [record["step"] for record in history] == [1, 2, 3, 4]
    assert [record["learning_rate"] for record in history] == pytest.approx([1e-3, 5e-4, 5e-4, 2.5e-4])
    # Adam's first steps are as long as the rate where the gradient keeps its sign.
    moved = model.transitions.logits.detach().abs().max().item()
    assert moved == pytest.approx(100 * (1e-3 + 1e-3 + 5e-4 + 5e-4), rel=0.3)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.1])
def test_rows_and_dense_updates_agree_where_every_node_is_visited(max_grad_norm: float) -> None:
    states = []
    for updates in ("rows", "dense"):
        model = make(gamma=1.0, tau=0.5, rows=1, cols=2, init="kmeans", transition_updates=updates).double()
        data = Samples(series(24).x.nan_to_num().double())
        recipe = dataclasses.replace(RECIPE, batch_size=24, learning_rate=1e-3, max_grad_norm=max_grad_norm)
        assert train(model, data, recipe)[0]["usage"] == 1.0
        states.append(model.state_dict())
    rows, dense = states
    for name in dense:  # three steps in float64
        torch.testing.assert_close(rows[name], dense[name], rtol=1e-9, atol=1e-9)


def test_rows_of_nodes_without_samples_keep_their_logits() -> None:
    model = make(gamma=1.0, tau=0.5, transition_updates="rows")
    assert model.transitions is not None
    with torch.no_grad():
        model.quantizer.codebook[[1, 5]] = 1e3  # far away from all encodings
    train(model, series())
    moved = model.transitions.logits.detach().any(dim=1)
    assert not moved[[1, 5]].any()
    assert moved.any()


def test_clipping_shortens_steps_and_a_large_limit_changes_nothing() -> None:
    states = {}
    for norm in (0.0, 1e6, 1e-9):  # the last is so small that Adam's eps shortens the steps
        model = make(gamma=1.0, tau=0.5, transition_updates="rows")
        start = model.quantizer.codebook.detach().clone()
        train(model, series(), dataclasses.replace(RECIPE, epochs=1, max_grad_norm=norm))
        states[norm] = (model.quantizer.codebook.detach() - start).abs().sum().item()
    assert states[1e6] == pytest.approx(states[0.0], rel=1e-4)  # coalescing adds rows in another order
    assert states[1e-9] < 0.5 * states[0.0]


@pytest.mark.parametrize("updates", ["dense", "rows"])
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_stops_training_before_it_reaches_the_weights(
    updates: str, max_grad_norm: float
) -> None:
    model = make(gamma=1.0, tau=0.5, transition_updates=updates)
    assert model.transitions is not None
    broken = model.transitions.logits
    before = [parameter.detach().clone() for parameter in model.parameters()]
    broken.register_hook(lambda grad: grad * torch.nan)
    recipe = dataclasses.replace(RECIPE, max_grad_norm=max_grad_norm)
    with pytest.raises(
        FloatingPointError, match=r"the norm of the gradients is nan at step 1 \(epoch 1\), so training"
    ):
        train(model, series(), recipe)
    assert all(a.equal(b) for a, b in zip(model.parameters(), before, strict=True))


def test_validation_losses_are_means_over_all_samples_after_the_epoch() -> None:
    model, held_out = make(), blobs(rows=21, seed=1)  # not a multiple of the batch size
    history = train(model, blobs(), validation=held_out)
    with torch.no_grad():
        expected = model.loss(model(held_out.x), held_out.x)._asdict()
    for name, value in history[-1]["validation"].items():
        assert value == pytest.approx(expected[name].item(), rel=1e-5)


def test_validation_losses_are_weighted_by_frames_not_batches() -> None:
    model, held_out = make(gamma=1.0, tau=0.5), series()
    history = train(model, series(), validation=held_out)
    with torch.no_grad():
        expected = model.loss(model(held_out.x, held_out.mask), held_out.x, held_out.mask)._asdict()
    for name, value in history[-1]["validation"].items():
        assert value == pytest.approx(expected[name].item(), rel=1e-5)


def test_the_run_folder_holds_the_history_and_a_loadable_checkpoint(tmp_path: Path) -> None:
    model, data = make(), blobs()
    history = train(model, data, run_folder=ResultFolder.create(tmp_path, "model"), metrics=lambda: {"answer": 42.0})
    run = ResultFolder.open(tmp_path)
    assert run.load_log("metrics") == history
    assert [record["metrics"] for record in history] == [{"answer": 42.0}] * 3
    assert run.last_epoch == 3
    restored = make(rows=3)
    restored.load_state_dict(run.load_weights())
    assert restored.assign(data.x).equal(model.assign(data.x))


@pytest.mark.parametrize("after", [0, 3])
def test_a_loss_that_is_not_finite_stops_training_before_it_reaches_the_weights(after: int) -> None:
    model, data = make(), blobs(rows=8 * (after + 1))
    calls = []

    def break_encodings(module: nn.Module, inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
        calls.append(module)
        return z * torch.nan if len(calls) > after else z

    model.encoder.register_forward_hook(break_encodings)
    message = rf"the reconstruction_e loss is nan at step {after + 1} \(epoch 1\), so training stopped"
    with pytest.raises(FloatingPointError, match=message):
        train(model, data)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_the_error_names_the_last_good_checkpoint(tmp_path: Path) -> None:
    model, data = make(), blobs(rows=8)
    calls = []

    def break_encodings(module: nn.Module, inputs: tuple[Tensor, ...], z: Tensor) -> Tensor:
        calls.append(module)
        return z * torch.nan if len(calls) == 3 else z  # one step per epoch

    model.encoder.register_forward_hook(break_encodings)
    with pytest.raises(
        FloatingPointError, match=r"at step 3 \(epoch 3\).*learning rate; .* holds the checkpoint of epoch 2$"
    ):
        train(model, data, run_folder=ResultFolder.create(tmp_path, "model"))
    run = ResultFolder.open(tmp_path)
    assert run.last_epoch == 2
    assert all(torch.isfinite(value).all() for value in run.load_weights().values())


def test_the_error_for_an_infinite_sample_names_the_loss_term() -> None:
    data = blobs()
    data.x[:] = torch.inf
    with pytest.raises(
        FloatingPointError, match=r"the \w+ loss is (nan|inf) at step 1 \(epoch 1\), so training stopped"
    ):
        train(make(), data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a finite number above 0, got 0.0"),
        ({"transition_rate_factor": float("inf")}, "transition_rate_factor must be a finite number above 0, got inf"),
        ({"max_grad_norm": -1.0}, "max_grad_norm must be a finite number of at least 0, got -1.0"),
        ({"max_grad_norm": math.inf}, "max_grad_norm must be a finite number of at least 0, got inf"),
        ({"decay_factor": 1.5}, "decay_factor must be a finite number above 0 and at most 1, got 1.5"),
    ],
)
def test_invalid_recipes_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**options)  # type: ignore[arg-type]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="train must hold at least one sample, got none"):
        train(make(), Samples(torch.zeros(0, 6)))
