"""Results are bitwise equal for any run, number of threads and other rows of the batch. Native only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from calls import DIFFERENTIABLE_CALLS, GRID, Call, assert_same_bits, make_calls, make_inputs, run
from cases import integers, normal

from somvae_ext import Grid, ops

# Enough work in each forward and backward pass for three threads; small inputs use a single thread.
LARGE_GRID = Grid(15, 16, topology="hexagonal")
LARGE_CALLS = make_calls(LARGE_GRID)
ROWS, DIM = 4096, 160

every_large_call = pytest.mark.parametrize("call", LARGE_CALLS.values(), ids=LARGE_CALLS)


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@every_large_call
def test_ten_runs(call: Call, device: torch.device) -> None:
    inputs = make_inputs(ROWS, DIM, LARGE_GRID, device=device)
    first = run(call.function, inputs, call.differentiable)
    for _ in range(9):
        for expected, actual in zip(first, run(call.function, inputs, call.differentiable), strict=True):
            assert_same_bits(actual, expected)


@every_large_call
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("_threads_restored")
def test_any_number_of_threads(call: Call, dtype: torch.dtype) -> None:
    inputs = make_inputs(ROWS, DIM, LARGE_GRID, dtype=dtype)
    torch.set_num_threads(1)
    one = run(call.function, inputs, call.differentiable)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        for expected, actual in zip(one, run(call.function, inputs, call.differentiable), strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.usefixtures("_threads_restored")
def test_many_codes_and_any_number_of_threads() -> None:
    z, codebook = normal(700, 33, seed=1), normal(3001, 33, seed=2)
    torch.set_num_threads(1)
    one = ops.bmu(z, codebook, 2)
    for threads in (2, 3):
        torch.set_num_threads(threads)
        assert_same_bits(ops.bmu(z, codebook, 2), one)


@pytest.mark.parametrize(
    ("rows", "segments", "dim"),
    [(400_000, 64, 3), (5_000, 20, 130), (40_000, 70_000, 16)],  # chunks of rows, slices of features, sorted rows
)
@pytest.mark.usefixtures("_threads_restored")
def test_segment_sum_and_any_number_of_threads(rows: int, segments: int, dim: int) -> None:
    x, index = normal(rows, dim, seed=1), integers(rows, seed=2, below=segments)
    torch.set_num_threads(1)
    one = ops.segment_sum(x, index, segments)
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert_same_bits(ops.segment_sum(x, index, segments), one)


@pytest.mark.parametrize("dim", [3, 65, 200])  # less than a vector, items of unequal size, several panels
@pytest.mark.usefixtures("_threads_restored")
def test_som_update_and_any_number_of_threads(dim: int) -> None:
    nodes, side = 48 * 48, 48
    codebook, total = normal(nodes, dim, seed=1), normal(nodes, dim, seed=2)
    count = integers(nodes, seed=3, below=9)
    dense = normal(600, nodes, seed=4, dtype=torch.float64).abs()
    axes = ops.AxisWeights(
        normal(side, side, seed=5, dtype=torch.float64).abs(),
        normal(2, 2, side, side, seed=6, dtype=torch.float64).abs(),
    )

    def update() -> list[torch.Tensor]:
        return [ops.som_update(codebook[:600], total, count, dense), ops.som_update(codebook, total, count, axes)]

    torch.set_num_threads(1)
    one = update()
    for threads in (2, 3, 7):
        torch.set_num_threads(threads)
        assert_same_bits(update(), one)


def test_som_update_of_blocks_of_targets_equals_that_of_all(device: torch.device) -> None:
    codebook, total = normal(700, 37, seed=1, device=device), normal(300, 37, seed=2, device=device)
    count = integers(300, seed=3, below=9, device=device)
    weights = normal(700, 300, seed=4, dtype=torch.float64, device=device).abs()
    together = ops.som_update(codebook, total, count, weights)
    for start, stop in ((0, 1), (1, 4), (5, 72), (72, 700)):
        part = ops.som_update(codebook[start:stop], total, count, weights[start:stop])
        assert_same_bits([part], [together[start:stop]])


def test_som_update_with_equal_counts_for_each_feature_equals_that_with_one_count(device: torch.device) -> None:
    inputs = make_inputs(device=device)
    codebook, total, count = inputs["codebook"], inputs["total"], inputs["count"]
    axes = ops.AxisWeights(inputs["row_weights"], inputs["column_weights"])
    for weights in (inputs["weights"], axes):
        expected = ops.som_update(codebook, total, count, weights)
        for form in (
            count.float(),
            count.double(),
            count[:, None].expand_as(total),
            count[:, None].expand_as(total) * 1.0,
        ):
            assert_same_bits([ops.som_update(codebook, total, form, weights)], [expected])


ROWWISE = {name: call for name, call in DIFFERENTIABLE_CALLS.items() if name != "segment_sum"}


@pytest.mark.parametrize("call", ROWWISE.values(), ids=ROWWISE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_result_of_a_row_does_not_depend_on_the_others(call: Call, device: torch.device, dtype: torch.dtype) -> None:
    inputs = make_inputs(67, 19, dtype=dtype, device=device)
    together = call.function(inputs)
    order = torch.randperm(67, generator=torch.Generator().manual_seed(0)).to(device)
    per_row = ("z", "index", "prev")

    def of_rows(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return call.function({name: t[rows] if name in per_row else t for name, t in inputs.items()})

    assert_same_bits(of_rows(order), [output[order] for output in together])
    for row in range(0, 67, 11):
        assert_same_bits(of_rows(order[row : row + 1]), [output[order[row : row + 1]] for output in together])


@pytest.mark.parametrize("codes", [1, 12, 130, 2050])
def test_winner_does_not_depend_on_the_other_rows(device: torch.device, codes: int) -> None:
    z, codebook = normal(150, 37, seed=1, device=device), normal(codes, 37, seed=2, device=device)
    together = ops.bmu(z, codebook)
    for rows in (slice(0, 1), slice(3, 4), slice(5, 12), slice(17, 82), slice(149, 150)):
        assert_same_bits(ops.bmu(z[rows], codebook), [output[rows] for output in together])


def test_winners_do_not_depend_on_the_order_of_the_codes(device: torch.device) -> None:
    """There are no ties. The distances are bitwise equal, because a score is one sum in the order of the features."""
    z, codebook = normal(150, 37, seed=1, device=device), normal(300, 37, seed=2, device=device)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(0)).to(device)
    shuffled, straight = ops.bmu(z, codebook[order]), ops.bmu(z, codebook)
    assert torch.equal(order[shuffled.index], straight.index)
    assert torch.equal(shuffled.distance, straight.distance)


def test_the_grid_of_these_tests_has_borders_and_rows_of_both_parities() -> None:
    assert (GRID.neighbors() == -1).any()
    assert GRID.rows > 2


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("dim", [481, 784])
def test_more_threads_than_there_is_work_for(dim: int) -> None:
    """Some threads get an empty share of the features."""
    x, index = torch.randn(1000, dim), torch.arange(1000) % 10
    torch.set_num_threads(1)
    expected = ops.segment_sum(x, index, 10)
    torch.set_num_threads(48)
    found = ops.segment_sum(x, index, 10)
    assert torch.equal(found.sum, expected.sum)
    assert torch.equal(found.count, expected.count)
