"""Usage and perplexity of nodes: small examples, and batches compared with the whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from somvae_ext.evaluation import NodeUsage, perplexity, used_node_share


def test_usage_and_perplexity_of_small_examples() -> None:
    index = torch.tensor([[0, 0], [3, 3]])
    assert used_node_share(index, 8) == 0.25
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
    assert nodes.used_share == used_node_share(everything, 6)
    assert nodes.perplexity == perplexity(everything, 6)
    assert set(nodes.unused_nodes.tolist()) == set(range(6)) - set(everything.tolist())
    assert nodes.unused_nodes.dtype == torch.int64


def test_padding_does_not_count_and_may_hold_anything() -> None:
    nodes = NodeUsage(4)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    nodes.update(torch.tensor([[0, 1, 2], [0, -1, 99]]), mask)
    assert nodes.counts.tolist() == [2, 1, 0, 0]
    assert nodes.unused_nodes.tolist() == [2, 3]


def test_a_new_epoch_starts_from_nothing() -> None:
    nodes = NodeUsage(3)
    nodes.update(torch.tensor([2]))
    nodes.reset()
    assert (nodes.used_share, nodes.perplexity, nodes.unused_nodes.tolist()) == (0, 0, [0, 1, 2])


def test_invalid_winners_are_refused() -> None:
    nodes = NodeUsage(3)
    with pytest.raises(ValueError, match="indices must hold values from 0 to 2, got 3"):
        nodes.update(torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"mask must have the shape of indices, \[2\], got \[3\]"):
        nodes.update(torch.tensor([0, 1]), torch.ones(3, dtype=torch.bool))
    assert nodes.counts.sum() == 0
    with pytest.raises(ValueError, match="num_nodes must be an integer of at least 1, got 0"):
        NodeUsage(0)


@pytest.mark.parametrize("metric", [used_node_share, perplexity])
def test_nodes_out_of_range_and_no_samples_are_refused(metric: object) -> None:
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got 4"):
        metric(torch.tensor([0, 4]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match="index must hold values from 0 to 3, got -1"):
        metric(torch.tensor([-1, 0]), 4)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"index must hold at least one sample, got shape \[0\]"):
        metric(torch.zeros(0, dtype=torch.int64), 4)  # type: ignore[operator]


@pytest.mark.parametrize("convert", [np.asarray, list, tuple, pd.Series, torch.tensor, np.int16])
def test_nodes_may_be_arrays_of_any_kind(convert: Any) -> None:
    index = [0, 0, 3, 3, 1]
    assert used_node_share(convert(index), 4) == 3 / 4
    assert perplexity(convert(index), 4) == perplexity(torch.tensor(index), 4)
    nodes = NodeUsage(4)
    nodes.update(convert(index), [True, False, True, False, False])
    nodes.update(convert(index), np.array([False] * 4 + [True]))
    assert nodes.counts.tolist() == [1, 1, 0, 1]


def test_nodes_are_counted_on_their_device(device: torch.device) -> None:
    nodes = NodeUsage(3)
    nodes.update(torch.tensor([0, 2, 2], device=device), [True, True, False])
    nodes.update(torch.tensor([True, False], device=device))
    assert nodes.counts.tolist() == [2, 1, 1]
    assert nodes.counts.device.type == "cpu"


def test_batches_without_a_sample_change_nothing() -> None:
    nodes = NodeUsage(2)
    for empty in ([], np.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 5)):
        nodes.update(empty)
    nodes.update([1, 9], mask=[False, False])
    assert nodes.counts.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (torch.tensor([0.0, 1.0]), "float32; convert whole numbers to int64 first"),
        ([0.5, 1], "float64; convert whole numbers to int64 first"),
        (np.array([0, np.nan]), "nan at position 1; leave out what is missing"),
        (["a", "b"], "strings"),
        (np.array([2**63], dtype=np.uint64), None),
    ],
)
def test_values_that_are_not_nodes_are_refused(wrong: Any, got: str | None) -> None:
    expected = "integers that int64 holds, got 9223372036854775808" if got is None else f"integers, got {got}"
    for owner, name, call in (
        ("NodeUsage", "indices", NodeUsage(4).update),
        ("used_node_share", "index", lambda index: used_node_share(index, 4)),
        ("perplexity", "index", lambda index: perplexity(index, 4)),
    ):
        with pytest.raises(ValueError, match=f"^{owner}: {name} must be {expected}$"):
            call(wrong)


@pytest.mark.parametrize("mask", [[1, 0], torch.tensor([1, 0]), torch.tensor([1, 0], dtype=torch.uint8), [1.0, 0.0]])
def test_a_mask_that_is_not_boolean_is_refused(mask: Any) -> None:
    with pytest.raises(ValueError, match=r"^NodeUsage: mask must be booleans, got (u?int|float)\d+$"):
        NodeUsage(3).update([0, 1], mask)
