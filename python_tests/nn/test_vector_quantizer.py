"""VectorQuantizer: losses, gradients and moving averages compared with the paper's formulas; start, revival, errors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext.nn import VectorQuantizer

EPS64 = torch.finfo(torch.float64).eps


def make(num_codes: int = 6, dim: int = 3, **options: object) -> VectorQuantizer:
    """Returns a float64 quantizer with codes of size one."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(num_codes, dim, **options).double()  # type: ignore[arg-type]
    quantizer.codebook.data.normal_()
    if quantizer.update == "ema":
        quantizer.ema_sums.copy_(quantizer.codebook)
    return quantizer


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def step(quantizer: VectorQuantizer, z: Tensor) -> Tensor:
    """Runs a forward pass, updates the averages, and returns the indices."""
    indices: Tensor = quantizer(z).indices
    quantizer.update_codebook(*quantizer.statistics(z, indices))
    return indices


# ---- forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_losses_and_all_gradients_agree_with_equation_3(update: str) -> None:
    quantizer = make(update=update)
    z, weights = normal(20, 3).requires_grad_(), normal(20, 5, seed=2)
    output = quantizer(z)

    codebook, rows = quantizer.codebook.detach().numpy(), z.detach().numpy()
    index = oracle.squared_distances(rows, codebook).argmin(axis=1)
    difference = rows - codebook[index]
    loss = (difference**2).sum(axis=1) / 3
    at_quantized, at_commitment, at_codebook = weights[:, :3].numpy(), weights[:, 3].numpy(), weights[:, 4].numpy()
    to_z = at_quantized + 2 / 3 * at_commitment[:, None] * difference
    to_codebook = np.zeros_like(codebook)
    np.add.at(to_codebook, index, -2 / 3 * at_codebook[:, None] * difference)

    assert output.indices.tolist() == index.tolist()
    assert len(set(index)) > 1
    assert output.quantized.detach().equal(quantizer.codebook.detach()[output.indices])
    total = (output.quantized * weights[:, :3]).sum()
    total = total + (output.losses.commitment * weights[:, 3]).sum() + (output.losses.codebook * weights[:, 4]).sum()
    total.backward()
    # Sums of a few dozen terms of size one.
    for got, expected in ((output.losses.commitment, loss), (output.losses.codebook, loss), (z.grad, to_z)):
        np.testing.assert_allclose(got.detach(), expected, rtol=64 * EPS64, atol=64 * EPS64)  # type: ignore[union-attr]
    if update == "gradient":
        assert quantizer.codebook.grad is not None
        np.testing.assert_allclose(quantizer.codebook.grad, to_codebook, rtol=64 * EPS64, atol=64 * EPS64)
    else:
        assert list(quantizer.parameters()) == []
        assert not output.losses.codebook.requires_grad


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_neither_the_forward_nor_the_backward_pass_changes_a_code(update: str) -> None:
    quantizer = make(update=update)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(normal(20, 3).requires_grad_()).quantized.sum().backward()
    assert all(value.equal(before[name]) for name, value in quantizer.state_dict().items())


@given(
    leading=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    num_codes=st.integers(1, 5),
    dim=st.integers(1, 4),
    channel_first=st.booleans(),
    update=st.sampled_from(["gradient", "ema"]),
)
def test_any_shape_with_channels_first_or_last(
    leading: list[int], num_codes: int, dim: int, channel_first: bool, update: str
) -> None:
    quantizer = make(num_codes, dim, update=update, channel_first=channel_first)
    leading = leading or [2] if channel_first else leading
    shape = [leading[0], dim, *leading[1:]] if channel_first else [*leading, dim]
    z = normal(*shape)
    output = quantizer(z)
    assert list(output.quantized.shape) == shape
    for field in (output.indices, *output.losses, quantizer.assign(z)):
        assert list(field.shape) == leading
    assert output.quantized.equal(quantizer.lookup(output.indices))
    assert output.indices.equal(quantizer.assign(z))
    rows = (z.movedim(1, -1) if channel_first else z).reshape(-1, dim)
    counts, sums = quantizer.statistics(z, output.indices)
    assert counts.tolist() == output.indices.flatten().bincount(minlength=num_codes).tolist()
    torch.testing.assert_close(
        sums.sum(dim=0), rows.sum(dim=0), rtol=0, atol=64 * EPS64 * (1 + rows.abs().sum().item())
    )


