"""CausalWindow: encodings of frames that depend on the frames before them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext.nn import CausalWindow

DIM = 3


def make(window: int, seed: int = 0) -> CausalWindow:
    """Returns a float64 layer with random weights instead of its initial ones."""
    torch.manual_seed(seed)
    layer = CausalWindow(DIM, window).double()
    torch.nn.init.normal_(layer.projection.weight)
    return layer


def series(batch: int, length: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, length, DIM, dtype=torch.float64, generator=generator)
    return z, torch.rand(batch, length, generator=generator) < 0.7


def expected(layer: CausalWindow, z: Tensor, mask: Tensor) -> Tensor:
    """Computes the encodings frame by frame and lag by lag, from the definition."""
    result = z.clone()
    for b in range(len(z)):
        for t in range(z.shape[1]):
            hidden = torch.zeros(DIM, dtype=z.dtype)
            for lag in range(layer.window):
                if t - lag >= 0 and mask[b, t - lag]:
                    frame = torch.cat([z[b, t - lag], z.new_ones(1)])
                    hidden += layer.convolution.weight[:, :, layer.window - 1 - lag] @ frame
            result[b, t] += layer.projection.weight @ hidden.clamp(min=0)
    return result


@settings(max_examples=25, deadline=None)
@given(window=st.integers(2, 7), batch=st.integers(0, 3), length=st.integers(1, 9), seed=st.integers(0, 99))
def test_an_encoding_depends_on_the_real_frames_of_its_window_only(
    window: int, batch: int, length: int, seed: int
) -> None:
    layer, (z, mask) = make(window), series(batch, length, seed)
    with torch.no_grad():
        torch.testing.assert_close(layer(z, mask)[mask], expected(layer, z, mask)[mask])
        torch.testing.assert_close(layer(z), expected(layer, z, torch.ones_like(mask)))


def test_no_encoding_depends_on_a_later_frame() -> None:
    layer, (z, _) = make(4), series(2, 9)
    with torch.no_grad():
        whole = layer(z)
        for length in range(1, 9):
            torch.testing.assert_close(layer(z[:, :length]), whole[:, :length])


def test_values_of_masked_frames_affect_no_output_and_no_gradient() -> None:
    layer, (z, mask) = make(4), series(3, 8)
    spoiled = torch.where(mask[..., None], z, torch.nan).requires_grad_()
    clean = layer(z, mask)[mask]
    result = layer(spoiled, mask)[mask]
    result.sum().backward()
    assert result.equal(clean)
    assert spoiled.grad is not None
    assert spoiled.grad.isfinite().all()
    assert (spoiled.grad[~mask] == 0).all()


def test_a_new_layer_returns_the_encodings_of_single_frames_and_can_learn() -> None:
    layer, (z, _) = CausalWindow(DIM, 5).double(), series(2, 6)
    result = layer(z)
    assert result.equal(z)
    result.square().sum().backward()
    assert layer.projection.weight.grad is not None
    assert layer.projection.weight.grad.abs().max() > 0


def test_gradients_agree_with_finite_differences() -> None:
    layer, (z, mask) = make(3), series(2, 4)
    assert torch.autograd.gradcheck(lambda z: layer(z, mask), z.requires_grad_())


@pytest.mark.parametrize(
    ("z", "mask", "message"),
    [
        (torch.rand(4, DIM), None, r"CausalWindow: z must have shape \[B, T, D = 3\], got \[4, 3\]"),
        (torch.rand(2, 4, 5), None, r"CausalWindow: z must have shape \[B, T, D = 3\], got \[2, 4, 5\]"),
        (torch.rand(2, 4, DIM), torch.ones(2, 4), r"CausalWindow: mask must be of dtype bool .* got torch.float32"),
        (torch.rand(2, 4, DIM), torch.ones(2, 5).bool(), r"CausalWindow: mask must be .* \[2, 4\], got .* \[2, 5\]"),
    ],
)
def test_other_shapes_and_dtypes_are_refused(z: Tensor, mask: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalWindow(DIM, 4)(z, mask)


@pytest.mark.parametrize(
    ("options", "message"), [((0, 4), "dim must be"), ((3, 1), "window must be an integer of at least 2")]
)
def test_other_sizes_are_refused(options: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CausalWindow(*options)
