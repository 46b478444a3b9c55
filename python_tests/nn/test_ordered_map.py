"""SOMQuantizer with EMA updates smoothed over the map, compared with loops over nodes and encodings in float64."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import map_oracle
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer

Floats = NDArray[np.float64]

DIM = 3
EPS64, EPS32 = (torch.finfo(dtype).eps for dtype in (torch.float64, torch.float32))
GRIDS = {
    "rectangle": Grid(3, 5),
    "hexagons": Grid(4, 3, "hexagonal"),
    "torus": Grid(4, 6, periodic=True),
    "torus of hexagons": Grid(4, 5, "hexagonal", True),
    "a line": Grid(1, 9),
    "an upright line": Grid(7, 1),
    "one node": Grid(1, 1),
}


class Reference:
    """The equations of SOMQuantizer with update="ema", one node and one encoding at a time."""

    def __init__(self, quantizer: SOMQuantizer) -> None:
        grid = quantizer.grid
        self.decay = quantizer.decay
        self.widths = quantizer.sigma_initial, quantizer.sigma_final, quantizer.sigma_steps
        self.distance = map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic)
        self.codes: Floats = quantizer.codebook.double().numpy().copy()
        self.counts = np.full(len(self.codes), 0.1)
        self.sums = 0.1 * self.codes
        self.updates = 0

    def weights(self) -> Floats:
        first, final, steps = self.widths
        sigma = first * (final / first) ** min(1.0, self.updates / steps)
        return map_oracle.neighborhood("gaussian", self.distance, sigma)

    def losses(self, z: Floats) -> tuple[list[int], list[float], list[float]]:
        h = self.weights()
        winners, commitments, soms = [], [], []
        for row in z:
            winner = int(np.argmin(((row - self.codes) ** 2).sum(axis=1)))
            mean = sum(h[winner, v] * self.codes[v] for v in range(len(h))) / h[winner].sum()
            winners.append(winner)
            commitments.append(((row - self.codes[winner]) ** 2).mean())
            soms.append(((row - mean) ** 2).mean())
        return winners, commitments, soms

    def update(self, z: Floats, winners: list[int]) -> None:
        won, sums = np.zeros_like(self.counts), np.zeros_like(self.sums)
        for row, winner in zip(z, winners, strict=True):
            won[winner] += 1
            sums[winner] += row
        self.counts = self.decay * self.counts + (1 - self.decay) * won
        self.sums = self.decay * self.sums + (1 - self.decay) * sums
        h = self.weights()
        for u in range(len(h)):
            denominator = sum(h[u, v] * self.counts[v] for v in range(len(h)))
            if denominator > 1e-3 * self.counts.mean():
                self.codes[u] = sum(h[u, v] * self.sums[v] for v in range(len(h))) / denominator
        self.updates += 1


def make(grid: Grid = GRIDS["rectangle"], **options: Any) -> SOMQuantizer:
    torch.manual_seed(0)
    options = {"decay": 0.7, "sigma_steps": 4, "sigma_final": 0.5} | options
    quantizer = SOMQuantizer(grid, DIM, update="ema", **options).double()
    quantizer.reset_parameters()  # replaces averages that were initialized in float32
    return quantizer


def encodings(n: int, seed: int) -> Tensor:
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(quantizer: SOMQuantizer, z: Tensor, mask: Tensor | None = None) -> None:
    quantizer.update_codebook(*quantizer.statistics(z, quantizer(z, mask).indices))


# ---- equations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
@given(seed=st.integers(0, 2**31 - 1), batch=st.integers(0, 9))
@settings(max_examples=4)
def test_six_steps_agree_with_the_equations(grid: Grid, seed: int, batch: int) -> None:
    """Two of the steps come after the neighborhood has narrowed. Sums have K terms, and errors carry over."""
    quantizer = make(grid)
    reference = Reference(quantizer)
    tolerance = 64 * grid.num_nodes * EPS64
    for number in range(6):
        z = encodings(batch, seed + number)
        output = quantizer(z)
        winners, commitments, soms = reference.losses(z.numpy())
        assert output.indices.tolist() == winners
        np.testing.assert_allclose(output.losses.commitment, commitments, rtol=tolerance)
        np.testing.assert_allclose(output.losses.som, soms, rtol=tolerance)
        assert output.quantized.equal(quantizer.codebook[output.indices])
        quantizer.update_codebook(*quantizer.statistics(z, output.indices))
        reference.update(z.numpy(), winners)
        np.testing.assert_allclose(quantizer.ema_counts, reference.counts, rtol=tolerance)
        np.testing.assert_allclose(quantizer.ema_sums, reference.sums, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(quantizer.codebook, reference.codes, rtol=tolerance, atol=tolerance)
    assert quantizer.num_updates.item() == 6


def test_the_gradient_of_the_losses_pulls_encodings_to_winner_and_local_mean() -> None:
    quantizer = make()
    z = encodings(6, seed=3).requires_grad_()
    output = quantizer(z)
    (output.losses.commitment + 10 * output.losses.som).sum().backward()
    h = Reference(quantizer).weights()
    for row, winner, gradient in zip(z.detach(), output.indices.tolist(), z.grad, strict=True):  # type: ignore[arg-type]
        mean = torch.from_numpy(h[winner] / h[winner].sum()) @ quantizer.codebook
        expected = 2 / DIM * (row - quantizer.codebook[winner]) + 20 / DIM * (row - mean)
        torch.testing.assert_close(gradient, expected, rtol=1e3 * EPS64, atol=1e3 * EPS64)
    assert not list(quantizer.parameters())


def test_straight_through_gives_the_code_and_the_encodings_its_gradient() -> None:
    quantizer = make(straight_through=True)
    z = encodings(6, seed=3).requires_grad_()
    quantized = quantizer(z).quantized
    assert quantized.equal(quantizer.codebook[quantizer.assign(z)])
    quantized.sum().backward()
    assert z.grad is not None
    assert (z.grad == 1).all()


def test_the_width_falls_from_sigma_initial_to_exactly_sigma_final() -> None:
    quantizer = make(Grid(6, 10), sigma_final=0.7, sigma_steps=10)
    widths = []
    for _ in range(13):
        widths.append(quantizer.sigma)
        step(quantizer, encodings(2, seed=0))
    assert widths[0] == 10.0
    assert widths[5] == pytest.approx(math.sqrt(10.0 * 0.7))
    assert widths[10:] == [0.7] * 3
    assert all(a > b for a, b in itertools.pairwise(widths[:11]))


def test_a_node_with_little_total_weight_keeps_its_code() -> None:
    """The threshold is relative to an average node, so it does not depend on the size of the map or of the batches."""
    quantizer = make(Grid(1, 40), sigma_initial=0.5, sigma_final=0.5, decay=0.0)
    before = quantizer.codebook.clone()
    quantizer.update_codebook(torch.tensor([4] + [0] * 39), torch.ones(40, DIM).double() * torch.eye(40)[:, :1])
    # exp(-2 d^2) / 1 > 1e-3 / 40 holds for d of at most 2.
    moved = (quantizer.codebook != before).any(dim=1).nonzero()[:, 0].tolist()
    assert moved == [0, 1, 2]
    torch.testing.assert_close(quantizer.codebook[:3], torch.full((3, DIM), 0.25, dtype=torch.float64))


def test_weights_that_underflow_are_zeros() -> None:
    quantizer = make(Grid(40, 40), sigma_initial=0.7, sigma_final=0.7)
    rows, columns = quantizer._weights()
    assert ((rows > 0).sum(dim=1) <= 13).all()
    assert ((columns > 0).sum(dim=-1) <= 13).all()
    assert rows.diagonal().equal(torch.ones(40, dtype=torch.float64))


# ---- encodings that are ignored --------------------------------------------------------------------------------------


@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=4), padding=st.sampled_from([math.nan, math.inf, 0.0]))
def test_padding_is_ignored(lengths: list[int], padding: float) -> None:
    mask = torch.arange(4) < torch.tensor(lengths)[:, None]
    z = torch.where(mask[..., None], encodings(4 * len(lengths), seed=1).view(-1, 4, DIM), padding)
    padded, alone = make(), make()
    for _ in range(2):
        step(padded, z, mask)
        step(alone, z[mask])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(padded.state_dict()[name], value, rtol=256 * EPS64, atol=256 * EPS64)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nonfinite_encodings_are_ignored(value: float) -> None:
    z = encodings(5, seed=2)
    broken = torch.cat([z, z[:1]])
    broken[-1, 1] = value
    with_broken, without = make(), make()
    step(with_broken, broken)
    step(without, z)
    assert with_broken.codebook.isfinite().all()
    torch.testing.assert_close(with_broken.codebook, without.codebook, rtol=256 * EPS64, atol=256 * EPS64)


def test_a_node_with_nonfinite_sums_counts_as_having_won_nothing() -> None:
    quantizer, expected = make(), make()
    counts, sums = torch.ones(15), torch.ones(15, DIM)
    sums[4, 1] = math.inf
    quantizer.update_codebook(counts, sums)
    counts[4], sums[4] = 0, 0
    expected.update_codebook(counts, sums)
    assert quantizer.codebook.equal(expected.codebook)
    assert quantizer.codebook.isfinite().all()


def test_an_empty_batch_narrows_the_neighborhood_and_keeps_the_ratio_of_averages() -> None:
    """All averages shrink by the same factor, so only the narrower neighborhood changes the codes."""
    quantizer = make()
    step(quantizer, encodings(8, seed=0))
    ratio = quantizer.ema_sums / quantizer.ema_counts[:, None]
    step(quantizer, encodings(0, seed=0))
    torch.testing.assert_close(quantizer.ema_sums / quantizer.ema_counts[:, None], ratio, rtol=64 * EPS64, atol=0.0)
    assert quantizer.num_updates.item() == 2


# ---- as a module -----------------------------------------------------------------------------------------------------


def test_codes_may_move_before_the_backward_pass() -> None:
    def gradient(update_first: bool) -> Tensor:
        quantizer = make(straight_through=True)
        z = encodings(6, seed=5).requires_grad_()
        output = quantizer(z)
        loss = output.losses.som.sum() + output.losses.commitment.sum() + output.quantized.square().sum()
        if update_first:
            quantizer.update_codebook(*quantizer.statistics(z, output.indices))
        loss.backward()
        assert z.grad is not None
        return z.grad

    assert gradient(update_first=True).equal(gradient(update_first=False))


def test_codes_may_move_before_the_backward_pass_of_a_compiled_map() -> None:
    quantizer = make(straight_through=True).float()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager_decomp_partition")
    gradients = []
    for module in (quantizer, compiled):
        z = encodings(6, seed=5).float().requires_grad_()
        output = module(z)
        loss = output.losses.som.sum() + output.losses.commitment.sum() + output.quantized.square().sum()
        with torch.no_grad():
            saved = quantizer.codebook.clone()
            quantizer.codebook.fill_(1e3)
        loss.backward()
        quantizer.codebook.copy_(saved)
        assert z.grad is not None
        gradients.append(z.grad)
    torch.testing.assert_close(*gradients, rtol=64 * EPS32, atol=64 * EPS32)


def test_a_loaded_map_continues_its_neighborhood_schedule() -> None:
    whole, loaded = make(), make(Grid(3, 5))
    for number in range(2):
        step(whole, encodings(6, seed=number))
    loaded.load_state_dict(copy.deepcopy(whole.state_dict()))
    assert loaded.sigma == whole.sigma < whole.sigma_initial
    for number in range(2, 6):
        step(whole, encodings(6, seed=number))
        step(loaded, encodings(6, seed=number))
    assert all(loaded.state_dict()[name].equal(value) for name, value in whole.state_dict().items())


def test_a_compiled_forward_pass_is_not_recompiled_while_sigma_falls() -> None:
    quantizer = make().float()
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for number in range(5):
        z = encodings(6, seed=number).float().requires_grad_()
        expected, got = quantizer(z), compiled(z)
        assert got.indices.equal(expected.indices)
        torch.testing.assert_close(got.losses.som, expected.losses.som, rtol=64 * EPS32, atol=64 * EPS32)
        got.losses.som.sum().backward()
        assert z.grad is not None
        quantizer.update_codebook(*quantizer.statistics(z, got.indices))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_averages_of_a_map_of_16_bits_stay_in_float32() -> None:
    quantizer = make().float().bfloat16()
    for number in range(3):
        step(quantizer, encodings(6, seed=number).bfloat16())
    assert quantizer.codebook.dtype == torch.bfloat16
    assert quantizer.ema_sums.dtype == quantizer.ema_counts.dtype == torch.float32
    assert quantizer(encodings(6, seed=0).bfloat16()).losses.som.dtype == torch.float32


def test_reinitializing_resets_the_averages_and_the_neighborhood() -> None:
    quantizer = make()
    for number in range(3):
        step(quantizer, encodings(20, seed=number))
    quantizer.initialize_kmeans(encodings(40, seed=9))
    torch.testing.assert_close(quantizer.ema_sums, 0.1 * quantizer.codebook)
    assert (quantizer.ema_counts == 0.1).all()
    quantizer.reset_parameters()
    assert quantizer.num_updates.item() == 0
    torch.testing.assert_close(quantizer.ema_sums, 0.1 * quantizer.codebook)


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_a_start_by_a_batch_map_is_ordered_and_leaves_padding_out(update: Any) -> None:
    quantizer = SOMQuantizer(Grid(4, 6), 2, update=update)
    z = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([3.0, 2.0])
    padded = torch.cat([z, torch.full((7, 2), math.nan)])
    quantizer.initialize_som(padded, mask=torch.arange(507) < 500)
    codes = quantizer.codebook.detach().view(4, 6, 2)
    # The map covers a rectangle, so along each axis of the map the codes are monotonic along an axis of the rectangle.
    for axis in (0, 1):
        steps = codes.diff(dim=axis)
        along = steps.abs().sum(dim=(0, 1)).argmax()
        assert (steps[..., along] > 0).all() or (steps[..., along] < 0).all()
    if update == "ema":
        torch.testing.assert_close(quantizer.ema_sums, 0.1 * quantizer.codebook)


def test_a_start_by_a_batch_map_needs_an_encoding() -> None:
    with pytest.raises(ValueError, match=r"z must hold at least one encoding that is finite .*, got none among 3"):
        make().initialize_som(torch.full((3, DIM), math.nan).double())


def test_codes_are_revived_once_the_neighborhood_is_narrow() -> None:
    quantizer = make()
    z = encodings(30, seed=0)
    step(quantizer, z)
    with pytest.raises(ValueError, match=r"sigma must have reached sigma_final = 0.5.*got 2.81 after 1 of 4 updates"):
        quantizer.revive(torch.tensor([3]), z)
    for _ in range(3):
        step(quantizer, z)
    others = quantizer.ema_counts.clone()
    quantizer.revive(torch.tensor([3, 8]), z, generator=torch.Generator().manual_seed(0))
    for node in (3, 8):
        assert (z == quantizer.codebook[node]).all(dim=1).any()
    torch.testing.assert_close(quantizer.ema_counts[[3, 8]], others.mean().expand(2))
    torch.testing.assert_close(quantizer.ema_sums[[3, 8]], others.mean() * quantizer.codebook[[3, 8]])


def test_codes_of_a_map_that_never_narrows_are_revived_at_once() -> None:
    quantizer = make(sigma_initial=0.5, sigma_final=0.5)
    assert not quantizer.is_neighborhood_narrowing
    z = encodings(30, seed=0)
    quantizer.revive(torch.tensor([3]), z)
    assert (z == quantizer.codebook[3]).all(dim=1).any()


def test_codes_that_learn_by_gradients_have_no_width() -> None:
    with pytest.raises(ValueError, match=r"SOMQuantizer.sigma: update must be 'ema' for a neighborhood"):
        _ = SOMQuantizer(Grid(3, 5), DIM).sigma


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 0.9}, "update must be 'ema' for decay to mean anything, got 0.9"),
        ({"sigma_initial": 2.0}, "update must be 'ema' for sigma_initial to mean anything, got 2.0"),
        ({"sigma_final": 1}, "update must be 'ema' for sigma_final to mean anything, got 1"),
        ({"sigma_steps": 5}, "update must be 'ema' for sigma_steps to mean anything, got 5"),
        ({"update": "ema", "border": "mask"}, "update must be 'gradient' for border to mean anything, got 'mask'"),
        ({"update": "som"}, "update must be 'gradient' or 'ema', got 'som'"),
        ({"update": "ema", "decay": 1.0}, "decay must be a finite number of at least 0 and below 1, got 1.0"),
        ({"update": "ema", "sigma_final": 0.0}, "sigma_final must be a finite number above 0, got 0.0"),
        ({"update": "ema", "sigma_initial": math.nan}, "sigma_initial must be a finite number above 0, got nan"),
        ({"update": "ema", "sigma_steps": 0}, "sigma_steps must be an integer of at least 1, got 0"),
        (
            {"update": "ema", "sigma_initial": 0.5, "sigma_final": 0.6},
            "sigma_initial must be at least sigma_final, 0.6, got 0.5",
        ),
    ],
)
def test_useless_or_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"SOMQuantizer: {message}"):
        SOMQuantizer(Grid(3, 3), DIM, **options)


def test_statistics_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SOMQuantizer.update_codebook: counts must have shape \[15\], got \[14\]"):
        make().update_codebook(torch.ones(14), torch.ones(15, DIM))
    with pytest.raises(ValueError, match=r"SOMQuantizer.update_codebook: update must be 'ema', got 'gradient'"):
        SOMQuantizer(Grid(3, 5), DIM).update_codebook(torch.ones(15), torch.ones(15, DIM))


def test_the_repr_describes_the_map() -> None:
    assert "update='ema', decay=0.7, sigma_initial=5.0, sigma_final=0.5, sigma_steps=4" in str(make())
    assert "border='zero'" in str(SOMQuantizer(Grid(3, 5), DIM))
