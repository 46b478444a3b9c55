"""VQ-VAE: losses and all gradients compared with equation 3 written out as loops; interface, start, revival, errors.

The oracle shares only the networks with the package, which PyTorch differentiates. It computes search, losses and
straight-through gradients one encoding at a time, in float64. Sums have at most a few hundred terms of size one.
"""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from somvae_ext.models import VQVAE, VQVAEConfig

TOLERANCE = 1e4 * torch.finfo(torch.float64).eps
DENSE = VQVAEConfig(input_shape=(1, 4, 8), num_codes=5, latent_dim=3, hidden_sizes=(6,))
CONV = dataclasses.replace(DENSE, network="conv")
CONFIGS = {
    "dense": DENSE,
    "conv": CONV,
    "dense, averages": dataclasses.replace(DENSE, codebook_update="ema", beta=0.7),
    "conv, averages, cross entropy": dataclasses.replace(CONV, codebook_update="ema", reconstruction="bce"),
    "dense, cross entropy": dataclasses.replace(DENSE, reconstruction="bce", beta=0.0),
    "conv, linear": dataclasses.replace(CONV, output="linear"),
}
EACH = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def make(config: VQVAEConfig) -> VQVAE:
    """Returns a float64 model whose codes lie among the encodings, so that several win."""
    torch.manual_seed(0)
    model = VQVAE(config).double()
    with torch.no_grad():
        z = model.encode(samples(5))
        rows = z.movedim(1, -1).reshape(-1, 3)[:5]
        model.quantizer.codebook.copy_(rows + 0.01 * torch.randn_like(rows))
    return model


def samples(count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 1, 4, 8, generator=generator, dtype=torch.float64)