@pytest.mark.parametrize("update", ["gradient", "ema"])
@pytest.mark.parametrize("channel_first", [False, True])
def test_the_quantizer_compiles_to_one_graph(channel_first: bool, update: str, device: torch.device) -> None:
    torch._dynamo.reset()
    quantizer = make(update=update, channel_first=channel_first).float().to(device)
    z = normal(4, 3, 3).float().to(device)
    leaves = list(quantizer.parameters())
    results = []
    for function in (quantizer, torch.compile(quantizer, fullgraph=True, backend="aot_eager")):
        leaf = z.clone().requires_grad_()
        output = function(leaf)
        loss = output.quantized.square().sum() + output.losses.commitment.sum() + output.losses.codebook.sum()
        results.append((output, torch.autograd.grad(loss, [leaf, *leaves])))
    torch.testing.assert_close(results[1], results[0])


def test_search_and_lookup_are_exported_for_any_number_of_encodings() -> None:
    class Codes(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.quantizer = make(update="ema", channel_first=True)

        def forward(self, z: Tensor) -> Tensor:
            codes: Tensor = self.quantizer.lookup(self.quantizer.assign(z))
            return codes

    codes = Codes()
    number = torch.export.Dim("number")
    exported = torch.export.export(codes, (normal(4, 3, 2),), dynamic_shapes={"z": {0: number}}).module()
    z = normal(9, 3, 2, seed=5)
    assert exported(z).equal(codes(z))


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_under_autocast_search_losses_and_sums_are_in_float32(update: str, device: torch.device) -> None:
    quantizer = make(update=update).float().to(device)
    quantizer.codebook.data += 1000  # bfloat16 cannot distinguish codes at this offset
    z = (normal(20, 3).float().to(device) + 1000).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = quantizer(z)
        sums = quantizer.statistics(z.detach().bfloat16(), output.indices).sums
        from_bfloat16 = quantizer(z.detach().bfloat16())
    plain = quantizer(z)
    torch.testing.assert_close(output, plain, rtol=0, atol=0)
    assert sums.dtype == output.losses.codebook.dtype == torch.float32
    torch.testing.assert_close(from_bfloat16, quantizer(z.detach().bfloat16().float()), rtol=0, atol=0)


def test_an_encoding_with_a_nan_has_losses_nan_and_index_0() -> None:
    quantizer, z = make(), normal(5, 3)
    z[2, 1] = math.nan
    output = quantizer(z)
    assert output.indices[2] == 0
    assert [loss.isnan().tolist() for loss in output.losses] == [[False, False, True, False, False]] * 2


# ---- moving averages -------------------------------------------------------------------------------------------------


def test_codes_are_the_smoothed_moving_averages_of_appendix_a_1() -> None:
    quantizer = make(update="ema", decay=0.8, epsilon=0.01)
    counts, sums = np.ones(6), quantizer.codebook.numpy().copy()
    codebook = sums.copy()
    for batch in range(5):
        z = normal(7 + batch, 3, seed=batch)
        step(quantizer, z)
        rows = z.numpy()
        index = oracle.squared_distances(rows, codebook).argmin(axis=1)
        for code in range(6):
            won = rows[index == code]
            counts[code] = 0.8 * counts[code] + 0.2 * len(won)
            sums[code] = 0.8 * sums[code] + 0.2 * won.sum(axis=0)
        for code in range(6):
            size = (counts[code] + 0.01) / (counts.sum() + 6 * 0.01) * counts.sum()
            codebook[code] = sums[code] / size
    # Five steps, each with sums over a dozen encodings; dividing by a small count amplifies the rounding errors.
    np.testing.assert_allclose(quantizer.codebook, codebook, rtol=1e4 * EPS64, atol=1e4 * EPS64)
    np.testing.assert_allclose(quantizer.ema_counts, counts, rtol=1e4 * EPS64)


def test_codes_converge_to_the_means_of_what_they_win() -> None:
    quantizer = make(2, 1, update="ema", decay=0.5)
    quantizer.codebook.copy_(torch.tensor([[-1.0], [1.0]]))
    quantizer.ema_sums.copy_(quantizer.codebook)
    for _ in range(60):
        step(quantizer, torch.tensor([[-7.0], [-5.0], [4.0]], dtype=torch.float64))
    # The smoothing reduces the codes by a fraction of about epsilon / N_i.
    torch.testing.assert_close(quantizer.codebook.flatten().tolist(), [-6.0, 4.0], rtol=2e-5, atol=0)


def test_statistics_of_parts_add_up_to_those_of_the_whole() -> None:
    quantizer, z = make(update="ema"), normal(50, 3)
    indices = quantizer.assign(z)
    whole = quantizer.statistics(z, indices)
    parts = [quantizer.statistics(z[rows], indices[rows]) for rows in (slice(0, 13), slice(13, 13), slice(13, 50))]
    counts, sums = (sum(values) for values in zip(*parts, strict=True))
    assert whole.counts.equal(counts)
    torch.testing.assert_close(whole.sums, sums, rtol=0, atol=100 * EPS64 * z.abs().sum().item())


def test_an_empty_batch_leaves_the_codes_in_place() -> None:
    quantizer = make(update="ema")
    before = quantizer.codebook.clone()
    step(quantizer, normal(0, 3))
    # The smoothing changes the codes by a fraction of epsilon = 1e-5, with counts of 0.99.
    torch.testing.assert_close(quantizer.codebook, before, rtol=2e-5, atol=0)


def test_averages_have_the_same_bits_whatever_the_number_of_threads() -> None:
    z = torch.randn(70_000, 2, generator=torch.Generator().manual_seed(0))
    results, threads = [], torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            torch.manual_seed(0)
            quantizer = VectorQuantizer(70_000, 2, update="ema")
            indices = torch.arange(70_000).flip(0) // 3
            quantizer.update_codebook(*quantizer.statistics(z, indices))
            results.append(quantizer.codebook.clone())
    finally:
        torch.set_num_threads(threads)
    assert results[0].equal(results[1])


def test_codes_are_updated_alike_on_all_devices(device: torch.device) -> None:
    quantizers = [make(update="ema"), make(update="ema").to(device)]
    for batch in range(3):
        for quantizer in quantizers:
            step(quantizer, normal(40, 3, seed=batch).to(quantizer.codebook.device))
    # Three steps with divisions by counts of at least one.
    torch.testing.assert_close(quantizers[1].codebook.cpu(), quantizers[0].codebook, rtol=1e3 * EPS64, atol=1e3 * EPS64)


def test_the_state_of_the_averages_is_saved_and_gives_the_same_next_step() -> None:
    first, second = make(update="ema"), VectorQuantizer(6, 3, update="ema").double()
    step(first, normal(20, 3))
    second.load_state_dict(first.state_dict())
    for quantizer in (first, second):
        step(quantizer, normal(20, 3, seed=3))
    assert first.codebook.equal(second.codebook)


# ---- averages in 16 bits ---------------------------------------------------------------------------------------------

CASTS = {
    "bfloat16": lambda module: module.bfloat16(),
    "half": lambda module: module.half(),
    "to": lambda module: module.to(torch.bfloat16),
    "to like": lambda module: module.to(torch.zeros(1, dtype=torch.float16)),
    "inside of another": lambda module: torch.nn.Sequential(module).bfloat16()[0],
    "from double": lambda module: module.double().half(),
    "type": lambda module: module.type(torch.bfloat16),
}


@pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS.keys())
def test_a_cast_to_16_bits_keeps_the_averages_in_float32(
    cast: Callable[[VectorQuantizer], VectorQuantizer], device: torch.device
) -> None:
    quantizer = make(update="ema").float().to(device)
    quantizer.ema_counts.copy_(normal(6).abs())
    before = {name: getattr(quantizer, name).clone() for name in ("ema_counts", "ema_sums")}
    quantizer = cast(quantizer)
    assert quantizer.codebook.dtype.itemsize == 2
    for name, value in before.items():
        assert getattr(quantizer, name).dtype == torch.float32
        assert getattr(quantizer, name).equal(value)
        assert name in dict(quantizer.named_buffers())


