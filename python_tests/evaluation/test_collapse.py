"""Detection of collapsed clusterings, with numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.evaluation import distinct_rows, has_collapsed, perplexity, share_of_perplexity


def test_the_share_refers_to_the_nodes_that_could_be_used() -> None:
    assert share_of_perplexity(1.0, 100, 1000) == 0
    assert share_of_perplexity(100.0, 100, 1000) == 1
    assert share_of_perplexity(11.0, 101, 1000) == 0.1
    assert share_of_perplexity(3.0, 100, 5.0) == 0.5  # five distinct rows


@pytest.mark.parametrize(("num_nodes", "num_distinct"), [(1, 100), (50, 1), (50, 1.0)])
def test_nothing_has_collapsed_if_only_one_node_could_be_used(num_nodes: int, num_distinct: float) -> None:
    assert not has_collapsed(1.0, num_nodes, num_distinct)


def test_one_dominant_node_is_a_collapse_and_a_small_cluster_is_not() -> None:
    assert has_collapsed(perplexity([0] * 990 + [1] * 10, 100), 100, 1000)
    assert not has_collapsed(perplexity(np.arange(1000) % 30, 100), 100, 1000)
    assert not has_collapsed(perplexity([0] * 90 + [1] * 10, 2), 2, 100)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8))
def test_equal_rows_count_by_their_shares(counts: list[int]) -> None:
    x = np.repeat(np.arange(len(counts), dtype=np.float32), counts)[:, None] * [1.0, -2.0]
    share = np.array(counts) / sum(counts)
    expected = math.exp(-(share * np.log(share)).sum())
    assert distinct_rows(x[np.random.default_rng(0).permutation(len(x))]) == pytest.approx(expected)
    assert distinct_rows(torch.from_numpy(x)) == pytest.approx(expected)


def test_zeros_of_either_sign_are_equal_and_so_are_gaps() -> None:
    assert distinct_rows([[0.0, 1.0], [-0.0, 1.0]]) == 1
    assert distinct_rows([[math.nan, 1.0], [math.nan, 1.0], [math.nan, 2.0], [math.nan, 2.0]]) == pytest.approx(2)
    assert distinct_rows(np.ones((4, 2), dtype=bool)) == 1


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"distinct_rows: x must hold rows \[N, D\], at least one, got shape \[0, 2\]"):
        distinct_rows(np.zeros((0, 2)))
