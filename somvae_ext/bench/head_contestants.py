"""Contestants of the suite ``head``: the SOM head, alone and in a SOM-VAE, ours and in plain torch."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from somvae_ext import Grid
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.models.networks import DenseDecoder, DenseEncoder
from somvae_ext.nn import SOMQuantizer, TransitionModel, previous_in_series

FRAMES = 32  # of a series, as in the published code
DIM = 64
PIXELS = 784
RADIUS = 8
ALPHA, BETA, GAMMA, TAU = 1.0, 0.9, 1.8, 1.4


@dataclass(frozen=True)
class Problem:
    """A step on ``batch`` frames and a map of ``side`` x ``side`` nodes, of the head alone or of the whole model."""

    part: str
    side: int
    batch: int

    @property
    def grid(self) -> Grid:
        return Grid(self.side, self.side)

    @property
    def table_bytes(self) -> int:
        """Bytes of a table of all transitions."""
        return 4 * self.grid.num_nodes**2


@dataclass(frozen=True)
class Data:
    """The initial codes ``[K, D]`` and networks, and the batches ``[S, T, D]`` or ``[S, T, pixels]``."""

    codebook: Tensor
    batches: list[Tensor]
    networks: list[nn.Module]  # encoder, decoder of codes, decoder of encodings; none for the head alone


def make_data(problem: Problem, device: torch.device) -> Data:
    generator = torch.Generator(device).manual_seed(0)
    nodes = problem.grid.num_nodes
    count = max(3, min(16, 8192 // problem.batch))
    shape = (count, math.ceil(problem.batch / FRAMES), min(problem.batch, FRAMES))
    drawn = torch.randint(nodes, shape, generator=generator, device=device)
    if problem.part == "head":
        codebook = torch.randn(nodes, DIM, generator=generator, device=device)
        noise = torch.randn(*shape, DIM, generator=generator, device=device)
        return Data(codebook, list(codebook[drawn] + 0.1 * noise), [])
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        networks = [DenseEncoder((PIXELS,), DIM), DenseDecoder(DIM, (PIXELS,)), DenseDecoder(DIM, (PIXELS,))]
        networks = [network.to(device) for network in networks]
        images = torch.rand(nodes, PIXELS, generator=generator, device=device)
        return Data(networks[0](images), list(images[drawn]), networks)


# --- Plain torch, vectorized and in loops -----------------------------------------------------------------------------


class TorchHead(nn.Module):
    """The head in vectorized torch."""

    def __init__(self, problem: Problem, codebook: Tensor) -> None:
        super().__init__()
        nodes = problem.grid.num_nodes
        self.codebook = nn.Parameter(codebook.clone())
        self.table = nn.Parameter(codebook.new_zeros(nodes, nodes))
        neighbors = problem.grid.neighbors(codebook.device)
        self.slots: Tensor
        self.present: Tensor
        self.register_buffer("slots", neighbors.clamp_min(0))
        self.register_buffer("present", (neighbors >= 0).to(codebook.dtype)[..., None])

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the winners' codes ``[S, T, D]`` and the weighted loss of encodings ``z`` ``[S, T, D]``."""
        rows = z.flatten(0, 1)
        norms = self.codebook.square().sum(dim=1)
        distances = torch.addmm(norms, rows, self.codebook.T, alpha=-2) + rows.square().sum(dim=1, keepdim=True)
        winners = distances.detach().min(dim=1).indices  # on the CPU faster than argmin
        quantized = F.embedding(winners, self.codebook)
        commitment = (rows - quantized).square().mean()
        neighbors = F.embedding(self.slots[winners], self.codebook) * self.present[winners]
        codes = torch.cat([quantized[:, None], neighbors], dim=1)  # [B, 5, D]
        som = (rows.detach()[:, None] - codes).square().mean()
        log_probs = F.log_softmax(F.embedding(previous(winners, z), self.table), dim=1)
        transition = -log_probs.gather(1, winners[:, None]).mean()
        smoothness = (log_probs.exp() * distances).mean()
        loss = ALPHA * commitment + BETA * som + GAMMA * transition + TAU * smoothness
        return quantized.view_as(z), loss


