"""The mixture of VAE experts: batched experts compared with a loop over single ones, balance, and collapse."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vae_oracle import Array, array, kl_normal, linear, sigmoid, softmax, weights

from somvae_ext.data import load
from somvae_ext.models import MoEVAE, MoEVAEConfig
from somvae_ext.training import TrainingConfig, fit

SHAPE = (1, 4, 3)
EXPERTS, HIDDEN, LATENT = 4, 6, 3
# Sums of a few dozen float64 terms of size 1 to 10, and functions of them.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(**options: Any) -> MoEVAE:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_experts": EXPERTS, "hidden_size": HIDDEN, "latent_dim": LATENT}
    return MoEVAE(MoEVAEConfig(input_shape=SHAPE, **(sizes | options))).double()


def posterior_of_expert(w: dict[str, Array], expert: int, x: Array) -> tuple[Array, Array]:
    """Returns the posterior's mean and variance of one expert as if it were a single VAE."""
    rows = slice(expert * HIDDEN, (expert + 1) * HIDDEN)
    h = sigmoid(x @ w["encoder_hidden.weight"][rows].T + w["encoder_hidden.bias"][rows])
    head = h @ w["posterior.weight"][expert] + w["posterior.bias"][expert]
    return head[:, :LATENT], np.exp(head[:, LATENT:]) + 1e-5


def decoded_by_expert(w: dict[str, Array], expert: int, z: Array) -> Array:
    h = sigmoid(z @ w["decoder.0.weight"][expert] + w["decoder.0.bias"][expert])
    return sigmoid(h @ w["decoder.2.weight"][expert] + w["decoder.2.bias"][expert])


def probabilities(w: dict[str, Array], x: Array) -> Array:
    return softmax(linear(w, "manager.2", sigmoid(linear(w, "manager.0", x))))


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**31 - 1), balance=st.floats(0, 2))
def test_the_loss_agrees_with_a_loop_over_the_experts(n: int, seed: int, balance: float) -> None:
    model, x = mixture(balance=balance), images(n, seed)
    torch.manual_seed(seed)
    output = model(x)
    torch.manual_seed(seed)
    noise = array(torch.randn(EXPERTS, n, LATENT, dtype=torch.float64))
    w, flat = weights(model), array(x).reshape(n, -1)
    p = probabilities(w, flat)
    reconstruction, kl = np.zeros(n), np.zeros(n)
    for expert in range(EXPERTS):
        mu, var = posterior_of_expert(w, expert, flat)
        decoded = decoded_by_expert(w, expert, mu + np.sqrt(var) * noise[expert])
        np.testing.assert_allclose(array(output.reconstructions[expert]).reshape(n, -1), decoded, **CLOSE)
        # -log N(x; decoded, 1/2), summed over pixels.
        nll = ((flat - decoded) ** 2 / (2 * 0.25) + math.log(0.5 * math.sqrt(2 * math.pi))).sum(axis=1)
        reconstruction += p[:, expert] * nll
        kl += p[:, expert] * kl_normal(mu, var)
    terms, losses = model.terms(output, x), model.loss(output, x)
    np.testing.assert_allclose(array(terms.reconstruction), reconstruction, **CLOSE)
    np.testing.assert_allclose(array(terms.kl), kl, **CLOSE)
    variance = np.var(100 * p.mean(axis=0))
    total = (reconstruction + kl).mean() + balance * variance
    np.testing.assert_allclose([losses.balance.item(), losses.total.item()], [variance, total], rtol=1e-10)
    assert output.indices.tolist() == p.argmax(axis=1).tolist()


def test_the_balance_of_a_hundred_samples_is_the_variance_of_the_experts_shares() -> None:
    model, x = mixture(), images(100)
    output = model(x)
    shares = output.log_probs.exp().sum(dim=0)
    torch.testing.assert_close(model.loss(output, x).balance, shares.var(correction=0))


def test_the_balance_does_not_depend_on_the_size_of_the_batch() -> None:
    model, x = mixture(), images(5)
    once, thrice = (model.loss(model(part), part).balance for part in (x, x.repeat(3, 1, 1, 1)))
    torch.testing.assert_close(once, thrice)


