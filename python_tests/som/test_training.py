"""Tests of epochs and steps against the rules written as loops."""

from __future__ import annotations

import map_oracle
import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.som import (
    ArrayRows,
    Chunk,
    EpochRecord,
    Metric,
    RowFormat,
    assign,
    early_stopping,
    minibatch_step,
    node_sums,
    train_batch,
    train_minibatch,
)

FLOAT64 = torch.float64


def draw(rows: int, dim: int, seed: int = 0, gaps: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, dim, dtype=FLOAT64, generator=generator)
    missing = torch.rand(rows, dim, generator=generator) < gaps
    missing[:, 0] = False
    return x.masked_fill(missing, torch.nan)


def source(x: Tensor, weight: Tensor | None = None) -> ArrayRows:
    row_format = RowFormat(x.dtype, torch.device("cpu"), missing="ignore")
    return ArrayRows(x, row_format, None if weight is None else weight.numpy())


def neighborhood(grid: Grid, name: str, sigma: float) -> np.ndarray:
    return map_oracle.neighborhood(
        name, map_oracle.grid_distances(grid.rows, grid.cols, grid.topology, grid.periodic), sigma
    )


GRIDS = st.sampled_from(
    [
        Grid(1, 1),
        Grid(3, 4),
        Grid(5, 2),
        Grid(4, 3, "hexagonal"),
        Grid(4, 3, "hexagonal", True),
        Grid(2, 1, periodic=True),
    ]
)


