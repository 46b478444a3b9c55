"""SOM-VAE's losses and all gradients, compared with formulas written out as loops in float64.

The oracle shares no code with the package. It has its own networks, grid, search, means and transitions, processes one
frame, pixel axis and slot at a time, and is differentiated by autograd. Sums have at most a few hundred terms of size
one, so results agree up to a few thousand roundings.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import oracle
import pytest
import torch
from torch import Tensor, nn

from somvae_ext.models import SOMVAE, SOMVAEConfig

TOLERANCE = 1e4 * torch.finfo(torch.float64).eps
SHAPE, LATENT, HIDDEN = (1, 3, 3), 4, (6, 5)
TERMS = [
    "reconstruction_q",
    "reconstruction_e",
    "commitment",
    "som",
    "transition",
    "smoothness",
    "hardening",
    "soft_som",
    "neighbor_margin",
    "prediction",
]


class Case(NamedTuple):
    """A model and its input."""

    config: SOMVAEConfig
    leading: tuple[int, ...]
    mask: Tensor | None = None
    updates: int = 0  # codebook updates so far of an ordered map; they have narrowed its neighborhood
    epoch: int = 1
    variance: float | None = None  # variance of the encodings so far, after a warm-up
    targets: Tensor | None = None  # targets of hardening; by default computed from the batch


def config(**options: object) -> SOMVAEConfig:
    base = SOMVAEConfig(input_shape=SHAPE, rows=3, cols=4, latent_dim=LATENT, hidden_sizes=HIDDEN, alpha=0.7, beta=0.4)
    return dataclasses.replace(base, **options)


def published() -> SOMVAEConfig:
    """Returns the dense variant of the published setting, with a small map."""
    return dataclasses.replace(
        SOMVAEConfig.published(),
        input_shape=SHAPE,
        rows=3,
        cols=4,
        latent_dim=LATENT,
        network="dense",
        hidden_sizes=HIDDEN,
        latent_relu=True,
    )


HOLES = torch.tensor([[True, True, True, True, False], [True, True, False, True, True], [False] * 5])
SERIES = {"gamma": 0.6, "tau": 0.9}
ORDERED = {"codebook_update": "ema", "beta": None, "sigma_final": 0.6, "sigma_steps": 10}
WARMED = {"warm_up_epochs": 2}
HARDENED = {"hardening": 1.3, "soft_som": 0.2}
TARGETS = torch.rand(3, 5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).softmax(dim=2)
CASES = {
    "static": Case(config(), (7,)),
    "static, mask at the border": Case(config(border="mask"), (7,)),
    "static, without the winner": Case(config(neighbors_only=True), (7,)),
    "static, without the winner, mask at the border": Case(config(neighbors_only=True, border="mask"), (7,)),
    "one node, without the winner": Case(config(neighbors_only=True, border="mask", rows=1, cols=1), (7,)),
    "static, hexagonal": Case(config(topology="hexagonal"), (7,)),
    "static, hexagonal, mask at the border": Case(config(topology="hexagonal", border="mask"), (7,)),
    "static, periodic": Case(config(periodic=True), (7,)),
    "static, periodic hexagonal with few rows, mask": Case(
        config(topology="hexagonal", periodic=True, rows=2, cols=2, border="mask"), (7,)
    ),
    "static, one row": Case(config(), (1,)),
    "series without transitions": Case(config(), (3, 5)),
    "series": Case(config(**SERIES), (3, 5)),
    "series, mask at the border": Case(config(border="mask", **SERIES), (3, 5)),
    "series, hexagonal": Case(config(topology="hexagonal", border="mask", **SERIES), (3, 5)),
    "series of different lengths": Case(config(**SERIES), (3, 5), HOLES),
    "series of different lengths, mask at the border": Case(config(border="mask", **SERIES), (3, 5), HOLES),
    "series of one frame": Case(config(**SERIES), (4, 1)),
    "a window": Case(config(window=3, **SERIES), (3, 5)),
    "a window, series of different lengths": Case(config(window=3, **SERIES), (3, 5), HOLES),
    "a window, longer than the series, ordered": Case(config(window=8, **ORDERED), (3, 5), HOLES, updates=5),
    "a window, hardened": Case(config(window=2, **HARDENED, **SERIES), (3, 5), HOLES),
    "a prediction": Case(config(prediction=1.7, **SERIES), (3, 5)),
    "a prediction, series of different lengths, a window": Case(config(prediction=1.7, window=3), (3, 5), HOLES),
    "a prediction, cross entropy": Case(config(prediction=1.7, reconstruction="bce"), (3, 5), HOLES),
    "a prediction, linear, ordered": Case(config(prediction=0.4, output="linear", **ORDERED), (3, 5), updates=5),
    "a prediction, warm-up": Case(config(prediction=1.7, **WARMED), (3, 5), HOLES, epoch=1),
    "a prediction, series of one frame": Case(config(prediction=1.7), (4, 1)),
    "transitions without smoothness": Case(config(gamma=0.6), (3, 5)),
    "smoothness without transitions": Case(config(tau=0.9), (3, 5)),
    "published": Case(published(), (3, 5)),
    "linear decoders": Case(config(output="linear"), (7,)),
    "cross entropy": Case(config(reconstruction="bce"), (7,)),
    "cross entropy, series of different lengths": Case(config(reconstruction="bce", **SERIES), (3, 5), HOLES),
    "copied gradient": Case(config(gradient="copy"), (7,)),
    "copied gradient, series of different lengths": Case(config(gradient="copy", **SERIES), (3, 5), HOLES),
    "copied gradient, cross entropy": Case(config(gradient="copy", reconstruction="bce"), (7,)),
    "VQ-VAE": Case(config(gradient="copy", beta=0.0), (7,)),
    "no gradient": Case(config(gradient="none"), (7,)),
    "no gradient, series": Case(config(gradient="none", **SERIES), (3, 5)),
    "ordered": Case(config(**ORDERED), (7,)),
    "ordered, narrow": Case(config(**ORDERED), (7,), updates=25),
    "ordered, hexagonal": Case(config(topology="hexagonal", **ORDERED), (7,), updates=4),
    "ordered, periodic": Case(config(periodic=True, **ORDERED), (7,), updates=1),
    "ordered, periodic hexagonal": Case(
        config(topology="hexagonal", periodic=True, rows=4, **ORDERED), (7,), updates=8
    ),
    "ordered, a line": Case(config(rows=1, cols=9, **ORDERED), (7,), updates=3),
    "ordered, series of different lengths": Case(config(**ORDERED, **SERIES), (3, 5), HOLES, updates=5),
    "ordered, copied gradient": Case(config(gradient="copy", **ORDERED), (7,), updates=2),
    "ordered, no gradient, series": Case(config(gradient="none", **ORDERED, **SERIES), (3, 5), updates=2),
    "warm-up": Case(config(**WARMED), (7,), epoch=1),
    "warm-up, its last epoch, cross entropy": Case(config(reconstruction="bce", **WARMED), (7,), epoch=2),
    "warm-up, series of different lengths": Case(config(**SERIES, **WARMED), (3, 5), HOLES, epoch=2),
    "warm-up, ordered": Case(config(**ORDERED, **WARMED), (7,), epoch=2),
    "after a warm-up": Case(config(**WARMED), (7,), epoch=3, variance=3.0),
    "after a warm-up, encodings closer than without one": Case(config(**WARMED), (7,), epoch=3, variance=1e-3),
    "after a warm-up, series of different lengths": Case(
        config(**SERIES, **WARMED), (3, 5), HOLES, epoch=3, variance=0.04
    ),
    "after a warm-up, ordered": Case(config(**ORDERED, **WARMED), (7,), updates=4, epoch=9, variance=0.04),
    "hardened": Case(config(**HARDENED), (7,)),
    "hardened, hexagonal, given targets": Case(config(topology="hexagonal", **HARDENED), (5,), targets=TARGETS[0]),
    "hardened, periodic, alpha and beta 0": Case(config(periodic=True, alpha=0.0, beta=0.0, **HARDENED), (7,)),
    "hardened, series of different lengths": Case(config(**HARDENED, **SERIES), (3, 5), HOLES),
    "hardened, series, given targets": Case(config(**HARDENED, **SERIES), (3, 5), HOLES, targets=TARGETS),
    "hardened, ordered": Case(config(hardening=0.8, **ORDERED), (7,), updates=3),
    "hardened, still warming up": Case(config(**HARDENED, **WARMED), (7,), epoch=2),
    "hardened after a warm-up": Case(config(**HARDENED, **WARMED), (7,), epoch=3, variance=3.0),
    "soft SOM alone": Case(config(soft_som=0.3), (7,)),
    "a margin": Case(config(neighbor_margin=1.7), (7,)),
    "a margin, hexagonal": Case(config(neighbor_margin=1.7, topology="hexagonal"), (7,)),
    "a margin, ordered, series": Case(config(neighbor_margin=1.7, **ORDERED, **SERIES), (3, 5), HOLES, updates=9),
    "a margin, ordered, without the mean of the map": Case(
        config(neighbor_margin=1.7, **ORDERED | {"beta": 0.0}), (7,), updates=9
    ),
    "a margin, before relabeling": Case(config(neighbor_margin=1.7, relabel_after=3), (7,), epoch=3),
    "a margin, after relabeling": Case(config(neighbor_margin=1.7, relabel_after=3), (7,), epoch=4),
    "a margin, after a warm-up": Case(config(neighbor_margin=1.7, **WARMED), (7,), epoch=3, variance=3.0),
    "a margin, one node": Case(config(neighbor_margin=1.7, rows=1, cols=1), (7,)),
    "a margin, a torus of few nodes": Case(config(neighbor_margin=1.7, rows=2, cols=1, periodic=True), (7,)),
    "identity networks": Case(config(network="identity", latent_dim=9), (7,)),
    "identity networks, mask at the border, series": Case(
        config(network="identity", latent_dim=9, border="mask", **SERIES), (3, 5)
    ),
}


def dense(x: Tensor, parameters: dict[str, Tensor], prefix: str, *, last: str) -> Tensor:
    """Applies a stack of linear layers, given their weights."""
    names = sorted(
        {name.rpartition(".")[0] for name in parameters if name.startswith(prefix)}, key=lambda n: (len(n), n)
    )
    for layer, name in enumerate(names):
        x = x @ parameters[f"{name}.weight"].T + parameters[f"{name}.bias"]
        if layer < len(names) - 1 or last == "relu":
            x = x.clamp(min=0)
    return 1 / (1 + torch.exp(-x)) if last == "sigmoid" else x


def pixel_errors(
    c: SOMVAEConfig, pixels: Tensor, latent: Tensor, parameters: dict[str, Tensor], decoder: str
) -> Tensor:
    """Returns the mean reconstruction error of one decoded latent vector."""
    last = "none" if c.network == "identity" or c.output == "linear" else "sigmoid"
    decoded = dense(latent, parameters, decoder, last=last)
    errors = (pixels - decoded) ** 2
    if c.reconstruction == "bce":
        errors = -pixels * torch.log(decoded) - (1 - pixels) * torch.log(1 - decoded)
    return sum(errors) / len(pixels)


def windowed_encoding(single: list[Tensor | None], t: int, parameters: dict[str, Tensor], window: int) -> Tensor:
    """Returns the encoding of frame t with a window, from the encodings of single frames; None is a masked frame."""
    hidden = torch.zeros(LATENT, dtype=torch.float64)
    for lag in range(min(window, t + 1)):
        f = single[t - lag]
        if f is not None:
            weight = parameters["window.convolution.weight"][:, :, window - 1 - lag]
            hidden = hidden + weight @ torch.cat([f, torch.ones(1, dtype=torch.float64)])
    return single[t] + parameters["window.projection.weight"] @ hidden.clamp(min=0)


def expected_losses(model: SOMVAE, x: Tensor, parameters: dict[str, Tensor], case: Case) -> dict[str, Tensor]:
    """Computes all losses from their definitions."""
    c, mask = model.config, case.mask
    ordered = c.codebook_update == "ema"
    # Codes that are moving averages have no gradient, and neither has the local mean around a winner.
    codebook = model.quantizer.codebook.detach() if ordered else parameters["quantizer.codebook"]
    num_nodes, dim = codebook.shape
    table = oracle.neighbor_table(c.rows, c.cols, c.topology, c.periodic)
    series = x if x.dim() == 2 + len(SHAPE) else x[:, None]  # static samples are series of one frame
    terms: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    encodings: list[Tensor] = []
    targets: list[Tensor] = []  # the given targets of each encoding
    for b, frames in enumerate(series):
        previous = None
        last_layer = "relu" if c.latent_relu else "none"
        single = [
            None
            if mask is not None and not mask[b, t]
            else dense(frame.reshape(-1), parameters, "encoder.", last=last_layer)
            for t, frame in enumerate(frames)
        ]
        for t, frame in enumerate(frames):
            if mask is not None and not mask[b, t]:
                previous = None
                continue
            pixels = frame.reshape(-1)
            z = single[t] if c.window == 1 else windowed_encoding(single, t, parameters, c.window)
            distances = [((z - code) ** 2).sum() for code in codebook]
            k = min(range(num_nodes), key=lambda node: distances[node].item())
            latents = {"q": codebook[k]}
            if c.gradient == "copy":
                latents["q"] = z + (codebook[k] - z).detach()
            if c.gradient == "som":
                latents["e"] = z
            for name, latent in latents.items():
                error = pixel_errors(c, pixels, latent, parameters, f"decoder_{name}.")
                terms[f"reconstruction_{name}"].append(error)
            if c.prediction and t + 1 < len(frames) and (mask is None or mask[b, t + 1]):
                terms["prediction"].append(pixel_errors(c, frames[t + 1].reshape(-1), z, parameters, "predictor."))
            encodings.append(z)
            if case.targets is not None:
                targets.append(case.targets[b, t] if case.targets.dim() == 3 else case.targets[b])
            terms["commitment"].append(distances[k] / dim)
            warming_up = case.epoch <= c.warm_up_epochs
            if c.soft_som and not warming_up:
                likely = student_t(z.detach(), codebook)
                total = sum(
                    likely[j].detach() * torch.log(likely[n]) for j in range(num_nodes) for n in table[j] if n >= 0
                )
                terms["soft_som"].append(-total)
            if c.neighbor_margin and not warming_up and case.epoch > c.relabel_after:
                to_code = [((z - code.detach()) ** 2).sum() for code in codebook]
                others = [to_code[j] for j in range(num_nodes) if j != k]
                near = [to_code[n] for n in table[k] if n >= 0]
                margin = min(near) - min(others) if near else 0 * z.sum()
                terms["neighbor_margin"].append(margin / dim)
            if ordered:
                terms["som"].append(((z - local_mean(model, codebook, k)) ** 2).sum() / dim)
            slots = [((z.detach() - codebook[k]) ** 2).sum()] if not c.neighbors_only else []
            for node in table[k]:
                if node >= 0:
                    slots.append(((z.detach() - codebook[node]) ** 2).sum())
                elif c.border == "zero":
                    slots.append((z.detach() ** 2).sum())
            if not ordered:
                terms["som"].append(sum(slots, 0 * codebook.sum()) / (dim * max(1, len(slots))))
            if c.gamma or c.tau:
                weights = torch.exp(parameters["transitions.logits"][k if previous is None else previous])
                row = weights / weights.sum()
                terms["transition"].append(-torch.log(row[k]))
                terms["smoothness"].append(sum(row[j] * distances[j] for j in range(num_nodes)) / num_nodes)
            previous = k
    if c.hardening and case.epoch > c.warm_up_epochs:
        terms["hardening"] = divergences(encodings, codebook, targets)
    means = {name: sum(values) / len(values) if values else x.new_zeros(()) for name, values in terms.items()}
    gamma = c.gamma * c.gamma if c.square_gamma else c.gamma
    scale = 1.0 if case.variance is None else min(1.0, 0.0025 / case.variance)
    alpha = c.alpha * scale
    weights = {"commitment": alpha, "som": 0.9 if c.beta is None else c.beta, "transition": gamma, "smoothness": c.tau}
    weights |= {"hardening": c.hardening, "soft_som": c.soft_som}
    weights["neighbor_margin"] = c.neighbor_margin * scale
    weights["prediction"] = c.prediction
    if ordered and c.beta is None:
        weights |= {"commitment": alpha / 2, "som": alpha / 2}
    if case.epoch <= c.warm_up_epochs:
        weights = {name: float(name == "reconstruction_e") for name in TERMS} | {"prediction": c.prediction}
    return {"total": sum(weights.get(name, 1.0) * mean for name, mean in means.items())} | means


def student_t(z: Tensor, codebook: Tensor) -> list[Tensor]:
    """Returns Student's t kernel of one encoding, normalized over the codes."""
    kernel = [1 / (1 + ((z - code) ** 2).sum()) for code in codebook]
    return [value / sum(kernel) for value in kernel]


