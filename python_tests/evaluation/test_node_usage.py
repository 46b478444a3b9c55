"""Usage and perplexity of nodes: small examples, and batches against the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.evaluation import NodeUsage, perplexity, usage


def test_usage_and_perplexity_of_small_examples() -> None:
    index = torch.tensor([[0, 0], [3, 3]])
    assert usage(index, 8) == 0.25
    assert perplexity(index, 8) == pytest.approx(2)
    assert perplexity(torch.arange(8), 8) == pytest.approx(8)
    assert perplexity(torch.zeros(5, dtype=torch.int64), 8) == pytest.approx(1)
    # Shares 1/2, 1/4, 1/4: entropy 1.5 bits.
    assert perplexity(torch.tensor([0, 0, 1, 2]), 3) == pytest.approx(2**1.5)


@given(st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=6).filter(any))
def test_batches_add_up_to_the_epoch(batches: list[list[int]]) -> None:
    nodes = NodeUsage(6)
    for batch in batches:
        nodes.update(torch.tensor(batch, dtype=torch.int64))
    everything = torch.tensor([index for batch in batches for index in batch])
    assert nodes.usage == usage(everything, 6)
    assert nodes.perplexity == perplexity(everything, 6)
    assert set(nodes.unused.tolist()) == set(range(6)) - set(everything.tolist())
    assert nodes.unused.dtype == torch.int64


def test_padding_does_not_count_and_may_hold_anything() -> None:
    nodes = NodeUsage(4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    nodes.update(torch.tensor([[0, 1, 2], [0, -1, 99]]), mask)
    assert nodes.counts.tolist() == [2, 1, 0, 0]
    assert nodes.unused.tolist() == [2, 3]


def test_a_new_epoch_starts_from_nothing() -> None:
    nodes = NodeUsage(3)
    nodes.update(torch.tensor([2]))
    nodes.reset()
    assert (nodes.usage, nodes.perplexity, nodes.unused.tolist()) == (0, 0, [0, 1, 2])


def test_winners_that_do_not_fit_are_refused() -> None:
    nodes = NodeUsage(3)
    with pytest.raises(ValueError, match="indices must hold values from 0 to 2, got 3"):
        nodes.update(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"mask must have the shape of indices, \[2\], got \[3\]"):
        nodes.update(torch.tensor([0, 1]), torch.ones(3, dtype=torch.bool))
    assert nodes.counts.sum() == 0
    with pytest.raises(ValueError, match="num_nodes must be at least 1, got 0"):
        NodeUsage(0)


@pytest.mark.parametrize("metric", [usage, perplexity])
def test_nodes_out_of_range_and_no_samples_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got 4"):
        metric(torch.tensor([0, 4]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got -1"):
        metric(torch.tensor([-1, 0]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"index must hold at least one sample, got shape \[0\]"):
        metric(torch.zeros(0, dtype=torch.int64), 4)  # type: ignore[operator]
