"""The terms of the evidence lower bounds, compared with closed forms and with torch.distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rounding import assert_within
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from somvae_ext.models import elbo

# Hypothesis draws shapes and seeds; torch draws the values.
SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 30), st.integers(0, 2**31 - 1))
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def normal(*shape: int, seed: int, dtype: torch.dtype, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


@DTYPES
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES)
def test_bernoulli_nll_is_the_cross_entropy_of_the_sigmoid(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, pixels, seed = shape
    logits = normal(n, pixels, seed=seed, dtype=dtype, scale=4)
    x = torch.rand(n, pixels, generator=torch.Generator().manual_seed(seed)).to(dtype)
    l64, x64 = logits.double().numpy(), x.double().numpy()
    terms = x64 * np.logaddexp(0, -l64) + (1 - x64) * np.logaddexp(0, l64)
    magnitude = (np.abs(l64) + np.log(2) + terms).sum(axis=1)
    assert_within(elbo.bernoulli_nll(logits, x), terms.sum(axis=1), magnitude, pixels + 8, dtype)


def test_bernoulli_nll_is_finite_for_logits_of_any_size() -> None:
    logits = torch.tensor([[1e30, -1e30]])
    assert elbo.bernoulli_nll(logits, torch.tensor([[1.0, 0.0]])).item() == 0.0
    assert elbo.bernoulli_nll(logits, torch.tensor([[0.0, 1.0]])).item() == pytest.approx(2e30)


@DTYPES
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES, std=st.floats(0.1, 3.0))
def test_gaussian_nll_is_the_negative_log_density(shape: tuple[int, int, int], std: float, dtype: torch.dtype) -> None:
    n, pixels, seed = shape
    mean, x = (normal(n, pixels, seed=seed + place, dtype=dtype) for place in (0, 1))
    expected = -Normal(mean.double(), std).log_prob(x.double()).sum(dim=1)
    constant = abs(math.log(std * math.sqrt(2 * math.pi)))
    magnitude = (((mean.double().abs() + x.double().abs()) ** 2) / (2 * std**2) + constant).sum(dim=1)
    assert_within(elbo.gaussian_nll(mean, x, std), expected, magnitude, pixels + 8, dtype)


def test_the_constant_of_the_expert_likelihood_is_177_nats_for_784_pixels() -> None:
    x = torch.rand(3, 784, dtype=torch.float64)
    nll = elbo.gaussian_nll(x, x, std=0.5)
    torch.testing.assert_close(nll, torch.full((3,), 784 * math.log(0.5 * math.sqrt(2 * math.pi)), dtype=torch.float64))
    assert nll[0].item() == pytest.approx(177.0, abs=0.05)


@DTYPES
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES)
def test_gaussian_kl_agrees_with_torch_distributions(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, dim, seed = shape
    mu, logvar = (normal(n, dim, seed=seed + place, dtype=dtype, scale=2) for place in (0, 1))
    posterior = Normal(mu.double(), (0.5 * logvar.double()).exp())
    expected = kl_divergence(posterior, Normal(torch.zeros((), dtype=torch.float64), 1.0)).sum(dim=1)
    magnitude = (1 + mu.double() ** 2 + logvar.double().abs() + logvar.double().exp()).sum(dim=1)
    assert_within(elbo.gaussian_kl(mu, logvar), expected, magnitude, dim + 8, dtype)


def test_gaussian_kl_of_the_prior_is_zero_and_accurate_near_it() -> None:
    assert elbo.gaussian_kl(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0.0, 0.0]
    # The KL is about v^2 / 4. Rounding 1 + v alone would change it by a thousandth; expm1(v) by 2 eps v / v^2.
    expected = 0.5 * (math.expm1(1e-2) - 1e-2)
    bound = 2 * torch.finfo(torch.float32).eps / 1e-2
    assert elbo.gaussian_kl(torch.zeros(1, 1), torch.full((1, 1), 1e-2)).item() == pytest.approx(expected, rel=bound)


@DTYPES
@settings(deadline=None, max_examples=30)
@given(shape=SHAPES)
def test_categorical_kl_is_log_c_minus_the_entropy(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    n, count, seed = shape
    log_probs = normal(n, count, seed=seed, dtype=dtype, scale=3).log_softmax(dim=1)
    # Unlike Categorical, the function does not normalize its argument again.
    p = log_probs.double().exp()
    entropy = -(p * log_probs.double()).sum(dim=1)
    assert_within(elbo.categorical_entropy(log_probs), entropy, entropy.abs() + 1, count + 8, dtype)
    expected = math.log(count) - Categorical(logits=log_probs.double()).entropy()
    slack = math.log(count) + entropy.abs() + 1 + log_probs.double().abs().amax(dim=1)
    assert_within(elbo.categorical_kl(log_probs), expected, slack, count + 8, dtype)


def test_categorical_kl_of_a_uniform_posterior_is_zero_and_of_a_one_hot_one_log_ten() -> None:
    uniform = torch.full((1, 10), -math.log(10), dtype=torch.float64)
    one_hot = torch.full((1, 10), -math.inf, dtype=torch.float64)
    one_hot[0, 3] = 0.0
    assert elbo.categorical_kl(uniform).item() == pytest.approx(0.0, abs=1e-15)
    assert elbo.categorical_kl(one_hot).item() == math.log(10)


def test_impossible_categories_give_no_nan_gradients() -> None:
    logits = torch.tensor([[0.0, -1e4]], requires_grad=True)
    elbo.categorical_kl(logits.log_softmax(dim=1)).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_a_draw_has_mean_and_spread_of_the_posterior_and_gradients_of_both() -> None:
    torch.manual_seed(0)
    mu = torch.full((20_000,), 3.0, dtype=torch.float64, requires_grad=True)
    std = torch.full((20_000,), 0.5, dtype=torch.float64, requires_grad=True)
    z = elbo.draw_gaussian(mu, std)
    # Five standard errors of the mean and of the standard deviation.
    assert abs(z.mean().item() - 3.0) < 5 * 0.5 / math.sqrt(20_000)
    assert abs(z.std().item() - 0.5) < 5 * 0.5 / math.sqrt(2 * 20_000)
    z.sum().backward()
    noise = (z.detach() - 3.0) / 0.5
    assert mu.grad is not None
    assert std.grad is not None
    torch.testing.assert_close(mu.grad, torch.ones_like(noise))
    torch.testing.assert_close(std.grad, noise)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precisions_are_summed_in_float32(dtype: torch.dtype) -> None:
    logits = torch.full((1, 100_000), 1.0, dtype=dtype)
    x = torch.zeros(1, 100_000, dtype=dtype)
    expected = 100_000 * math.log1p(math.e)  # more than the largest float16
    assert_within(elbo.bernoulli_nll(logits, x), [expected], [expected], 1000, torch.float32)  # with sums in blocks
    assert elbo.gaussian_kl(logits, logits).dtype == torch.float32
