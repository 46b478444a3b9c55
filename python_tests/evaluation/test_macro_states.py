"""Macro-states, compared with planted blocks and with all cuts of small chains, and their invariances."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from somvae_ext.evaluation import macro_states
from somvae_ext.nn import TransitionModel

Floats = NDArray[np.float64]


def planted(sizes: list[int], seed: int, leak: float = 0.02) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Returns a chain that seldom leaves its blocks, its visits, and the block of each node.

    The share of the visits decreases from block to block. The nodes are in random order.
    """
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    together = block[:, None] == block
    matrix = rng.uniform(0.5, 1.0, together.shape) * np.where(together, 1.0, leak)
    order = rng.permutation(len(block))
    visits = rng.uniform(9.0, 11.0, len(block)) / 4.0**block
    matrix, visits, block = matrix[np.ix_(order, order)], visits[order], block[order]
    return matrix / matrix.sum(axis=1, keepdims=True), visits, block


def random_chain(num_nodes: int, seed: int) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(num_nodes, 0.5), size=num_nodes), rng.uniform(0.5, 2.0, num_nodes)


def normalized_cut(matrix: Floats, visits: Floats, state: Any) -> float:
    """Returns Shi and Malik's normalized cut of the flow between different nodes."""
    flow = visits[:, None] * matrix
    flow = flow + flow.T
    np.fill_diagonal(flow, 0)
    state = np.asarray(state)
    return math.fsum(flow[state == s][:, state != s].sum() / flow[state == s].sum() for s in np.unique(state))


@given(st.lists(st.integers(3, 8), min_size=2, max_size=3), st.integers(0, 99))
def test_planted_sets_are_found_and_numbered_by_their_share(sizes: list[int], seed: int) -> None:
    matrix, visits, block = planted(sizes, seed)
    share = np.bincount(block, visits)
    place = np.argsort(np.argsort(-share))
    assert macro_states(matrix, visits, len(sizes)).tolist() == place[block].tolist()


@given(st.integers(4, 7), st.integers(0, 99))
def test_a_planted_cut_is_the_least_of_all_cuts_of_a_small_chain(num_nodes: int, seed: int) -> None:
    matrix, visits, _ = planted([2, num_nodes - 2], seed)
    cuts = [cut for cut in itertools.product((0, 1), repeat=num_nodes) if 0 < sum(cut) < num_nodes]
    least = min(normalized_cut(matrix, visits, cut) for cut in cuts)
    assert normalized_cut(matrix, visits, macro_states(matrix, visits)) == pytest.approx(least, rel=1e-12)


@given(st.integers(2, 3), st.integers(0, 99))
def test_permuted_nodes_have_permuted_states(num_states: int, seed: int) -> None:
    matrix, visits = random_chain(12, seed)
    order = np.random.default_rng(seed).permutation(12)
    states = macro_states(matrix, visits, num_states).numpy()
    assert macro_states(matrix[np.ix_(order, order)], visits[order], num_states).tolist() == states[order].tolist()
    assert set(states) == set(range(num_states))


@given(st.integers(2, 3), st.integers(0, 99))
def test_a_chain_and_its_reversal_in_time_have_the_same_states(num_states: int, seed: int) -> None:
    matrix, _ = random_chain(12, seed)
    model = TransitionModel(12).double()
    with torch.no_grad():
        model.logits.copy_(torch.from_numpy(matrix).log())
    visits = model.stationary_distribution().numpy()
    backwards = visits * matrix.T / visits[:, None]  # P(i | j) pi_j / pi_i
    np.testing.assert_allclose(backwards.sum(axis=1), 1, rtol=1e-12)
    assert macro_states(backwards, visits, num_states).equal(macro_states(matrix, visits, num_states))


def test_how_long_series_stay_in_a_node_does_not_count() -> None:
    matrix, visits, _ = planted([4, 5], 0)
    stays = np.random.default_rng(0).uniform(0.1, 0.9, 9)
    lazy = np.diag(stays) + (1 - stays)[:, None] * matrix
    # Making the visits more frequent in proportion keeps the flow between nodes the same.
    assert macro_states(lazy, visits / (1 - stays)).tolist() in (
        macro_states(matrix, visits).tolist(),
        (1 - macro_states(matrix, visits)).tolist(),  # the numbers of the states follow their shares, which do change
    )


