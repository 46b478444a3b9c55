"""The persistence forecast, that series stay in their node, compared with its definition and with an equal chain."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.evaluation import persistence_nll
from somvae_ext.nn import TransitionModel


def steps_by_loops(indices: Any, mask: Any) -> list[tuple[int, int]]:
    return [
        (row[t - 1], row[t])
        for row, real in zip(np.asarray(indices).tolist(), np.asarray(mask).tolist(), strict=True)
        for t in range(1, len(row))
        if real[t - 1] and real[t]
    ]


def nll_by_loops(train: list[tuple[int, int]], steps: list[tuple[int, int]], num_nodes: int) -> float:
    p = (sum(i == j for i, j in train) + 1) / (len(train) + 2)
    terms = [-math.log(p if i == j else (1 - p) / (num_nodes - 1)) for i, j in steps]
    return math.fsum(terms) / len(terms) if terms else math.nan


def series(num_nodes: int, shape: tuple[int, int], rng: np.random.Generator) -> tuple[Any, Any]:
    return rng.integers(num_nodes, size=shape), rng.random(shape) < 0.8


@given(st.integers(2, 6), st.integers(0, 99))
def test_the_likelihood_equals_its_definition(num_nodes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (train, train_mask), (test, mask) = series(num_nodes, (3, 6), rng), series(num_nodes, (2, 4), rng)
    expected = nll_by_loops(steps_by_loops(train, train_mask), steps_by_loops(test, mask), num_nodes)
    anything = np.where(mask, test, -7), np.where(train_mask, train, 99)
    result = persistence_nll(anything[1], anything[0], num_nodes, train_mask, mask)
    assert result == pytest.approx(expected, rel=1e-12, nan_ok=True)
    everything = np.ones_like(train_mask), np.ones_like(mask)
    expected = nll_by_loops(steps_by_loops(train, everything[0]), steps_by_loops(test, everything[1]), num_nodes)
    assert persistence_nll(train, test, num_nodes) == pytest.approx(expected, rel=1e-12)


def test_the_likelihood_equals_that_of_a_chain_with_the_same_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randint(5, (4, 20), generator=generator), torch.randint(5, (3, 9), generator=generator)
    stay = (int((train[:, 1:] == train[:, :-1]).sum()) + 1) / (4 * 19 + 2)
    chain = TransitionModel(5).double()
    with torch.no_grad():
        chain.logits.copy_(((1 - stay) / 4 * (1 - torch.eye(5)) + stay * torch.eye(5)).log())
    expected = chain.negative_log_likelihood(test).item()
    assert persistence_nll(train, test, 5) == pytest.approx(expected, rel=1e-6)  # the chain's probabilities are float32


def test_steps_that_never_occurred_in_training_stay_possible() -> None:
    assert persistence_nll([[0, 0, 0]], [[0, 1]], 2) == pytest.approx(math.log(4))
    assert persistence_nll([[0]], [[1, 1]], 9) == pytest.approx(math.log(2))
    assert persistence_nll(np.zeros((0, 3), int), [[1, 2]], 9) == pytest.approx(math.log(2 * 8))


def test_one_node_is_certain_and_without_a_step_there_is_no_likelihood() -> None:
    assert persistence_nll([[0, 0]], [[0, 0, 0]], 1) == 0
    assert math.isnan(persistence_nll([[0, 0]], [[0], [0]], 1))
    assert math.isnan(persistence_nll([[0, 1]], [[0, 1]], 2, mask=[[True, False]]))


def test_invalid_series_of_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="persistence_nll: train_indices must hold values from 0 to 1, got 2"):
        persistence_nll([[0, 2]], [[0, 1]], 2)
    with pytest.raises(ValueError, match="persistence_nll: indices must hold values from 0 to 1, got 2"):
        persistence_nll([[0, 1]], [[0, 2]], 2)
    with pytest.raises(ValueError, match=r"train_mask must have the shape of train_indices, \[1, 2\], got \[1\]"):
        persistence_nll([[0, 1]], [[0, 1]], 2, train_mask=[True])
    with pytest.raises(ValueError, match=r"persistence_nll: mask must have the shape of indices, \[1, 2\], got \[1\]"):
        persistence_nll([[0, 1]], [[0, 1]], 2, mask=[True])
    with pytest.raises(ValueError, match="persistence_nll: num_nodes must be an integer of at least 1, got 0"):
        persistence_nll([[0, 1]], [[0, 1]], 0)