def test_a_cast_to_64_bits_casts_the_averages_too() -> None:
    quantizer = make(update="ema").float().double()
    assert {value.dtype for value in quantizer.state_dict().values()} == {torch.float64}
    assert {value.dtype for value in quantizer.float().state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float32, torch.float64])
def test_averages_of_a_module_made_in_16_bits_are_float32(default: torch.dtype) -> None:
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(default)
        quantizer = VectorQuantizer(6, 3, update="ema")
    finally:
        torch.set_default_dtype(before)
    assert quantizer.codebook.dtype == default
    expected = torch.float64 if default == torch.float64 else torch.float32
    assert quantizer.ema_counts.dtype == quantizer.ema_sums.dtype == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_averages_in_16_bit_modules_stay_accurate_for_3000_batches(dtype: torch.dtype) -> None:
    quantizer = VectorQuantizer(16, 4, update="ema", decay=0.999).to(dtype)
    generator = torch.Generator().manual_seed(0)
    middles = torch.randn(16, 4, generator=generator)
    z = (middles.repeat(64, 1) + 0.1 * torch.randn(1024, 4, generator=generator)).to(dtype)
    quantizer.initialize_kmeans(z)
    counts, sums = np.ones(16), quantizer.codebook.double().numpy()
    for _ in range(3000):
        statistics = quantizer.statistics(z, quantizer(z).indices)
        quantizer.update_codebook(*statistics)
        counts = 0.999 * counts + 0.001 * statistics.counts.numpy()
        sums = 0.999 * sums + 0.001 * statistics.sums.double().numpy()
    # Each step makes a few float32 roundings, whose errors decay like the averages, so about a thousand steps count.
    tolerance = 4e3 * torch.finfo(torch.float32).eps
    np.testing.assert_allclose(quantizer.ema_counts, counts, rtol=tolerance)
    np.testing.assert_allclose(quantizer.ema_sums, sums, rtol=tolerance, atol=tolerance * np.abs(sums).max())
    assert quantizer.ema_counts.sum().item() == pytest.approx(1024 - (1024 - 16) * 0.999**3000, rel=tolerance)
    # The codes are the averages, rounded to 16 bits.
    means = sums / counts[:, None]
    eps = torch.finfo(dtype).eps
    np.testing.assert_allclose(quantizer.codebook.double(), means, rtol=2 * eps, atol=2 * eps)


