"""VAE, conditional VAE and Gumbel VAE: losses compared with NumPy, capacities, samples, and invalid input."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from vae_oracle import array, cross_entropy, hidden, kl_normal, linear, one_hot, pixels, softmax, weights

from somvae_ext.models import (
    VAE,
    ConditionalVAE,
    ConditionalVAEConfig,
    GumbelVAE,
    GumbelVAEConfig,
    StridedConvDecoder,
    StridedConvEncoder,
    VAEConfig,
)

SHAPE = (1, 4, 3)
SMALL: dict[str, Any] = {"input_shape": SHAPE, "hidden_sizes": (7,), "latent_dim": 3}
# Sums of a few dozen float64 terms of size 1 to 10, and functions of them.
CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randint(10, (n,), generator=torch.Generator().manual_seed(seed))


def vae(**options: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(**(SMALL | options))).double()


def conditional(**options: Any) -> ConditionalVAE:
    torch.manual_seed(0)
    return ConditionalVAE(ConditionalVAEConfig(**(SMALL | options))).double()


def gumbel(**options: Any) -> GumbelVAE:
    torch.manual_seed(0)
    return GumbelVAE(GumbelVAEConfig(**(SMALL | options))).double()


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**31 - 1), beta=st.floats(0, 20))
def test_the_loss_of_the_vae_is_the_lower_bound(n: int, seed: int, beta: float) -> None:
    model, x = vae(beta=beta), images(n, seed)
    output = model(x)
    w, pixel = weights(model), array(x)
    h = hidden(w, pixel)
    mu, logvar = linear(w, "mu", h), linear(w, "logvar", h)
    reconstruction = cross_entropy(pixels(w, array(output.z)).reshape(pixel.shape), pixel)
    kl = kl_normal(mu, np.exp(logvar))
    terms, losses = model.terms(output, x), model.loss(output, x)
    np.testing.assert_allclose(array(terms.reconstruction), reconstruction, **CLOSE)
    np.testing.assert_allclose(array(terms.kl), kl, **CLOSE)
    np.testing.assert_allclose(losses.total.item(), (reconstruction + beta * kl).mean(), **CLOSE)
    np.testing.assert_allclose([losses.reconstruction.item(), losses.kl.item()], [reconstruction.mean(), kl.mean()])


def test_the_latent_point_is_drawn_from_the_posterior() -> None:
    model, x = vae(), images(1).expand(4000, *SHAPE)
    output = model(x)
    mu, std = output.mu[0], (0.5 * output.logvar[0]).exp()
    # Five standard errors.
    assert ((output.z.mean(dim=0) - mu).abs() < 5 * std / math.sqrt(4000)).all()
    assert ((output.z.std(dim=0) - std).abs() < 5 * std / math.sqrt(2 * 4000)).all()


def test_the_conditional_decoder_sees_the_class_and_the_encoder_does_not() -> None:
    model, x, label = conditional(), images(), labels()
    output = model(x, label)
    w, pixel = weights(model), array(x)
    code = np.concatenate([array(output.z), one_hot(label.numpy(), 10)], axis=1)
    reconstruction = cross_entropy(pixels(w, code).reshape(pixel.shape), pixel)
    kl = kl_normal(array(output.mu), np.exp(array(output.logvar)))
    losses = model.loss(output, x)
    np.testing.assert_allclose(losses.total.item(), (reconstruction + 10 * kl).mean(), **CLOSE)
    np.testing.assert_allclose(array(model.encode(x).mu), linear(w, "mu", hidden(w, pixel)), **CLOSE)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**31 - 1), step=st.integers(1, 300), epoch=st.integers(1, 60))
@pytest.mark.parametrize("objective", ["plain", "dupont", "entropy-capacity"])
def test_the_loss_of_the_gumbel_vae_equals_its_objective(
    objective: str, n: int, seed: int, step: int, epoch: int
) -> None:
    weighted = {} if objective == "plain" else {"gamma": 7.0, "capacity_z": 4.0, "capacity_c": 9.0, "capacity_ramp": 50}
    model = gumbel(objective=objective, **weighted)
    x = images(n, seed)
    model.set_progress(step, epoch)
    output = model(x)
    w, pixel = weights(model), array(x)
    h = hidden(w, pixel)
    q = softmax(linear(w, "categories", h))
    code = np.concatenate([array(output.z), array(output.y)], axis=1)
    reconstruction = cross_entropy(pixels(w, code).reshape(pixel.shape), pixel).mean()
    kl_z = kl_normal(linear(w, "mu", h), np.exp(linear(w, "logvar", h))).mean()
    entropy = -(q * np.log(q)).sum(axis=1).mean()
    kl_c = math.log(10) - entropy
    if objective == "plain":
        total = reconstruction + kl_z + kl_c
    elif objective == "dupont":
        share = min(1.0, step / 50)
        total = reconstruction + 7 * abs(kl_z - 4 * share) + 7 * abs(kl_c - min(9 * share, math.log(10)))
    else:
        share = min(1.0, epoch / 50)
        total = reconstruction + 7 * abs(kl_z - 4 * share / n) + 7 * abs(entropy - 9 * share / n)
    losses = model.loss(output, x)
    # The capacities are float64 here, too, because buffers have the dtype of the model.
    np.testing.assert_allclose(losses.total.item(), total, rtol=1e-10)
    np.testing.assert_allclose(
        [losses.reconstruction.item(), losses.kl_z.item(), losses.kl_c.item()], [reconstruction, kl_z, kl_c], **CLOSE
    )
    assert output.indices.tolist() == q.argmax(axis=1).tolist()


def test_relaxed_categories_are_distributions_that_sharpen_with_the_temperature() -> None:
    x = images(200)
    sharpness = []
    for temperature in (5.0, 0.67, 0.01):
        y = gumbel(temperature=temperature)(x).y
        torch.testing.assert_close(y.sum(dim=1), torch.ones(200, dtype=torch.float64))
        sharpness.append(y.amax(dim=1).mean().item())
    assert sharpness == sorted(sharpness)
    assert sharpness[-1] > 0.95


@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_the_largest_of_the_relaxed_categories_is_drawn_from_the_posterior(temperature: float) -> None:
    """This is a property of Gumbel noise and holds at any temperature (Jang et al. 2017, section 2)."""
    model = gumbel(temperature=temperature)
    with torch.no_grad():
        model.categories.bias.copy_(torch.linspace(-1.5, 1.5, 10))
    output = model(images(1).expand(20_000, *SHAPE))
    drawn = output.y.argmax(dim=1).bincount(minlength=10) / 20_000
    q = output.log_probs[0].exp()
    assert q.max() > 5 * q.min()
    assert ((drawn - q).abs() < 5 * (q * (1 - q) / 20_000).sqrt()).all()  # five standard errors


def test_relaxed_categories_are_float32_and_finite_under_autocast() -> None:
    torch.manual_seed(0)
    model = GumbelVAE(GumbelVAEConfig(input_shape=SHAPE, temperature=0.05))
    x = images(2000).float()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(x)
        losses = model.loss(output, x)
    assert output.y.dtype == output.mu.dtype == output.log_probs.dtype == losses.total.dtype == torch.float32
    losses.total.backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in gradients)


def test_capacities_of_the_paper_rise_with_the_steps_and_the_categories_end_at_log_c() -> None:
    model = gumbel(objective="dupont")
    shown = []
    for step in (5, 12_500, 25_000, 90_000):
        model.set_progress(step, epoch=1)
        shown.append((model.capacity_z.item(), model.capacity_c.item()))
    assert shown == [(0.001, 0.001), (2.5, math.log(10)), (5, math.log(10)), (5, math.log(10))]


def test_capacities_for_the_entropy_are_raised_once_an_epoch() -> None:
    config = dataclasses.replace(GumbelVAEConfig.with_entropy_capacity(), **SMALL)
    model = GumbelVAE(config)
    shown = []
    for step, epoch in ((1, 1), (469, 1), (470, 2), (18_760, 40), (90_000, 60)):
        model.set_progress(step, epoch)
        assert model.capacity_z.item() == model.capacity_c.item()
        shown.append(model.capacity_z.item())
    assert shown == [2.5, 2.5, 5, 100, 100]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_capacities_rise_in_float32_whatever_the_weights_are(dtype: torch.dtype) -> None:
    model = gumbel(objective="dupont", capacity_z=30.0).float().to(dtype)
    assert model.mu.weight.dtype == dtype
    shown = []
    for step in (20_000, 20_001):  # capacities 24 and 24.0012, equal in 16 bits
        model.set_progress(step, epoch=1)
        shown.append(model.capacity_z.item())
    assert shown == pytest.approx([24.0, 24.0012], rel=torch.finfo(torch.float32).eps)
    restored = GumbelVAE(model.config).to(dtype)
    restored.load_state_dict(model.state_dict())
    assert restored.capacity_z.item() == shown[1]
    restored.load_state_dict({name: value.to(dtype) for name, value in model.state_dict().items()}, assign=True)
    assert restored.capacity_z.dtype == torch.float32


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("objective", ["dupont", "entropy-capacity"])
def test_capacities_may_be_set_for_the_next_step_before_the_backward_pass(objective: str, compiled: bool) -> None:
    torch._dynamo.reset()
    results = []
    for raised in (False, True):
        model, x = gumbel(objective=objective), images()
        function = torch.compile(model.loss, fullgraph=True, backend="aot_eager") if compiled else model.loss
        model.set_progress(1, 1)
        torch.manual_seed(0)
        losses = function(model(x), x)
        if raised:
            model.set_progress(25_000, 40)
        losses.total.backward()
        results.append([parameter.grad for parameter in model.parameters()])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))  # type: ignore[union-attr]


def test_capacities_are_kept_with_the_weights() -> None:
    model = gumbel(objective="dupont")
    model.set_progress(5000, 2)
    other = gumbel(objective="dupont")
    other.load_state_dict(model.state_dict())
    assert other.capacity_z.item() == 1.0


def test_rows_of_samples_share_their_latent_points() -> None:
    for model in (conditional(), gumbel()):
        rows = model.sample_each_category(4, generator=torch.Generator().manual_seed(3))
        z = torch.randn(4, 3, generator=torch.Generator().manual_seed(3)).double()
        assert rows.shape == (10, 4, *SHAPE)
        for category in (0, 7):
            condition = torch.full((4,), category)
            if isinstance(model, GumbelVAE):
                expected = model.decode(z, torch.nn.functional.one_hot(condition, 10).double())
            else:
                expected = model.decode(z, condition)
            torch.testing.assert_close(rows[category], expected)


def test_samples_repeat_with_their_generator_and_lie_between_zero_and_one() -> None:
    for model in (vae(), conditional(), gumbel()):
        first, second = (model.sample(5, generator=torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, second)
        assert first.shape == (5, *SHAPE)
        assert 0 < first.min() <= first.max() < 1


def test_samples_have_categories_drawn_uniformly() -> None:
    for model in (conditional(), gumbel()):
        generator = torch.Generator().manual_seed(5)
        z, category = torch.randn(200, 3, generator=generator).double(), torch.randint(10, (200,), generator=generator)
        assert len(category.unique()) == 10
        condition = one_hot(category.numpy(), 10)
        decoded = pixels(weights(model), np.concatenate([array(z), condition], axis=1))
        drawn = model.sample(200, generator=torch.Generator().manual_seed(5))
        np.testing.assert_allclose(array(drawn).reshape(200, -1), decoded, **CLOSE)


def test_with_a_category_all_samples_are_of_it() -> None:
    model = conditional()
    chosen = model.sample(3, category=4, generator=torch.Generator().manual_seed(2))
    z = torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double()
    torch.testing.assert_close(chosen, model.decode(z, torch.full((3,), 4)))


def test_reconstructions_are_decoded_from_the_means() -> None:
    x, label = images(), labels()
    torch.testing.assert_close(vae().reconstruct(x), vae().decode(vae().encode(x).mu))
    torch.testing.assert_close(
        conditional().reconstruct(x, label), conditional().decode(conditional().encode(x).mu, label)
    )
    model = gumbel()
    posterior = model.encode(x)
    category = torch.nn.functional.one_hot(model.assign(x), 10).double()
    torch.testing.assert_close(model.reconstruct(x), model.decode(posterior.mu, category))


@pytest.mark.parametrize("model_type", [VAE, ConditionalVAE, GumbelVAE])
def test_convolutions_take_images_of_multiples_of_sixteen(model_type: Any) -> None:
    config = model_type.config_type(input_shape=(3, 32, 16), network="conv", hidden_sizes=(8,), latent_dim=2)
    model = model_type(config)
    x = torch.rand(2, 3, 32, 16)
    output = model(x, labels(2)) if model_type is ConditionalVAE else model(x)
    assert output.logits.shape == x.shape
    assert torch.isfinite(model.loss(output, x).total)
    with pytest.raises(ValueError, match=rf"{model_type.__name__}Config: height and width .* multiples of 16"):
        model_type.config_type(input_shape=(1, 28, 28), network="conv", hidden_sizes=(8,))
    with pytest.raises(ValueError, match="hidden_sizes must be one width for network 'conv'"):
        model_type.config_type(input_shape=(1, 32, 32), network="conv", hidden_sizes=(8, 8))


def test_the_strided_networks_are_those_of_the_paper() -> None:
    """The layers are four convolutions of stride 2 and a linear layer, all with ReLU, and their mirror image."""
    torch.manual_seed(0)
    encoder = StridedConvEncoder((1, 32, 32), 8).double()
    decoder = StridedConvDecoder(5, (1, 32, 32), 8).double()
    x, code = torch.rand(2, 1, 32, 32).double(), torch.randn(2, 5).double()
    h = x
    for layer, channels in zip((0, 2, 4, 6), (32, 32, 64, 64), strict=True):
        w, b = (encoder.state_dict()[f"{layer}.{name}"] for name in ("weight", "bias"))
        h = F.conv2d(h, w, b, stride=2, padding=1).clamp_min(0)
        assert h.shape[1] == channels
    h = (h.flatten(1) @ encoder.state_dict()["9.weight"].T + encoder.state_dict()["9.bias"]).clamp_min(0)
    torch.testing.assert_close(encoder(x), h)
    w = decoder.state_dict()
    h = (code @ w["0.weight"].T + w["0.bias"]).clamp_min(0)
    h = (h @ w["2.weight"].T + w["2.bias"]).view(2, 64, 2, 2)
    for layer, channels in zip((5, 7, 9, 11), (64, 32, 32, 1), strict=True):
        h = F.conv_transpose2d(h.clamp_min(0), w[f"{layer}.weight"], w[f"{layer}.bias"], stride=2, padding=1)
        assert h.shape[1] == channels
    torch.testing.assert_close(decoder(code), h)


def test_the_presets_have_their_settings() -> None:
    assert sum(p.numel() for p in VAE(VAEConfig()).parameters()) == 784 * 400 + 400 + 2 * 8020 + 8400 + 401 * 784
    entropy, dupont = GumbelVAEConfig.with_entropy_capacity(), GumbelVAEConfig.dupont()
    assert (entropy.gamma, entropy.capacity_z, entropy.capacity_c, entropy.capacity_ramp) == (20, 100, 100, 40)
    assert (dupont.gamma, dupont.capacity_z, dupont.capacity_c, dupont.capacity_ramp) == (30, 5, 5, 6_000)
    conv = GumbelVAE(GumbelVAEConfig.dupont_conv())
    assert [m.out_channels for m in conv.trunk.modules() if isinstance(m, torch.nn.Conv2d)] == [32, 32, 64, 64]
    assert conv.config.capacity_ramp == 25_000
    assert (conv.config.latent_dim, conv.config.temperature, conv.mu.in_features) == (10, 0.67, 256)
    assert GumbelVAEConfig.plain().objective == "plain"


@pytest.mark.parametrize(
    ("config", "options", "sentence"),
    [
        (GumbelVAEConfig, {"temperature": 0.0}, "temperature must be a finite number above 0, got 0.0"),
        (GumbelVAEConfig, {"temperature": -1.0}, "temperature must be a finite number above 0, got -1.0"),
        (GumbelVAEConfig, {"temperature": math.nan}, "temperature must be a finite number above 0, got nan"),
        (GumbelVAEConfig, {"capacity_z": -1.0}, "capacity_z must be a finite number of at least 0, got -1.0"),
        (GumbelVAEConfig, {"capacity_c": -0.5}, "capacity_c must be a finite number of at least 0, got -0.5"),
        (GumbelVAEConfig, {"capacity_ramp": 0}, "capacity_ramp must be an integer of at least 1, got 0"),
        (
            GumbelVAEConfig,
            {"objective": "elbo"},
            "objective must be 'plain', 'dupont' or 'entropy-capacity', got 'elbo'",
        ),
        (GumbelVAEConfig, {"num_categories": 0}, "num_categories must be an integer of at least 1, got 0"),
        (GumbelVAEConfig, {"temperature": "1"}, "temperature must be a finite number above 0, got '1'"),
        (
            GumbelVAEConfig,
            {"gamma": 5.0},
            "objective must be 'dupont' or 'entropy-capacity' for gamma to mean anything, got 5.0",
        ),
        (VAEConfig, {"hidden_sizes": 400}, "hidden_sizes must hold sizes of at least 1, got 400"),
        (VAEConfig, {"hidden_sizes": (4.5,)}, "hidden_sizes must hold sizes of at least 1, got [4.5]"),
        (VAEConfig, {"latent_dim": True}, "latent_dim must be an integer of at least 1, got True"),
        (VAEConfig, {"beta": -1.0}, "beta must be a finite number of at least 0, got -1.0"),
        (VAEConfig, {"latent_dim": 0}, "latent_dim must be an integer of at least 1, got 0"),
        (VAEConfig, {"hidden_sizes": ()}, "hidden_sizes must hold sizes of at least 1, got []"),
        (VAEConfig, {"input_shape": (1, 0)}, "input_shape must hold sizes of at least 1, got [1, 0]"),
        (VAEConfig, {"network": "deep"}, "network must be 'dense' or 'conv', got 'deep'"),
        (ConditionalVAEConfig, {"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
    ],
)
def test_config_errors_name_the_field(config: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{config.__name__}: {sentence}")):
        config(**options)


@pytest.mark.parametrize("value", [-0.01, 1.01])
@pytest.mark.parametrize("make", [vae, conditional, gumbel])
def test_images_outside_the_unit_interval_are_refused(make: Any, value: float) -> None:
    model, x = make(), images()
    x[2, 0, 1, 1] = value
    output = model(x, labels()) if isinstance(model, ConditionalVAE) else model(x)
    with pytest.raises(ValueError, match=rf"{type(model).__name__}: x must hold values in \[0, 1\], got values from"):
        model.loss(output, x)


@pytest.mark.parametrize("make", [vae, conditional, gumbel])
def test_a_loss_needs_the_samples_of_the_output(make: Any) -> None:
    model = make()
    output = model(images(), labels()) if isinstance(model, ConditionalVAE) else model(images())
    with pytest.raises(
        ValueError, match=rf"{type(model).__name__}: x must hold the 6 samples that output is of, got 1"
    ):
        model.loss(output, images(1))
    with pytest.raises(ValueError, match=r"x must have shape \[N, 1, 4, 3\], got \[6, 12\]"):
        model.loss(output, images().flatten(1))


@pytest.mark.parametrize("make", [vae, conditional, gumbel])
def test_images_of_another_shape_are_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[N, 1, 4, 3\], got \[6, 12\]"):
        make().encode(images().flatten(1))


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        (None, "label must be given, the class of each sample, got none"),
        (torch.tensor([0, 1, 2, 3, 4, 10]), "label must hold classes from 0 to 9, got 10"),
        (torch.tensor([0, 1, -1, 3, 4, 5]), "label must hold classes from 0 to 9, got -1"),
        (torch.zeros(6), "label must be of dtype int64 and shape [N] = [6], got torch.float32 and [6]"),
        (
            torch.zeros(5, dtype=torch.int64),
            "label must be of dtype int64 and shape [N] = [6], got torch.int64 and [5]",
        ),
    ],
)
def test_labels_that_name_no_class_are_refused(label: Tensor | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"ConditionalVAE: {sentence}")):
        conditional()(images(), label)


def test_invalid_arguments_of_sample_are_refused() -> None:
    with pytest.raises(ValueError, match="VAE: num_samples must be an integer of at least 1, got 0"):
        vae().sample(0)
    for model in (conditional(), gumbel()):
        name = type(model).__name__
        with pytest.raises(ValueError, match=f"{name}: category must be an integer from 0 to 9, got 10"):
            model.sample(1, category=10)
        with pytest.raises(ValueError, match=f"{name}: num_samples must be an integer of at least 1, got -3"):
            model.sample_each_category(-3)


def test_progress_begins_at_one() -> None:
    for step, epoch, name, came in ((0, 1, "step", 0), (1, 0, "epoch", 0), (2.5, 1, "step", 2.5)):
        with pytest.raises(ValueError, match=f"set_progress: {name} must be an integer of at least 1, got {came}"):
            gumbel().set_progress(step, epoch)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective", ["plain", "dupont", "entropy-capacity"])
def test_no_samples_have_no_terms(objective: str) -> None:
    model = gumbel(objective=objective)
    output = model(images(0))
    assert [len(term) for term in model.terms(output, images(0))] == [0, 0, 0]
    assert [term.item() for term in model.loss(output, images(0))[1:]] == [0, 0, 0]
    assert model.assign(images(0)).shape == (0,)
