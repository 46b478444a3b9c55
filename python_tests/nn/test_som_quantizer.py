"""SOMQuantizer: shapes, means and errors. Its gradients are tested as a part of SOMVAE."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch

from somvae_ext import Grid
from somvae_ext.nn import SOMQuantizer

# Sums of at most 7 slots of 3 terms of size one, in float32.
TOLERANCE = 64 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("leading", [(), (0,), (5,), (2, 3, 4)])
def test_any_leading_shape(leading: tuple[int, ...]) -> None:
    output = SOMQuantizer(Grid(3, 3), 2)(torch.randn(*leading, 2))
    fields = [output.quantized, output.indices, *output.losses]
    assert [tuple(field.shape) for field in fields] == [(*leading, 2), leading, leading, leading]


@pytest.mark.parametrize("border", ["zero", "mask"])
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_losses_are_means_over_features_and_slots(topology: str, border: str) -> None:
    torch.manual_seed(0)
    quantizer = SOMQuantizer(Grid(3, 4, topology), 3, border=border)
    torch.nn.init.normal_(quantizer.codebook)
    z = torch.randn(20, 3)
    output = quantizer(z)

    table = oracle.neighbor_table(3, 4, topology, False)
    codebook, index = quantizer.codebook.detach().double().numpy(), output.indices.numpy()
    commitment, som = oracle.losses(z.double().numpy(), codebook, index, table, border)
    present = 1 + (table[index] >= 0).sum(axis=1)
    slots = present if border == "mask" else np.full(20, 1 + table.shape[1])
    assert len(set(present)) > 1  # otherwise the two borders would give the same losses
    np.testing.assert_allclose(output.losses.commitment.detach(), commitment / 3, rtol=TOLERANCE)
    np.testing.assert_allclose(output.losses.som.detach(), som / (3 * slots), rtol=TOLERANCE)


def test_quantized_is_a_plain_gather_with_gradients_only_for_the_codebook() -> None:
    quantizer = SOMQuantizer(Grid(2, 2), 3)
    z = torch.randn(6, 3, requires_grad=True)
    output = quantizer(z)
    assert output.quantized.equal(quantizer.codebook[output.indices])
    output.quantized.sum().backward()
    assert z.grad is None
    assert quantizer.codebook.grad is not None
    wins = torch.bincount(output.indices, minlength=4).float()
    assert quantizer.codebook.grad.equal(wins[:, None].expand(4, 3))


def test_the_codebook_starts_as_a_truncated_normal() -> None:
    torch.manual_seed(0)
    codebook = SOMQuantizer(Grid(32, 32), 64).codebook
    assert codebook.shape == (1024, 64)
    assert codebook.abs().max() <= 0.1
    # Truncating a normal at two standard deviations reduces its standard deviation to 0.8796 of what it was. With
    # 65,536 draws, a difference of 0.5 % is far beyond chance.
    assert codebook.std().item() == pytest.approx(0.8796 * 0.05, rel=0.02)
    assert codebook.mean().abs() < 0.001


def test_lower_precision_is_searched_in_float32_under_autocast() -> None:
    quantizer = SOMQuantizer(Grid(2, 2), 3)
    z = torch.randn(6, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = quantizer(z)
    assert output.indices.equal(quantizer.assign(z.float()))
    assert output.losses.som.dtype == torch.float32


@pytest.mark.parametrize("shape", [(), (5, 4)])
def test_encodings_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"z must have shape \[..., D\] with D = 3, got"):
        SOMQuantizer(Grid(2, 2), 3)(torch.randn(shape))


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="dim must be an integer of at least 1, got 0"):
        SOMQuantizer(Grid(2, 2), 0)
    with pytest.raises(ValueError, match="border must be 'zero' or 'mask', got 'wrap'"):
        SOMQuantizer(Grid(2, 2), 3, border="wrap")  # type: ignore[arg-type]


# ---- straight-through and channel first ------------------------------------------------------------------------------


def test_straight_through_passes_the_gradient_to_the_encodings_only() -> None:
    quantizer = SOMQuantizer(Grid(2, 2), 3, straight_through=True)
    z = torch.randn(6, 3, requires_grad=True)
    output = quantizer(z)
    assert output.quantized.equal(quantizer.codebook[output.indices])
    gradient = torch.randn(6, 3)
    output.quantized.backward(gradient)
    assert z.grad is not None
    assert z.grad.equal(gradient)
    assert quantizer.codebook.grad is None


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("spatial", [(), (4,), (4, 5), (2, 0, 3)])
def test_channel_first_equals_channel_last_with_moved_axes(spatial: tuple[int, ...], straight_through: bool) -> None:
    torch.manual_seed(0)
    first = SOMQuantizer(Grid(3, 3), 2, channel_first=True, straight_through=straight_through)
    last = SOMQuantizer(Grid(3, 3), 2, straight_through=straight_through)
    last.load_state_dict(first.state_dict())
    z = torch.randn(6, 2, *spatial, requires_grad=True)
    moved = z.detach().movedim(1, -1).requires_grad_()
    a, b = first(z), last(moved)
    assert a.quantized.equal(b.quantized.movedim(-1, 1))
    assert a.indices.equal(b.indices)
    assert first.assign(z).equal(a.indices)
    assert a.losses.som.equal(b.losses.som)
    for output, quantizer in ((a, first), (b, last)):
        (output.quantized.sum() + output.losses.commitment.sum() + output.losses.som.sum()).backward()
        assert quantizer.codebook.grad is not None
    assert z.grad is not None
    assert moved.grad is not None
    assert z.grad.equal(moved.grad.movedim(-1, 1))
    assert first.codebook.grad.equal(last.codebook.grad)  # type: ignore[union-attr]


@pytest.mark.parametrize("shape", [(2,), (5, 3, 4)])
def test_channels_at_another_place_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"z must have shape \[N, D, \*spatial\] with D = 2, got"):
        SOMQuantizer(Grid(3, 3), 2, channel_first=True)(torch.randn(shape))


def test_k_means_accepts_images_like_forward() -> None:
    z = torch.rand(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    quantizers = [SOMQuantizer(Grid(2, 3), 2, channel_first=first) for first in (True, False)]
    quantizers[0].initialize_kmeans(z, seed=1)
    quantizers[1].initialize_kmeans(z.movedim(1, -1), seed=1)
    assert quantizers[0].codebook.equal(quantizers[1].codebook)
    assert quantizers[0].codebook.requires_grad


# ---- revival ---------------------------------------------------------------------------------------------------------


def test_revived_codes_are_distinct_encodings_and_the_others_stay() -> None:
    torch.manual_seed(0)
    quantizer = SOMQuantizer(Grid(2, 3), 2)
    before, z = quantizer.codebook.detach().clone(), torch.randn(2, 4, 2)
    rows = quantizer.revive(torch.tensor([4, 1, 2]), z, generator=torch.Generator().manual_seed(5))
    assert rows.tolist() == [4, 1, 2]
    codebook = quantizer.codebook.detach()
    assert codebook[[0, 3, 5]].equal(before[[0, 3, 5]])
    drawn = (codebook[rows, None] == z.view(-1, 2)).all(dim=2)
    assert drawn.sum(dim=1).tolist() == [1, 1, 1]
    assert drawn.any(dim=0).sum() == 3
    again = SOMQuantizer(Grid(2, 3), 2)
    again.revive(rows, z, generator=torch.Generator().manual_seed(5))
    assert again.codebook[rows].equal(codebook[rows])


def test_fewer_encodings_than_dead_codes_are_drawn_again() -> None:
    quantizer = SOMQuantizer(Grid(2, 3), 2)
    quantizer.revive(torch.arange(6), torch.ones(1, 2))
    assert quantizer.codebook.equal(torch.ones(6, 2))


def test_without_dead_codes_nothing_changes() -> None:
    quantizer = SOMQuantizer(Grid(2, 3), 2)
    before = quantizer.codebook.detach().clone()
    assert quantizer.revive(torch.zeros(0, dtype=torch.int64), torch.ones(0, 2)).tolist() == []
    assert quantizer.codebook.equal(before)


def test_impossible_revivals_are_refused() -> None:
    quantizer, z = SOMQuantizer(Grid(2, 3), 2), torch.ones(4, 2)
    with pytest.raises(ValueError, match="unused must hold indices from 0 to 5, got 1 to 6"):
        quantizer.revive(torch.tensor([1, 6]), z)
    with pytest.raises(ValueError, match=r"unused must be of dtype int64 and shape \[U\], got torch.bool and \[6\]"):
        quantizer.revive(torch.ones(6, dtype=torch.bool), z)
    with pytest.raises(ValueError, match="z must hold at least one encoding to draw from, got none"):
        quantizer.revive(torch.tensor([1]), z[:0])