def test_the_state_of_a_module_of_16_bits_is_saved_and_gives_the_same_next_step(tmp_path: Path) -> None:
    first, second = make(update="ema").bfloat16(), VectorQuantizer(6, 3, update="ema").bfloat16()
    step(first, normal(20, 3).bfloat16())
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt"))
    for quantizer in (first, copy.deepcopy(first), second):
        assert quantizer.ema_sums.dtype == quantizer.ema_counts.dtype == torch.float32
    for quantizer in (first, second):
        step(quantizer, normal(20, 3, seed=3).bfloat16())
    assert all(value.equal(second.state_dict()[name]) for name, value in first.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("assign", [True, False])
def test_loading_a_16_bit_state_keeps_the_averages_in_full_precision(dtype: torch.dtype, assign: bool) -> None:
    source = make(update="ema")
    step(source, normal(20, 3))
    state = {name: value.to(dtype) for name, value in source.state_dict().items()}
    inner = VectorQuantizer(6, 3, update="ema")
    torch.nn.Sequential(inner).load_state_dict({f"0.{name}": value for name, value in state.items()}, assign=assign)
    assert inner.codebook.dtype == (dtype if assign else torch.float32)
    expected = torch.float64 if assign and dtype == torch.float64 else torch.float32
    assert inner.ema_counts.dtype == inner.ema_sums.dtype == expected
    assert inner.ema_sums.equal(state["ema_sums"].to(expected))
    step(inner, normal(20, 3).to(inner.codebook))
    assert inner.ema_counts.dtype == expected


def test_a_state_may_be_assigned_to_a_module_without_memory() -> None:
    state = {name: value.bfloat16() for name, value in make(update="ema").state_dict().items()}
    with torch.device("meta"):
        quantizer = VectorQuantizer(6, 3, update="ema")
    quantizer.load_state_dict(state, assign=True)
    assert quantizer.ema_sums.device.type == "cpu"
    assert quantizer.ema_sums.dtype == torch.float32


# ---- start and revival -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_k_means_puts_the_codes_into_clusters_and_they_stay(update: str) -> None:
    quantizer = make(3, 2, update=update, channel_first=True)
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]], dtype=torch.float64)
    rows = middles.repeat(8, 1) + 0.1 * normal(24, 2)
    z = rows.view(4, 6, 2).movedim(-1, 1)
    quantizer.initialize_kmeans(z, seed=1)
    means = torch.stack([rows[k::3].mean(dim=0) for k in range(3)])
    order = torch.cdist(means, quantizer.codebook.detach()).argmin(dim=1)
    torch.testing.assert_close(quantizer.codebook.detach()[order], means, rtol=64 * EPS64, atol=64 * EPS64)
    if update == "ema":
        before = quantizer.codebook.clone()
        step(quantizer, z[:0])
        torch.testing.assert_close(quantizer.codebook, before, rtol=2e-5, atol=0)


