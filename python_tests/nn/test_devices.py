"""The layers on every device: a GPU gives the same results as the CPU, also under torch.compile."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOM, SOMQuantizer, TransitionModel
from somvae_ext.ops import Border


def fixed(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_transition_model_gives_the_same_on_all_devices(device: torch.device) -> None:
    series = torch.randint(6, (5, 20), generator=torch.Generator().manual_seed(0))
    results = []
    for place in (torch.device("cpu"), device):
        model = TransitionModel(6).double().to(place).fit_counts(series.to(place), pseudocount=1)
        path = model.sample_paths(series[:, 0], 10, generator=torch.Generator().manual_seed(1))
        read = [
            model.matrix().detach(),
            model.stationary_distribution(),
            model.negative_log_likelihood(series.to(place)).detach(),
        ]
        assert {tensor.device.type for tensor in [path, *read]} == {place.type}
        results.append([path.cpu(), *(tensor.cpu() for tensor in read)])
    torch.testing.assert_close(results[1], results[0])


def test_a_map_learns_the_same_on_all_devices(device: torch.device) -> None:
    x, results = fixed(50, 3), []
    for place in (torch.device("cpu"), device):
        som = SOM(4, 4, 3, topology="hexagonal", periodic=True).double()
        som.codebook.copy_(fixed(16, 3, seed=1))
        som.to(place).update(x.to(place), 0.5, 1.5)
        results.append([som(x.to(place)).cpu(), som.codebook.cpu()])
    torch.testing.assert_close(results[1], results[0])


def test_start_and_revival_draw_the_same_on_all_devices(device: torch.device) -> None:
    z, results = fixed(60, 3), []
    for place in (torch.device("cpu"), device):
        quantizer = SOMQuantizer(Grid(3, 4), 3).double().to(place)
        quantizer.initialize_kmeans(z.to(place), seed=1)
        rows = quantizer.revive(torch.tensor([2, 7]), z.to(place), generator=torch.Generator().manual_seed(2))
        assert rows.device.type == place.type
        results.append(quantizer.codebook.detach().cpu())
    torch.testing.assert_close(results[1], results[0])


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("channel_first", [False, True])
@pytest.mark.parametrize("border", ["zero", "mask"])
def test_the_quantizer_compiles_to_one_graph(
    border: Border, channel_first: bool, straight_through: bool, device: torch.device
) -> None:
    torch._dynamo.reset()
    quantizer = SOMQuantizer(
        Grid(3, 4), 5, border=border, channel_first=channel_first, straight_through=straight_through
    ).to(device)
    z = fixed(2, 5, 5, 5).float().to(device)
    gradients = []
    for function in (quantizer, torch.compile(quantizer, fullgraph=True, backend="aot_eager")):
        leaf = z.clone().requires_grad_()
        output = function(leaf)
        loss = output.quantized.square().sum() + output.losses.commitment.sum() + output.losses.som.sum()
        gradients.append((output, torch.autograd.grad(loss, [leaf, quantizer.codebook])))
    torch.testing.assert_close(gradients[1], gradients[0])
