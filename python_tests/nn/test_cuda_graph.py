"""A whole training step of a SOM head, from encodings to updated parameters, in one CUDA graph."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer, TransitionModel, previous_in_series
from somvae_ext.optim import RowAdam

DIM, SERIES, FRAMES = 24, 6, 9


class Head:
    """Codebook and transitions with their optimizers, always created in the same state."""

    def __init__(self, grid: Grid, kind: Literal["dense", "local"], device: torch.device) -> None:
        torch.manual_seed(0)
        radius = 2 if kind == "local" else None
        self.quantizer = SOMQuantizer(grid, DIM).to(device)
        self.transitions = TransitionModel(grid, kind=kind, radius=radius, sparse_grad=True).to(device)
        self.adam = torch.optim.Adam(self.quantizer.parameters(), lr=1e-2, capturable=device.type == "cuda")
        self.row_adam = RowAdam(self.transitions.parameters(), lr=1e-1)

    def step(self, z: Tensor) -> Tensor:
        """Takes a training step on z ``[B, T, D]`` and returns the loss before it."""
        self.adam.zero_grad()
        self.row_adam.zero_grad()
        output = self.quantizer(z)
        prev = previous_in_series(output.indices)
        steps = self.transitions.losses(prev, output.indices, z, self.quantizer.codebook)
        loss = (output.losses.commitment + output.losses.som - steps.log_prob + steps.expected_distance).mean()
        loss.backward()
        self.adam.step()
        self.row_adam.step()
        return loss.detach()

    def parameters(self) -> list[Tensor]:
        return [self.quantizer.codebook.detach(), self.transitions.logits.detach()]


@pytest.mark.cuda
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("kind", ["dense", "local"])
def test_replays_of_a_captured_step_equal_eager_steps(
    kind: Literal["dense", "local"], topology: Literal["rectangular", "hexagonal"]
) -> None:
    device = torch.device("cuda")
    grid = Grid(12, 17, topology)
    batches = torch.randn(8, SERIES, FRAMES, DIM, generator=torch.Generator().manual_seed(1)).to(device)
    eager, captured = Head(grid, kind, device), Head(grid, kind, device)
    expected = torch.stack([eager.step(z) for z in batches])

    losses = []
    static_z = batches[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # the first steps, outside of the graph, create the optimizers' state
        for z in batches[:3]:
            static_z.copy_(z)
            losses.append(captured.step(static_z))
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static_loss = captured.step(static_z)
    for z in batches[3:]:
        static_z.copy_(z)
        graph.replay()
        losses.append(static_loss.clone())

    assert torch.stack(losses).tolist() == expected.tolist()
    assert all(mine.equal(other) for mine, other in zip(captured.parameters(), eager.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["dense", "local"])
def test_the_step_that_is_captured_learns(device: torch.device, kind: Literal["dense", "local"]) -> None:
    head = Head(Grid(5, 4), kind, device)
    z = torch.randn(SERIES, FRAMES, DIM, generator=torch.Generator().manual_seed(1)).to(device)
    losses = [head.step(z).item() for _ in range(30)]
    assert losses[-1] < 0.95 * losses[0]
