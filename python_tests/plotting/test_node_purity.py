"""Tests of the histograms of node purity."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from somvae_ext.evaluation import node_purity
from somvae_ext.plotting import plot_node_purity


def heights(ax: Any) -> list[list[float]]:
    """Returns the heights of each map's bars."""
    return [[bar.get_height() for bar in bars] for bars in ax.containers]


def test_bars_are_shares_of_the_nodes_in_use_from_the_lowest_possible_purity_to_1() -> None:
    ax = plot_node_purity({"model": [1.0, 0.95, 0.5, math.nan], "noise": [0.5, 0.549]}, num_classes=2)
    assert heights(ax) == [[1 / 3, *[0] * 8, 2 / 3], [1, *[0] * 9]]
    assert ax.get_xlim() == (0.5, 1)
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [
        "model: median 0.95, 3 of 4 nodes in use",
        "noise: median 0.52, 2 of 2 nodes in use",
    ]


def test_bars_of_several_maps_are_side_by_side_within_their_bin() -> None:
    ax = plot_node_purity({name: [0.05, 0.95] for name in "abc"})
    bars = [bars[0] for bars in ax.containers]  # type: ignore[index]
    edges = [edge for bar in bars for edge in (bar.get_x(), bar.get_x() + bar.get_width())]
    assert edges == pytest.approx(sorted(edges))
    assert edges[0] > 0
    assert edges[-1] < 0.1
    assert len({bar.get_facecolor() for bar in bars}) == 3


def test_the_lowest_possible_purity_is_counted_in_any_dtype() -> None:
    label = torch.arange(30) % 3
    purity = node_purity(label, torch.zeros(30, dtype=torch.int64), 2)  # one third
    for values in (purity, purity.float(), purity.numpy()):
        assert heights(plot_node_purity({"map": values}, num_classes=3)) == [[1, *[0] * 9]]


@pytest.mark.parametrize(
    ("purities", "message"),
    [
        ({}, "purities must hold at least one map, got none"),
        ({"map": [[0.5]]}, r"purities\['map'\] must be numbers of shape \[K\], got float64 of shape \[1, 1\]"),
        ({"map": ["a"]}, r"purities\['map'\] must be numbers of shape \[K\], got <U1 of shape \[1\]"),
        ({"map": [math.nan, math.nan]}, r"purities\['map'\] must have a node with samples, got none in 2"),
        ({"map": [0.4, 0.6]}, r"purities\['map'\] must be from 0.5 to 1, got 0.4"),
        ({"map": np.array([1.5])}, r"purities\['map'\] must be from 0.5 to 1, got 1.5"),
    ],
)
def test_invalid_purities_are_refused(purities: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"plot_node_purity: {message}"):
        plot_node_purity(purities, num_classes=2)


def test_a_single_class_is_refused() -> None:
    with pytest.raises(ValueError, match="plot_node_purity: num_classes must be an integer of at least 2, got 1"):
        plot_node_purity({"map": [1.0]}, num_classes=1)