def divergences(encodings: list[Tensor], codebook: Tensor, given: list[Tensor]) -> list[Tensor]:
    """Returns KL(t | s) of each encoding; t is given or the normalized s^2 / f, where f sums s over all encodings."""
    shares = [student_t(z, codebook) for z in encodings]
    frequency = [sum(s[j].item() for s in shares) for j in range(len(codebook))]
    result = []
    for i, s in enumerate(shares):
        sharp = [s[j].item() ** 2 / frequency[j] for j in range(len(codebook))]
        t = given[i].tolist() if given else [value / sum(sharp) for value in sharp]
        result.append(sum(t_j * (math.log(t_j) - torch.log(s_j)) for t_j, s_j in zip(t, s, strict=True)))
    return result


def local_mean(model: SOMVAE, codebook: Tensor, winner: int) -> Tensor:
    """Returns sum_v h(winner, v) e_v / sum_v h(winner, v), with the width after the updates so far."""
    c = model.config
    first, final = max(c.rows, c.cols), c.sigma_final
    sigma = first * (final / first) ** min(1.0, model.quantizer.num_updates.item() / c.sigma_steps)
    distance = oracle.grid_distance(c.rows, c.cols, c.topology, c.periodic)[winner]
    weights = [math.exp(-(d**2) / (2 * sigma**2)) for d in distance]
    return sum(w * code for w, code in zip(weights, codebook, strict=True)) / sum(weights)