def expected_terms(model: VQVAE, x: Tensor, weights: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Computes the terms of each sample from their definitions, with these parameters."""

    def run(name: str, value: Tensor) -> Tensor:
        own = {key.removeprefix(f"{name}."): weight for key, weight in weights.items() if key.startswith(f"{name}.")}
        return functional_call(model.get_submodule(name), own, (value,))

    codebook = weights.get("quantizer.codebook", model.quantizer.codebook)
    terms: dict[str, list[Tensor]] = {"reconstruction": [], "codebook": [], "commitment": []}
    for sample in x:
        z = run("encoder", sample[None])[0]
        positions = [()] if z.dim() == 1 else [(i, j) for i in range(z.shape[1]) for j in range(z.shape[2])]
        quantized, to_codes, to_encodings = torch.empty_like(z), [], []
        for at in positions:
            encoding = z[(slice(None), *at)]
            distances = [((encoding - code) ** 2).sum().item() for code in codebook]
            code = codebook[min(range(len(codebook)), key=lambda k: distances[k])]
            quantized[(slice(None), *at)] = encoding + (code - encoding).detach()
            to_codes.append(((encoding.detach() - code) ** 2).sum() / 3)
            to_encodings.append(((encoding - code.detach()) ** 2).sum() / 3)
        decoded, pixels = run("decoder", quantized[None])[0], sample
        errors = (pixels - decoded) ** 2
        if model.config.reconstruction == "bce":
            y = 1 / (1 + torch.exp(-decoded))
            errors = -pixels * torch.log(y) - (1 - pixels) * torch.log(1 - y)
        terms["reconstruction"].append(errors.sum() / 32)
        terms["codebook"].append(sum(to_codes, z.new_zeros(())) / len(positions))
        terms["commitment"].append(sum(to_encodings, z.new_zeros(())) / len(positions))
    return terms


def gradients(value: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    if not value.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True, retain_graph=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


# ---- losses ----------------------------------------------------------------------------------------------------------


@EACH
def test_losses_and_all_gradients_agree_with_equation_3(config: VQVAEConfig) -> None:
    model, x = make(config), samples(6)
    leaves = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    output = model(x)
    assert len(output.indices.unique()) > 1
    terms, losses = model.terms(output, x)._asdict(), model.loss(output, x)._asdict()
    expected = expected_terms(model, x, leaves)
    assert terms.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(terms[name], torch.stack(values), rtol=TOLERANCE, atol=TOLERANCE)
    means = {name: sum(values, x.new_zeros(())) / 6 for name, values in expected.items()}
    total = means["reconstruction"] + config.beta * means["commitment"]
    if config.codebook_update == "gradient":
        total = total + means["codebook"]
    for name, value in ({"total": total} | means).items():
        torch.testing.assert_close(losses[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=name)
        got, want = gradients(losses[name], dict(model.named_parameters())), gradients(value, leaves)
        for leaf in want:
            torch.testing.assert_close(got[leaf], want[leaf], rtol=TOLERANCE, atol=TOLERANCE, msg=f"{name}, {leaf}")


def test_with_ema_updates_only_update_codebook_changes_the_codes() -> None:
    model, x = make(CONFIGS["dense, averages"]), samples(6)
    assert "quantizer.codebook" not in dict(model.named_parameters())
    before = model.quantizer.codebook.clone()
    output = model(x)
    model.loss(output, x).total.backward()
    assert model.quantizer.codebook.equal(before)
    model.quantizer.update_codebook(*model.quantizer.statistics(output.z_e, output.indices))
    assert not model.quantizer.codebook.equal(before)


@EACH
def test_codes_may_move_before_the_backward_pass_of_the_loss(config: VQVAEConfig) -> None:
    x, results = samples(8), []
    for moved in (False, True):
        model = make(config)
        output = model(x)
        losses = model.loss(output, x)
        if moved:
            if config.codebook_update == "ema":
                model.quantizer.update_codebook(*model.quantizer.statistics(output.z_e, output.indices))
            model.revive(torch.tensor([1, 4]), x)
        losses.total.backward()
        results.append([parameter.grad for parameter in model.parameters()])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))  # type: ignore[union-attr]


@EACH
def test_without_samples_the_losses_are_zero(config: VQVAEConfig) -> None:
    model, x = make(config), samples(0)
    losses = model.loss(model(x), x)
    assert [term.item() for term in losses] == [0.0] * 4
    losses.total.backward()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_cross_entropy_clamps_noise_to_0_and_1_and_refuses_unscaled_samples() -> None:
    model, x = make(CONFIGS["dense, cross entropy"]), samples(4)
    output, noisy = model(x), x.clone()
    noisy[:, 0, 0] = 1.3
    assert model.loss(output, noisy).total.equal(model.loss(output, noisy.clamp(0, 1)).total)
    with pytest.raises(ValueError, match=r"VQVAE.loss: x must be scaled to \[0, 1\] for reconstruction 'bce'"):
        model.loss(output, 255 * x)


# ---- interface -------------------------------------------------------------------------------------------------------


@EACH
def test_every_method_returns_the_shapes_of_the_config(config: VQVAEConfig) -> None:
    model, x = make(config), samples(6)
    grid = (1, 2) if config.network == "conv" else ()
    assert config.code_shape == grid
    assert model.codes_per_sample == math.prod(grid)
    assert model.num_clusters == 5
    output = model(x)
    shapes = [tuple(field.shape) for field in output]
    assert shapes == [(6, 1, 4, 8), (6, 3, *grid), (6, 3, *grid), (6, *grid), (6, *grid), (6, *grid)]
    assert output.indices.dtype == torch.int64
    assert output.indices.equal(model.assign(x))
    torch.testing.assert_close(model.reconstruct(x), model.decode(output.z_q))
    assert model.sample(7).shape == (7, 1, 4, 8)
    if config.output == "sigmoid":
        assert ((model.reconstruct(x) > 0) & (model.reconstruct(x) < 1)).all()


def test_samples_are_decoded_codes_and_depend_only_on_the_generator() -> None:
    model = make(DENSE)
    decoded = model.decode(model.quantizer.codebook).detach()
    drawn = [model.sample(100, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    codes = (drawn[0][:, None] - decoded).abs().flatten(2).amax(dim=2).argmin(dim=1)
    torch.testing.assert_close(drawn[0], decoded[codes])
    assert codes.unique().tolist() == [0, 1, 2, 3, 4]
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])


def test_the_model_describes_its_outputs_and_inputs() -> None:
    assert (VQVAE.name, VQVAE.config_type, VQVAE.batch_fields) == ("vqvae", VQVAEConfig, ("x",))


@EACH
def test_a_config_survives_json(config: VQVAEConfig) -> None:
    assert VQVAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize("config", [DENSE, CONV], ids=["dense", "conv"])
def test_coding_and_decoding_are_exported_for_any_number_of_samples(config: VQVAEConfig) -> None:
    class Coder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = make(config)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            indices = self.model.quantizer.assign(self.model.encode(x))
            return indices, self.model.decode(self.model.quantizer.lookup(indices))

    coder = Coder().eval()
    number = torch.export.Dim("number")
    exported = torch.export.export(coder, (samples(4),), dynamic_shapes={"x": {0: number}}).module()
    x = samples(9, seed=1)
    indices, images = exported(x)
    assert indices.equal(coder.model.assign(x))
    torch.testing.assert_close(images, coder.model.reconstruct(x))


# ---- start and revival -----------------------------------------------------------------------------------------------


@EACH
def test_with_init_kmeans_the_codebook_starts_at_k_means_of_the_encodings(config: VQVAEConfig) -> None:
    x = samples(40)
    plain, kmeans = make(config), make(dataclasses.replace(config, init="kmeans"))
    before = plain.quantizer.codebook.detach().clone()
    plain.initialize_codebook(x)
    assert plain.quantizer.codebook.equal(before)
    kmeans.initialize_codebook(x, seed=3)
    assert len(kmeans.assign(x).unique()) == 5  # each code wins an encoding
    assert kmeans(x).commitment.mean() < plain(x).commitment.mean()


@EACH
def test_revived_codes_are_encodings_and_their_rows_are_returned(config: VQVAEConfig) -> None:
    model, x = make(config), samples(8, seed=2)
    changed = model.revive(torch.tensor([0, 3]), x, torch.Generator().manual_seed(0))
    rows = model.encode(x).movedim(1, -1).reshape(-1, 3)
    assert all((model.quantizer.codebook[code] == rows).all(dim=1).any() for code in (0, 3))
    if config.codebook_update == "gradient":
        ((parameter, where),) = changed
        assert parameter is model.quantizer.codebook
        assert where.tolist() == [0, 3]
    else:
        assert changed == []
        assert model.quantizer.ema_sums[[0, 3]].equal(model.quantizer.codebook[[0, 3]])


@EACH
def test_nonfinite_samples_are_ignored_by_start_and_revival(config: VQVAEConfig) -> None:
    model, x = make(dataclasses.replace(config, init="kmeans")), samples(20)
    x[3, 0, 1, 1], x[7, 0, 2, 5] = math.nan, math.inf
    model.initialize_codebook(x)
    assert model.quantizer.codebook.isfinite().all()
    model.revive(torch.arange(5), x)
    assert model.quantizer.codebook.isfinite().all()


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (0,)}, r"VQVAEConfig: input_shape must hold sizes of at least 1, got \[0\]"),
        ({"num_codes": 0}, "VQVAEConfig: num_codes must be an integer of at least 1, got 0"),
        ({"latent_dim": 0}, "VQVAEConfig: latent_dim must be an integer of at least 1, got 0"),
        ({"network": "cnn"}, "VQVAEConfig: network must be 'dense' or 'conv', got 'cnn'"),
        ({"init": "pca"}, "VQVAEConfig: init must be 'normal' or 'kmeans', got 'pca'"),
        ({"output": "tanh"}, "VQVAEConfig: output must be 'sigmoid' or 'linear', got 'tanh'"),
        ({"reconstruction": "l1"}, "VQVAEConfig: reconstruction must be 'mse' or 'bce', got 'l1'"),
        ({"codebook_update": "sgd"}, "VQVAEConfig: codebook_update must be 'gradient' or 'ema', got 'sgd'"),
        ({"beta": math.nan}, "VQVAEConfig: beta must be a finite number of at least 0, got nan"),
        (
            {"codebook_update": "ema", "decay": 1.0},
            "VQVAEConfig: decay must be a finite number of at least 0 and below 1, got 1.0",
        ),
        ({"decay": 0.9}, "VQVAEConfig: codebook_update must be 'ema' for decay to mean anything, got 0.9"),
        ({"reconstruction": "bce", "output": "linear"}, "VQVAEConfig: output must be 'sigmoid' for reconstruction"),
        ({"network": "conv", "input_shape": (1, 6, 8)}, "VQVAEConfig: height and width .* multiples of 4 .*1, 6, 8"),
        ({"network": "conv", "input_shape": (32,)}, r"VQVAEConfig: input_shape must be that of an image .*\(32,\)"),
    ],
)
def test_a_config_refuses_invalid_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQVAEConfig(**options)  # type: ignore[arg-type]


def test_samples_of_another_shape_are_refused() -> None:
    model, x = make(dataclasses.replace(DENSE, init="kmeans")), samples(5).mT
    for call in (model, model.encode, model.assign, model.reconstruct, model.initialize_codebook):
        with pytest.raises(ValueError, match=r"VQVAE: x must have shape \[N, 1, 4, 8\], got \[5, 1, 8, 4\]"):
            call(x)


def test_too_few_samples_are_refused() -> None:
    model = make(dataclasses.replace(DENSE, init="kmeans"))
    with pytest.raises(ValueError, match=r"VQVAE.sample: num_samples must be an integer of at least 1, got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="at least K = 5 encodings that are finite and not masked, got 4 among 4"):
        model.initialize_codebook(samples(4))