def test_revived_codes_stay_in_place_until_they_win() -> None:
    quantizer = make(update="ema")
    quantizer.codebook[2] = quantizer.ema_sums[2] = 1e3  # never wins
    for batch in range(500):
        step(quantizer, normal(20, 3, seed=batch))
    assert quantizer.ema_counts[2] < 0.01
    others = [0, 1, 3, 4, 5]
    kept = quantizer.ema_counts[others].clone()
    z = normal(4, 3, seed=9)
    rows = quantizer.revive(torch.tensor([2]), z, generator=torch.Generator().manual_seed(0))
    assert rows.tolist() == [2]
    revived = quantizer.codebook[2].clone()
    assert (z == revived).all(dim=1).sum() == 1
    assert quantizer.ema_counts[2] == 1
    assert quantizer.ema_sums[2].equal(revived)
    assert quantizer.ema_counts[others].equal(kept)
    elsewhere = normal(20, 3)
    quantizer.update_codebook(*quantizer.statistics(elsewhere, torch.zeros(20, dtype=torch.int64)))
    # The smoothing moves the code by a fraction epsilon / N_i = 1e-5. If revive had not reset the averages, the update
    # would have undone the revival.
    torch.testing.assert_close(quantizer.codebook[2], revived, rtol=2e-5, atol=0)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_codes": 0}, "VectorQuantizer: num_codes must be an integer of at least 1, got 0"),
        ({"dim": 0}, "VectorQuantizer: dim must be an integer of at least 1, got 0"),
        ({"update": "sgd"}, "VectorQuantizer: update must be 'gradient' or 'ema', got 'sgd'"),
        ({"decay": 1.0}, "VectorQuantizer: decay must be a finite number of at least 0 and below 1, got 1.0"),
        ({"decay": math.nan}, "VectorQuantizer: decay must be a finite number of at least 0 and below 1, got nan"),
        ({"epsilon": 0.0}, "VectorQuantizer: epsilon must be a finite number above 0, got 0.0"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VectorQuantizer(**({"num_codes": 4, "dim": 2} | options))  # type: ignore[arg-type]


def test_impossible_calls_are_refused() -> None:
    quantizer, z = make(update="ema"), normal(4, 3)
    with pytest.raises(ValueError, match=r"VectorQuantizer: z must have shape \[..., D\] with D = 3, got \[4, 2\]"):
        quantizer(z[:, :2])
    with pytest.raises(ValueError, match=r"indices must have the shape of z without its features, \[4\], got \[3\]"):
        quantizer.statistics(z, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match="index must hold values from 0 to 5, got 6"):
        quantizer.statistics(z, torch.full((4,), 6))
    with pytest.raises(ValueError, match=r"counts must have shape \[6\], got \[5\]"):
        quantizer.update_codebook(torch.ones(5), torch.ones(6, 3))
    with pytest.raises(ValueError, match="revive: unused must hold indices from 0 to 5, got 6 to 6"):
        quantizer.revive(torch.tensor([6]), z)
    with pytest.raises(ValueError, match="update_codebook: update must be 'ema', got 'gradient'"):
        make().update_codebook(torch.ones(6), torch.ones(6, 3))