@given(
    grid=GRIDS,
    name=st.sampled_from(["gaussian", "fastsom_gaussian", "bubble", "triangle"]),
    metric=st.sampled_from(["euclidean", "manhattan", "cosine"]),
    rows=st.integers(1, 30),
    gaps=st.sampled_from([0.0, 0.3]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
def test_epochs_follow_the_batch_rule(
    grid: Grid, name: str, metric: str, rows: int, gaps: float, weighted: bool, seed: int
) -> None:
    x, codebook = draw(rows, 3, seed, gaps), draw(grid.num_nodes, 3, seed + 1)
    weight = torch.randint(0, 3, (rows,), generator=torch.Generator().manual_seed(seed)).double() if weighted else None
    if weight is not None:
        weight[0] = 1.0
    trained, (record,) = train_batch(
        source(x, weight),
        codebook,
        grid,
        metric=Metric(metric),  # type: ignore[arg-type]
        neighborhood=name,
        num_epochs=1,
        sigma=lambda _: 1.3,
    )
    mass = np.ones(rows) if weight is None else weight.numpy()
    distances = map_oracle.distances(metric, x.numpy(), codebook.numpy())
    winners = distances.argmin(axis=1)
    margins = np.diff(np.sort(distances, axis=1)[:, :2], axis=1)
    assume((margins > 1e-12).all())  # rows with a single value have equal angles to many codes, up to rounding
    expected = map_oracle.batch_epoch(x.numpy(), codebook.numpy(), winners, neighborhood(grid, name, 1.3), mass)
    # Weighted means of values of size up to 4 over at most 30 rows, with weights as small as exp(-20).
    np.testing.assert_allclose(trained, expected, rtol=1e-9, atol=1e-9)
    assert record["quantization_error"] == pytest.approx(mass @ distances.min(axis=1) / mass.sum(), abs=1e-7)


def test_each_epoch_continues_from_the_previous_codes_with_its_own_width() -> None:
    x, codebook, grid = draw(200, 3), draw(12, 3, 1), Grid(3, 4)
    sigmas = [2.0, 1.2, 0.6]
    trained, history = train_batch(
        source(x),
        codebook,
        grid,
        metric=Metric(),
        neighborhood="gaussian",
        num_epochs=3,
        sigma=sigmas.__getitem__,
    )
    expected = codebook.numpy()
    for sigma in sigmas:
        winners = map_oracle.distances("euclidean", x.numpy(), expected).argmin(axis=1)
        expected = map_oracle.batch_epoch(x.numpy(), expected, winners, neighborhood(grid, "gaussian", sigma))
    np.testing.assert_allclose(trained, expected, rtol=1e-10, atol=1e-10)
    assert [record["sigma"] for record in history] == sigmas
    assert [record["epoch"] for record in history] == [1, 2, 3]


@given(
    grid=GRIDS,
    name=st.sampled_from(["gaussian", "mexican_hat", "bubble", "triangle"]),
    rows=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_a_mini_batch_step_follows_the_on_line_rule(grid: Grid, name: str, rows: int, seed: int) -> None:
    x, codebook = draw(rows, 3, seed), draw(grid.num_nodes, 3, seed + 1)
    result = minibatch_step(codebook, x, grid, metric=Metric(), neighborhood=name, alpha=0.4, sigma=1.3)
    winners = map_oracle.distances("euclidean", x.numpy(), codebook.numpy()).argmin(axis=1)
    expected = map_oracle.step(x.numpy(), codebook.numpy(), winners, neighborhood(grid, name, 1.3), 0.4)
    np.testing.assert_allclose(result.codebook, expected, rtol=1e-11, atol=1e-11)
    assert result.index.tolist() == winners.tolist()


def test_chunk_sizes_change_results_only_by_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    x, codebook, grid = draw(500, 4), draw(12, 4, 1), Grid(3, 4)

    def trained() -> Tensor:
        codes, _ = train_batch(
            source(x), codebook, grid, metric=Metric(), neighborhood="gaussian", num_epochs=4, sigma=lambda _: 1.0
        )
        return codes

    whole = trained()
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES", 4 * 33)
    torch.testing.assert_close(trained(), whole, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_are_bit_identical_for_any_number_of_threads(dtype: torch.dtype) -> None:
    x, codebook, grid = draw(3000, 20).to(dtype), draw(48, 20, 1).to(dtype), Grid(8, 6, "hexagonal")
    results = []
    threads = torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            codes, history = train_batch(
                source(x),
                codebook,
                grid,
                metric=Metric(),
                neighborhood="gaussian",
                num_epochs=3,
                sigma=lambda epoch: 3.0 - epoch,
                track_topographic_error=True,
            )
            results.append((codes, history))
    finally:
        torch.set_num_threads(threads)
    for codes, history in results[1:]:
        assert codes.equal(results[0][0])
        assert [r["topographic_error_6"] for r in history] == [r["topographic_error_6"] for r in results[0][1]]


def test_topographic_error_counts_rows_whose_two_best_nodes_are_not_neighbors() -> None:
    grid = Grid(1, 4)
    codebook = torch.tensor([[0.0], [2.0], [1.0], [9.0]])
    x = torch.tensor([[0.1], [1.9], [1.2], [8.0]])  # best and second-best nodes: (0, 2), (1, 2), (2, 1), (3, 1)
    _, (record,) = train_batch(
        source(x),
        codebook,
        grid,
        metric=Metric(),
        neighborhood="gaussian",
        num_epochs=1,
        sigma=lambda _: 1.0,
        track_topographic_error=True,
    )
    assert record["topographic_error_8"] == 0.5
    assert record["quantization_error"] == pytest.approx((0.1 + 0.1 + 0.2 + 1.0) / 4)


def test_sums_of_five_million_rows_are_rounded_once() -> None:
    rows = 5_000_000
    x = torch.full((rows, 1), 1.1)
    total, count = node_sums(x, torch.zeros(rows, dtype=torch.int64), 2)
    assert count.dtype == torch.int64
    assert count.tolist() == [rows, 0]
    # The sum is rounded once; float32 accumulation would be wrong in the third digit.
    exact = rows * torch.tensor(1.1).double().item()
    assert abs(total[0, 0].item() - exact) <= exact * torch.finfo(torch.float32).eps / 2


def test_counts_with_weights_or_gaps_are_exact_beyond_the_float32_integers() -> None:
    rows = (1 << 24) + 1
    x = torch.ones(rows, 1)
    index = torch.zeros(rows, dtype=torch.int64)
    weighted = node_sums(x, index, 1, weight=torch.ones(rows, dtype=FLOAT64))
    with_gaps = node_sums(x, index, 1, has_gaps=True)
    assert weighted.count.tolist() == [rows]
    assert with_gaps.count.tolist() == [[rows]]


def test_a_mini_batch_epoch_is_a_sequence_of_steps() -> None:
    x, codebook, grid = draw(30, 3), draw(6, 3, 1), Grid(2, 3)
    trained, history = train_minibatch(
        lambda: [Chunk(part, None) for part in x.split(8)],
        codebook,
        grid,
        metric=Metric(),
        neighborhood="gaussian",
        num_epochs=2,
        alpha=[0.5, 0.1].__getitem__,
        sigma=[1.0, 0.5].__getitem__,
    )
    expected, errors = codebook, []
    for alpha, sigma in ((0.5, 1.0), (0.1, 0.5)):
        distances = []
        for part in x.split(8):
            result = minibatch_step(
                expected, part, grid, metric=Metric(), neighborhood="gaussian", alpha=alpha, sigma=sigma
            )
            expected = result.codebook
            distances.append(result.distance)
        errors.append(torch.cat(distances).mean().item())
    assert trained.equal(expected)
    assert [record["quantization_error"] for record in history] == pytest.approx(errors)
    assert [record["alpha"] for record in history] == [0.5, 0.1]


def test_early_stopping_ends_when_the_error_no_longer_falls() -> None:
    errors = [9.0, 5.0, 4.0, 3.999, 3.998, 3.0]
    history: list[EpochRecord] = [{"quantization_error": error} for error in errors]
    stop = early_stopping(tol=0.01, patience=2)
    assert [stop(history[: n + 1]) for n in range(len(errors))] == [False, False, False, False, True, False]


def test_early_stopping_ends_at_a_constant_error_and_ignores_the_first_error() -> None:
    stop = early_stopping(tol=0.0, patience=2)
    assert stop([{"quantization_error": 1.0}] * 4)
    assert not stop([{"quantization_error": error} for error in (0.1, 5.0, 4.0, 3.0, 2.0)])


def test_chunks_are_accumulated_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first row is 2^24, to which float32 could not add the ones that follow."""
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES_WITH_GAPS", 1)
    x = torch.ones(1001, 1)
    x[0] = 2.0**24
    codes, _ = train_batch(
        source(x),
        torch.zeros(1, 1),
        Grid(1, 1),
        metric=Metric(),
        neighborhood="gaussian",
        num_epochs=1,
        sigma=lambda _: 1.0,
    )
    assert codes.item() == pytest.approx((2.0**24 + 1000) / 1001, rel=1e-7)


def test_assign_returns_all_winners_and_the_weighted_error() -> None:
    x, codebook, grid = draw(50, 3), draw(6, 3, 1), Grid(2, 3)
    weight = torch.arange(50).double()
    found = assign(source(x, weight), codebook, grid, Metric("manhattan"))
    distances = map_oracle.distances("manhattan", x.numpy(), codebook.numpy())
    assert found.index.tolist() == distances.argmin(axis=1).tolist()
    assert found.quantization_error == pytest.approx(weight.numpy() @ distances.min(axis=1) / weight.sum().item())


@pytest.mark.parametrize("alpha", [-0.1, float("nan")])
def test_an_invalid_learning_rate_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number of at least 0"):
        minibatch_step(
            draw(4, 2), draw(3, 2), Grid(2, 2), metric=Metric(), neighborhood="gaussian", alpha=alpha, sigma=1.0
        )
