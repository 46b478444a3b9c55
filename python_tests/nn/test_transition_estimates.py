"""Estimates from TransitionModel: counts, likelihood, stationary distribution and paths."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from somvae_ext import Grid
from somvae_ext.nn import TransitionModel, previous_in_series

EPS = torch.finfo(torch.float64).eps
# Two series of nodes; the second ends after two frames, and the rest is padding.
SERIES = torch.tensor([[0, 0, 1, 2], [2, 1, 7, 7]])
MASK = torch.tensor([[True] * 4, [True, True, False, False]])
STEPS = [(0, 0), (0, 1), (1, 2), (2, 1)]


def chain(matrix: list[list[float]]) -> TransitionModel:
    transitions = TransitionModel(len(matrix)).double()
    with torch.no_grad():
        transitions.logits.copy_(torch.tensor(matrix, dtype=torch.float64).log())
    return transitions


# ---- previous nodes --------------------------------------------------------------------------------------------------


def test_a_frame_without_a_predecessor_is_its_own_predecessor() -> None:
    assert previous_in_series(SERIES).tolist() == [[0, 0, 0, 1], [2, 2, 1, 7]]
    hole = torch.tensor([[True, False, True, True], [True] * 4])
    assert previous_in_series(SERIES, hole).tolist() == [[0, 0, 1, 1], [2, 2, 1, 7]]
    assert previous_in_series(SERIES[:, :1]).tolist() == [[0], [2]]


# ---- counts and likelihood -------------------------------------------------------------------------------------------


def test_counts_are_those_of_the_steps_within_series() -> None:
    transitions = TransitionModel(3).double()
    assert transitions.fit_counts(SERIES, MASK, pseudocount=0.5) is transitions
    expected = torch.full((3, 3), 0.5, dtype=torch.float64)
    for i, j in STEPS:
        expected[i, j] += 1
    torch.testing.assert_close(transitions.matrix(), expected / expected.sum(dim=1, keepdim=True))


def test_without_pseudocounts_it_is_the_maximum_likelihood_estimate() -> None:
    torch.manual_seed(0)
    series = torch.randint(5, (8, 30))
    best = TransitionModel(5).double().fit_counts(series, pseudocount=0)
    least = best.negative_log_likelihood(series).item()
    for _ in range(20):
        with torch.no_grad():
            other = TransitionModel(5).double()
            other.logits.copy_(best.logits + 0.3 * torch.randn(5, 5, dtype=torch.float64))
        assert other.negative_log_likelihood(series).item() > least


def test_nodes_that_were_never_left_are_uniform_and_unseen_steps_impossible() -> None:
    transitions = TransitionModel(4).fit_counts(torch.tensor([[0, 1, 1, 2]]), pseudocount=0)
    assert transitions.matrix()[2:].unique().tolist() == [0.25]
    assert transitions.matrix()[0].tolist() == [0, 1, 0, 0]
    assert transitions.negative_log_likelihood(torch.tensor([[0, 2]])).item() == math.inf


def test_the_likelihood_is_a_mean_over_steps_and_leaves_first_frames_out() -> None:
    torch.manual_seed(0)
    transitions = TransitionModel(8).double()
    torch.nn.init.normal_(transitions.logits)
    log_matrix = transitions.matrix().log()
    expected = -sum(log_matrix[i, j] for i, j in STEPS) / len(STEPS)
    got = transitions.negative_log_likelihood(SERIES, MASK)
    torch.testing.assert_close(got, expected)
    got.backward()
    assert transitions.logits.grad is not None
    assert transitions.logits.grad[3:].abs().max() == 0  # nodes that no step leaves


def test_series_frozen_in_time_give_a_diagonal_matrix() -> None:
    frozen = torch.arange(6)[:, None].expand(6, 50)
    assert TransitionModel(6).fit_counts(frozen, pseudocount=0.01).matrix().diagonal().min() > 0.99


@pytest.mark.parametrize(
    ("series", "mask"),
    [
        (SERIES[:, :1], None),
        (SERIES[:0], None),
        (SERIES, torch.zeros(2, 4, dtype=torch.bool)),
        (SERIES, torch.tensor([[True, False, True, False]] * 2)),
    ],
)
def test_series_without_a_step_have_no_likelihood_and_no_counts(series: Tensor, mask: Tensor | None) -> None:
    transitions = TransitionModel(8)
    with pytest.raises(ValueError, match="indices must hold at least one step"):
        transitions.negative_log_likelihood(series, mask)
    assert transitions.fit_counts(series, mask, pseudocount=0).matrix().unique().tolist() == [0.125]


def test_learning_from_steps_converges_to_the_counted_model() -> None:
    torch.manual_seed(0)
    truth = chain([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    series = truth.sample_paths(torch.zeros(20, dtype=torch.int64), 40)
    learned, counted = TransitionModel(3), TransitionModel(3).fit_counts(series, pseudocount=0)
    optimizer = torch.optim.Adam(learned.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        learned.negative_log_likelihood(series).backward()
        optimizer.step()
    assert (learned.matrix() - counted.matrix()).abs().max() < 1e-3


def test_2000_steps_at_rate_0_05_keep_the_logits_finite() -> None:
    """The published code takes exp without subtracting the maximum, and log of zero, which gives NaN."""
    torch.manual_seed(0)
    transitions = TransitionModel(4)
    prev, cur = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 2, 3, 0])  # certain steps drive the logits to infinity
    z, codebook = torch.randn(4, 2), torch.randn(4, 2)
    optimizer = torch.optim.Adam(transitions.parameters(), lr=0.05)
    for _ in range(2000):
        optimizer.zero_grad()
        loss = (
            transitions.expected_distance(prev, z, codebook).mean() / 4
            - 1.8**2 * transitions.log_prob(prev, cur).mean()
        )
        loss.backward()
        optimizer.step()
    assert loss.isfinite()
    assert transitions.logits.isfinite().all()
    assert transitions.matrix()[prev, cur].min() > 0.99


# ---- stationary distribution -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7])
def test_the_stationary_distribution_is_invariant_under_the_chain(size: int) -> None:
    torch.manual_seed(size)
    transitions = TransitionModel(size).double()
    torch.nn.init.normal_(transitions.logits, std=3)
    share = transitions.stationary_distribution()
    assert share.dtype == torch.float64
    assert share.sum().item() == pytest.approx(1, abs=size * EPS)
    # The elimination is accurate entry by entry, up to a few roundings per node.
    torch.testing.assert_close(share @ transitions.matrix(), share, rtol=100 * size * EPS, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["dense", "local"])
def test_matrix_and_stationary_distribution_have_the_same_dtype(kind: str, dtype: torch.dtype) -> None:
    grid = Grid(3, 4)
    transitions = TransitionModel(grid, kind=kind, radius=1 if kind == "local" else None).to(dtype)  # type: ignore[arg-type]
    torch.nn.init.normal_(transitions.logits)
    series = torch.randint(12, (2, 9), generator=torch.Generator().manual_seed(0))
    matrix, share, expected = (
        transitions.matrix(),
        transitions.stationary_distribution(),
        torch.promote_types(dtype, torch.float32),
    )
    prev, cur = series[:, :-1], series[:, 1:]
    z, codebook = torch.randn(2, 8, 3, dtype=dtype), torch.randn(12, 3, dtype=dtype)
    given = [matrix, share, transitions.rows(prev), transitions.log_prob(prev, cur)]
    given += [transitions.expected_distance(prev, z, codebook), transitions.negative_log_likelihood(series)]
    given += transitions.losses(prev, cur, z, codebook)
    assert {values.dtype for values in given} == {expected}
    eps = torch.finfo(expected).eps
    torch.testing.assert_close(share @ matrix, share, rtol=100 * eps, atol=0)
    torch.testing.assert_close(matrix[prev, cur].log(), transitions.log_prob(prev, cur), rtol=20 * eps, atol=20 * eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_stationary_distribution_is_computed_in_float64_and_rounded_once(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    transitions = TransitionModel(7).to(dtype)
    torch.nn.init.normal_(transitions.logits, std=3)
    exact = copy.deepcopy(transitions).double().stationary_distribution()
    assert transitions.stationary_distribution().equal(exact.float())


def test_the_gradient_of_a_bfloat16_matrix_is_bfloat16() -> None:
    transitions = TransitionModel(4).bfloat16()
    transitions.matrix()[0, 1].backward()
    assert transitions.logits.grad is not None
    assert transitions.logits.grad.dtype == torch.bfloat16
    torch.testing.assert_close(transitions.logits.grad[0].tolist(), [-0.0625, 0.1875, -0.0625, -0.0625])


def test_a_chain_that_hardly_ever_moves_has_an_accurate_stationary_distribution() -> None:
    leave, back = 1e-13, 3e-13  # 1 - 1e-13 preserves only three digits of 1e-13
    share = chain([[1 - leave, leave], [back, 1 - back]]).stationary_distribution()
    # Rounding the logarithms of the chain changes probabilities relatively by eps * |log 1e-13|, less than 60 epsilons.
    torch.testing.assert_close(share, torch.tensor([0.75, 0.25], dtype=torch.float64), rtol=200 * EPS, atol=0)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[0, 1], [1, 0]], [0.5, 0.5]),  # periodic: the fraction of time, not a limit of the powers
        ([[1, 0], [0, 1]], [0.5, 0.5]),  # two parts, each reached from half of the starts
        ([[0, 1, 0], [0, 0, 1], [0, 0, 1]], [0, 0, 1]),  # an absorbing node
        ([[1, 0, 0], [0.75, 0, 0.25], [0, 0, 1]], [(1 + 0.75) / 3, 0, (1 + 0.25) / 3]),  # two absorbing nodes
        ([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 1, 0]], [0.25, 0.25, 1 / 3, 1 / 6]),
        ([[0.5, 0.5, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]], [1 / 3] * 3),  # zeros, but all nodes communicate
    ],
)
def test_chains_with_impossible_steps_have_the_long_run_distribution_of_a_uniform_start(
    matrix: list[list[float]], expected: list[float]
) -> None:
    share = chain(matrix).stationary_distribution()
    assert share.tolist() == pytest.approx(expected, rel=100 * EPS)
    assert [value == 0 for value in share.tolist()] == [value == 0 for value in expected]


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_paths_begin_at_their_start_and_take_possible_steps() -> None:
    ring = chain([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert ring.sample_paths(1, 4).tolist() == [1, 2, 0, 1, 2]
    start = torch.tensor([[0, 1], [2, 2]])
    assert ring.sample_paths(start, 0).equal(start[..., None])
    assert ring.sample_paths(start, 3)[1, 0].tolist() == [2, 0, 1, 2]
    assert ring.sample_paths(start[:0], 3).shape == (0, 2, 4)


def test_a_draw_of_zero_never_takes_an_impossible_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.rand", lambda shape, **options: torch.zeros(shape, dtype=torch.float64))
    assert chain([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).sample_paths(0, 3).tolist() == [0, 1, 2, 0]


def test_a_seed_repeats_a_path() -> None:
    transitions = TransitionModel(10)
    paths = [transitions.sample_paths(0, 30, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert paths[0].dtype == torch.int64
    assert paths[0].equal(paths[1])
    assert not paths[0].equal(paths[2])


def test_sampled_steps_have_the_probabilities_of_the_matrix() -> None:
    row = torch.tensor([0.1, 0.0, 0.6, 0.3], dtype=torch.float64)
    transitions = chain([row.tolist()] * 4)
    draws = 20_000
    generator = torch.Generator().manual_seed(0)
    node = transitions.sample_paths(torch.zeros(draws, dtype=torch.int64), 1, generator=generator)[:, 1]
    share = torch.bincount(node, minlength=4) / draws
    # Five standard deviations of a binomial proportion.
    assert ((share - row).abs() <= 5 * (row * (1 - row) / draws).sqrt()).all()


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_invalid_arguments_are_refused() -> None:
    transitions = TransitionModel(3)
    with pytest.raises(ValueError, match="pseudocount must be a finite number of at least 0, got -1"):
        transitions.fit_counts(SERIES, MASK, pseudocount=-1)
    with pytest.raises(ValueError, match="fit_counts: indices must hold nodes from 0 to 2, got 7"):
        transitions.fit_counts(SERIES, pseudocount=1)
    with pytest.raises(
        ValueError, match=r"indices must be of dtype int64 and shape \[B, T\], got torch.int64 and \[4\]"
    ):
        transitions.negative_log_likelihood(SERIES[0])
    with pytest.raises(ValueError, match=r"mask must be of dtype bool and the shape of indices, \[2, 4\]"):
        transitions.fit_counts(SERIES, MASK[:1], pseudocount=1)
    with pytest.raises(ValueError, match=r"TransitionModel\.sample_paths: start must hold nodes from 0 to 2, got -1"):
        transitions.sample_paths(-1, 2)
    with pytest.raises(
        ValueError, match=r"TransitionModel\.sample_paths: start must be of dtype int64, got torch\.float32"
    ):
        transitions.sample_paths(torch.zeros(2), 2)
    with pytest.raises(ValueError, match="num_steps must be at least 0, got -2"):
        transitions.sample_paths(0, -2)