def test_nodes_without_visits_are_ignored_whatever_their_rows() -> None:
    matrix, visits, block = planted([4, 5], 1)
    wide, times = np.full((12, 12), np.nan), np.zeros(12)
    place = [0, 1, 2, 4, 5, 6, 8, 9, 11]
    wide[place] = 0.0
    wide[np.ix_(place, place)], times[place] = matrix, visits
    states = macro_states(wide, times)
    assert states[place].equal(macro_states(matrix, visits))
    assert [node for node in range(12) if states[node] == -1] == [3, 7, 10]
    assert len(set(block[states[place] == 0])) == 1


def test_parts_without_flow_between_them_are_states_and_the_rarest_are_merged() -> None:
    matrix = np.kron(np.eye(4), np.full((2, 2), 0.5))
    visits = [1, 1, 9, 9, 2, 2, 5, 5]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert macro_states(matrix, visits, 4).tolist() == [3, 3, 0, 0, 2, 2, 1, 1]
        assert macro_states(matrix, visits, 3).tolist() == [2, 2, 0, 0, 2, 2, 1, 1]
        assert macro_states(matrix, [1, 1, 9, 9, 8, 8, 5, 5], 2).tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
        assert macro_states(np.eye(3), [1, 3, 2], 3).tolist() == [2, 0, 1]


@given(st.integers(0, 99))
def test_parts_without_flow_between_them_are_cut_further_for_more_states(seed: int) -> None:
    first, first_visits, first_block = planted([4, 3], seed)
    second, second_visits, _ = planted([5], seed)
    matrix = np.zeros((12, 12))
    matrix[:7, :7], matrix[7:, 7:] = first, second
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        states = macro_states(matrix, np.concatenate([first_visits, second_visits]), 3).tolist()
    block = [*first_block.tolist(), *[2] * 5]
    assert len(set(zip(states, block, strict=True))) == len(set(states)) == 3


def test_one_node_and_as_many_states_as_nodes_are_allowed() -> None:
    assert macro_states([[1.0]], [7], 1).tolist() == [0]
    assert macro_states(np.full((3, 3), 1 / 3), [1, 3, 2], 3).tolist() == [2, 0, 1]
    assert macro_states(np.full((3, 3), 1 / 3), [1, 3, 2], 1).tolist() == [0, 0, 0]
    assert macro_states(np.full((3, 3), 1 / 3), [0, 3, 2]).tolist() == [-1, 0, 1]


def test_chains_and_visits_may_be_arrays_of_any_kind() -> None:
    matrix, visits, _ = planted([4, 5], 2)
    counts = np.round(visits * 100).astype(np.int64)
    expected = macro_states(matrix, counts)
    assert expected.dtype == torch.int64
    tensor = torch.from_numpy(matrix)
    for chain in (matrix.tolist(), np.float32(matrix), tensor, torch.nn.Parameter(tensor), tensor.bfloat16()):
        assert macro_states(chain, torch.from_numpy(counts)).equal(expected)
    assert macro_states(matrix, counts / counts.sum()).equal(expected)


@pytest.mark.parametrize(
    ("transitions", "visits", "num_states", "message"),
    [
        (np.eye(3), [1, 0, 0], 2, "num_states must be at most the number of visited nodes, 1, got 2"),
        (np.eye(3), [0, 0, 0], 1, "num_states must be at most the number of visited nodes, 0, got 1"),
        (np.eye(3), [1, 1, 1], 0, "num_states must be an integer of at least 1, got 0"),
        (np.eye(3), [], 2, r"visits must have shape \[K\] with K of at least 1, got \[0\]"),
        (np.eye(3), [1, 1], 2, r"transitions must have shape \[K, K\] = \[2, 2\], got \[3, 3\]"),
        (np.eye(3), [1, -1, 1], 2, "visits must be finite and not negative, got -1.0"),
        (np.eye(2), [1, math.inf], 2, "visits must be finite and not negative, got inf"),
        ([[1.5, -0.5], [0, 1]], [1, 1], 2, "transitions must be finite and not negative, got -0.5"),
        ([[1, math.nan], [0, 1]], [1, 1], 2, "transitions must be finite and not negative, got nan"),
        ([[1, 0], [3, 1]], [1, 1], 2, "transitions must have rows that sum to 1, got 4 in row 1"),
        ([["a"]], [1], 1, "transitions must hold real numbers, got strings"),
    ],
)
def test_invalid_chains_are_refused(transitions: Any, visits: Any, num_states: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"macro_states: {message}"):
        macro_states(transitions, visits, num_states)
