"""SOM-VAE's warm-up: which parts get a gradient in it, and the variance of the encodings, which scales alpha after it.

The values and gradients of the loss during and after the warm-up are cases of test_somvae_losses.py.
"""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from somvae_ext.models import SOMVAE, SOMVAEConfig

CONFIG = SOMVAEConfig(input_shape=(5,), rows=3, cols=4, latent_dim=3, hidden_sizes=(6,), warm_up_epochs=2)
SERIES = {"gamma": 0.6, "tau": 0.9}
ORDERED = {"codebook_update": "ema", "beta": None}
TOLERANCE = 1e3 * torch.finfo(torch.float64).eps  # sums of at most a hundred terms of size one, and their differences


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options)).double()  # type: ignore[arg-type]


def samples(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def variance(z: np.ndarray) -> float:
    return float(np.mean([np.var(feature, ddof=1) for feature in z.T]))


def encodings(model: SOMVAE, x: Tensor) -> np.ndarray:
    return np.asarray(model.encode(x).detach())


def update_variance(model: SOMVAE, x: Tensor, mask: Tensor | None = None) -> None:
    model.update_latent_variance(model.latent_moments(model(x, mask)))


# ---- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updates", ["dense", "rows"])
@pytest.mark.parametrize("options", [{}, ORDERED], ids=["gradient", "ema"])
def test_in_the_warm_up_only_the_autoencoder_has_gradients(options: dict[str, object], updates: str) -> None:
    """The other gradients are None, not zeros, because Adam counts a step on zeros."""
    model = make(**SERIES, **options, transition_updates=updates)
    model.set_progress(step=1, epoch=2)
    x = samples(3, 4)
    model.loss(model(x), x).total.backward()
    with_gradient = {name.partition(".")[0] for name, weight in model.named_parameters() if weight.grad is not None}
    assert with_gradient == {"encoder", "decoder_e"}


def test_the_other_terms_are_reported_in_the_warm_up_as_after_it() -> None:
    model, x = make(**SERIES), samples(3, 4)
    model.set_progress(step=1, epoch=1)
    warm = model.loss(model(x), x)
    model.set_progress(step=9, epoch=3)
    after = model.loss(model(x), x)
    assert warm[1:] == after[1:]
    assert min(warm[1:7]) > 0
    assert max(warm[7:]) == 0  # hardening and the terms after it have weight 0 in this model
    assert warm.total == warm.reconstruction_e != after.total


def test_the_warm_up_ends_with_its_last_epoch() -> None:
    model = make()
    phases = []
    for step, epoch in enumerate([1, 1, 2, 2, 3, 4], start=1):
        model.set_progress(step, epoch)
        phases.append(model.warming_up)
    assert phases == [True] * 4 + [False] * 2


def test_before_set_progress_the_loss_is_that_of_a_model_without_a_warm_up() -> None:
    model, x = make(), samples(7)
    other = make(warm_up_epochs=0)
    assert model.loss(model(x), x).total == other.loss(other(x), x).total


def test_without_a_warm_up_the_first_epoch_trains_all_parts() -> None:
    model, x = make(warm_up_epochs=0), samples(7)
    before = model.loss(model(x), x).total
    model.set_progress(step=1, epoch=1)
    assert model.loss(model(x), x).total == before


@pytest.mark.parametrize("progress", [(0, 1), (1, 0), (1.0, 1), (1, True)])
def test_steps_and_epochs_are_counted_from_one(progress: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"^SOMVAE.set_progress: (step|epoch) must be an integer of at least 1, got "):
        make().set_progress(*progress)


def test_the_backward_pass_may_run_after_the_next_variance() -> None:
    gradients = []
    for late in (False, True):
        model, x = make(), samples(7)
        model.latent_variance.fill_(0.5)
        total = model.loss(model(x), x).total
        if late:
            update_variance(model, 9 * samples(7, seed=1))
        total.backward()
        gradients.append(model.quantizer.codebook.grad)
    assert gradients[0].equal(gradients[1])


# ---- the variance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["normal", "kmeans", "som"])
def test_the_start_of_the_codebook_measures_the_variance(init: str) -> None:
    model, x = make(init=init), samples(60)
    model.initialize_codebook(x)
    expected = variance(encodings(model, x))
    assert model.latent_variance.item() == pytest.approx(expected, rel=TOLERANCE)


def test_masked_and_nonfinite_frames_are_ignored_in_the_variance() -> None:
    model, x = make(**SERIES), samples(4, 6)
    mask = torch.arange(6) < torch.tensor([[6], [3], [0], [5]])
    x[~mask] = torch.nan
    x[0, 2, 1] = torch.nan  # not a masked frame
    x[3, 4, 0] = torch.inf
    z = encodings(model, torch.where(x.isfinite(), x, 0))
    real = mask.clone()
    real[0, 2] = real[3, 4] = False
    expected = variance(z[real.numpy()])
    model.initialize_codebook(x, mask)
    assert model.latent_variance.item() == pytest.approx(expected, rel=TOLERANCE)
    model.latent_variance.fill_(2.0)
    update_variance(model, x, mask)
    assert model.latent_variance.item() == pytest.approx(0.99 * 2.0 + 0.01 * expected, rel=TOLERANCE)


def test_the_variance_of_batches_is_averaged_exponentially() -> None:
    model = make()
    expected = model.latent_variance.item()
    for seed in range(5):
        x = (1 + seed) * samples(8, seed=seed)
        expected = 0.99 * expected + 0.01 * variance(encodings(model, x))
        update_variance(model, x)
    assert model.latent_variance.item() == pytest.approx(expected, rel=TOLERANCE)


def test_moments_of_two_processes_add_up_to_those_of_their_joined_batch() -> None:
    model, x = make(), samples(11)
    parts = sum(model.latent_moments(model(part)) for part in x.split(7))
    torch.testing.assert_close(parts, model.latent_moments(model(x)), rtol=TOLERANCE, atol=TOLERANCE)
    assert parts[0] == 11


def test_the_variance_of_encodings_far_from_zero_is_exact_in_float32() -> None:
    """The mean square, 1e9 times the variance, is subtracted in float64."""
    model = make(latent_dim=1, network="dense").float()
    z = 300 + 0.01 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0))
    output = model(samples(50).float())
    model.latent_variance.zero_()
    model.update_latent_variance(model.latent_moments(output._replace(z_e=z)))
    assert model.latent_variance.item() == pytest.approx(0.01 * variance(z.double().numpy()), rel=1e-5)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_batch_too_small_for_a_variance_does_not_change_it(rows: int) -> None:
    model = make()
    before = model.latent_variance.clone()
    update_variance(model, samples(rows))
    assert model.latent_variance.equal(before)


