"""Tests of the codebook in training: k-means initialization, usage, and revival of unused nodes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.codebook import _random_pieces, initialize_codebook, reset_optimizer_rows, revive

CONFIG = SOMVAEConfig(input_shape=(3,), rows=3, cols=4, latent_dim=4, hidden_sizes=(8,))
RECIPE = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-3)


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options))  # type: ignore[arg-type]


def samples(rows: int = 60) -> Samples:
    return Samples(torch.rand(rows, 3, generator=torch.Generator().manual_seed(0)))


def far_from_the_data(model: SOMVAE, nodes: list[int]) -> None:
    """Moves codes far away from all encodings."""
    with torch.no_grad():
        model.quantizer.codebook[nodes] = 1e3


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_only_the_optimizer_state_of_the_given_rows_is_reset(optimizer: type[torch.optim.Optimizer]) -> None:
    codes, other = (torch.nn.Parameter(torch.rand(5, 3)) for _ in range(2))
    descent = optimizer([codes, other], lr=0.1)  # type: ignore[call-arg]
    for _ in range(3):
        descent.zero_grad()
        ((codes - other) ** 2 + codes**3).sum().backward()
        descent.step()
    before = {
        (name, key): value.clone()
        for name, parameter in (("codes", codes), ("other", other))
        for key, value in descent.state[parameter].items()
    }
    reset_optimizer_rows(descent, codes, torch.tensor([1, 4]))
    for (name, key), value in before.items():
        after = descent.state[codes if name == "codes" else other][key]
        if name == "codes" and value.shape == codes.shape:
            assert value[[1, 4]].abs().min() > 0
            assert (after[[1, 4]] == 0).all()
            assert after[[0, 2, 3]].equal(value[[0, 2, 3]])
        else:
            assert after.equal(value)


def test_revived_nodes_get_encodings_of_training_samples_and_the_others_keep_their_codes() -> None:
    model, train = make(), samples()
    descent = torch.optim.Adam(model.parameters())
    before = model.quantizer.codebook.detach().clone()
    revive(model, [descent], torch.tensor([2, 7]), train, seed=3, epoch=2)
    after = model.quantizer.codebook.detach()
    encodings = model.encode(train.x).detach()
    for node in (2, 7):
        assert (encodings - after[node]).abs().amax(dim=1).min() < 1e-6
    others = [node for node in range(12) if node not in (2, 7)]
    assert after[others].equal(before[others])


def test_a_training_that_ends_with_a_wide_neighborhood_warns() -> None:
    ordered = {"codebook_update": "ema", "beta": None}
    with pytest.warns(UserWarning, match="sigma_steps should be below the steps of the training, 16, .* it is 2000"):
        fit(make(**ordered), samples(), RECIPE, accelerator="cpu")


def test_revived_nodes_never_get_encodings_of_padding() -> None:
    model = make(gamma=1.0)
    x, mask = torch.full((4, 6, 3), torch.nan), torch.zeros(4, 6, dtype=torch.bool)
    x[:, :2], mask[:, :2] = torch.rand(4, 2, 3), True
    revive(model, [torch.optim.Adam(model.parameters())], torch.arange(5), Samples(x, mask=mask), seed=0, epoch=2)
    encodings = model.encode(x[mask]).detach()
    for code in model.quantizer.codebook.detach()[:5]:
        assert (encodings - code).abs().amax(dim=1).min() < 1e-6


@pytest.mark.parametrize(("num_series", "frames_of_each"), [(30, 1), (12, 1), (4, 3)])
def test_revived_nodes_get_frames_of_all_series_in_turn(num_series: int, frames_of_each: int) -> None:
    model = make(network="identity", latent_dim=3, gamma=1.0)
    mask = torch.arange(9) < torch.arange(num_series)[:, None] % 6 + 4  # 4 to 9 real frames
    x = torch.rand(num_series, 9, 3)
    x[..., 0] = torch.arange(num_series)[:, None]  # the number of the frame's series
    train = Samples(torch.where(mask[..., None], x, torch.nan), mask=mask)
    revive(model, [torch.optim.Adam(model.parameters())], torch.arange(12), train, seed=0, epoch=2)
    codes = model.quantizer.codebook.detach()
    assert len(codes.unique(dim=0)) == 12
    assert codes[:, 0].unique(return_counts=True)[1].tolist() == [frames_of_each] * (12 // frames_of_each)


def test_short_series_are_skipped_once_their_frames_are_used() -> None:
    model = make(network="identity", latent_dim=3, gamma=1.0)
    mask = torch.arange(40) < torch.tensor([1, 40, 1])[:, None]
    train = Samples(torch.rand(3, 40, 3), mask=mask)
    revive(model, [torch.optim.Adam(model.parameters())], torch.arange(12), train, seed=0, epoch=2)
    codes = model.quantizer.codebook.detach()
    assert len(codes.unique(dim=0)) == 12
    frames = train.x[mask]
    assert (codes[:, None] == frames).all(dim=2).any(dim=1).all()
    assert (codes[:, None] == train.x[[0, 2], 0]).all(dim=2).any(dim=0).all()


def test_each_pair_of_seed_and_epoch_draws_different_samples() -> None:
    train = samples(1000)

    def revived(seed: int, epoch: int) -> Tensor:
        model = make()
        revive(model, [torch.optim.Adam(model.parameters())], torch.arange(12), train, seed=seed, epoch=epoch)
        return model.quantizer.codebook.detach()

    assert revived(0, 2).equal(revived(0, 2))
    assert not revived(0, 2).isclose(revived(1, 1)).any()
    assert not revived(0, 2).isclose(revived(0, 3)).any()


def test_nodes_unused_for_a_whole_epoch_are_revived_before_the_next() -> None:
    model = make()
    far_from_the_data(model, [1, 5])
    first, second = fit(model, samples(), dataclasses.replace(RECIPE, revive=True), accelerator="cpu")
    assert first["revived"] == 0
    assert second["revived"] == round(12 * (1 - first["usage"])) >= 2
    assert model.quantizer.codebook.abs().max() < 100


def test_without_revival_unused_nodes_keep_their_codes() -> None:
    model = make()
    far_from_the_data(model, [1, 5])
    history = fit(model, samples(), RECIPE, accelerator="cpu")
    assert [record["revived"] for record in history] == [0, 0]
    assert model.quantizer.codebook[[1, 5]].min() > 900


def test_usage_and_perplexity_are_computed_from_the_winners_in_training() -> None:
    won: list[Tensor] = []

    class Watched(SOMVAE):
        def forward(self, x: Tensor, mask: Tensor | None = None):  # type: ignore[no-untyped-def]
            output = super().forward(x, mask)
            if self.training:
                won.append(output.indices)
            return output

    torch.manual_seed(0)
    (record,) = fit(Watched(CONFIG), samples(), dataclasses.replace(RECIPE, epochs=1), accelerator="cpu")
    share = torch.cat(won).bincount(minlength=12).double() / 60
    assert record["usage"] == (share > 0).sum().item() / 12
    assert record["perplexity"] == pytest.approx(torch.exp(-(share[share > 0] * share[share > 0].log()).sum()).item())


def test_kmeans_initialization_spreads_the_codes_over_the_encodings() -> None:
    model, train = make(init="kmeans"), samples(400)
    encodings = model.encode(train.x).detach()
    initialize_codebook(model, train, seed=0)
    error = torch.cdist(encodings, model.quantizer.codebook.detach()).amin(dim=1).square().mean()
    spread = (encodings - encodings.mean(dim=0)).square().sum(dim=1).mean()
    assert error < 0.25 * spread  # less than a quarter of the variance remains with 12 centers in three dimensions


def test_training_starts_from_kmeans_only_if_the_config_says_so() -> None:
    for init, moved in (("kmeans", True), ("normal", False)):
        model = make(init=init)
        before = model.quantizer.codebook.detach().clone()
        initialize_codebook(model, samples(), seed=0)
        assert model.quantizer.codebook.equal(before) is not moved
    history = fit(make(init="kmeans"), samples(), RECIPE, accelerator="cpu")
    assert history[0]["usage"] > 0.9


def test_kmeans_uses_frames_of_all_series_even_if_they_are_long() -> None:
    model = make(init="kmeans", network="identity", latent_dim=3, gamma=1.0)
    level = torch.arange(12.0)[:, None, None].expand(12, 500, 3)  # 500 frames are more than the start uses in all
    initialize_codebook(model, Samples(level + 0.01 * torch.rand(12, 500, 3)), seed=0)
    assert model.quantizer.codebook.detach()[:, 0].floor().sort().values.tolist() == list(range(12))


def test_kmeans_encodes_no_more_than_256_samples_at_once() -> None:
    model = make(init="kmeans")
    sizes: list[int] = []
    model.encoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    initialize_codebook(model, samples(1000), seed=0)
    assert sum(sizes) == 12 * 32
    assert max(sizes) <= 256


def test_kmeans_ignores_samples_that_are_not_finite() -> None:
    model, train = make(init="kmeans"), samples(400)
    train.x[::7, 1] = torch.nan
    initialize_codebook(model, train, seed=0)
    assert model.quantizer.codebook.isfinite().all()
    train.x[11:] = torch.inf
    with pytest.raises(ValueError, match="at least K = 12 encodings that are finite and not masked, got 9 among 384"):
        initialize_codebook(model, train, seed=0)


def test_kmeans_of_series_ignores_padding() -> None:
    model = make(init="kmeans", gamma=1.0)
    x = torch.rand(30, 8, 3)
    mask = torch.arange(8) < torch.arange(30)[:, None] % 8 + 1
    initialize_codebook(model, Samples(torch.where(mask[..., None], x, torch.nan), mask=mask), seed=0)
    assert torch.isfinite(model.quantizer.codebook).all()


@pytest.mark.parametrize(
    ("method", "options", "reason"),
    [
        ("initialize_codebook", {"init": "kmeans"}, "its config's init is 'kmeans'"),
        ("initialize_codebook", {"warm_up_epochs": 1}, "its config's warm_up_epochs is 1"),
        ("find_relabeling", {"relabel_after": 2}, "its config's relabel_after is 2"),
        ("relabel", {"relabel_after": 2}, "its config's relabel_after is 2"),
        ("revive", {}, "TrainingConfig.revive is set"),
    ],
)
def test_a_model_without_a_method_that_training_needs_is_refused(
    method: str, options: dict[str, object], reason: str
) -> None:
    """The same error refuses a custom model that has the method under a former name."""
    model = make(**{"init": "normal"} | options)
    setattr(model, method, None)
    with pytest.raises(ValueError, match=f"fit: model must have a method {method}, because {reason}, got SOMVAE"):
        fit(model, samples(), dataclasses.replace(RECIPE, revive=method == "revive"), accelerator="cpu")


def test_methods_that_training_does_not_need_may_be_missing() -> None:
    model = make(init="normal")
    for method in ("initialize_codebook", "find_relabeling", "relabel", "revive"):
        setattr(model, method, None)
    fit(model, samples(), RECIPE, accelerator="cpu")


@pytest.mark.parametrize("options", [{"init": "kmeans"}, {"init": "som"}, {"warm_up_epochs": 1}, {"relabel_after": 1}])
def test_initialization_and_revival_use_windowed_encodings(options: dict) -> None:
    shape, mask = (40, 6, 3), torch.arange(6) < torch.arange(40)[:, None] % 6 + 1
    x = torch.where(mask[..., None], torch.rand(shape, generator=torch.Generator().manual_seed(0)), torch.nan)
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(3,), rows=2, cols=2, latent_dim=2, hidden_sizes=(4,), window=3, **options)
    model, seen = SOMVAE(config), []
    model.encoder.register_forward_hook(lambda module, args, output: seen.append(len(args[0])))
    training = TrainingConfig(epochs=2, batch_size=8, revive=True)
    history = fit(model, Samples(x, mask=mask), training, accelerator="cpu")
    assert all(math.isfinite(record["train"]["total"]) for record in history)
    assert max(seen) == 40 * 6  # all of the few series at once; training batches hold 8


def test_windowed_codes_are_initialized_from_pieces_of_many_series() -> None:
    series = Samples(torch.arange(500 * 50.0).view(500, 50, 1))
    drawn = _random_pieces(series, 10, 3, torch.Generator().manual_seed(0))["x"]
    assert drawn.shape == (128, 12, 1)  # pieces of four windows
    assert (drawn.diff(dim=1) == 1).all()  # of successive frames
    assert len((drawn[:, 0, 0] // 50).unique()) == 128  # from distinct series
    assert len((drawn[:, 0, 0] % 50).unique()) > 20  # at random positions
    assert _random_pieces(series, 5000, 3, torch.Generator().manual_seed(0))["x"].shape == (417, 12, 1)
    assert _random_pieces(series, 10**6, 20, torch.Generator().manual_seed(0))["x"].shape == (500, 50, 1)


def test_pieces_end_before_the_padding() -> None:
    mask = torch.arange(40) < torch.tensor([[40], [20], [3], [0]])
    series = Samples(torch.rand(4, 40, 2), mask=mask)
    drawn = _random_pieces(series, 99, 2, torch.Generator().manual_seed(1))
    assert drawn["x"].shape == (4, 8, 2)
    assert sorted(drawn["mask"].sum(dim=1).tolist()) == [0, 3, 8, 8]