class LoopHead(nn.Module):
    """The head in PyTorch that is not vectorized: Python loops over the frames."""

    def __init__(self, problem: Problem, codebook: Tensor) -> None:
        super().__init__()
        self.side = problem.side
        self.codebook = nn.Parameter(codebook.clone().view(self.side, self.side, -1))
        self.table = nn.Parameter(codebook.new_zeros(4 * (self.side,)))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        rows = z.flatten(0, 1)
        differences = (rows[:, None, None] - self.codebook) ** 2  # [B, R, C, D]
        distances = differences.sum(dim=-1).flatten(1)
        winners = torch.argmin(distances, dim=-1)
        row, col = winners // self.side, winners % self.side
        quantized = gathered(self.codebook, [row, col])
        stack = [quantized]
        for up, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            r, c = row + up, col + right
            exists = (r >= 0) & (r < self.side) & (c >= 0) & (c < self.side)
            codes = gathered(self.codebook, [torch.where(exists, r, row), torch.where(exists, c, col)])
            slot = torch.zeros_like(rows)
            slot[exists] = codes[exists]
            stack.append(slot)
        commitment = F.mse_loss(rows, quantized)
        som = torch.mean((rows.detach()[:, None] - torch.stack(stack, dim=1)) ** 2)
        prev = previous(winners, z)
        prev_row, prev_col = prev // self.side, prev % self.side
        transition = -torch.mean(torch.log(gathered(self.probabilities(), [prev_row, prev_col, row, col])))
        probs = gathered(self.probabilities(), [prev_row, prev_col]).flatten(1)
        smoothness = torch.mean(distances * probs)
        loss = ALPHA * commitment + BETA * som + GAMMA * transition + TAU * smoothness
        return quantized.view_as(z), loss

    def probabilities(self) -> Tensor:
        return self.table.flatten(2).softmax(dim=-1).view_as(self.table)


def gathered(table: Tensor, index: Sequence[Tensor]) -> Tensor:
    """``table[index[0][b], index[1][b], ...]`` for each b, in a Python loop."""
    return torch.stack([table[position] for position in zip(*(part.tolist() for part in index), strict=True)])


def previous(winners: Tensor, z: Tensor) -> Tensor:
    """The predecessor of each winner in its series; the first frame is its own predecessor."""
    series = winners.view(z.shape[:2])
    return torch.cat([series[:, :1], series[:, :-1]], dim=1).flatten()


class HeadAlone(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, z: Tensor) -> Tensor:
        loss: Tensor = self.head(z)[1]
        return loss


class Autoencoder(nn.Module):
    """A SOM-VAE around a head; returns its loss."""

    def __init__(self, networks: Sequence[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder_q, self.decoder_e = copy.deepcopy(networks)
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x.flatten(0, 1)).view(*x.shape[:2], -1)
        quantized, loss = self.head(z)
        for decoder, codes in ((self.decoder_q, quantized), (self.decoder_e, z)):
            loss = loss + F.mse_loss(decoder(codes.flatten(0, 1)), x.flatten(0, 1))
        return loss


# --- Ours ------------------------------------------------------------------------------------------------------------


def our_config(problem: Problem, local: bool) -> SOMVAEConfig:
    kind: dict[str, Any] = {"transitions": "local", "transition_radius": RADIUS} if local else {}
    return SOMVAEConfig(
        input_shape=(PIXELS,), rows=problem.side, cols=problem.side, latent_dim=DIM, gamma=GAMMA, tau=TAU, **kind
    )


class OurHead(nn.Module):
    """The layers of a SOMVAE between its networks, and their losses."""

    def __init__(self, problem: Problem, codebook: Tensor, local: bool) -> None:
        super().__init__()
        sparse = our_config(problem, local).updates_transition_rows
        self.quantizer = SOMQuantizer(problem.grid, DIM).to(codebook.device)
        self.quantizer.codebook.data.copy_(codebook)
        kind: dict[str, Any] = {"kind": "local", "radius": RADIUS} if local else {}
        self.transitions = TransitionModel(problem.grid, sparse_grad=sparse, **kind).to(codebook.device)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        quantized, winners, losses = self.quantizer(z)
        commitment, som = losses.commitment.mean(), losses.som.mean()
        steps = self.transitions.losses(previous_in_series(winners), winners, z, self.quantizer.codebook)
        smoothness = steps.expected_distance.mean() / self.quantizer.grid.num_nodes
        loss = ALPHA * commitment + BETA * som - GAMMA * steps.log_prob.mean() + TAU * smoothness
        return quantized, loss


class OurModel(nn.Module):
    def __init__(self, problem: Problem, data: Data, local: bool) -> None:
        super().__init__()
        self.model = SOMVAE(our_config(problem, local), *copy.deepcopy(data.networks)).to(data.codebook.device)
        self.model.quantizer.codebook.data.copy_(data.codebook)

    def forward(self, x: Tensor) -> Tensor:
        return self.model.loss(self.model(x), x).total
