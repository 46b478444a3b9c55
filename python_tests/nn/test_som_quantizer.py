"""SOMQuantizer: shapes, means and errors. Its gradients are tested inside SOMVAE."""

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
    assert len(set(present)) > 1  # or the two borders would be alike
    np.testing.assert_allclose(output.losses.commitment.detach(), commitment / 3, rtol=TOLERANCE)
    np.testing.assert_allclose(output.losses.som.detach(), som / (3 * slots), rtol=TOLERANCE)


def test_quantized_is_a_plain_gather_that_only_the_codebook_feels() -> None:
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
    # A normal cut at two standard deviations keeps 0.8796 of its own; 65,536 draws put 0.5 % far beyond chance.
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
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        SOMQuantizer(Grid(2, 2), 0)
    with pytest.raises(ValueError, match="border must be 'zero' or 'mask', got 'wrap'"):
        SOMQuantizer(Grid(2, 2), 3, border="wrap")  # type: ignore[arg-type]