def test_the_reconstruction_is_the_weighted_average_of_the_experts() -> None:
    model, x = mixture(), images()
    w, flat = weights(model), array(x).reshape(6, -1)
    p = probabilities(w, flat)
    expected = sum(
        p[:, [expert]] * decoded_by_expert(w, expert, posterior_of_expert(w, expert, flat)[0])
        for expert in range(EXPERTS)
    )
    np.testing.assert_allclose(array(model.reconstruct(x)).reshape(6, -1), expected, **CLOSE)


def test_each_expert_decodes_the_same_latent_points() -> None:
    model = mixture()
    rows = model.sample_each_category(2, generator=torch.Generator().manual_seed(1))
    z = array(torch.randn(2, LATENT, generator=torch.Generator().manual_seed(1)))
    for expert in range(EXPERTS):
        expected = decoded_by_expert(weights(model), expert, z)
        np.testing.assert_allclose(array(rows[expert]).reshape(2, -1), expected, **CLOSE)
    chosen = model.sample(2, category=3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(chosen, rows[3])


def test_samples_come_from_all_experts() -> None:
    model, generator = mixture(), torch.Generator().manual_seed(5)
    z, expert = array(torch.randn(50, LATENT, generator=generator)), torch.randint(EXPERTS, (50,), generator=generator)
    assert len(expert.unique()) == EXPERTS
    drawn = array(model.sample(50, generator=torch.Generator().manual_seed(5))).reshape(50, -1)
    for row in range(50):
        expected = decoded_by_expert(weights(model), int(expert[row]), z[[row]])[0]
        np.testing.assert_allclose(drawn[row], expected, **CLOSE)


def test_the_mixtures_reconstruction_is_float32_under_autocast() -> None:
    model, x = mixture().float(), images().float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.reconstruct(x).dtype == torch.float32


def test_experts_are_initialized_like_linear_layers() -> None:
    torch.manual_seed(0)
    model = MoEVAE(MoEVAEConfig())
    for layer, fan_in in ((model.posterior, 128), (model.decoder[0], 20), (model.decoder[2], 128)):
        for parameter in layer.parameters():
            assert 0.9 / math.sqrt(fan_in) < parameter.abs().max() <= 1 / math.sqrt(fan_in)


def test_without_balance_one_expert_takes_all_and_with_it_none_does() -> None:
    """Trains the preset on images of 28 x 28; ten epochs of 1,527 digits are a quarter of an epoch of MNIST."""
    digits = load("digits", split="all", image_size=28)
    recipe = TrainingConfig(epochs=10, batch_size=100, learning_rate=1e-3, decay_factor=1.0)
    largest = {}
    for balance in (0.0, 0.1):
        torch.manual_seed(0)
        model = MoEVAE(MoEVAEConfig(balance=balance))
        fit(model, digits.train, recipe, accelerator="cpu")
        shares = model.assign(digits.train.x).bincount(minlength=10) / len(digits.train)
        largest[balance] = shares.max().item()
    assert largest[0.0] == 1.0
    assert largest[0.1] < 0.5  # less than half of the samples


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_experts": 0}, "num_experts must be an integer of at least 1, got 0"),
        ({"std": 0.0}, "std must be a finite number above 0, got 0.0"),
        ({"balance": -0.1}, "balance must be a finite number of at least 0, got -0.1"),
    ],
)
def test_config_errors_name_the_field(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"MoEVAEConfig: {sentence}")):
        MoEVAEConfig(**options)


def test_bad_input_is_refused() -> None:
    model, x = mixture(), images()
    with pytest.raises(ValueError, match=r"MoEVAE: x must have shape \[N, 1, 4, 3\], got \[6, 12\]"):
        model(x.flatten(1))
    output = model(x)
    with pytest.raises(ValueError, match="MoEVAE: x must hold the 6 samples that output is of, got 1"):
        model.loss(output, x[:1])
    with pytest.raises(ValueError, match=r"MoEVAE: x must hold values in \[0, 1\], got values from .* to 2"):
        model.loss(output, x + (x == x.max()) * (2 - x.max()))
    with pytest.raises(ValueError, match="MoEVAE: category must be an integer from 0 to 3, got 4"):
        model.sample(1, category=4)