def make(case: Case, seed: int = 0) -> tuple[SOMVAE, Tensor]:
    """Returns a float64 model whose codes lie among the encodings, so that many nodes win, and its input."""
    torch.manual_seed(seed)
    model = SOMVAE(case.config).double()
    if model.window is not None:
        torch.nn.init.normal_(model.window.projection.weight)  # the initial weights are zero
    x = torch.rand(*case.leading, *SHAPE, dtype=torch.float64)
    with torch.no_grad():
        z = model.encode(x).reshape(-1, case.config.latent_dim)
        spread = 0.5 * z.std(dim=0, correction=0) + 0.01
        codebook = model.quantizer.codebook
        codebook.copy_(z[torch.arange(len(codebook)) % len(z)] + spread * torch.randn_like(codebook))
        if model.transitions is not None:
            model.transitions.logits.normal_()
        if case.config.codebook_update == "ema":
            model.quantizer.num_updates.fill_(case.updates)
        if case.variance is not None:
            model.latent_variance.fill_(case.variance)
    model.set_progress(1, case.epoch)
    return model, x


def gradients(losses: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    grads = torch.autograd.grad(losses, list(leaves.values()), allow_unused=True, retain_graph=True)
    pairs = zip(leaves.items(), grads, strict=True)
    return {name: torch.zeros_like(leaf) if grad is None else grad for (name, leaf), grad in pairs}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_losses_and_all_gradients_agree_with_the_formulas(case: Case) -> None:
    model, x = make(case)
    x.requires_grad_()
    leaves = {name: parameter.detach().clone().requires_grad_() for name, parameter in model.named_parameters()}
    x_expected = x.detach().clone().requires_grad_()

    losses = model.loss(model(x, case.mask), x, case.mask, case.targets)._asdict()
    expected = expected_losses(model, x_expected, leaves, case)

    assert losses.keys() == expected.keys()
    for name in losses:
        torch.testing.assert_close(losses[name], expected[name], rtol=TOLERANCE, atol=TOLERANCE, msg=f"value of {name}")
    # Compare each term alone, too, because errors could cancel in the total. An absent term has no graph.
    for name in [name for name in losses if expected[name].requires_grad]:
        got = gradients(losses[name], dict(model.named_parameters()) | {"x": x})
        want = gradients(expected[name], leaves | {"x": x_expected})
        for leaf in want:
            torch.testing.assert_close(
                got[leaf], want[leaf], rtol=TOLERANCE, atol=TOLERANCE, msg=f"gradient of {name} for {leaf}"
            )


def test_the_cases_cover_several_nodes_and_the_border() -> None:
    model, x = make(CASES["series"])
    index = model.assign(x)
    assert len(index.unique()) >= 4
    assert (model.quantizer.grid.degree()[index] < 4).any()


class Scalar(nn.Module):
    """``z = weight * x`` for one value."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def test_losses_agree_with_numbers_worked_out_by_hand() -> None:
    """A 1 x 3 map with one-dimensional codes 0, 1, 3, and a series whose two frames encode to 0.8 and 2.5."""
    options = SOMVAEConfig(input_shape=(1,), rows=1, cols=3, latent_dim=1, alpha=1, beta=1, gamma=2, tau=3)
    model = SOMVAE(options, encoder=Scalar(1.0), decoder_q=Scalar(1.0), decoder_e=Scalar(2.0)).double()
    assert model.transitions is not None
    with torch.no_grad():
        model.quantizer.codebook.copy_(torch.tensor([[0.0], [1.0], [3.0]]))
        model.transitions.logits[1].copy_(torch.tensor([0.0, math.log(2), 0.0]))  # P(. | 1) = 1/4, 1/2, 1/4
    x = torch.tensor([[[0.8], [2.5]]], dtype=torch.float64)
    output = model(x)
    losses = model.loss(output, x)

    assert output.indices.tolist() == [[1, 2]]  # so the first frame steps 1 -> 1 and the second 1 -> 2
    assert losses.reconstruction_q.item() == pytest.approx((0.2**2 + 0.5**2) / 2)
    assert losses.reconstruction_e.item() == pytest.approx((0.8**2 + 2.5**2) / 2)
    assert losses.commitment.item() == pytest.approx((0.2**2 + 0.5**2) / 2)
    # Node 1: itself, up and down absent, right 3, left 0. Node 2: itself, up, down and right absent, left 1.
    first = 0.2**2 + 0.8**2 + 0.8**2 + 2.2**2 + 0.8**2
    second = 0.5**2 + 2.5**2 + 2.5**2 + 2.5**2 + 1.5**2
    assert losses.som.item() == pytest.approx((first / 5 + second / 5) / 2)
    assert losses.transition.item() == pytest.approx((math.log(2) + math.log(4)) / 2)
    expected_first = 0.8**2 / 4 + 0.2**2 / 2 + 2.2**2 / 4
    expected_second = 2.5**2 / 4 + 1.5**2 / 2 + 0.5**2 / 4
    assert losses.smoothness.item() == pytest.approx((expected_first + expected_second) / 2 / 3)
    terms = losses.reconstruction_q + losses.reconstruction_e + losses.commitment + losses.som
    assert losses.total.item() == pytest.approx((terms + 2 * losses.transition + 3 * losses.smoothness).item())


def test_gamma_counts_once_by_default_and_twice_in_the_published_setting() -> None:
    assert SOMVAEConfig(gamma=1.8).transition_weight == 1.8
    assert SOMVAEConfig.published().gamma == 1.8
    assert SOMVAEConfig.published().transition_weight == 1.8**2


# ---- which term has gradients for which part -------------------------------------------------------------------------


def parts_with_gradient(model: SOMVAE, loss: Tensor) -> set[str]:
    """Returns the parts of the model whose gradient is not zero."""
    grads = gradients(loss, dict(model.named_parameters()))
    return {name.partition(".")[0] for name, grad in grads.items() if grad.abs().max() > 0}


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("reconstruction_q", {"quantizer", "decoder_q"}),
        ("reconstruction_e", {"encoder", "decoder_e"}),
        ("commitment", {"encoder", "quantizer"}),
        ("som", {"quantizer"}),
        ("transition", {"transitions"}),
        ("smoothness", {"encoder", "quantizer", "transitions"}),
        ("hardening", {"encoder", "quantizer"}),
        ("soft_som", {"quantizer"}),
        ("neighbor_margin", {"encoder"}),
        ("prediction", {"encoder", "predictor"}),
    ],
)
def test_each_term_has_gradients_only_for_its_parts(term: str, parts: set[str]) -> None:
    model, x = make(Case(config(neighbor_margin=1.7, prediction=0.3, **HARDENED, **SERIES), (3, 5)))
    assert parts_with_gradient(model, getattr(model.loss(model(x), x), term)) == parts


@pytest.mark.parametrize(
    ("term", "parts"),
    [
        ("reconstruction_q", {"decoder_q"}),
        ("reconstruction_e", {"encoder", "decoder_e"}),
        ("commitment", {"encoder"}),
        ("som", {"encoder"}),
        ("transition", {"transitions"}),
        ("smoothness", {"encoder", "transitions"}),
        ("hardening", {"encoder"}),
        ("neighbor_margin", {"encoder"}),
    ],
)
def test_no_term_has_gradients_for_the_codes_of_an_ordered_map(term: str, parts: set[str]) -> None:
    model, x = make(Case(config(hardening=0.8, neighbor_margin=1.7, **ORDERED, **SERIES), (3, 5)))
    assert parts_with_gradient(model, getattr(model.loss(model(x), x), term)) == parts


@pytest.mark.parametrize(
    ("gradient", "term", "parts"),
    [
        ("copy", "reconstruction_q", {"encoder", "decoder_q"}),
        ("copy", "commitment", {"encoder", "quantizer"}),
        ("none", "reconstruction_q", {"quantizer", "decoder_q"}),
        ("none", "commitment", {"encoder", "quantizer"}),
    ],
)
def test_in_the_ablations_each_term_has_gradients_for_its_parts(gradient: str, term: str, parts: set[str]) -> None:
    model, x = make(Case(config(gradient=gradient), (7,)))
    assert parts_with_gradient(model, getattr(model.loss(model(x), x), term)) == parts


@pytest.mark.parametrize("gradient", ["copy", "none"])
def test_the_ablations_have_no_second_decoder(gradient: str) -> None:
    model, x = make(Case(config(gradient=gradient), (7,)))
    output = model(x)
    assert model.decoder_e is None
    assert output.reconstruction_e is None
    assert model.loss(output, x).reconstruction_e.item() == 0


def test_without_copied_gradients_the_encoder_learns_from_the_commitment_alone() -> None:
    """The paper's no_grads ablation: the reconstruction has no gradient for the encoder."""
    model, x = make(Case(config(gradient="none"), (7,)))
    losses = model.loss(model(x), x)
    encoder = {name: leaf for name, leaf in model.named_parameters() if name.startswith("encoder.")}
    total, commitment = gradients(losses.total, encoder), gradients(losses.commitment, encoder)
    for name, grad in total.items():
        assert grad.abs().max() > 0
        torch.testing.assert_close(grad, model.config.alpha * commitment[name], rtol=TOLERANCE, atol=TOLERANCE)


def test_the_encodings_get_the_gradient_of_the_code_when_it_is_copied() -> None:
    """The paper's gradcopy ablation: the gradient at the encoding is that of decoder_q at the code."""
    model, x = make(Case(config(gradient="copy"), (7,)))
    output = model(x)
    (at_encoding,) = torch.autograd.grad(model.loss(output, x).reconstruction_q, output.z_e)
    code = output.z_q.detach().requires_grad_()
    (at_code,) = torch.autograd.grad((x - model.decoder_q(code)).square().mean(), code)
    torch.testing.assert_close(at_encoding, at_code, rtol=TOLERANCE, atol=TOLERANCE)
    assert output.z_q.equal(model.quantizer.codebook[output.indices])  # only the gradient is copied, not the value


def test_cross_entropy_is_finite_where_sigmoids_are_zero_or_one() -> None:
    options = SOMVAEConfig(input_shape=(1,), rows=1, cols=1, latent_dim=1, reconstruction="bce")
    model = SOMVAE(options, encoder=Scalar(1.0), decoder_q=Scalar(1.0), decoder_e=Scalar(1e4)).double()
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    model.quantizer.codebook.data.fill_(-1e4)
    losses = model.loss(model(x), x)
    assert losses.reconstruction_q.item() == pytest.approx(1e4 / 2)  # -log(sigmoid(-1e4)) where x = 1, 0 where x = 0
    assert all(grad.isfinite().all() for grad in gradients(losses.total, dict(model.named_parameters())).values())


def test_cross_entropy_clamps_noise_to_0_and_1() -> None:
    model, x = make(Case(config(reconstruction="bce"), (7,)))
    output, noisy = model(x), x.clone()
    noisy[:, 0, 0] = 1.3
    noisy[:, 0, 1] = -0.4
    assert model.loss(output, noisy).total.equal(model.loss(output, noisy.clamp(0, 1)).total)


@pytest.mark.parametrize(("value", "shown"), [(-0.6, "from -0.6 to 0.5"), (255.0, "from 0.5 to 255")])
def test_cross_entropy_refuses_samples_that_are_not_scaled(value: float, shown: str) -> None:
    model, x = make(Case(config(reconstruction="bce"), (7,)))
    x = torch.full_like(x, 0.5)
    x[3, 0, 1, 1] = value
    with pytest.raises(
        ValueError, match=rf"x must be scaled to \[0, 1\] for reconstruction 'bce'.*got values {shown};"
    ):
        model.loss(model(x), x)


def test_cross_entropy_does_not_check_masked_frames() -> None:
    model, x = make(Case(config(reconstruction="bce", **SERIES), (3, 5)))
    x = torch.where(HOLES[..., None, None, None], x, 7.0)
    assert model.loss(model(x, HOLES), x, HOLES).total.isfinite()


# ---- series ----------------------------------------------------------------------------------------------------------


def test_no_transition_leads_from_one_series_to_the_next() -> None:
    model, x = make(CASES["series"])
    index = model.assign(x)
    losses = model.loss(model(x), x)
    logits_grad = gradients(losses.transition, dict(model.named_parameters()))["transitions.logits"]
    stays = torch.stack([torch.cat([series[:1], series[:-1]]) for series in index])
    left = torch.zeros(model.quantizer.grid.num_nodes, dtype=torch.bool)
    left[stays.flatten()] = True
    assert (logits_grad.abs().amax(dim=1) > 0).equal(left)
    # The order of the series in a batch does not matter.
    shuffled = x[[2, 0, 1]]
    again = model.loss(model(shuffled), shuffled)
    torch.testing.assert_close(again.total, losses.total, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_padded_batch_equals_its_series_one_by_one() -> None:
    lengths = [5, 2, 4]
    model, x = make(Case(config(soft_som=0.2, neighbor_margin=1.7, window=3, prediction=0.6, **SERIES), (3, 5)))
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    padded = torch.where(mask[..., None, None, None], x, torch.nan)  # padding may hold anything
    parameters = dict(model.named_parameters())

    together = model.loss(model(padded, mask), padded, mask)
    alone = [model.loss(model(series[None, :n]), series[None, :n]) for series, n in zip(x, lengths, strict=True)]

    for name in together._fields:
        counts = [n - 1 for n in lengths] if name == "prediction" else lengths
        if name == "total":
            continue  # it combines means over frames with means over steps
        weighted = sum(n * getattr(losses, name) for n, losses in zip(counts, alone, strict=True)) / sum(counts)
        got = getattr(together, name)
        torch.testing.assert_close(got, weighted, rtol=TOLERANCE, atol=TOLERANCE, msg=f"value of {name}")
        if name == "hardening":  # absent here, because its targets depend on the batch
            assert not got.requires_grad
            continue
        for (leaf, a), b in zip(
            gradients(got, parameters).items(), gradients(weighted, parameters).values(), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=TOLERANCE, atol=TOLERANCE, msg=f"gradient of {name} for {leaf}")


def test_a_full_mask_changes_nothing() -> None:
    model, x = make(CASES["series"])
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    with_mask, without = model.loss(model(x, mask), x, mask), model.loss(model(x), x)
    torch.testing.assert_close(with_mask, without, rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize("series", [False, True])
def test_without_real_frames_losses_and_gradients_are_zero(series: bool) -> None:
    model, x = make(CASES["series"] if series else CASES["static"])
    x, mask = (x, torch.zeros(x.shape[:2], dtype=torch.bool)) if series else (x[:0], None)
    losses = model.loss(model(x, mask), x, mask)
    assert all(term.item() == 0 for term in losses)
    assert all((grad == 0).all() for grad in gradients(losses.total, dict(model.named_parameters())).values())


def test_static_samples_have_no_transitions() -> None:
    model, x = make(CASES["series"])
    with pytest.raises(ValueError, match=r"must be series \[B, T, ...\] because gamma = 0.6 and tau = 0.9"):
        model.loss(model(x[0]), x[0])


def test_masked_frames_have_no_gradient_for_the_transitions() -> None:
    config = SOMVAEConfig(
        input_shape=(3,),
        latent_dim=3,
        network="identity",
        rows=4,
        cols=4,
        gamma=1.0,
        tau=1.0,
        transition_updates="rows",
    )
    model = SOMVAE(config)
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(6) < torch.tensor([[4], [2]])
    output = model(x, mask)
    model.loss(output, x, mask).total.backward()
    assert model.transitions is not None
    assert model.transitions.logits.grad is not None
    touched = set(model.transitions.logits.grad._indices()[0].tolist())
    assert touched <= set(output.indices[mask].tolist())
