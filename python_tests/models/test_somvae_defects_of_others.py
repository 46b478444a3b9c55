"""Eight defects of an earlier SOM-VAE implementation in PyTorch, each shown to be absent here."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from somvae_ext import evaluation
from somvae_ext.data import InterpolatedSeries, Samples, digits
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.nn import SOMQuantizer
from somvae_ext.training import TrainingConfig, fit

CONFIG = SOMVAEConfig(input_shape=(4,), rows=3, cols=3, latent_dim=4, network="identity", gamma=1.8, tau=1.4)


def corners() -> Tensor:
    """Returns a series that cycles through four corners of the cube, ``[1, 40, 4]``."""
    return torch.eye(4).repeat(10, 1)[None]


def make() -> SOMVAE:
    """Returns a map without networks whose first four codes are the corners; the others are far away."""
    model = SOMVAE(CONFIG)
    with torch.no_grad():
        model.quantizer.codebook.copy_(torch.cat([torch.eye(4), torch.full((5, 4), 3.0)]))
    return model


def test_1_the_loss_is_complete_and_so_are_interpolation_and_metrics() -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(1, 8, 8), rows=2, cols=2, latent_dim=4, gamma=1.8, tau=1.4)).double()
    images = Samples(torch.rand(6, 1, 8, 8, dtype=torch.float64), torch.arange(6) % 3)
    x = torch.stack([InterpolatedSeries(images)[row]["x"] for row in range(2)])
    losses, c = model.loss(model(x), x), model.config
    weighted = (
        losses.reconstruction_q
        + losses.reconstruction_e
        + c.alpha * losses.commitment
        + c.som_weight * losses.som
        + c.gamma * losses.transition
        + c.tau * losses.smoothness
    )
    torch.testing.assert_close(losses.total, weighted)
    nodes = model.assign(images.x)
    assert 0 < evaluation.purity(images.label, nodes) <= 1
    assert 0 <= evaluation.nmi(images.label, nodes, average="arithmetic") <= 1


@pytest.mark.parametrize(("side", "neighbor"), [("up", 7), ("down", 1), ("right", 5), ("left", 3)])
def test_2_the_right_neighbor_learns_like_the_others(side: str, neighbor: int) -> None:
    model = make()
    with torch.no_grad():  # makes the center of the map the winner
        model.quantizer.codebook += torch.arange(9.0)[:, None]
    x = model.quantizer.codebook.detach()[None, 4:5] + 0.1
    output = model(x)
    assert output.indices.tolist() == [[4]]
    model.loss(output, x).som.backward()
    gradient = model.quantizer.codebook.grad
    assert gradient is not None
    torch.testing.assert_close(
        gradient[neighbor], 2 * (model.quantizer.codebook[neighbor].detach() - x[0, 0]) / (4 * 5)
    )


def test_3_the_transitions_are_one_parameter_that_learns_the_steps() -> None:
    model, x = make(), corners()
    assert model.transitions is not None
    logits = model.transitions.logits
    optimizer = torch.optim.Adam(model.parameter_groups(1e-4))
    for _ in range(300):
        optimizer.zero_grad()
        losses = model.loss(model(x), x)
        losses.total.backward()
        optimizer.step()
    assert model.transitions.logits is logits
    assert logits.grad is not None
    matrix = model.transitions.matrix()
    for node in range(4):
        assert matrix[node, (node + 1) % 4] > 0.8  # the first of 40 steps leads from the start to itself
    assert losses.transition < 0.5 * math.log(9)  # log(9) is the loss of a table that never learns
    # So smoothness pulls codes towards the next nodes of the chain, not towards all nodes alike.
    uniform = (x.view(-1, 1, 4) - model.quantizer.codebook).square().sum(dim=2).mean()
    assert losses.smoothness < 0.5 * uniform


def test_4_probabilities_are_normalised_once() -> None:
    model, x = make(), corners()
    assert model.transitions is not None
    torch.nn.init.normal_(model.transitions.logits)
    expected = model.transitions.logits.detach().softmax(dim=1)
    values = []
    for _ in range(3):  # calling the loss does not change them either
        values.append(model.loss(model(x), x).transition)
        torch.testing.assert_close(model.transitions.matrix(), expected)
    nodes = model.assign(x)[0]
    prev = torch.cat([nodes[:1], nodes[:-1]])
    torch.testing.assert_close(values, [-expected[prev, nodes].log().mean()] * 3)


def test_5_no_python_loop_runs_over_the_samples() -> None:
    class Calls(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.count: Counter[str] = Counter()

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            self.count[str(function)] += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for frames in (4, 40):
        model, x = make(), corners()[:, :frames]
        with Calls() as calls:
            model.loss(model(x), x).total.backward()
        counts.append(calls.count)
    assert counts[0] == counts[1]


def test_6_no_gpu_is_required(device: torch.device) -> None:
    """The model runs on the CPU; on a GPU, all tensors stay on the GPU."""
    model, x = make().to(device), corners().to(device)
    output = model(x)
    assert {tensor.device.type for tensor in [*output, *model.loss(output, x)]} == {device.type}


def test_6_the_cpu_is_not_required_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors have no values, but torch's truncated normal needs some, so it is replaced."""
    monkeypatch.setattr(SOMQuantizer, "reset_parameters", lambda self: None)
    with FakeTensorMode(), torch.device("cuda:0"):
        model, x = SOMVAE(CONFIG), torch.empty(2, 5, 4)
        output = model(x)
        devices = {tensor.device for tensor in [*output, *model.loss(output, x)]}
    assert devices == {torch.device("cuda:0")}


@pytest.mark.parametrize(("batch_size", "steps"), [(1, 10), (4, 3), (32, 1)])
def test_7_the_batch_size_is_used(batch_size: int, steps: int) -> None:
    recipe = TrainingConfig(epochs=1, batch_size=batch_size)
    (record,) = fit(make(), Samples(corners().expand(10, -1, -1)), recipe, accelerator="cpu")
    assert record["step"] == steps


def test_8_validation_is_not_on_test_images_and_measures_the_clustering() -> None:
    splits = digits()
    images = torch.cat([part.x for part in (splits.train, splits.validation, splits.test)]).flatten(1)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [1257, 270, 270]
    assert len(images) == 1797  # the size of the data set: each image is in one split
    assert len(images.unique(dim=0)) == 1797  # no duplicates

    validation = Samples(corners()[0], torch.arange(40) % 4)
    model = SOMVAE(SOMVAEConfig(input_shape=(4,), rows=3, cols=3, latent_dim=4, network="identity"))
    with torch.no_grad():
        model.quantizer.codebook[:4] = torch.eye(4)
    (record,) = fit(
        model,
        Samples(torch.eye(4)),
        TrainingConfig(epochs=1, learning_rate=1e-6),
        validation=validation,
        metrics=lambda: {"nmi": evaluation.nmi(validation.label, model.assign(validation.x), average="arithmetic")},
        accelerator="cpu",
    )
    assert record["metrics"]["nmi"] == pytest.approx(1)
    assert record["validation"]["total"] < 0.5
