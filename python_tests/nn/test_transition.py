"""TransitionModel: probabilities, shapes and errors."""

from __future__ import annotations

import math

import pytest
import torch

from somvae_ext.nn import TransitionModel


def random_model(num_nodes: int) -> TransitionModel:
    torch.manual_seed(0)
    transitions = TransitionModel(num_nodes).double()
    torch.nn.init.normal_(transitions.logits)
    return transitions


def test_all_steps_are_equally_likely_at_the_start() -> None:
    transitions = TransitionModel(5)
    assert transitions.matrix().tolist() == pytest.approx(torch.full((5, 5), 0.2))
    assert transitions.log_prob(torch.tensor(2), torch.tensor(3)).item() == pytest.approx(-math.log(5))


def test_log_prob_reads_the_matrix_for_any_leading_shape() -> None:
    transitions = random_model(4)
    prev, cur = torch.randint(4, (2, 3, 5)), torch.randint(4, (2, 3, 5))
    weights = transitions.logits.detach().exp()
    expected = (weights / weights.sum(dim=1, keepdim=True))[prev, cur].log()
    torch.testing.assert_close(transitions.log_prob(prev, cur), expected)


def test_expected_distance_is_the_expectation_under_the_row() -> None:
    transitions = random_model(4)
    prev, z, codebook = torch.randint(4, (2, 3)), torch.randn(2, 3, 5).double(), torch.randn(4, 5).double()
    expected = torch.empty(2, 3, dtype=torch.float64)
    for b in range(2):
        for t in range(3):
            row = transitions.matrix()[prev[b, t]]
            expected[b, t] = sum(row[j] * ((z[b, t] - codebook[j]) ** 2).sum() for j in range(4)).item()
    torch.testing.assert_close(transitions.expected_distance(prev, z, codebook), expected)


def test_rows_of_the_matrix_sum_to_one() -> None:
    torch.testing.assert_close(random_model(6).matrix().sum(dim=1), torch.ones(6, dtype=torch.float64))


def test_shapes_that_do_not_fit_are_refused() -> None:
    transitions = TransitionModel(4)
    with pytest.raises(ValueError, match=r"cur must have the shape of prev, \[3\], got \[2\]"):
        transitions.log_prob(torch.zeros(3, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"prev must have the leading shape of z, \[3\], got \[2\]"):
        transitions.expected_distance(torch.zeros(2, dtype=torch.int64), torch.zeros(3, 5), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="nodes must be an integer of at least 1, got 0"):
        TransitionModel(0)
