"""What both quantizers guarantee.

Masked encodings and rows that are not finite are ignored, and a backward pass uses the codes of its forward pass.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import Quantizer, SOMQuantizer, VectorQuantizer

EPS64 = torch.finfo(torch.float64).eps
DIM = 3
# Sums of a few dozen products of size one, which padding extends by zeros and reorders.
TOLERANCE: dict[str, Any] = {"rtol": 256 * EPS64, "atol": 256 * EPS64}

KINDS: dict[str, Callable[[bool], Quantizer]] = {
    "gradient": lambda first: VectorQuantizer(6, DIM, channel_first=first),
    "averages": lambda first: VectorQuantizer(6, DIM, update="ema", decay=0.8, channel_first=first),
    "map, zero": lambda first: SOMQuantizer(Grid(2, 3), DIM, channel_first=first),
    "map, mask": lambda first: SOMQuantizer(Grid(2, 3), DIM, border="mask", channel_first=first),
    "straight-through map, zero": lambda first: SOMQuantizer(
        Grid(2, 3, "hexagonal"), DIM, straight_through=True, channel_first=first
    ),
    "straight-through map, mask": lambda first: SOMQuantizer(
        Grid(2, 3, "hexagonal"), DIM, border="mask", straight_through=True, channel_first=first
    ),
}
EACH = pytest.mark.parametrize("kind", KINDS)
BROKEN = st.sampled_from([math.nan, math.inf, -math.inf])


def make(kind: str, channel_first: bool = False) -> Any:
    """Returns a float64 quantizer with codes of size one."""
    quantizer: Any = KINDS[kind](channel_first).double()
    quantizer.codebook.data.copy_(normal(6, DIM, seed=7))
    if kind == "averages":
        quantizer.ema_sums.copy_(quantizer.codebook)
    return quantizer


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def as_input(z: Tensor, channel_first: bool) -> Tensor:
    """Moves the features of encodings ``[..., D]`` to the axis where the quantizer expects them."""
    return z.movedim(-1, 1) if channel_first else z


def features_last(z: Tensor, channel_first: bool) -> Tensor:
    return z.movedim(1, -1) if channel_first else z


def gradients(
    quantizer: Quantizer, z: Tensor, weights: Tensor, mask: Tensor | None, channel_first: bool
) -> list[Tensor]:
    """Returns the gradients of a weighted sum of all outputs for the encodings ``[..., D]`` and any parameters."""
    leaf = z.clone().requires_grad_()
    output = quantizer(as_input(leaf, channel_first), mask)
    total = (features_last(output.quantized, channel_first) * weights[..., :DIM]).sum()
    for place, loss in enumerate(output.losses):
        total = total + (loss * weights[..., DIM + place]).sum()
    return list(torch.autograd.grad(total, [leaf, *quantizer.parameters()]))


# ---- masks -----------------------------------------------------------------------------------------------------------


@EACH
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4),
    channel_first=st.booleans(),
    padding=st.sampled_from([math.nan, math.inf, 0.0, 1e300]),
)
def test_padded_series_give_the_same_as_single_series(
    kind: str, lengths: list[int], channel_first: bool, padding: float
) -> None:
    quantizer = make(kind, channel_first)
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    z = torch.where(mask[..., None], normal(len(lengths), 5, DIM), padding)
    weights = normal(len(lengths), 5, DIM + 2, seed=2)
    output = quantizer(as_input(z, channel_first), mask)
    to_z, *to_codebook = gradients(quantizer, z, weights, mask, channel_first)

    expected_codebook = [torch.zeros_like(gradient) for gradient in to_codebook]
    for row, length in enumerate(lengths):
        short = z[row : row + 1, :length]
        alone = quantizer(as_input(short, channel_first))
        own = features_last(output.quantized, channel_first)[row : row + 1, :length]
        assert own.equal(features_last(alone.quantized, channel_first))
        assert output.indices[row : row + 1, :length].equal(alone.indices)
        for together, separate in zip(output.losses, alone.losses, strict=True):
            assert together[row : row + 1, :length].equal(separate)
        own_z, *own_codebook = gradients(quantizer, short, weights[row : row + 1, :length], None, channel_first)
        assert to_z[row : row + 1, :length].equal(own_z)
        expected_codebook = [a + b for a, b in zip(expected_codebook, own_codebook, strict=True)]
    torch.testing.assert_close(to_codebook, expected_codebook, **TOLERANCE)
    for field in (features_last(output.quantized, channel_first), *output.losses, to_z):
        assert (field[~mask] == 0).all()
    assert (output.indices[~mask] == -1).all()
    assert quantizer.lookup(output.indices).equal(output.quantized)


@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=4), channel_first=st.booleans(), explicit=st.booleans())
def test_averages_of_padded_series_are_those_of_the_real_frames(
    lengths: list[int], channel_first: bool, explicit: bool
) -> None:
    quantizer, expected = make("averages", channel_first), make("averages")
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    z = torch.where(mask[..., None], normal(len(lengths), 5, DIM), math.nan)
    given_z = as_input(z, channel_first)
    indices = quantizer.assign(given_z) if explicit else quantizer(given_z, mask).indices
    statistics = quantizer.statistics(given_z, indices, mask if explicit else None)
    frames = z[mask]
    index = oracle.squared_distances(frames.numpy(), expected.codebook.numpy()).argmin(axis=1)
    won = np.eye(6)[index]
    assert statistics.counts.tolist() == won.sum(axis=0).tolist()
    torch.testing.assert_close(statistics.sums, torch.from_numpy(won.T @ frames.numpy()), **TOLERANCE)
    quantizer.update_codebook(*statistics)
    expected.update_codebook(*expected.statistics(frames, expected.assign(frames)))
    torch.testing.assert_close(quantizer.state_dict(), expected.state_dict(), **TOLERANCE)


@EACH
def test_a_nan_gradient_at_padding_has_no_effect(kind: str) -> None:
    """A decoder may give NaN gradients for masked positions."""
    quantizer, z = make(kind), normal(2, 5, DIM)
    mask = torch.tensor([[True, True, True, False, False], [True, False, False, False, True]])
    weights = normal(2, 5, DIM + 2, seed=2)
    poisoned = torch.where(mask[..., None], weights, math.nan)
    assert all(
        got.equal(expected)
        for got, expected in zip(
            gradients(quantizer, z, poisoned, mask, False), gradients(quantizer, z, weights, mask, False), strict=True
        )
    )


@EACH
def test_a_full_mask_changes_no_bit(kind: str) -> None:
    quantizer, z = make(kind), normal(4, 5, DIM)
    full, none = quantizer(z, torch.ones(4, 5, dtype=torch.bool)), quantizer(z)
    assert all(a.equal(b) for a, b in zip([*full[:2], *full.losses], [*none[:2], *none.losses], strict=True))


@EACH
@pytest.mark.parametrize("channel_first", [False, True])
def test_with_a_mask_the_forward_compiles_to_one_graph(kind: str, channel_first: bool, device: torch.device) -> None:
    torch._dynamo.reset()
    quantizer = make(kind, channel_first).to(device)
    mask = (torch.arange(5) < torch.tensor([5, 2, 0])[:, None]).to(device)
    z = torch.where(mask[..., None], normal(3, 5, DIM).to(device), math.nan)
    weights = normal(3, 5, DIM + 2, seed=2).to(device)
    compiled = torch.compile(quantizer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(
        compiled(as_input(z, channel_first), mask), quantizer(as_input(z, channel_first), mask), **TOLERANCE
    )
    torch.testing.assert_close(
        gradients(compiled, z, weights, mask, channel_first),  # type: ignore[arg-type]
        gradients(quantizer, z, weights, mask, channel_first),
        **TOLERANCE,
    )


def test_statistics_with_a_mask_compile_to_one_graph(device: torch.device) -> None:
    torch._dynamo.reset()
    quantizer = make("averages").to(device)
    mask = (torch.arange(5) < torch.tensor([5, 2, 0])[:, None]).to(device)
    z = torch.where(mask[..., None], normal(3, 5, DIM).to(device), math.nan)

    def step(z: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        counts, sums = quantizer.statistics(z, quantizer(z, mask).indices)
        return counts, sums

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(z, mask), step(z, mask), **TOLERANCE)


@EACH
@pytest.mark.parametrize("channel_first", [False, True])
def test_start_and_revival_use_only_real_encodings(kind: str, channel_first: bool) -> None:
    mask = torch.arange(5) < torch.tensor([5, 2, 4])[:, None]
    z = torch.where(mask[..., None], normal(3, 5, DIM), 1e6)  # padding may be finite
    quantizer, expected = make(kind, channel_first), make(kind)
    quantizer.initialize_kmeans(as_input(z, channel_first), seed=3, mask=mask)
    expected.initialize_kmeans(z[mask], seed=3)
    assert all(value.equal(expected.state_dict()[name]) for name, value in quantizer.state_dict().items())
    quantizer.revive(torch.arange(6), as_input(z, channel_first), mask=mask)
    assert (quantizer.codebook[:, None] == z[mask]).all(dim=2).any(dim=1).all()


@EACH
def test_masks_that_do_not_fit_are_refused(kind: str) -> None:
    quantizer, z = make(kind), normal(2, 5, DIM)
    name = type(quantizer).__name__
    wrong = [
        (torch.ones(2, 5), r"got torch.float32, \[2, 5\] and cpu"),
        (torch.ones(5, dtype=torch.bool), r"got torch.bool, \[5\] and cpu"),
        (torch.ones(2, 5, dtype=torch.bool, device="meta"), r"got torch.bool, \[2, 5\] and meta"),
    ]
    for mask, got in wrong:
        message = rf"{name}: mask must be of dtype bool, shape \[2, 5\] and on cpu, {got}"
        with pytest.raises(ValueError, match=message):
            quantizer(z, mask)
        with pytest.raises(ValueError, match=message):
            quantizer.revive(torch.tensor([1]), z, mask=mask)
        with pytest.raises(ValueError, match=message):
            quantizer.initialize_kmeans(z, mask=mask)
    with pytest.raises(ValueError, match=r"mask must be of dtype bool, shape \[2, 4\] and on cpu"):
        make(kind, channel_first=True)(normal(2, DIM, 4), torch.ones(2, DIM, dtype=torch.bool))


# ---- rows that are not finite ----------------------------------------------------------------------------------------


@given(broken=st.lists(st.tuples(st.integers(0, 19), st.integers(0, DIM - 1), BROKEN), max_size=25))
def test_averages_are_those_of_the_finite_rows(broken: list[tuple[int, int, float]]) -> None:
    quantizer, expected, z = make("averages"), make("averages"), normal(20, DIM)
    for row, feature, value in broken:
        z[row, feature] = value
    finite = z[z.isfinite().all(dim=1)]
    for own, rows in ((quantizer, z), (expected, finite)):
        own.update_codebook(*own.statistics(rows, own(rows).indices))
    torch.testing.assert_close(quantizer.state_dict(), expected.state_dict(), **TOLERANCE)
    assert quantizer.codebook.isfinite().all()


@EACH
@given(broken=st.lists(st.tuples(st.integers(0, 19), st.integers(0, DIM - 1), BROKEN), min_size=1, max_size=14))
def test_start_and_revival_use_only_finite_rows(kind: str, broken: list[tuple[int, int, float]]) -> None:
    quantizer, expected, z = make(kind), make(kind), normal(20, DIM)
    for row, feature, value in broken:
        z[row, feature] = value
    finite = z[z.isfinite().all(dim=1)]
    quantizer.initialize_kmeans(z, seed=2)
    expected.initialize_kmeans(finite, seed=2)
    assert quantizer.codebook.equal(expected.codebook)
    quantizer.revive(torch.arange(6), z)
    assert (quantizer.codebook[:, None] == finite).all(dim=2).any(dim=1).all()


@EACH
def test_too_few_finite_rows_are_refused(kind: str) -> None:
    quantizer, z = make(kind), normal(8, DIM)
    z[:3, 1] = math.nan
    before, name = copy.deepcopy(quantizer.state_dict()), type(quantizer).__name__
    with pytest.raises(
        ValueError,
        match=f"{name}.initialize_kmeans: z must hold at least K = 6 .* finite and not masked, got 5 among 8",
    ):
        quantizer.initialize_kmeans(z)
    with pytest.raises(
        ValueError, match=f"{name}.revive: z must hold .* got none that is finite and not masked among 3"
    ):
        quantizer.revive(torch.tensor([1]), z[:3])
    assert all(value.equal(before[key]) for key, value in quantizer.state_dict().items())


@EACH
def test_rows_that_overflow_the_codebooks_dtype_are_not_finite(kind: str) -> None:
    quantizer, z = make(kind).half(), normal(20, DIM).float()
    z[4] = 1e5  # beyond float16
    quantizer.revive(torch.arange(6), z)
    assert quantizer.codebook.isfinite().all()
    quantizer.initialize_kmeans(z)
    assert quantizer.codebook.isfinite().all()


@EACH
def test_a_nan_encoding_has_index_0_and_nan_losses_and_does_not_affect_others(kind: str) -> None:
    quantizer, z = make(kind), normal(5, DIM)
    expected = quantizer(z)
    z[2, 1] = math.nan
    output = quantizer(z)
    others = [0, 1, 3, 4]
    assert output.indices[2] == 0
    for loss, clean in zip(output.losses, expected.losses, strict=True):
        assert loss[2].isnan()
        assert loss[others].equal(clean[others])


def test_nonfinite_sums_do_not_change_their_codes() -> None:
    quantizer, expected = make("averages"), make("averages")
    counts, sums = torch.full((6,), 2), normal(6, DIM)
    sums[1, 2], sums[4, 0] = math.nan, math.inf
    quantizer.update_codebook(counts, sums)
    won = torch.tensor([1, 0, 1, 1, 0, 1])
    expected.update_codebook(counts * won, torch.where(won[:, None] == 1, sums, 0))
    assert all(value.equal(expected.state_dict()[name]) for name, value in quantizer.state_dict().items())


def test_a_sum_that_overflows_does_not_change_the_code() -> None:
    quantizer = make("averages").float()
    z = torch.full((4, DIM), 3e38)  # finite rows with an infinite sum
    before = quantizer.codebook[2].clone()
    quantizer.update_codebook(*quantizer.statistics(z, torch.full((4,), 2)))
    # The smoothing reduces the code by a fraction epsilon = 1e-5.
    torch.testing.assert_close(quantizer.codebook[2], before, rtol=2e-5, atol=0)


def test_without_finite_averages_the_codes_stay() -> None:
    quantizer = VectorQuantizer(4, 2, update="ema", decay=0.0)
    before = quantizer.codebook.clone()
    z = torch.full((3, 2), math.nan)
    quantizer.update_codebook(*quantizer.statistics(z, quantizer(z).indices))
    assert quantizer.codebook.equal(before)


# ---- a backward pass after the codebook has changed ------------------------------------------------------------------


def change(quantizer: Any, z: Tensor, output: Any) -> None:
    """Changes the codes in every way other than by an optimizer."""
    if isinstance(quantizer, VectorQuantizer) and quantizer.update == "ema":
        quantizer.update_codebook(*quantizer.statistics(z, output.indices))
    quantizer.revive(torch.tensor([1, 4]), 5 * z)
    quantizer.initialize_kmeans(z)
    quantizer.reset_parameters()


@EACH
@pytest.mark.parametrize("compiled", [False, True])
def test_a_backward_pass_uses_the_codes_of_its_forward_pass(kind: str, compiled: bool) -> None:
    torch._dynamo.reset()
    results = []
    for changed in (False, True):
        quantizer = make(kind)
        forward = torch.compile(quantizer, fullgraph=True) if compiled else quantizer
        leaf = normal(20, DIM).requires_grad_()
        output = forward(leaf)
        if changed:
            change(quantizer, leaf.detach(), output)
        (output.quantized.square().sum() + sum(loss.sum() for loss in output.losses)).backward()
        results.append([leaf.grad, *(parameter.grad for parameter in quantizer.parameters())])
    assert all(gradient is not None for gradient in results[1])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))  # type: ignore[union-attr]


@pytest.mark.parametrize("compiled", [False, True])
def test_codes_may_be_updated_by_averages_before_the_backward_pass(compiled: bool) -> None:
    torch._dynamo.reset()
    quantizer, z = make("averages"), normal(20, DIM).requires_grad_()
    old, weights = quantizer.codebook.numpy().copy(), normal(20, DIM + 1, seed=3)
    output = (torch.compile(quantizer, fullgraph=True) if compiled else quantizer)(z)
    quantizer.update_codebook(*quantizer.statistics(z, output.indices))
    assert not (quantizer.codebook.numpy() == old).any()
    ((output.quantized * weights[:, :DIM]).sum() + (output.losses.commitment * weights[:, DIM]).sum()).backward()
    rows = z.detach().numpy()
    nearest = old[oracle.squared_distances(rows, old).argmin(axis=1)]
    expected = weights[:, :DIM].numpy() + 2 / DIM * weights[:, DIM:].numpy() * (rows - nearest)
    np.testing.assert_allclose(z.grad, expected, rtol=64 * EPS64, atol=64 * EPS64)  # type: ignore[arg-type]


def test_without_gradients_the_codebook_is_not_copied() -> None:
    quantizer = make("gradient")
    with torch.no_grad():
        assert quantizer.snapshot() is quantizer.codebook
    copied = quantizer.snapshot()
    assert copied.data_ptr() != quantizer.codebook.data_ptr()
    assert torch.autograd.grad(copied.sum(), quantizer.codebook)[0].equal(torch.ones(6, DIM).double())


@EACH
def test_a_forward_pass_is_exported_in_ops_that_need_no_python(kind: str) -> None:
    program = torch.export.export(Flat(make(kind)), (normal(4, DIM),))
    targets = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("snapshot" in target for target in targets)
    z = normal(4, DIM, seed=5)
    assert all(a.equal(b) for a, b in zip(program.module()(z), Flat(make(kind))(z), strict=True))


class Flat(torch.nn.Module):
    """Returns a quantizer's results as a plain tuple."""

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, z: Tensor) -> tuple[Tensor, ...]:
        quantized, indices, losses = self.quantizer(z)
        return (quantized, indices, *losses)