def test_a_variance_that_overflows_is_left_out() -> None:
    model, x = make(), samples(4)
    before = model.latent_variance.clone()
    output = model(x)
    model.update_latent_variance(model.latent_moments(output._replace(z_e=output.z_e * 1e200)))
    assert model.latent_variance.equal(before)


def test_moments_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"moments must have shape \[1 \+ 2D\] = \[7\], got \[6\]"):
        make().update_latent_variance(torch.zeros(6, dtype=torch.float64))


# ---- the variance as a part of the model -----------------------------------------------------------------------------


def test_only_a_model_with_a_warm_up_has_the_variance_in_its_state() -> None:
    with_warm_up, without = make().state_dict(), make(warm_up_epochs=0).state_dict()
    assert with_warm_up.keys() - without.keys() == {"latent_variance"}
    model = make(warm_up_epochs=0)
    update_variance(model, samples(7))  # it has no variance to update
    assert model.state_dict().keys() == without.keys()


def test_the_variance_stays_in_full_precision_and_is_copied_with_the_model() -> None:
    model = make().float()
    model.initialize_codebook(samples(60).float())
    exact = model.latent_variance.clone()
    half = copy.deepcopy(model).bfloat16()
    assert half.latent_variance.dtype == torch.float32
    assert half.latent_variance.equal(exact)
    again = make().float()
    again.load_state_dict(model.state_dict())
    assert again.latent_variance.equal(exact)
    x = samples(7).float()
    assert again.loss(again(x), x).total == model.loss(model(x), x).total
