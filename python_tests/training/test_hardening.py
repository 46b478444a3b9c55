"""Tests of cluster-assignment hardening and of relabeling in the training loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from somvae_ext.data import Samples
from somvae_ext.evaluation import topographic_error
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.nn.soft_assignment import log_soft_assignment
from somvae_ext.processes import Processes
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.hardening import HardeningTargets

CONFIG = SOMVAEConfig(input_shape=(1, 4, 4), rows=3, cols=4, latent_dim=3, hidden_sizes=(8,))
RECIPE = TrainingConfig(epochs=4, batch_size=8, learning_rate=1e-2)
HARDENED = {"alpha": 0.0, "beta": 0.0, "hardening": 1.0, "soft_som": 0.05, "warm_up_epochs": 1, "init": "kmeans"}


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options)).double()  # type: ignore[arg-type]


def images(rows: int = 41) -> Samples:
    return Samples(torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))


def series() -> Samples:
    x = torch.rand(9, 5, 1, 4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return Samples(x, mask=torch.arange(5) < torch.arange(9)[:, None] % 5 + 1)


def train(model: SOMVAE, data: Samples, recipe: TrainingConfig = RECIPE, **options: object) -> list[dict]:
    return fit(model, data, recipe, accelerator="cpu", **options)  # type: ignore[arg-type]


def expected_targets(model: SOMVAE, x: Tensor, frames: Tensor) -> Tensor:
    """Returns the targets of samples ``[N, ...]``, given the real frames ``[M, ...]`` of all training data."""
    with torch.no_grad():
        everything = log_soft_assignment(model.encode(frames), model.quantizer.codebook).exp()
        s = log_soft_assignment(model.encode(x), model.quantizer.codebook).exp()
    sharp = s.square() / everything.sum(dim=0)
    return sharp / sharp.sum(dim=1, keepdim=True)


def test_targets_use_the_earlier_model_and_sums_over_all_samples() -> None:
    model, data = make(hardening=1.0), images(700)  # several batches
    targets = HardeningTargets(model, data, Processes.single())
    expected = expected_targets(model, data.x[3:9], data.x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    torch.testing.assert_close(targets({"x": data.x[3:9]}), expected)


def test_padding_does_not_count_in_the_frequencies() -> None:
    model, data = make(hardening=1.0), series()
    assert data.mask is not None
    data.x[~data.mask] = torch.nan
    targets = HardeningTargets(model, data, Processes.single())
    got = targets({"x": data.x, "mask": data.mask})
    real = data.x[data.mask]
    torch.testing.assert_close(got[data.mask], expected_targets(model, real, real))


def test_a_batch_of_padding_only_has_zero_targets() -> None:
    model, data = make(hardening=1.0), series()
    targets = HardeningTargets(model, data, Processes.single())
    assert targets({"x": data.x[:2], "mask": torch.zeros(2, 5, dtype=torch.bool)}).equal(torch.zeros(2, 5, 12).double())


def test_a_sample_that_is_not_finite_does_not_affect_other_targets() -> None:
    model, data = make(hardening=1.0), images(9)
    expected = expected_targets(model, data.x[:8], data.x[:8])
    data.x[8] = torch.nan
    targets = HardeningTargets(model, data, Processes.single())
    torch.testing.assert_close(targets({"x": data.x[:8]}), expected)


@pytest.mark.parametrize(
    ("hardening", "shape", "message"),
    [
        (0.0, (4, 12), "targets must be None for hardening = 0"),
        (1.0, (4, 11), r"targets must have shape \[4, 12\], got \[4, 11\]"),
    ],
)
def test_invalid_targets_are_refused(hardening: float, shape: tuple[int, int], message: str) -> None:
    model, x = make(hardening=hardening), images(4).x
    with pytest.raises(ValueError, match=message):
        model.loss(model(x), x, targets=torch.full(shape, 1 / 12))


class Watched(SOMVAE):
    """Records the arguments of its forward pass and its loss."""

    def watch(self) -> Watched:
        self.given: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self.seen: list[Tensor] = []
        return self

    def forward(self, x: Tensor, mask: Tensor | None = None):  # type: ignore[no-untyped-def]
        if self.training:
            self.seen.append(x)
        return super().forward(x, mask)

    def loss(self, output, x, mask=None, targets=None):  # type: ignore[no-untyped-def]
        if self.training:
            self.given.append((x, output.z_e, targets))
        return super().loss(output, x, mask, targets)


def watched(**options: object) -> Watched:
    torch.manual_seed(0)
    return Watched(dataclasses.replace(CONFIG, **options)).watch().double()  # type: ignore[arg-type]


def test_training_computes_targets_from_clean_samples_and_the_model_at_the_start_of_the_epoch() -> None:
    model, data = watched(**HARDENED), images()
    before: list[SOMVAE] = []

    def keep(_: int) -> None:
        before.append(make(**HARDENED))
        before[-1].load_state_dict(model.state_dict())

    train(model, data, dataclasses.replace(RECIPE, max_shift=2.0), after_epoch=keep)
    steps = 6  # per epoch
    assert [targets is None for _, _, targets in model.given[:steps]] == [True] * steps  # none during the warm-up
    for epoch in (2, 3):  # epoch 1 starts from k-means codes, which after_epoch does not see
        for x, _, targets in model.given[epoch * steps : (epoch + 1) * steps]:
            assert targets is not None
            torch.testing.assert_close(targets, expected_targets(before[epoch - 1], x, data.x))
    clean, seen = torch.cat([x for x, _, _ in model.given[:steps]]), torch.cat(model.seen[:steps])
    assert sorted(clean.flatten().tolist()) == sorted(data.x.flatten().tolist())
    assert not seen.equal(clean)


def test_with_augmented_target_the_loss_gets_the_transformed_images() -> None:
    model = watched()
    train(model, images(), dataclasses.replace(RECIPE, max_shift=2.0, augmented_target=True))
    assert all(x.equal(seen) for (x, _, _), seen in zip(model.given, model.seen, strict=True))
    clean = {image.sum().item() for image in images().x}
    assert not any(image.sum().item() in clean for image in model.seen[0])
    with pytest.raises(ValueError, match="augmented_target must be False where images are left as they are, got True"):
        TrainingConfig(augmented_target=True)


def test_decoders_rates_and_optimizers_restart_after_the_warm_up(tmp_path: Path) -> None:
    model = make(**HARDENED)
    recipe = dataclasses.replace(RECIPE, decay_steps=6)
    start: list[dict[str, Tensor]] = []
    original = model.initialize_codebook

    def initialize_codebook(*args: object, **options: object) -> None:
        original(*args, **options)  # type: ignore[arg-type]
        start.append({name: value.clone() for name, value in model.state_dict().items()})

    model.initialize_codebook = initialize_codebook  # type: ignore[method-assign]
    folder = ResultFolder.create(tmp_path, "model")
    history = train(model, images(), recipe, run_folder=folder)
    rates = [record["learning_rate"] for record in history]
    assert rates == pytest.approx([1e-2, 0.9e-2, 0.81e-2, 0.729e-2])
    for name in model.decoder_q.state_dict():
        assert start[0][f"decoder_q.{name}"].equal(start[0][f"decoder_e.{name}"])
    (adam,) = folder.load_state()["optimizers"]
    assert {int(state["step"]) for state in adam["state"].values()} == {18}  # three epochs of six steps


PERMUTABLE = {
    "gradients": {"beta": 0.0},
    "averages without a neighborhood": {
        "codebook_update": "ema",
        "beta": 0.0,
        "sigma_initial": 0.05,
        "sigma_final": 0.05,
    },
    "hardening": HARDENED | {"soft_som": 0.0},
}


@pytest.mark.parametrize("options", PERMUTABLE.values(), ids=PERMUTABLE.keys())
@pytest.mark.parametrize("after", [3, 4])
def test_training_is_equivariant_under_relabeling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object], after: int
) -> None:
    """If the loss ignores neighbors, codes, averages, transitions and moments are the same up to a permutation."""
    options = options | {"gamma": 1.0, "tau": 0.5}
    data, orders = series(), []
    original = SOMVAE.relabel

    def relabel(model: SOMVAE, order: Tensor) -> list:
        orders.append(order)
        return original(model, order)

    monkeypatch.setattr(SOMVAE, "relabel", relabel)
    runs, histories, checkpoints = {}, [], []
    for name, change in (("plain", {}), ("placed", {"relabel_after": after})):
        model = make(**options, **change)
        folder = ResultFolder.create(tmp_path / name, "model")
        histories.append(train(model, data, run_folder=folder))
        runs[name] = model
        checkpoints.append(folder.load_state())
    plain, placed = runs["plain"], runs["placed"]
    order = orders[0]
    assert not order.equal(torch.arange(12))
    close = {"rtol": 1e-7, "atol": 1e-9}  # reordered sums, followed by a few Adam steps
    torch.testing.assert_close(placed.quantizer.codebook, plain.quantizer.codebook[order], **close)
    assert plain.transitions is not None
    assert placed.transitions is not None
    torch.testing.assert_close(placed.transitions.logits, plain.transitions.logits[order][:, order], **close)
    if plain.config.codebook_update == "ema":
        torch.testing.assert_close(placed.quantizer.ema_counts, plain.quantizer.ema_counts[order], **close)
        torch.testing.assert_close(placed.quantizer.ema_sums, plain.quantizer.ema_sums[order], **close)
    for before, record in zip(*histories, strict=True):
        assert record["train"]["total"] == pytest.approx(before["train"]["total"], rel=1e-7)
        assert (record["usage"], record["perplexity"]) == pytest.approx((before["usage"], before["perplexity"]))
    dense = [name for name, _ in plain.named_parameters() if not name.startswith("transitions")]
    moments = [checkpoint["optimizers"][0]["state"] for checkpoint in checkpoints]
    table = len(dense)  # index of the first parameter in the second group
    for key in ("exp_avg", "exp_avg_sq"):
        torch.testing.assert_close(
            moments[1][table][key], moments[0][table][key][order][:, order], **close, msg=f"transitions' {key}"
        )
        if "quantizer.codebook" in dense:
            row = dense.index("quantizer.codebook")
            torch.testing.assert_close(moments[1][row][key], moments[0][row][key][order], **close, msg=f"codes' {key}")


def test_relabeling_lowers_the_topographic_error() -> None:
    data, errors = images(400), []
    for after in (0, 4):
        model = make(alpha=0.05, beta=0.0, init="kmeans", relabel_after=after)
        train(model, data)
        errors.append(
            topographic_error(model.encode(data.x).detach(), model.quantizer.codebook.detach(), model.config.grid)
        )
    assert errors[1] < 0.8 * errors[0]


def test_a_training_too_short_for_its_relabeling_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs must be at least the model's relabel_after, 5, got 4"):
        train(make(relabel_after=5), images())


def test_relabeling_with_local_transitions_is_refused() -> None:
    model = make(gamma=1.0, transitions="local")
    with pytest.raises(ValueError, match="transitions must be 'dense', got 'local'"):
        model.relabel(torch.arange(12).flip(0))


@pytest.mark.parametrize("order", [torch.arange(11), torch.zeros(12, dtype=torch.int64), torch.arange(12.0)])
def test_an_order_must_be_a_permutation(order: Tensor) -> None:
    with pytest.raises(ValueError, match="order must be an int64 permutation of the 12 nodes"):
        make().relabel(order)


def test_targets_of_windowed_encodings_use_whole_series() -> None:
    model, data = make(hardening=1.0, window=3), series()
    assert model.window is not None
    assert data.mask is not None
    torch.nn.init.normal_(model.window.projection.weight)
    targets = HardeningTargets(model, data, Processes.single())
    with torch.no_grad():
        z = model.encode(data.x, data.mask)[data.mask]
    s = log_soft_assignment(z, model.quantizer.codebook.detach()).exp()
    sharp = s.square() / s.sum(dim=0)
    got = targets({"x": data.x, "mask": data.mask})
    torch.testing.assert_close(got[data.mask], sharp / sharp.sum(dim=1, keepdim=True))
